"""A lane: commands of the same customers, carried out one batch after another.

While a batch is being committed, the next one gathers: under load batches grow by themselves, and
a lone command never waits for company. There is no timer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

from server.commit.errors import (
    CommandFailed,
    CommitError,
    Conflicted,
    NotStarted,
    Rejected,
    Unavailable,
)
from server.commit.memory import Memory
from server.commit.port import (
    OutcomeUnknown,
    Snapshot,
    Store,
    StoreError,
    StoreUnavailable,
    WriteConflict,
)
from server.ledger.commands import Command, Needs
from server.ledger.decide import decide
from server.ledger.decisions import Decision, Reply
from server.ledger.limits import Limits
from server.ledger.rejection import Rejection
from server.ledger.state import ChangeSet, State

_CONFLICTS_OF_A_BATCH: Final = 5
"""So often a batch loses to others before it is halved to find whom it is that always loses."""
_SMALLEST_LIMIT: Final = 16
_CONFLICTS_ALONE: Final = 12
"""So often a command alone loses before its caller is told; with the waits, in some seconds."""

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Who watches the commit path: the metrics."""

    def batch_committed(self, decided: Sequence[tuple[Command, Decision]], seconds: float) -> None:
        """Note what a batch came to, once it is durable, and the time since its load.

        A command that could not be decided is left out.
        """

    def batch_retried(self, cause: str) -> None:
        """Note that a batch has to be tried again, and the kind of error."""


class BatchTracing(Protocol):
    """Who traces batches, and which calls their commands came from."""

    def origin(self) -> object:
        """Return what names the call that submits a command now."""

    def batch(self, origins: Sequence[object]) -> AbstractContextManager[object]:
        """Enclose one attempt at a batch whose commands came from these."""


class NoTracing:
    """Traces nothing."""

    def origin(self) -> object:
        """Name nothing."""
        return None

    def batch(self, _: Sequence[object]) -> AbstractContextManager[object]:
        """Enclose nothing."""
        return _NOTHING


