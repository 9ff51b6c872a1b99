"""Audits of their own for tests: written by the real audit log, and proven as an operator does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from harness import eventually, unique, with_database
from server.audit import AuditEntry
from server.audit_chain import AuditDifference
from server.metrics import Metrics
from server.store import schema
from server.store.audit_log import MongoAuditLog
from server.store.audit_records import AuditReport, MongoAuditRecords
from server.store.connection import Database, connect

ENTRY: Final = AuditEntry(
    time_ms=1_700_000_000_000,
    method="PayWithWallet",
    caller="order-service",
    peer="ipv4:127.0.0.1:1",
    customer_id="asha",
    order_id="order-1",
    code="OK",
    reason="",
    correlation_id="0123456789abcdef",
    duration_us=1_500,
)


@asynccontextmanager
async def audit_database(mongodb_uri: str) -> AsyncIterator[Database]:
    """An empty database of its own."""
    with connect(with_database(mongodb_uri, unique("audit"))) as opened:
        await schema.migrate(opened)
        yield opened
        await opened.client.drop_database(opened.name)


async def write_segment(database: Database, count: int, **fields: Any) -> None:
    """Write a segment of so many entries, and end it."""
    async with MongoAuditLog(database, Metrics()) as audit:
        for number in range(count):
            audit.put(replace(ENTRY, order_id=f"order-{number}", **fields))


async def verified(database: Database) -> tuple[list[AuditDifference], AuditReport]:
    """Return what a proof names, and its report."""
    report = AuditReport()
    found = [one async for one in MongoAuditRecords(database).verify(report)]
    assert report.differences == len(found)
    return found, report


async def is_written(database: Database, place: str) -> None:
    """Wait until an entry is written."""

    async def is_there() -> bool:
        return await database[schema.LOGS].find_one({"_id": place}) is not None

    await eventually(is_there)
