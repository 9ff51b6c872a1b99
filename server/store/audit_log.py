"""Writes the audit to `integration_logs`: in batches, off the hot path, each entry in its chain.

What a process writes is a segment of its own (`server/audit_chain.py`), with a head and an end in
`audit_segments`. Nothing is ever updated.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog
from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.audit import LOST, AuditEntry
from server.audit_chain import (
    ChainedEntry,
    Segment,
    SegmentEnd,
    chained,
    place_of,
)
from server.commit.port import WriteConflict
from server.metrics import Metrics
from server.store import schema
from server.store.audit_records import MongoAuditRecords
from server.store.connection import BlockingDatabase, Database, Document, found, in_thread, written

_MAX_WAITING: Final = 50_000
_MAX_BATCH: Final = 1_000
_MAX_SEGMENT_ENTRIES: Final = 100_000
_MAX_SEGMENT_SECONDS: Final = 3_600.0
_GATHER_SECONDS: Final = 0.1
"""So long entries wait for others, to be written together; a crash loses as much."""
_MAX_RACES: Final = 100
"""Processes that start at once take one place after the other."""
_RETRY_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 2.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("audit")


_Work = Callable[[BlockingDatabase], None]


class _Writing:
    """A segment that is being written."""

    def __init__(self, segment: Segment) -> None:
        self.number = segment.number
        self.head_hash = segment.hash
        self.entries = 0
        self._old_at = time.monotonic() + _MAX_SEGMENT_SECONDS

    @property
    def is_full(self) -> bool:
        """Whether another segment is due."""
        return self.entries >= _MAX_SEGMENT_ENTRIES or time.monotonic() >= self._old_at

    def append(self, entry: AuditEntry) -> ChainedEntry:
        """Put an entry at the end of the chain."""
        self.entries += 1
        place = chained(self.number, self.entries, self.head_hash, entry)
        self.head_hash = place.hash
        return place

    @property
    def end(self) -> SegmentEnd:
        """What is to be said of it when no more entries come."""
        return SegmentEnd(self.number, self.entries, self.head_hash)


class MongoAuditLog:
    """Implements the port `AuditLog`; leaving it writes what still waits, and ends the segment."""

    def __init__(self, database: Database, metrics: Metrics, *, refuses: bool = False) -> None:
        """With `refuses`, no calls are taken while entries cannot be written."""
        self._database = database
        self._metrics = metrics
        self._refuses = refuses
        self._waiting: deque[AuditEntry] = deque()
        self._batch: list[ChainedEntry] = []
        self._writing: _Writing | None = None
        self._lost = 0
        self._fails = False
        self._something_waits = asyncio.Event()
        self._is_enough = asyncio.Event()
        self._is_closing = False
        self._writer: asyncio.Task[None] | None = None
        metrics.watch_audit(lambda: len(self._waiting) + len(self._batch), lambda: self._fails)

    @property
    def takes_calls(self) -> bool:
        """Whether calls may go on: always, unless they are to be refused, and writing fails."""
        return not (self._refuses and self._fails)

    async def __aenter__(self) -> Self:
        """Start writing."""
        self._writer = asyncio.create_task(self._write(), name="audit-log")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what waits, for a bounded time."""
        self._is_closing = True
        self._something_waits.set()
        self._is_enough.set()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=_FLUSH_SECONDS)
            self._writer.cancel()
        if unwritten := len(self._waiting) + len(self._batch):
            _log.error("audit entries were not written", entries=unwritten)

    def put(self, entry: AuditEntry) -> None:
        """Take an entry; where too many wait it is lost, which is counted and written down."""
        if len(self._waiting) >= _MAX_WAITING:
            self._lost += 1
            self._metrics.audit_entry_lost()
            return
        self._waiting.append(entry)
        self._something_waits.set()
        if len(self._waiting) >= _MAX_BATCH:
            self._is_enough.set()

    async def _write(self) -> None:
        while self._waiting or self._batch or not self._is_closing:
            if not self._waiting and not self._batch:
                self._something_waits.clear()
                await self._something_waits.wait()
                await self._gather()
                continue
            await self._until_written(self._write_batch)
        await self._until_written(self._end_segment)

    async def _gather(self) -> None:
        """Wait for more entries, but not for long."""
        self._is_enough.clear()
        if not self._is_closing:
            try:
                async with asyncio.timeout(_GATHER_SECONDS):
                    await self._is_enough.wait()
            except TimeoutError:
                return

    async def _until_written(self, work: _Work) -> None:
        """Carry out the work in a thread, again and again until the database has taken it."""
        while True:
            try:
                await in_thread(self._database, work)
            except Exception as error:  # noqa: BLE001 - whatever it is, an audit never ends silently
                if not self._fails:
                    _log.error(
                        "the audit cannot be written", cause=type(error).__name__, alarm="audit"
                    )
                self._fails = True
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if self._fails:
                    _log.warning("the audit is written again")
                self._fails = False
                return

    def _write_batch(self, database: BlockingDatabase) -> None:
        """Write the next entries; those that were made into a batch once stay as they are."""
        if self._writing is not None and self._writing.is_full and not self._batch:
            self._end_segment(database)
        if self._writing is None:
            self._writing = _open_segment(database)
        if not self._batch:
            lost, self._lost = self._lost, 0
            if lost:
                self._waiting.append(_lost_entry(lost))
            count = min(_MAX_BATCH, len(self._waiting))
            self._batch = [self._writing.append(self._waiting.popleft()) for _ in range(count)]
        _insert(database, schema.LOGS, [_entry_document(place) for place in self._batch])
        self._batch = []

    def _end_segment(self, database: BlockingDatabase) -> None:
        if self._writing is not None:
            _insert(database, schema.AUDIT_SEGMENTS, [_end_document(self._writing.end)])
            self._writing = None


