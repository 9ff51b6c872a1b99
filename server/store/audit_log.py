"""Writes the audit entries to `integration_logs`, in batches, off the hot path."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

import structlog
from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.audit import AuditEntry
from server.commit.port import StoreError
from server.store import schema
from server.store.connection import Database, Document, write

_MAX_WAITING: Final = 50_000
_MAX_BATCH: Final = 1_000
_RETRY_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 1.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("audit")


class MongoAuditLog:
    """Implements the port `AuditLog`; leaving it writes what still waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[AuditEntry] = deque()
        self._something_waits = asyncio.Event()
        self._is_closing = False
        self._writer: asyncio.Task[None] | None = None
        self.dropped = 0
        """Entries that were lost because the database was away for too long."""

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
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=_FLUSH_SECONDS)
            self._writer.cancel()
        if self._waiting:
            _log.error("audit entries were not written", entries=len(self._waiting))

    def put(self, entry: AuditEntry) -> None:
        """Take an entry; the oldest gives way when too many wait, and that is counted."""
        if len(self._waiting) >= _MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(entry)
        self._something_waits.set()

    async def _write(self) -> None:
        while self._waiting or not self._is_closing:
            if not self._waiting:
                self._something_waits.clear()
                await self._something_waits.wait()
                continue
            batch = [self._waiting.popleft() for _ in range(min(_MAX_BATCH, len(self._waiting)))]
            try:
                await write(
                    self._database, schema.LOGS, "insert", [_document(entry) for entry in batch]
                )
            except StoreError as error:
                self._waiting.extendleft(reversed(batch))
                _log.warning("audit entries wait for the database", cause=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)


def _document(entry: AuditEntry) -> Document:
    document: Document = {
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
