"""What a history is made of besides its actors: a plan, dice, time, a trace, and the wires."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from sim.loop import SimulatedLoop

EPOCH_MS: Final = 1_700_000_000_000
"""The time at which every history begins."""

Answer = TypeVar("Answer")


class Fault(StrEnum):
    """What can go wrong. Those that happen by themselves now and then stand last."""

    SLOW_CALL = "slow call"
    CONFLICT = "write conflict"
    STORE_AWAY = "store unavailable"
    STORE_REFUSES = "store refuses"
    COMMIT_LOST = "commit lost, outcome unknown"
    COMMIT_ANSWER_LOST = "commit applied, outcome unknown"
    COMMIT_LATE = "commit applied after its outcome was unknown"
    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    CALLER_GONE = "caller cancelled"
    GATEWAY_AWAY = "gateway unavailable"
    GATEWAY_ANSWER_LOST = "gateway answer lost"
    GATEWAY_REFUSES = "gateway refuses"
    WEBHOOK_LOST = "webhook lost"
    WEBHOOK_DELAYED = "webhook delayed"
    WEBHOOK_DUPLICATED = "webhook duplicated"
    WEBHOOK_RENAMED = "webhook under another id"
    WEBHOOK_FORGED = "webhook forged"
    CRASH = "server crash"
    RESTART = "server restart"
    PRIMARY_CHANGE = "primary change"
    CLOCK_JUMP = "clock jump"


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides a history, whole: two runs of one plan are the same to the last step."""

    seed: int
    servers: int
    callers: int
    operations: int
    """Of each caller."""
    least_steps: int
    """Callers go on until there were so many."""
    faults: frozenset[Fault]
    intensity: float
    """What the faults' rates are multiplied by."""
    is_shuffled: bool
    """Whether what is ready runs in any order, or in the order in which it became ready."""
    has_limits: bool = False
    """Whether wallets have limits."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be."""

    rule: str
    what: str


class World:
    """Owned by one history; every actor has it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = SimulatedLoop(self.dice("loop") if plan.is_shuffled else None)
        self.loop.on_unhandled = lambda what: self.broken("nothing fails unseen", what)
        self.faults: Counter[Fault] = Counter()
        self.trace: list[tuple[float, str, str]] = []
        self.violation: Violation | None = None
        self.is_calm = False
        """Nothing goes wrong any more."""
        self.is_over = False
        """Nothing happens any more; whoever still waits is told so."""
        self._chance = self.dice("faults")
        self._outside = copy_context()

    @property
    def now_ms(self) -> int:
        """The true time, in milliseconds since the epoch."""
        return EPOCH_MS + int(self.loop.time() * 1_000)

    @property
    def steps(self) -> int:
        """How much has happened: calls, answers, deliveries, writes and faults."""
        return len(self.trace)

    def dice(self, name: str) -> random.Random:
        """Return a stream of chance of its own, so that one actor's draws move no other's."""
        return random.Random(f"{self.plan.seed}:{name}")

    def note(self, who: str, what: str) -> None:
        """Write down a step."""
        self.trace.append((self.loop.time(), who, what))

    def happens(self, fault: Fault, rate: float, who: str) -> bool:
        """Draw whether something goes wrong here and now; it is a step of its own."""
        if fault not in self.plan.faults or self.is_calm:
            return False
        if self._chance.random() >= rate * self.plan.intensity:
            return False
        self.faults[fault] += 1
        self.note(who, f"FAULT {fault}")
        return True

    def broken(self, rule: str, what: str) -> None:
        """Say that something is so that must never be; the history ends here."""
        if self.violation is None and not self.is_over:
            self.note("oracle", f"VIOLATION {rule}: {what}")
            self.violation = Violation(rule, what)
            self.loop.is_stopped = True

    def digest(self) -> str:
        """Return what two runs of one plan must have in common: a hash over every step."""
        lines = (f"{time:.6f} {who} {what}\n" for time, who, what in self.trace)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def latency(self, who: str) -> float:
        """Draw how long a message is on its way, in seconds."""
        if self.happens(Fault.SLOW_CALL, 0.02, who):
            return self._chance.choice((0.2, 1.0, 4.0))
        return 0.0005 + self._chance.random() * 0.01

    def later(self, seconds: float, act: Callable[..., object], *given: Any) -> None:
        """Let something happen that belongs to no process: it comes whoever dies meanwhile."""
        self.loop.call_later(seconds, act, *given, context=self._outside)

    async def carry(
        self, who: str, work: Callable[[], Answer], lost: Exception, *, request: bool, answer: bool
    ) -> Answer:
        """Have `work` done at the other end of a wire; raise `lost` where a message is lost.

        `request` and `answer` say whether that message arrives. Work that has been sent is done,
        also when the caller is cancelled or killed meanwhile.
        """
        outcome: asyncio.Future[Answer] = self.loop.create_future()

        def arrive() -> None:
            if not request:
                fail(lost)
                return
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - it is carried back, whatever it is
                self.later(self.latency(who), fail, error if answer else lost)
                return
            if answer:
                self.later(self.latency(who), succeed, result)
            else:
                self.later(self.latency(who), fail, lost)

        def succeed(result: Answer) -> None:
            if not outcome.done():
                outcome.set_result(result)

        def fail(error: Exception) -> None:
            if not outcome.done():
                outcome.set_exception(error)

        self.later(self.latency(who), arrive)
        return await self.wait(outcome)

    async def wait(self, outcome: asyncio.Future[Answer]) -> Answer:
        """Wait for what comes over a wire; nothing does once the history is over."""
        if self.is_over:
            raise asyncio.CancelledError
        return await outcome