def _open_segment(database: BlockingDatabase) -> _Writing:
    """Take the next place in the row of all segments.

    Raises:
        WriteConflict: others were faster again and again, or the row does not end where it says.
    """
    for _ in range(_MAX_RACES):
        row = MongoAuditRecords.end_of_row(database)
        segment = Segment(
            row.number + 1,
            row.hash,
            f"{socket.gethostname()}:{os.getpid()}",
            time.time_ns() // 1_000_000,
            row.ended,
        )
        try:
            written(database, schema.AUDIT_SEGMENTS, "insert", [_segment_document(segment)])
        except WriteConflict:
            continue  # another process was faster
        return _Writing(segment)
    raise WriteConflict


def _insert(database: BlockingDatabase, collection: str, documents: list[Document]) -> None:
    """Insert what is this writer's alone: what is there already, an answer that got lost wrote."""
    try:
        written(database, collection, "insert", documents)
    except WriteConflict:
        ids = [document["_id"] for document in documents]
        present = found(database, collection, {"_id": {"$in": ids}}, projection={"_id": 1})
        if len(present) < len(ids):
            raise


def _lost_entry(count: int) -> AuditEntry:
    time_ms = time.time_ns() // 1_000_000
    return AuditEntry(time_ms, LOST, "", "", "", "", "", str(count), "", 0)


def _entry_document(place: ChainedEntry) -> Document:
    entry = place.entry
    document: Document = {
        "_id": place_of(place.segment, place.sequence),
        "previous_hash": place.previous_hash,
        "hash": place.hash,
        "time": DatetimeMS(entry.time_ms),
        "method": entry.method,
        "code": entry.code,
        "correlation_id": entry.correlation_id,
        "duration_us": Int64(entry.duration_us),
    }
    for name in ("caller", "peer", "customer_id", "order_id", "reason"):
        if value := getattr(entry, name):
            document[name] = value
    return document


def _segment_document(segment: Segment) -> Document:
    document: Document = {
        "_id": place_of(segment.number),
        "previous_hash": segment.previous_hash,
        "writer": segment.writer,
        "open_time_ms": Int64(segment.open_time_ms),
    }
    if segment.ended:
        document["ended"] = [[Int64(number), end_hash] for number, end_hash in segment.ended]
    return document


def _end_document(end: SegmentEnd) -> Document:
    return {
        "_id": f"{place_of(end.number)}:end",
        "entries": Int64(end.entries),
        "head_hash": end.head_hash,
    }
