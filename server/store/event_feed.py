"""Reads the event feed: first the ledger as it was at one moment, then every commit after it.

History is read by id, as everything stood at one moment of the database, so that no entry of an
earlier id can come in behind. MongoDB keeps a moment for some minutes. Where it is gone, another
one takes its place, if no entry has come in among those that were told.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from bson import Timestamp

from server.commit.port import StoreError
from server.feed import (
    EventFilter,
    HistoryPosition,
    LivePosition,
    Moment,
    Page,
    Position,
    PositionLost,
    Told,
    WalletEvent,
    WalletEventType,
    events_of,
    failure_of,
)
from server.ledger.records import TransactionType, WalletState
from server.store import documents, schema
from server.store.change_stream import ChangeStream, changes_of, token_of
from server.store.connection import (
    BlockingDatabase,
    Database,
    Document,
    MomentGone,
    snapshot,
)
from server.store.encryption import NO_ENCRYPTION, Encryption

_Result = TypeVar("_Result")

_PAGE: Final = 200
"""Entries of the past in a page: so many fit one answer, whatever notes they have."""
_ENTRIES: Final[dict[WalletEventType, Document]] = {
    WalletEventType.TOPUP_CREDITED: {"type": TransactionType.TOPUP.value},
    WalletEventType.TOPUP_REVERSED: {
        "type": TransactionType.REVERSAL.value,
        "amount": {"$lt": 0},
    },
    WalletEventType.TOPUP_REVERSAL_RETURNED: {
        "type": TransactionType.REVERSAL.value,
        "amount": {"$gt": 0},
    },
    WalletEventType.PAYMENT_MADE: {"type": TransactionType.PAYMENT.value},
    WalletEventType.REFUND_MADE: {"type": TransactionType.REFUND.value},
    WalletEventType.WALLET_ADJUSTED: {"type": TransactionType.ADJUSTMENT.value},
    WalletEventType.WALLET_FROZEN: {
        "has_changed_state": True,
        "wallet_state": WalletState.FROZEN.value,
    },
    WalletEventType.WALLET_THAWED: {
        "has_changed_state": True,
        "wallet_state": WalletState.ACTIVE.value,
    },
}
"""Which entries tell of a type of event."""


class MongoEventFeed:
    """Implements the port `EventFeed`; readers wait in threads of their own."""

    def __init__(
        self, database: Database, max_readers: int, encryption: Encryption = NO_ENCRYPTION
    ) -> None:
        self._database = database
        self._encryption = encryption
        self._threads = ThreadPoolExecutor(max_readers, thread_name_prefix="event-feed")

    def reader(self, wanted: EventFilter, position: Position | None) -> "MongoEventReader":
        """Return a reader; see the port."""
        return MongoEventReader(
            self._database.delegate, self._threads, self._encryption, wanted, position
        )

    def close(self) -> None:
        """Let go of the threads; what still waits in them ends by itself."""
        self._threads.shutdown(wait=False)


class MongoEventReader:
    """Implements the port `EventReader`."""

    def __init__(
        self,
        database: BlockingDatabase,
        threads: ThreadPoolExecutor,
        encryption: Encryption,
        wanted: EventFilter,
        position: Position | None,
    ) -> None:
        self._database = database
        self._threads = threads
        self._encryption = encryption
        self._wanted = wanted
        self._position = position
        self._stream: ChangeStream | None = None
        self._running: asyncio.Future[Any] | None = None

    async def next_page(self) -> Page:
        """Return what follows; see the port."""
        page = await self._in_thread(self._read)
        self._position = page.position
        return page

    async def close(self) -> None:
        """Wait for what runs in the thread, and close the change stream."""
        if self._running is not None:
            await asyncio.wait([self._running])
        if self._stream is not None:
            with suppress(RuntimeError):  # the threads are gone already: the connections follow
                await self._in_thread(self._forget)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._running = running
        return await asyncio.shield(running)

    def _read(self) -> Page:
        if isinstance(self._position, HistoryPosition):
            return self._read_history(self._position)
        return self._read_live(self._position)

    def _read_live(self, position: LivePosition | None) -> Page:
        if self._stream is None:
            entries, failures = _queries_of(self._wanted)
            self._stream = ChangeStream(self._database, changes_of(entries, failures), position)
        try:
            changes, token = self._stream.read()
        except (PositionLost, StoreError):
            self._forget()
            raise
        told = [
            Told(self._only_wanted(self._events_of(change)), LivePosition(token_of(change)))
            for change in changes
        ]
        return Page(told, LivePosition(token))

    def _forget(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read_history(self, position: HistoryPosition) -> Page:
        entries, _ = _queries_of(self._wanted)
        if entries is None:  # the ledger tells nothing of what is wanted
            _, moment = self._snapshot([{"$limit": 1}], None)
            return Page([], LivePosition(moment=moment))
        query = {"$and": [entries, {"_id": {"$gt": position.last_id}}]}
        page: list[Document] = [{"$match": query}, {"$sort": {"_id": 1}}, {"$limit": _PAGE}]
        try:
            found, moment = self._snapshot(page, position.moment)
        except MomentGone:
            if position.moment is None:
                raise
            return Page([], self._at_another_moment(entries, position))
        told: list[Told] = []
        for entry in map(
            documents.read_transaction, self._encryption.opened(schema.TRANSACTIONS, found)
        ):
            position = replace(
                position,
                last_id=entry.transaction_id,
                told=position.told + 1,
                moment=moment,
            )
            told.append(Told(self._only_wanted(events_of(entry)), position))
        if len(found) < _PAGE:
            return Page(told, LivePosition(moment=moment))
        return Page(told, position)

    def _at_another_moment(self, entries: Document, position: HistoryPosition) -> HistoryPosition:
        """Return the same position at a moment that can be read."""
        passed = {"_id": {"$gt": position.first_id, "$lte": position.last_id}}
        counted: list[Document] = [{"$match": {"$and": [entries, passed]}}, {"$count": "entries"}]
        found, moment = self._snapshot(counted, None)
        if (found[0]["entries"] if found else 0) != position.told:
            raise PositionLost
        return replace(position, moment=moment)

    def _snapshot(
        self, pipeline: list[Document], moment: Moment | None
    ) -> tuple[list[Document], Moment]:
        found, time = snapshot(
            self._database,
            schema.TRANSACTIONS,
            pipeline,
            None if moment is None else Timestamp(*moment),
        )
        return found, Moment(time.time, time.inc)

    def _events_of(self, change: Document) -> tuple[WalletEvent, ...]:
        collection = change["ns"]["coll"]
        [document] = self._encryption.opened(collection, [change["fullDocument"]])
        if collection == schema.TOPUPS:
            return (failure_of(documents.read_topup(document)),)
        return events_of(documents.read_transaction(document))

    def _only_wanted(self, events: Sequence[WalletEvent]) -> tuple[WalletEvent, ...]:
        return tuple(event for event in events if self._wanted.wants(event))


def _queries_of(wanted: EventFilter) -> tuple[Document | None, Document | None]:
    """Return the queries of the entries and of the failed top-ups; None: not wanted."""
    of_customer: Document = {"customer_id": wanted.customer_id} if wanted.customer_id else {}
    failures = of_customer
    if not wanted.types:
        return of_customer, failures
    either = [_ENTRIES[kind] for kind in sorted(wanted.types) if kind in _ENTRIES]
    entries = {**of_customer, "$or": either} if either else None
    return entries, failures if WalletEventType.TOPUP_FAILED in wanted.types else None
