"""Servers that live and die: the real committer, top-ups and poller, and the network before."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from server.commit.committer import CommitSettings, Committer
from server.ledger.commands import Command
from server.ledger.decisions import Decision
from server.ledger.limits import NO_LIMITS
from server.poller import Poller
from server.topups import Topups
from server.wallet_tokens import WalletTokens
from sim.account import Account
from sim.gateway import SimulatedGateway
from sim.limits import LIMITED
from sim.links import FaultyLink, ReplicaSet
from sim.store import SimulatedPollSchedule, SimulatedQueries, SimulatedStore
from sim.world import Fault, World

Answer = TypeVar("Answer")

FIRST_POLL_MS = 20_000
_POLL_SECONDS = 30.0
_DOWN_SECONDS = (0.0, 0.5, 5.0)
_JUMPS_MS = (-600_000, -3_000, 2_000, 45_000, 900_000)


class NoAnswer(Exception):
    """The call ended without an answer: it may or may not have been carried out."""


class Life:
    """One process of a server, from its start to its end."""

    def __init__(self, server: "Server") -> None:
        world = server.world
        self.who = server.name
        self._world = world
        self.process, self._context = world.loop.process(self.who)
        link = FaultyLink(world, server.replica_set, self.who)
        gateway = SimulatedGateway(
            world, server.account, self.who, tells_time=server.gateway_tells_time
        )
        self.queries = SimulatedQueries(server.replica_set.database, link)
        self.committer = Committer(
            SimulatedStore(server.replica_set.database, link),
            self,
            server.settings,
            now_ms=server.now_ms,
            jitter=world.dice(f"jitter {self.who}").random,
            limits=LIMITED if world.plan.has_limits else NO_LIMITS,
        )
        self.topups = Topups(
            self.committer,
            self.queries,
            {gateway.name: gateway},
            {},
            WalletTokens(self.committer, {}, server.now_ms),
            server.now_ms,
            lambda source, outcome: world.note(self.who, f"webhook of {source}: {outcome}"),
        )
        self._poller = Poller(
            self.topups,
            SimulatedPollSchedule(server.replica_set.database, link),
            first_ms=FIRST_POLL_MS,
            interval_seconds=_POLL_SECONDS,
            now_ms=server.now_ms,
        )
        self._end = asyncio.Event()
        self.calls: dict[asyncio.Future[Any], None] = {}
        """What its callers wait for, in the order of their calls, which a set would not keep."""
        self.serving = self.spawn(self._serve())

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Start a task of this process."""
        return self._world.loop.create_task(work, context=self._context.copy())

    def stop(self) -> None:
        """Ask the process to end by itself, as SIGTERM does."""
        self._end.set()

    def kill(self) -> None:
        """End the process at this very moment, as kill -9 does; its connections break."""
        self.process.is_killed = True
        for call in tuple(self.calls):
            self._world.later(self._world.latency(self.who), _break, call)

    def batch_committed(self, decided: Sequence[tuple[Command, Decision]], seconds: float) -> None:
        """Note a batch that was carried out."""
        self._world.note(self.who, f"carried out a batch of {len(decided)} in {seconds:.3f} s")

    def batch_retried(self, cause: str) -> None:
        """Note that a batch has to be tried again."""
        self._world.note(self.who, f"tries again: {cause}")

    async def _serve(self) -> None:
        async with AsyncExitStack() as resources:
            await resources.enter_async_context(self.committer)
            resources.push_async_callback(self.topups.close)
            await resources.enter_async_context(self._poller)
            await self._end.wait()


class Server:
    """A server through all its lives, and the network before it."""

    def __init__(self, world: World, name: str, replica_set: ReplicaSet, account: Account) -> None:
        self.world = world
        self.name = name
        self.replica_set = replica_set
        self.account = account
        self._dice = world.dice(name)
        self.settings = CommitSettings(
            lanes=self._dice.choice((1, 1, 2)),
            max_batch=self._dice.choice((2, 8, 256)),
            max_queue=self._dice.choice((6, 4_096)),
            batches_of_new_orders=self._dice.choice((0, 1, 4)),
        )
        self.gateway_tells_time = world.dice("gateway").random() < 0.5
        self._clock_offset_ms = 0
        self.life: Life | None = Life(self)

    def now_ms(self) -> int:
        """Return the time by this server's clock."""
        return self.world.now_ms + self._clock_offset_ms

    def disturb(self) -> None:
        """Maybe crash, restart, or have the clock jump."""
        if self.life is None:
            return
        if self.world.happens(Fault.CLOCK_JUMP, 0.15, self.name):
            self._clock_offset_ms = self._dice.choice(_JUMPS_MS)
        if self.world.happens(Fault.CRASH, 0.25, self.name):
            self.life.kill()
            self._is_down()
        elif self.world.happens(Fault.RESTART, 0.1, self.name):
            self.life.stop()
            self._is_down()

    async def call(
        self,
        who: str,
        what: str,
        handle: Callable[[Life], Awaitable[Answer]],
        deadline_seconds: float,
    ) -> Answer:
        """Call this server as gRPC does: requests and answers get lost, deadlines cancel.

        Raises:
            NoAnswer: nobody knows what became of it.
            Exception: whatever the server answers.
        """
        world = self.world
        answer: asyncio.Future[Answer] = world.loop.create_future()
        handler: asyncio.Task[None] | None = None

        def arrive() -> None:
            nonlocal handler
            if self.life is None:
                _break(answer)
                return
            self.life.calls[answer] = None
            handler = self.life.spawn(self._handle(self.life, who, what, handle, answer))

        if not world.happens(Fault.REQUEST_LOST, 0.02, who):
            world.later(world.latency(who), arrive)
        if world.happens(Fault.CALLER_GONE, 0.04, who):
            deadline_seconds = self._dice.random() * 0.03
        try:
            async with asyncio.timeout(deadline_seconds):
                return await world.wait(answer)
        except TimeoutError:
            world.note(who, f"gives up waiting for {what}")
            if handler is not None:
                world.later(world.latency(who), handler.cancel)
            raise NoAnswer from None

    async def _handle(
        self,
        life: Life,
        who: str,
        what: str,
        handle: Callable[[Life], Awaitable[Answer]],
        answer: "asyncio.Future[Answer]",
    ) -> None:
        """Carry out a call in the server's process and send the answer."""
        self.world.note(self.name, f"takes {what} of {who}")
        send: Callable[[], None]
        try:
            result = await handle(life)
        except Exception as error:  # noqa: BLE001 - what it is, the caller decides
            send = _failing(answer, error)
        else:
            send = _succeeding(answer, result)
        life.calls.pop(answer, None)
        if not self.world.happens(Fault.ANSWER_LOST, 0.04, self.name):
            self.world.later(self.world.latency(self.name), send)

    def _is_down(self) -> None:
        self.life = None
        self.world.later(self._dice.choice(_DOWN_SECONDS), self._start)

    def _start(self) -> None:
        self.world.note(self.name, "starts")
        self.life = Life(self)


def _failing(answer: "asyncio.Future[Any]", error: Exception) -> Callable[[], None]:
    return lambda: None if answer.done() else answer.set_exception(error)


def _succeeding(answer: "asyncio.Future[Answer]", result: Answer) -> Callable[[], None]:
    return lambda: None if answer.done() else answer.set_result(result)


def _break(answer: "asyncio.Future[Any]") -> None:
    if not answer.done():
        answer.set_exception(NoAnswer())
