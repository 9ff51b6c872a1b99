"""The committer: takes commands from the edge, spreads them over lanes, returns their outcomes."""

import asyncio
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from server.commit.errors import QueueFull, Unavailable
from server.commit.lane import (
    BatchLimit,
    BatchTracing,
    Lane,
    NoTracing,
    Observer,
    Pending,
    RetryPolicy,
)
from server.commit.memory import BATCHES_OF_NEW_ORDERS, Memory
from server.commit.port import Store
from server.ledger.commands import Command, lane_key
from server.ledger.decisions import Reply
from server.ledger.limits import NO_LIMITS, Limits

_CANCEL_SECONDS: Final = 1.0
"""How long a lane may take to give up: it says so to the store, which may hang."""


@dataclass(frozen=True, slots=True)
class CommitSettings:
    """Bounds of the commit path."""

    lanes: int = 1
    max_batch: int = 256
    """Commands in one transaction, at most."""
    slow_batch_seconds: float = 0.5
    """A batch that takes longer makes the next ones smaller."""
    max_queue: int = 4_096
    """Commands that wait in all lanes together; more are refused."""
    budget_seconds: float = 10.0
    """How long a command is tried when its caller sets no deadline or a later one."""
    drain_seconds: float = 2.0
    """How long closing waits for what is queued."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    batches_of_new_orders: int = BATCHES_OF_NEW_ORDERS
    """After so many batches in a row that paid new orders alone, orders are taken to be new."""


def wall_clock_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Submitter(Protocol):
    """Who carries out commands: the committer here, or the one that they belong to."""

    async def submit(self, command: Command, timeout_seconds: float | None = None) -> Reply:
        """Carry out `command`, durably, and return its reply.

        A caller that goes away leaves its command to be carried out or not, never half.

        Raises:
            CommitError: see its module for the kinds.
        """


class Committer:
    """Owns the lanes. Use it as an async context manager: leaving drains what is queued."""

    def __init__(
        self,
        store: Store,
        observer: Observer,
        settings: CommitSettings | None = None,
        *,
        limits: Limits = NO_LIMITS,
        now_ms: Callable[[], int] = wall_clock_ms,
        jitter: Callable[[], float] = random.random,
        tracing: BatchTracing | None = None,
    ) -> None:
        self._settings = settings or CommitSettings()
        self._tracing = tracing or NoTracing()
        self._lanes = [
            Lane(
                store,
                limit=BatchLimit(self._settings.max_batch, self._settings.slow_batch_seconds),
                retry=self._settings.retry,
                now_ms=now_ms,
                jitter=jitter,
                observer=observer,
                limits=limits,
                tracing=self._tracing,
                memory=Memory(self._settings.batches_of_new_orders),
            )
            for _ in range(self._settings.lanes)
        ]
        self._workers: list[asyncio.Task[None]] = []
        self._is_closing = False

    async def __aenter__(self) -> Self:
        """Start the lanes."""
        self._workers = [
            asyncio.create_task(lane.run(), name=f"commit-lane-{number}")
            for number, lane in enumerate(self._lanes)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Carry out what is queued, for a bounded time; then stop the lanes."""
        self._is_closing = True
        for lane in self._lanes:
            lane.close()
        await asyncio.wait(self._workers, timeout=self._settings.drain_seconds)
        late = [worker for worker in self._workers if not worker.done()]
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCEL_SECONDS)

    @property
    def budget_seconds(self) -> float:
        """How long a command is tried at most."""
        return self._settings.budget_seconds

    @property
    def queued(self) -> int:
        """How many commands wait for their turn."""
        return sum(len(lane) for lane in self._lanes)

    @property
    def queues(self) -> list[Callable[[], int]]:
        """Tell how many commands wait for their turn, a function for each lane."""
        return [lane.__len__ for lane in self._lanes]

    async def submit(self, command: Command, timeout_seconds: float | None = None) -> Reply:
        """Carry out `command` in its lane; see Submitter."""
        if self._is_closing:
            raise Unavailable
        if self.queued >= self._settings.max_queue:
            raise QueueFull
        loop = asyncio.get_running_loop()
        budget = self._settings.budget_seconds
        if timeout_seconds is not None:
            budget = min(budget, timeout_seconds)
        pending = Pending(
            command,
            loop.time() + budget,
            loop.create_future(),
            origin=self._tracing.origin(),
        )
        self._lanes[zlib.crc32(lane_key(command).encode()) % len(self._lanes)].put(pending)
        try:
            async with asyncio.timeout_at(pending.deadline):
                return await pending.outcome
        except TimeoutError:
            raise pending.if_too_late from None
