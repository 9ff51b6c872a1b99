"""The audit of a real service: every call is in it, it is bounded, and it never ends silently."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness import (
    Harness,
    bearer,
    event_of,
    eventually,
    free_port,
    gateway_id,
    inr,
    refusal_of,
    running_harness,
    token,
    unique,
    with_database,
)
from server.audit import LOST
from server.commit.port import StoreUnavailable
from server.metrics import Metrics
from server.store import audit_log, connection, schema
from server.store.audit_log import MongoAuditLog
from server.store.audit_records import AuditFilter, MongoAuditRecords
from server.store.connection import Database, connect
from server.store.embedded import embedded_mongod
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from written_audit import ENTRY, audit_database, verified, write_segment


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[Database]:
    """An empty database of its own."""
    async with audit_database(mongodb_uri) as opened:
        yield opened


async def test_a_repeat_of_a_batch_whose_answer_was_lost_writes_it_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database took the entries and did not say so: they are there once, in one chain."""
    original, lost = connection.written, [True]

    def answers_once_nothing(*arguments: Any, **named: Any) -> int:
        count = original(*arguments, **named)
        if lost and arguments[1] == schema.LOGS:
            lost.clear()
            raise StoreUnavailable("test")
        return count

    monkeypatch.setattr(audit_log, "written", answers_once_nothing)
    monkeypatch.setattr(audit_log, "_RETRY_SECONDS", 0.01)
    await write_segment(database, 5)

    found, report = await verified(database)

    assert lost == []
    assert found == []
    assert report.entries == 5


