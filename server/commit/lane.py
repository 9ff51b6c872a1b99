"""A lane: commands of the same customers, carried out one batch after another.

While a batch is being committed, the next one gathers: under load batches grow by themselves, and
a lone command never waits for company. There is no timer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from server.commit.errors import (
    CommandFailed,
    CommitError,
    Conflicted,
    NotStarted,
    Rejected,
    Unavailable,
)
from server.commit.port import (
    OutcomeUnknown,
    Store,
    StoreError,
    StoreUnavailable,
    WriteConflict,
)
from server.ledger.commands import Command, Needs
from server.ledger.decide import decide
from server.ledger.decisions import Reply
from server.ledger.rejection import Rejection
from server.ledger.state import ChangeSet, State

_CONFLICTS_OF_A_BATCH: Final = 5
"""So often a batch loses to others before it is halved to find whom it is that always loses."""
_CONFLICTS_ALONE: Final = 12
"""So often a command alone loses before its caller is told; with the waits, in some seconds."""

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Who watches the commit path: the metrics."""

    def batch_committed(self, size: int, seconds: float) -> None:
        """Note a batch that was carried out, with the time from its first load on."""

    def batch_retried(self, cause: str) -> None:
        """Note that a batch has to be tried again, and the kind of error."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before a batch is tried again: exponential, with full jitter."""

    first_seconds: float = 0.002
    most_seconds: float = 0.5

    def wait_seconds(self, attempt: int, jitter: float) -> float:
        """Return the wait before attempt 2, 3, ...; `jitter` is drawn from 0 to 1."""
        return min(self.most_seconds, self.first_seconds * 2.0 ** min(attempt, 30)) * jitter


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


class Lane:
    """Carries out what is queued, batch by batch, as long as `run` runs."""

    def __init__(
        self,
        store: Store,
        *,
        max_batch: int,
        retry: RetryPolicy,
        now_ms: Callable[[], int],
        jitter: Callable[[], float],
        observer: Observer,
    ) -> None:
        self._store = store
        self._max_batch = max_batch
        self._retry = retry
        self._now_ms = now_ms
        self._jitter = jitter
        self._observer = observer
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
            batch = [self._queue.popleft() for _ in range(min(self._max_batch, len(self._queue)))]
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
                await self._attempt(batch)
            except (StoreUnavailable, WriteConflict) as error:
                cause: StoreError = error
            except Exception as error:  # noqa: BLE001 - whatever it is, it is one command's fault
                if not isinstance(error, StoreError):
                    _log.exception("a batch of %d commands failed", len(batch))
                await self._isolate(batch, error)
                return
            else:
                self._observer.batch_committed(len(batch), loop.time() - started)
                return
            _note_failed_attempt(batch, cause)
            conflicts += isinstance(cause, WriteConflict)
            if conflicts >= (_CONFLICTS_OF_A_BATCH if len(batch) > 1 else _CONFLICTS_ALONE):
                await self._isolate(batch, cause)
                return
            self._observer.batch_retried(type(cause).__name__)
            attempt += 1
            await asyncio.sleep(self._retry.wait_seconds(attempt, self._jitter()))

    async def _attempt(self, batch: Sequence[Pending]) -> None:
        """Carry out the batch once; only what was committed is told to anyone."""
        needs = Needs()
        for pending in batch:
            needs.add(pending.command)
        snapshot = await self._store.load(needs)
        outcomes, changes = self._decide_all(batch, snapshot.state)
        if changes:
            await self._store.commit(snapshot, changes)
        for pending, outcome in zip(batch, outcomes, strict=True):
            if pending.outcome.done():
                continue
            if isinstance(outcome, CommitError):
                pending.outcome.set_exception(outcome)
            else:
                pending.outcome.set_result(outcome)

    def _decide_all(
        self, batch: Sequence[Pending], state: State
    ) -> tuple[list[Reply | CommitError], ChangeSet]:
        """Decide one command after another, each on what the ones before it changed."""
        now_ms = self._now_ms()
        outcomes: list[Reply | CommitError] = []
        changes = ChangeSet()
        for pending in batch:
            try:
                decision = decide(state, pending.command, now_ms)
            except Exception as error:  # noqa: BLE001 - its neighbours go on
                _log.exception("deciding a %s failed", type(pending.command).__name__)
                outcomes.append(_failure(pending, CommandFailed, error))
                continue
            if isinstance(decision, Rejection):
                outcomes.append(Rejected(decision))
                continue
            state.apply(decision.changes)
            changes.add(decision.changes)
            outcomes.append(decision.reply)
        return outcomes, changes

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
