"""Watching the event feed: one reader for each call, bounded in number, in time and in memory.

A page is read only after the one before was taken: a slow reader holds one page and no more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from server.commit.port import StoreUnavailable
from server.feed import EventFeed, EventFilter, EventReader, Page, Position, PositionLost, Told
from server.rpc import conversion
from server.rpc.cursors import Cursors
from server.rpc.errors import RetryLater, RpcError
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_PACE_SECONDS: Final = 0.2
"""After a page the next one gathers so long: pages are larger under load, and cost less."""
_RETRY_SECONDS: Final = 0.5
_RETRY_AFTER_SECONDS: Final = 5.0
_MOST_OF_A_CUSTOMER: Final = 2
"""Streams over tokens of one customer; all such tokens together hold half of the places at most."""
_MOST_BYTES: Final = 1_000_000
"""Of a response, before the one record that goes over it: clients take 4 MiB by default."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("feed")


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Bounds of the watching calls of one process."""

    max_readers: int
    heartbeat_seconds: float
    """So often a reader hears something, also if nothing happens."""
    stream_seconds: float
    """After so long a stream ends, and its reader comes again with a token that is good."""
    outage_seconds: float = 20.0
    """So long the database may be away before readers are told."""


class Watching:
    """Serves the watching calls; closing ends them."""

    def __init__(self, feed: EventFeed, cursors: Cursors, settings: WatchSettings) -> None:
        self._feed = feed
        self._cursors = cursors
        self._settings = settings
        self._held = Counter[str | None]()
        self._is_closing = False

    @property
    def readers(self) -> int:
        """How many calls are watching just now."""
        return self._held.total()

    def close(self) -> None:
        """End the streams that run, each with its newest cursor told."""
        self._is_closing = True

    async def responses(
        self,
        wanted: EventFilter,
        cursor: str,
        start: Position | None,
        limited_to: str | None = None,
    ) -> AsyncGenerator[service.WatchEventsResponse]:
        """Tell the wanted events after a cursor, or else after `start`, as they are committed.

        `limited_to` is the one customer of the reader's token; None for a service, which finds
        places that customers cannot take.

        Raises:
            InvalidArgument, RetryLater, RpcError: CURSOR_EXPIRED.
        """
        position = self._cursors.read(wanted, cursor) if cursor else start
        reader = self._feed.reader(wanted, position)
        try:
            with self._place(limited_to):
                async with aclosing(self._told(wanted, reader)) as responses:
                    async for response in responses:
                        yield response
        except PositionLost:
            raise _expired() from None
        finally:
            await reader.close()

    async def _told(
        self, wanted: EventFilter, reader: EventReader
    ) -> AsyncGenerator[service.WatchEventsResponse]:
        """Tell what a reader finds, until the stream's time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.stream_seconds
        heartbeat = last_page = loop.time()
        while not self._is_closing and loop.time() < end:
            try:
                page = await reader.next_page()
            except StoreUnavailable as error:
                if loop.time() > last_page + self._settings.outage_seconds:
                    raise
                _log.warning("a reader of events waits for MongoDB", cause=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            last_page = loop.time()
            responses = self._responses_of(wanted, page)
            if any(response.events for response in responses) or last_page >= heartbeat:
                for response in responses:
                    yield response
                heartbeat = loop.time() + self._settings.heartbeat_seconds
            if page.told:
                await asyncio.sleep(_PACE_SECONDS)

    @contextmanager
    def _place(self, limited_to: str | None) -> Iterator[None]:
        """Hold one of the readers' places.

        Raises:
            RetryLater: there is none.
        """
        if not self._has_place(limited_to):
            raise RetryLater(
                "RATE_LIMITED",
                f"This server has {self.readers} readers of events and takes no more of this kind.",
                _RETRY_AFTER_SECONDS,
                {"readers": str(self.readers)},
            )
        self._held[limited_to] += 1
        try:
            yield
        finally:
            self._held[limited_to] -= 1
            self._held += Counter()  # forgets whoever holds none

    def _has_place(self, limited_to: str | None) -> bool:
        most = self._settings.max_readers
        if limited_to is None or self.readers >= most:
            return self.readers < most
        is_one_too_many = self._held[limited_to] >= _MOST_OF_A_CUSTOMER
        held_by_customers = self.readers - self._held[None]
        return not is_one_too_many and held_by_customers < max(1, most // 2)

    def _responses_of(self, wanted: EventFilter, page: Page) -> list[service.WatchEventsResponse]:
        """Return a page as one response, or as several where it is too large for one."""
        responses: list[service.WatchEventsResponse] = []
        response, size = service.WatchEventsResponse(), 0
        for told in page.told:
            size += _fill(response, told)
            if size > _MOST_BYTES:
                response.cursor = self._cursors.make(wanted, told.position)
                responses.append(response)
                response, size = service.WatchEventsResponse(), 0
        response.cursor = self._cursors.make(wanted, page.position)
        return [*responses, response]


def _fill(response: service.WatchEventsResponse, told: Told) -> int:
    """Add a record's events to a response; return how many bytes they take."""
    size = 0
    for event in told.events:
        message = response.events.add()
        conversion.fill_wallet_event(message, event)
        size += message.ByteSize()
    return size


def _expired() -> RpcError:
    return RpcError(
        "CURSOR_EXPIRED",
        "The database does not reach back to this cursor any more. Watch again with a start_time "
        "a little before the last event that was handled; what comes again has its event_id.",
    )
