"""Delivers the event feed: one server leads, and goes on where the one before came to.

An event is posted until its receiver takes it, ever more rarely; after so many attempts it becomes
a dead letter, and the next ones go on. Progress is noted after a page: whoever takes over may post
a page again, with the same ids.
"""

import asyncio
import random
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp
import structlog

from server.commit.port import StoreError
from server.deliveries import DeadLetter, Deliveries, Progress
from server.feed import (
    EventFeed,
    EventFilter,
    EventReader,
    HistoryPosition,
    Page,
    PositionLost,
    WalletEvent,
)
from server.ledger.chain import first_id
from server.outgoing.post import Receiver, body_of

_AT_ONCE: Final = 8
"""Customers whose events are posted at the same time; those of one follow each other."""
_OVERLAP_MS: Final = 300_000
_NOTE_SECONDS: Final = 10.0
_LONGEST_WAIT_SECONDS: Final = 300.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("outgoing")


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How delivery goes about it."""

    attempts: int = 10
    first_retry_seconds: float = 1.0
    lease_seconds: float = 15.0
    """After so long another server takes over from one that says nothing."""


class DeliveryObserver(Protocol):
    """Is told what becomes of what is posted."""

    def webhook_taken(self, seconds: float) -> None:
        """Note that the receiver took an event, so long after it happened."""

    def webhook_refused(self) -> None:
        """Note an attempt that the receiver did not take."""

    def webhook_buried(self) -> None:
        """Note an event that became a dead letter."""


class Delivery:
    """Owns the task that delivers; entering starts it, leaving stops it and gives up the lead."""

    def __init__(
        self,
        feed: EventFeed,
        wanted: EventFilter,
        deliveries: Deliveries,
        receiver: Receiver,
        session: aiohttp.ClientSession,
        settings: DeliverySettings,
        observer: DeliveryObserver,
        now_ms: Callable[[], int],
    ) -> None:
        self._feed = feed
        self._wanted = wanted
        self._deliveries = deliveries
        self._receiver = receiver
        self._session = session
        self._settings = settings
        self._observer = observer
        self._now_ms = now_ms
        self._name = secrets.token_hex(8)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start, as leader or to take over."""
        self._task = asyncio.create_task(self._run(), name="outgoing-webhooks")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop; what was posted and not noted is posted again by whoever takes over."""
        assert self._task is not None  # noqa: S101 - it was entered
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                if await self._deliveries.claim(self._name, self._settings.lease_seconds):
                    await self._lead()
            except StoreError as error:
                _log.warning("outgoing webhooks wait for MongoDB", cause=type(error).__name__)
            except Exception:  # noqa: BLE001 - whatever it is, delivery goes on
                _log.exception("outgoing webhooks failed")
            await asyncio.sleep(self._settings.lease_seconds / 5 * random.uniform(0.5, 1))  # noqa: S311 - no secret

    async def _lead(self) -> None:
        """Deliver as long as the lead is kept."""
        delivering = asyncio.create_task(self._deliver())
        try:
            while not delivering.done():
                await asyncio.wait([delivering], timeout=self._settings.lease_seconds / 3)
                if not await self._deliveries.claim(self._name, self._settings.lease_seconds):
                    return
            await delivering
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
            await self._deliveries.release(self._name)

    async def _deliver(self) -> None:
        """Deliver page after page, until the lead is lost."""
        loop = asyncio.get_running_loop()
        note_at = loop.time()
        progress = await self._deliveries.progress()
        reader = self._feed.reader(self._wanted, progress.position)
        try:
            while True:
                try:
                    page = await reader.next_page()
                except PositionLost:
                    await reader.close()
                    reader = self._from_history(progress)
                    continue
                progress = await self._take(page, progress)
                if not page.told and loop.time() < note_at:
                    continue  # where nothing happens, progress is noted now and then
                if not await self._deliveries.advance(self._name, progress):
                    return
                note_at = loop.time() + _NOTE_SECONDS
        finally:
            await reader.close()

    def _from_history(self, progress: Progress) -> EventReader:
        """Start again a while before the last event: some are posted again, none is skipped."""
        _log.error("the feed does not reach back: outgoing webhooks go on by the ledger")
        before = first_id("txn_", (progress.last_time_ms or self._now_ms()) - _OVERLAP_MS)
        return self._feed.reader(self._wanted, HistoryPosition(before, before))

    async def _take(self, page: Page, progress: Progress) -> Progress:
        """Deliver a page, customer by customer; return how far that is."""
        by_customer: defaultdict[str, list[WalletEvent]] = defaultdict(list)
        last_time_ms = progress.last_time_ms
        for told in page.told:
            for event in told.events:
                by_customer[event.customer_id].append(event)
                last_time_ms = max(last_time_ms, event.create_time_ms)
        try:
            async with asyncio.TaskGroup() as group:
                for events in by_customer.values():
                    group.create_task(self._post_all(events))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return Progress(page.position, last_time_ms)

    async def _post_all(self, events: list[WalletEvent]) -> None:
        async with self._slots:
            for event in events:
                await self._post(event)

    async def _post(self, event: WalletEvent) -> None:
        """Post an event until it is taken, or bury it."""
        body = body_of(event)
        for number in range(1, self._settings.attempts + 1):
            attempt = await self._receiver.post(self._session, event.event_id, body)
            if attempt.is_taken:
                delay_ms = max(0, self._now_ms() - event.create_time_ms)
                self._observer.webhook_taken(delay_ms / 1_000)
                return
            self._observer.webhook_refused()
            if number == self._settings.attempts:
                break
            await asyncio.sleep(wait_seconds(self._settings, number, attempt.retry_after_seconds))
        _log.error("a webhook was not taken", event_id=event.event_id, why=attempt.problem)
        await self._deliveries.bury(
            DeadLetter(event.event_id, event.customer_id, body, attempt.problem, self._now_ms())
        )
        self._observer.webhook_buried()


def wait_seconds(settings: DeliverySettings, attempts: int, asked_seconds: float) -> float:
    """Return the wait after so many attempts: ever longer, jittered, and not less than is asked."""
    wait = min(settings.first_retry_seconds * 2.0 ** (attempts - 1), _LONGEST_WAIT_SECONDS)
    return max(wait * random.uniform(0.5, 1), asked_seconds)  # noqa: S311 - no secret