async def test_too_many_entries_are_counted_and_the_loss_is_written_down(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood that the database cannot follow takes bounded memory, and leaves a trace."""
    monkeypatch.setattr(audit_log, "_MAX_WAITING", 100)
    metrics = Metrics()
    async with MongoAuditLog(database, metrics) as audit:
        for _ in range(350):
            audit.put(ENTRY)
        assert "wallet_audit_waiting 100.0" in metrics.exposition().decode()

    entries = await MongoAuditRecords(database).search(AuditFilter(), 1_000)
    assert len(entries) == 101
    assert [entry.reason for entry in entries if entry.method == LOST] == ["250"]
    assert "wallet_audit_lost_total 250.0" in metrics.exposition().decode()
    assert (await verified(database))[0] == []


@asynccontextmanager
async def without_audit(harness: Harness) -> AsyncIterator[None]:
    """Have MongoDB refuse every audit entry meanwhile."""
    never = {"$jsonSchema": {"required": ["what no entry has"]}}
    options = await harness.database.command("listCollections", filter={"name": schema.LOGS})
    validator = options["cursor"]["firstBatch"][0]["options"]["validator"]
    await harness.database.command("collMod", schema.LOGS, validator=never)
    try:
        yield
    finally:
        await harness.database.command("collMod", schema.LOGS, validator=validator)


async def exposition(harness: Harness) -> str:
    """Return the server's metrics."""
    async with harness.http.get(harness.metrics_url) as answer:
        return await answer.text()


@pytest.mark.parametrize("policy", ["continue", "refuse"])
async def test_where_the_audit_cannot_be_written_calls_go_on_or_are_refused(
    mongodb_uri: str, policy: str
) -> None:
    """As it is set; the alarm shows, and what happened meanwhile is written down afterwards."""
    uri = with_database(mongodb_uri, unique("audit"))
    async with running_harness(uri, audit=policy) as harness:
        customer = await harness.customer(1_000)
        async with without_audit(harness):
            await harness.pay(customer, 1)

            async def alarm_shows() -> bool:
                return "wallet_audit_failing 1.0" in await exposition(harness)

            await eventually(alarm_shows)
            order = unique("order")
            call = harness.pay(customer, 2, order)
            if policy == "refuse":
                problem = await refusal_of(call)
                assert problem.code is grpc.StatusCode.UNAVAILABLE
                assert problem.reason == "DATABASE_UNAVAILABLE"
                assert problem.retry_after_seconds
            else:
                await call
        expected = "UNAVAILABLE" if policy == "refuse" else "OK"

        async def is_written() -> bool:
            entry = await harness.database.integration_logs.find_one({"order_id": order})
            return bool(entry) and entry["code"] == expected

        await eventually(is_written)
        assert "wallet_audit_failing 0.0" in await exposition(harness)
        await harness.pay(customer, 3)
        with connect(uri) as database:
            assert (await verified(database))[0] == []


async def test_a_mongodb_that_is_stopped_loses_no_entry(tmp_path: Path) -> None:
    """Entries wait while it is away, and are written when it is back."""
    port = free_port()
    uri = f"mongodb://127.0.0.1:{port}/wallet_payment?replicaSet=wallet"
    with connect(uri + "&serverSelectionTimeoutMS=200") as database:
        async with MongoAuditLog(database, Metrics()) as audit:
            async with embedded_mongod(tmp_path, port=port):
                await schema.migrate(database)
                audit.put(ENTRY)

                async def is_written() -> bool:
                    return bool(await MongoAuditRecords(database).search(AuditFilter(), 1))

                await eventually(is_written)
            for _ in range(50):
                audit.put(ENTRY)
            async with embedded_mongod(tmp_path, port=port):

                async def all_are_written() -> bool:
                    found = await MongoAuditRecords(database).search(AuditFilter(), 100)
                    return len(found) == 51

                await eventually(all_are_written)
                assert (await verified(database))[0] == []


async def test_a_search_combines_what_is_asked(database: Database) -> None:
    """Each filter narrows, times include their start and not their end, newest come first."""
    await write_segment(database, 3)
    await write_segment(database, 3, time_ms=ENTRY.time_ms + 1_000, code="NOT_FOUND", caller="x")
    records = MongoAuditRecords(database)

    assert len(await records.search(AuditFilter(), 100)) == 6
    assert len(await records.search(AuditFilter(), 2)) == 2
    newest = await records.search(AuditFilter(order_id="order-1"), 100)
    assert [entry.code for entry in newest] == ["NOT_FOUND", "OK"]
    assert newest[1] == replace(ENTRY, order_id="order-1")
    for wanted, count in (
        (AuditFilter(caller="x"), 3),
        (AuditFilter(customer_id="asha", code="OK"), 3),
        (AuditFilter(method="GetStatus"), 0),
        (AuditFilter(correlation_id=ENTRY.correlation_id, order_id="order-2"), 2),
        (AuditFilter(start_ms=ENTRY.time_ms + 1), 3),
        (AuditFilter(start_ms=ENTRY.time_ms, end_ms=ENTRY.time_ms + 1_000), 3),
    ):
        assert len(await records.search(wanted, 100)) == count, wanted


async def test_refused_calls_are_audited_whoever_makes_them(harness: Harness) -> None:
    """Without a token, without the scope, malformed: each leaves who, whence, what and why."""
    customer = unique("customer")
    request = service.GetStatusRequest(customer_id=customer)
    poor = (("authorization", f"Bearer {token(scope='payment.write')}"),)
    await refusal_of(harness.call("GetStatus", request, metadata=()))
    await refusal_of(harness.call("GetStatus", request, metadata=poor))
    malformed = service.PayWithWalletRequest(customer_id=customer, amount=inr(-1))
    await refusal_of(harness.call("PayWithWallet", malformed))

    async def all_written() -> list[Any] | None:
        query = {"customer_id": customer}
        found = await harness.database.integration_logs.find(query).sort("_id").to_list(None)
        return found if len(found) == 3 else None

    entries = await eventually(all_written)
    assert [(one["code"], one["reason"]) for one in entries] == [
        ("UNAUTHENTICATED", "TOKEN_MISSING"),
        ("PERMISSION_DENIED", "SCOPE_MISSING"),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ]
    for one in entries:
        assert one["peer"].startswith("ipv4:127.0.0.1:")
        assert one["duration_us"] > 0
        assert one["correlation_id"]


async def test_a_webhook_is_audited_with_who_sent_it(harness: Harness) -> None:
    """The sidecar says from where it got it; nobody else is believed."""
    body = event_of("payment.captured", {"id": gateway_id("pay"), "order_id": unique("order")})
    url = f"{harness.sidecar_url}/webhooks/razorpay"
    headers = {"Content-Type": "application/json", "X-Razorpay-Signature": "0" * 64}
    async with harness.http.post(url, data=body, headers=headers) as answer:
        assert answer.status == 401
        correlation_id = answer.headers["X-Correlation-Id"]
    caller = unique("caller")
    metadata = (*bearer(token(sub=caller)), ("x-webhook-sender", "192.0.2.1"))
    request = service.GetStatusRequest(customer_id=unique("customer"))
    await refusal_of(harness.call("GetStatus", request, metadata=metadata))

    async def written() -> list[Any] | None:
        query = {"$or": [{"correlation_id": correlation_id}, {"caller": caller}]}
        found = await harness.database.integration_logs.find(query).sort("_id").to_list(None)
        return found if len(found) == 2 else None

    webhook, call = await eventually(written)
    assert webhook["reason"] == "SIGNATURE_INVALID"
    assert webhook["peer"].endswith(" for 127.0.0.1")
    assert "192.0.2.1" not in call["peer"]


async def test_the_services_own_audit_is_proven(harness: Harness) -> None:
    """What all tests so far have led to is one whole chain, while calls go on."""
    with connect(harness.settings.mongodb_uri.get_secret_value()) as database:
        found, report = await verified(database)

    assert found == []
    assert report.segments >= 1
