"""A server's link to the database, with everything that can go wrong on it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from server.commit.port import (
    OutcomeUnknown,
    StoreUnavailable,
    WriteConflict,
    WriteRefused,
)
from sim.records import Database, Write
from sim.world import Fault, World

Answer = TypeVar("Answer")

_ELECTION_SECONDS = (0.3, 1.5, 6.0)
_REFUSAL_SECONDS = (0.02, 0.2, 1.0)
_GIVES_UP_SECONDS = 1.0
"""After so long without a primary a call ends."""


class ReplicaSet:
    """The database's machines: whether one is primary, and when writes become durable."""

    def __init__(self, world: World, database: Database) -> None:
        self._world = world
        self._dice = world.dice("replica set")
        self.database = database
        self.is_away = False
        self.is_refusing = False
        """Whether it refuses all there is: a full disk, a right that was taken away."""

    def maybe_refuse(self, rate: float) -> None:
        """Refuse everything for a while."""
        if self._world.happens(Fault.STORE_REFUSES, rate, "database"):
            self.is_refusing = True
            self._world.later(self._dice.choice(_REFUSAL_SECONDS), self._take_again)

    def maybe_change_primary(self) -> None:
        """Lose the primary for a while, and with it what was not durable."""
        if self.is_away or not self._world.happens(Fault.PRIMARY_CHANGE, 0.5, "database"):
            return
        lost = self.database.change_primary()
        self._world.note("database", f"has no primary; {lost} writes were lost with it")
        self.is_away = True
        self._world.later(self._dice.choice(_ELECTION_SECONDS), self._elected)

    def _take_again(self) -> None:
        self.is_refusing = False
        self._world.note("database", "refuses nothing any more")

    def _elected(self) -> None:
        self.is_away = False
        self._world.note("database", "has a primary again")


class FaultyLink:
    """Implements `Link` for one server."""

    def __init__(self, world: World, replica_set: ReplicaSet, who: str) -> None:
        self._world = world
        self._replica_set = replica_set
        self._who = who

    async def read(self, what: str, work: Callable[[], Answer]) -> Answer:
        """Have something read; see Link."""
        await self._reach(what)
        return await self._world.carry(
            self._who,
            work,
            StoreUnavailable("no answer"),
            request=True,
            answer=not self._world.happens(Fault.STORE_AWAY, 0.01, self._who),
        )

    async def write(self, what: str, work: Callable[[], Write | None]) -> bool:
        """Have something written; see Link."""
        await self._reach(what)
        world, who = self._world, self._who
        if world.happens(Fault.CONFLICT, 0.04, who):
            raise WriteConflict
        if world.happens(Fault.COMMIT_LOST, 0.02, who):
            raise self._unknown()
        is_late = world.happens(Fault.COMMIT_LATE, 0.02, who)
        outcome: asyncio.Future[bool] = world.loop.create_future()
        world.later(
            (0.3 if is_late else 0.0) + world.latency(who), self._arrive, what, work, outcome
        )
        if is_late:
            outcome.cancel()
            raise self._unknown()
        answer = await world.wait(outcome)
        if world.happens(Fault.COMMIT_ANSWER_LOST, 0.03, who):
            raise self._unknown()
        return answer

    def _unknown(self) -> OutcomeUnknown:
        """Tell nothing of a commit; what loses an answer may refuse the next request as well."""
        self._replica_set.maybe_refuse(0.1)
        return OutcomeUnknown()

    def _arrive(
        self, what: str, work: Callable[[], Write | None], outcome: "asyncio.Future[bool]"
    ) -> None:
        """Write on the primary, if there is one; whoever sent it may be gone by now."""
        world, who = self._world, self._who
        if self._replica_set.is_away:
            world.later(_GIVES_UP_SECONDS, _end, outcome, OutcomeUnknown())
            return
        try:
            write = work()
        except WriteConflict as conflict:
            world.note(who, f"{what}: {conflict}")
            world.later(world.latency(who), _end, outcome, conflict)
            return
        if write is None:
            world.later(world.latency(who), _end, outcome, False)
        else:
            world.later(world.latency(who), self._settle, what, write, outcome)

    def _settle(self, what: str, write: Write, outcome: "asyncio.Future[bool]") -> None:
        """Let the majority have the write, unless its primary is gone."""
        is_durable = self._replica_set.database.settle(write)
        who = self._who
        self._world.note(who, f"{what}: {'durable' if is_durable else 'lost with its primary'}")
        end = True if is_durable else OutcomeUnknown()
        self._world.later(self._world.latency(who), _end, outcome, end)

    async def _reach(self, what: str) -> None:
        """Find the primary.

        Raises:
            StoreUnavailable: there is none.
            WriteRefused: it takes nothing just now.
        """
        self._world.note(self._who, what)
        if self._replica_set.is_refusing:
            raise WriteRefused
        if self._replica_set.is_away:
            await asyncio.sleep(_GIVES_UP_SECONDS)
            if self._replica_set.is_away:
                raise StoreUnavailable("no primary")


def _end(outcome: "asyncio.Future[bool]", end: bool | Exception) -> None:
    """Answer, if anybody still waits."""
    if outcome.done():
        return
    if isinstance(end, Exception):
        outcome.set_exception(end)
    else:
        outcome.set_result(end)