_NOTHING: Final = nullcontext()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before a batch is tried again: exponential, with full jitter."""

    first_seconds: float = 0.002
    most_seconds: float = 0.5

    def wait_seconds(self, attempt: int, jitter: float) -> float:
        """Return the wait before attempt 2, 3, ...; `jitter` is drawn from 0 to 1."""
        return min(self.most_seconds, self.first_seconds * 2.0 ** min(attempt, 30)) * jitter


@dataclass(slots=True)
class BatchLimit:
    """How many commands may be carried out together just now.

    Where the store is slow, a large batch takes longer than callers wait, and all of it is lost
    when it fails: the limit halves with each batch that took too long, and grows back slowly.
    """

    most: int
    slow_seconds: float
    """A batch that takes longer was too large."""
    now: int = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the most."""
        self.now = self.most

    def learn(self, size: int, seconds: float) -> None:
        """Take account of a batch of `size` that took so long."""
        if seconds > self.slow_seconds:
            self.now = max(min(_SMALLEST_LIMIT, self.most), min(self.now, size) // 2)
        else:
            self.now = min(self.most, self.now + 1 + self.now // 8)


@dataclass(slots=True)
class Pending:
    """A command that waits for its outcome, until `deadline` (in the loop's time, seconds)."""

    command: Command
    deadline: float
    outcome: asyncio.Future[Reply]
    if_too_late: type[CommitError] = NotStarted
    """What its caller is told when the time is over now."""
    may_be_written: bool = False
    """Whether an attempt got no answer: nobody may be told then that nothing was done."""
    origin: object = None
    """What names its call in a trace."""


@dataclass(slots=True)
class _Decided:
    """What a batch comes to."""

    outcomes: list[Reply | CommitError] = field(default_factory=list)
    decisions: list[tuple[Command, Decision]] = field(default_factory=list)
    """Of the commands that could be decided."""
    changes: ChangeSet = field(default_factory=ChangeSet)
    is_all_written: bool = True
    """Whether each command changes something, so that the commit checks what it relied upon."""


class Lane:
    """Carries out what is queued, batch by batch, as long as `run` runs."""

    def __init__(
        self,
        store: Store,
        *,
        limit: BatchLimit,
        retry: RetryPolicy,
        now_ms: Callable[[], int],
        jitter: Callable[[], float],
        observer: Observer,
        limits: Limits,
        tracing: BatchTracing,
        memory: Memory,
    ) -> None:
        self._store = store
        self._limit = limit
        self._retry = retry
        self._now_ms = now_ms
        self._jitter = jitter
        self._observer = observer
        self._limits = limits
        self._tracing = tracing
        self._memory = memory
        self._queue: deque[Pending] = deque()
        self._is_closing = False
        self._something_queued = asyncio.Event()

    def __len__(self) -> int:
        """Return how many commands wait for their turn."""
        return len(self._queue)

    def put(self, pending: Pending) -> None:
        """Queue a command."""
        self._queue.append(pending)
        self._something_queued.set()

    def close(self) -> None:
        """Let `run` return once everything that is queued has been carried out."""
        self._is_closing = True
        self._something_queued.set()

    async def run(self) -> None:
        """Carry out batch after batch until the lane is closed and empty."""
        while True:
            if not self._queue:
                if self._is_closing:
                    return
                self._something_queued.clear()
                await self._something_queued.wait()
                continue
            batch = [self._queue.popleft() for _ in range(min(self._limit.now, len(self._queue)))]
            await self._carry_out(batch)

    async def _carry_out(self, batch: Sequence[Pending]) -> None:
        """Load, decide and commit a batch whole; try again until nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        attempt = conflicts = 0
        while batch := [pending for pending in batch if not pending.outcome.done()]:
            for pending in batch:
                pending.if_too_late = Unavailable
            started = loop.time()
            try:
                is_first = attempt == 0 and not any(pending.may_be_written for pending in batch)
                with self._tracing.batch([pending.origin for pending in batch]):
                    decisions = await self._attempt(batch, is_first=is_first)
            except (StoreUnavailable, WriteConflict) as error:
                cause: StoreError = error
            except Exception as error:  # noqa: BLE001 - whatever it is, it is one command's fault
                if not isinstance(error, StoreError):
                    _log.exception("a batch of %d commands failed", len(batch))
                await self._isolate(batch, error)
                return
            else:
                seconds = loop.time() - started
                self._limit.learn(len(batch), seconds)
                self._observer.batch_committed(decisions, seconds)
                return
            _note_failed_attempt(batch, cause)
            conflicts += isinstance(cause, WriteConflict)
            if conflicts >= (_CONFLICTS_OF_A_BATCH if len(batch) > 1 else _CONFLICTS_ALONE):
                await self._isolate(batch, cause)
                return
            self._observer.batch_retried(type(cause).__name__)
            attempt += 1
            await asyncio.sleep(self._retry.wait_seconds(attempt, self._jitter()))

    async def _attempt(
        self, batch: Sequence[Pending], *, is_first: bool
    ) -> list[tuple[Command, Decision]]:
        """Carry out the batch once, and return what was decided; only what was committed is told.

        The first time it is decided on what is taken for granted, as long as that ends in writes
        alone.
        """
        needs = Needs(has_limits=bool(self._limits))
        for pending in batch:
            needs.add(pending.command)
        recalled = self._memory.recall(needs) if is_first else None
        decided = None
        if recalled is not None:
            snapshot = await self._load(recalled.missing)
            recalled.complete(snapshot.state)
            self._store.trust(snapshot, recalled.each_wallet())
            decided = self._decide_all(batch, snapshot.state)
        if decided is None or not decided.is_all_written:
            snapshot = await self._load(needs)
            decided = self._decide_all(batch, snapshot.state)
        if decided.changes:
            try:
                await self._store.commit(snapshot, decided.changes)
            except BaseException as error:
                is_misled = recalled is not None and isinstance(error, WriteConflict)
                self._memory.forget(needs.wallets_of, is_wary=is_misled)
                raise
        self._memory.learn(snapshot.state)
        for pending, outcome in zip(batch, decided.outcomes, strict=True):
            if pending.outcome.done():
                continue
            if isinstance(outcome, CommitError):
                pending.outcome.set_exception(outcome)
            else:
                pending.outcome.set_result(outcome)
        return decided.decisions

    async def _load(self, needs: Needs) -> Snapshot:
        snapshot = await self._store.load(needs)
        self._memory.observe(needs, snapshot.state)
        return snapshot

    def _decide_all(self, batch: Sequence[Pending], state: State) -> "_Decided":
        """Decide one command after another, each on what the ones before it changed."""
        now_ms = self._now_ms()
        state.limits = self._limits
        decided = _Decided()
        for pending in batch:
            try:
                decision = decide(state, pending.command, now_ms)
            except Exception as error:  # noqa: BLE001 - its neighbours go on
                _log.exception("deciding a %s failed", type(pending.command).__name__)
                decided.outcomes.append(_failure(pending, CommandFailed, error))
                decided.is_all_written = False
                continue
            decided.decisions.append((pending.command, decision))
            if isinstance(decision, Rejection):
                decided.outcomes.append(Rejected(decision))
                decided.is_all_written = False
                continue
            state.apply(decision.changes)
            decided.changes.add(decision.changes)
            decided.outcomes.append(decision.reply)
            decided.is_all_written &= bool(decision.changes)
        return decided

    async def _isolate(self, batch: Sequence[Pending], error: Exception) -> None:
        """Find the command that cannot be carried out: halve until it stands alone."""
        if len(batch) == 1:
            (pending,) = batch
            kind, cause = type(pending.command).__name__, type(error).__name__
            _log.error("a %s cannot be committed: %s", kind, cause)
            if not pending.outcome.done():
                told = Conflicted if isinstance(error, WriteConflict) else CommandFailed
                pending.outcome.set_exception(_failure(pending, told, error))
            return
        middle = len(batch) // 2
        await self._carry_out(batch[:middle])
        await self._carry_out(batch[middle:])


def _note_failed_attempt(batch: Sequence[Pending], cause: StoreError) -> None:
    """Note what may be said of the batch's commands from now on."""
    for pending in batch:
        pending.may_be_written |= isinstance(cause, OutcomeUnknown)
        if isinstance(cause, WriteConflict) and not pending.may_be_written:
            pending.if_too_late = Conflicted


def _failure(pending: Pending, told: type[CommitError], cause: Exception) -> CommitError:
    """Say how a command failed: that nothing was done only where that is known."""
    failure = Unavailable() if pending.may_be_written else told()
    failure.__cause__ = cause
    return failure
