"""Reads the event feed: first the ledger as it was at one moment, then every commit after it.

History is read by id, as everything stood at one moment of the database, so that no record of an
earlier id can come in behind. MongoDB keeps a moment for some minutes. Where it is gone, another
one takes its place, if no record has come in among those that were told.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

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
)
from server.store import schema
from server.store.change_stream import ChangeStream, changes_of, token_of
from server.store.connection import (
    BlockingDatabase,
    Database,
    Document,
    MomentGone,
    snapshot,
)
from server.store.encryption import NO_ENCRYPTION, Encryption
from server.store.event_sources import SOURCES, Source

_Result = TypeVar("_Result")
_Queries = Sequence[tuple[Source, Document]]
"""Sources, each with the query of the records that are wanted of it."""

_PAGE: Final = 200
"""Records of the past in a page: so many fit one answer, whatever notes they have."""
_POSITION: Final = "txn_"
"""What the ids of a position begin with, of whichever record they are."""


class _Record(NamedTuple):
    """A record of the past."""

    place: str
    """Its id, as a position has it."""
    source: Source
    document: Document


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
        self._sources: _Queries = [
            (source, query) for source in SOURCES if (query := source.query(wanted)) is not None
        ]
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
            condition = changes_of(
                (source.collection, source.operation, query) for source, query in self._sources
            )
            self._stream = ChangeStream(self._database, condition, position)
        try:
            changes, token = self._stream.read()
        except (PositionLost, StoreError):
            self._forget()
            raise
        told = [Told(self._changed(change), LivePosition(token_of(change))) for change in changes]
        return Page(told, LivePosition(token))

    def _forget(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read_history(self, position: HistoryPosition) -> Page:
        kept = [(source, query) for source, query in self._sources if source.id_prefix]
        if not kept:  # the past tells nothing of what is wanted
            _, now = self._snapshot(schema.TRANSACTIONS, [{"$limit": 1}], None)
            return Page([], LivePosition(moment=now))
        try:
            found, moment = self._records_after(kept, position)
        except MomentGone:
            if position.moment is None:
                raise
            return Page([], self._at_another_moment(kept, position))
        told: list[Told] = []
        for one in found:
            position = replace(position, last_id=one.place, told=position.told + 1, moment=moment)
            told.append(Told(self._events_of(one.source, one.document), position))
        if len(found) < _PAGE:
            return Page(told, LivePosition(moment=moment))
        return Page(told, position)

    def _records_after(
        self, kept: _Queries, position: HistoryPosition
    ) -> tuple[list[_Record], Moment | None]:
        """Return the next page of records, and their moment."""
        found: list[_Record] = []
        moment, end_id = position.moment, ""
        for source, query in kept:
            place = {"$gt": _with_prefix(source.id_prefix, position.last_id)}
            if end_id:  # what comes later is not looked for among other records
                place["$lte"] = _with_prefix(source.id_prefix, end_id)
            page: list[Document] = [
                {"$match": {"$and": [query, {"_id": place}]}},
                {"$sort": {"_id": 1}},
                {"$limit": _PAGE},
            ]
            records, moment = self._snapshot(source.collection, page, moment)
            found += [_Record(_with_prefix(_POSITION, one["_id"]), source, one) for one in records]
            if len(records) == _PAGE:
                end_id = records[-1]["_id"]
        return sorted(found, key=attrgetter("place"))[:_PAGE], moment

    def _at_another_moment(self, kept: _Queries, position: HistoryPosition) -> HistoryPosition:
        """Return the same position at a moment that can be read."""
        moment: Moment | None = None
        number = 0
        for source, query in kept:
            first_id = _with_prefix(source.id_prefix, position.first_id)
            last_id = _with_prefix(source.id_prefix, position.last_id)
            passed = {"_id": {"$gt": first_id, "$lte": last_id}}
            counted: list[Document] = [{"$match": {"$and": [query, passed]}}, {"$count": "records"}]
            found, moment = self._snapshot(source.collection, counted, moment)
            number += found[0]["records"] if found else 0
        if number != position.told:
            raise PositionLost
        return replace(position, moment=moment)

    def _snapshot(
        self, collection: str, pipeline: list[Document], moment: Moment | None
    ) -> tuple[list[Document], Moment]:
        found, time = snapshot(
            self._database, collection, pipeline, None if moment is None else Timestamp(*moment)
        )
        return found, Moment(time.time, time.inc)

    def _changed(self, change: Document) -> tuple[WalletEvent, ...]:
        """Return the wanted events of a change."""
        collection = change["ns"]["coll"]
        [source] = [one for one, _ in self._sources if one.collection == collection]
        return self._events_of(source, change["fullDocument"])

    def _events_of(self, source: Source, record: Document) -> tuple[WalletEvent, ...]:
        """Return the wanted events of a record."""
        [document] = self._encryption.opened(source.collection, [record])
        return tuple(one for one in source.events_of(document) if self._wanted.wants(one))


def _with_prefix(prefix: str, record_id: str) -> str:
    """Return an id as one of another kind of record at the same place."""
    return prefix + record_id.partition("_")[2]
