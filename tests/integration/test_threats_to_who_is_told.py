"""Each threat to what others are told of in the threat model: events, webhooks, traces, metrics.

A test has the name of its row in `docs/concepts/threat-model.md`.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from test_outgoing_webhooks import KEY, SECRET, lead
from test_sidecar_connections import client
from test_threats_on_the_way import a_place
from test_tracing import SERVICE, spans_of

from collector import Collector, running_traced
from command_line import run_in_process
from harness import (
    Harness,
    bearer,
    eventually,
    outcomes_of,
    refusal_of,
    running_harness,
    token,
    unique,
    with_database,
)
from server.listening import address_of, bind, http_server
from wallet_payment.v1 import wallet_payment_service_pb2 as service

NEW_SECRET = f"whsec_{base64.b64encode(b'n' * 32).decode()}"


@dataclass
class Listener:
    """A receiver of outgoing webhooks that keeps them as they came, and answers as it likes."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        """Keep a webhook."""
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        given = {name: request.headers[name] for name in names}
        self.came.append((given, await request.read()))
        return web.Response(status=self.status, headers=self.headers, text=SECRET)

    async def first(self, count: int = 1) -> list[tuple[dict[str, str], bytes]]:
        """Wait for so many webhooks."""

        async def are_here() -> bool:
            return len(self.came) >= count

        await eventually(are_here, 40)
        return self.came[:count]


@asynccontextmanager
async def telling(mongodb_uri: str, **given: Any) -> AsyncIterator[tuple[Harness, Listener]]:
    """Run a service that posts what happens to a listener."""
    listener, app = Listener(), web.Application()
    app.router.add_post("/hooks", listener.receive)
    bound = bind("127.0.0.1:0", "listener")
    listener.url = f"http://{address_of(bound)}/hooks"
    settings: dict[str, Any] = {
        "outgoing_webhook_url": listener.url,
        "outgoing_webhook_secrets": SECRET,
        "outgoing_webhook_retry_seconds": 0.01,
    }
    uri = with_database(mongodb_uri, unique("told"))
    async with (
        http_server(web.AppRunner(app, access_log=None), bound),
        running_harness(uri, **settings | given) as harness,
    ):
        await lead(harness.database)
        yield harness, listener


def holds(key: bytes, headers: dict[str, str], body: bytes) -> bool:
    """Tell whether a webhook is signed with a key, by the Standard Webhooks specification."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split()


# Outgoing webhooks.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_threat_webhook_to_a_host_inside(mongodb_uri: str, status: int) -> None:
    """A receiver that leads elsewhere gets nobody there, nor does a URL in a caller's request."""
    async with (
        a_place() as (inside, visits),
        telling(mongodb_uri, outgoing_webhook_attempts=1) as (harness, listener),
    ):
        listener.status = status
        listener.headers = {"Location": f"http://{inside}/latest/meta-data"}
        customer, url = await harness.customer(100), f"http://{inside}/"
        notes = {"url": url, "callback": url, "webhook_url": url}
        await harness.initiate(customer, 100, return_url=f"https://{inside}/", metadata=notes)

        async def is_buried() -> Any:
            return await harness.database.outgoing_dead_letters.find_one({})

        letter = await eventually(is_buried)
        assert letter["problem"] == f"HTTP {status}"
    assert visits == []


async def test_threat_forged_delivery(mongodb_uri: str) -> None:
    """No part of a webhook can be changed, and no other key signs it; both do while they rotate."""
    both = f"{NEW_SECRET},{SECRET}"
    async with telling(mongodb_uri, outgoing_webhook_secrets=both) as (harness, listener):
        await harness.customer(100)
        [(headers, body)] = await listener.first()

    assert holds(KEY, headers, body)
    assert holds(b"n" * 32, headers, body)
    assert not holds(b"x" * 32, headers, body)
    event = json.loads(body)
    event["data"]["transaction"]["amount"]["minor_units"] = "1000000"
    assert not holds(KEY, headers, json.dumps(event, separators=(",", ":")).encode())
    assert not holds(KEY, headers, body + b" ")
    for name, other in (("webhook-id", f"{headers['webhook-id']}x"), ("webhook-timestamp", "1")):
        assert not holds(KEY, headers | {name: other}, body)


async def test_threat_replayed_delivery(mongodb_uri: str) -> None:
    """Each attempt is signed with the time of then, and one event has one id: old ones show."""
    async with telling(mongodb_uri) as (harness, listener):
        listener.status = 503
        before = int(time.time())
        await harness.customer(100)
        attempts = await listener.first(3)
        listener.status = 204

    assert len({headers["webhook-id"] for headers, _ in attempts}) == 1
    assert len({body for _, body in attempts}) == 1
    for headers, body in attempts:
        assert before <= int(headers["webhook-timestamp"]) <= time.time()
        assert holds(KEY, headers, body)
        assert not holds(KEY, headers | {"webhook-timestamp": str(int(time.time()) + 300)}, body)


async def test_threat_secret_of_outgoing_webhooks(
    mongodb_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in no webhook, record, log, metric or printed setting; nor is what a receiver said."""
    async with telling(mongodb_uri, outgoing_webhook_attempts=1) as (harness, listener):
        listener.status = 400
        await harness.customer(100)
        [(headers, body)] = await listener.first()

        async def is_buried() -> Any:
            return await harness.database.outgoing_dead_letters.find_one({})

        letter = await eventually(is_buried)
        stored = [
            one
            for name in await harness.database.list_collection_names()
            async for one in harness.database[name].find()
        ]
        async with harness.http.get(harness.metrics_url) as answer:
            metrics = await answer.text()
        environment = {
            "WALLET_MONGODB_URI": harness.settings.mongodb_uri.get_secret_value(),
            "WALLET_OUTGOING_WEBHOOK_URL": listener.url,
            "WALLET_OUTGOING_WEBHOOK_SECRETS": SECRET,
        }
        printed = [
            await run_in_process(*command, environment=environment, folder=tmp_path)
            for command in (("config",), ("outgoing", "list", "--json"))
        ]

    assert letter["problem"] == "HTTP 400"
    told = [f"{headers}", body.decode(), f"{stored}", metrics, f"{printed}", caplog.text]
    key = SECRET.removeprefix("whsec_")
    assert [text for text in told if key in text or KEY.decode() in text] == []


# The event feed.


async def watched(harness: Harness, text: str, **request: Any) -> Any:
    """Read the first response of a stream with a token."""
    call = harness.stub.WatchEvents(
        service.WatchEventsRequest(**request), metadata=bearer(text), timeout=30
    )
    try:
        return await call.read()
    finally:
        call.cancel()


async def test_threat_reader_of_all_events(harness: Harness) -> None:
    """Without the scope nobody listens; with a customer's token nobody hears of another one."""
    customer, other = await harness.customer(), await harness.customer()
    limited = token(customer_id=customer)
    theirs = (await watched(harness, token(), customer_id=other)).cursor
    everybodys = (await watched(harness, token())).cursor
    for text, request, reason in (
        ("", {}, "TOKEN_INVALID"),
        (token(scope="status.read webhook.forward payment.write"), {}, "SCOPE_MISSING"),
        (limited, {}, "CUSTOMER_NOT_ALLOWED"),
        (limited, {"customer_id": other}, "CUSTOMER_NOT_ALLOWED"),
        (limited, {"cursor": everybodys}, "CUSTOMER_NOT_ALLOWED"),
        (limited, {"customer_id": other, "cursor": theirs}, "CUSTOMER_NOT_ALLOWED"),
        (limited, {"customer_id": customer, "cursor": theirs}, "INVALID_ARGUMENT"),
        (limited, {"customer_id": customer, "cursor": everybodys}, "INVALID_ARGUMENT"),
    ):
        assert (await refusal_of(watched(harness, text, **request))).reason == reason
    assert (await watched(harness, limited, customer_id=customer)).cursor


async def test_threat_held_event_streams(mongodb_uri: str) -> None:
    """Customers' tokens hold two streams each and half of all at most; services find a place."""
    uri = with_database(mongodb_uri, unique("readers"))
    async with running_harness(uri, events_max_readers=8) as harness, AsyncExitStack() as held:
        refused = []
        for _ in range(4):
            customer = await harness.customer()
            metadata = bearer(token(customer_id=customer))
            request = service.WatchEventsRequest(customer_id=customer)
            for _ in range(3):
                stream = harness.stub.WatchEvents(request, metadata=metadata, timeout=60)
                held.callback(stream.cancel)
                [first] = await outcomes_of([stream.read()])
                refused.append(getattr(first, "reason", ""))

        assert refused == ["", "", "RATE_LIMITED"] * 2 + ["RATE_LIMITED"] * 6
        for _ in range(2):
            assert (await watched(harness, token())).cursor


# Traces.


@pytest.fixture
async def traced(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Harness, Collector]]:
    """A service that traces everything, and the collector that it tells."""
    async with running_traced(mongodb_uri, monkeypatch) as running:
        yield running


async def test_threat_leak_through_traces(traced: tuple[Harness, Collector]) -> None:
    """A collector learns of no customer, order, amount, note, token, or what a gateway was sent."""
    harness, collector = traced
    customer, note = await harness.customer(7_654_321), unique("a-private-note")
    paid = await harness.pay(customer, 1_234_567, metadata={"note": note})
    await harness.refund(customer, paid.payment.order_id, reason=note)
    topup = await harness.initiate(customer, 100, metadata={"note": note})
    trace_id = secrets.token_hex(16)
    good = token(jti=unique("jti"))
    metadata = (*bearer(good), ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01"))
    await refusal_of(harness.call("GetStatus", service.GetStatusRequest(), metadata=metadata))
    await spans_of(collector, trace_id, "GetStatus")

    exported = b"".join(collector.raw)
    assert b"PayWithWallet" in exported
    hidden = (
        *(customer, note, paid.payment.order_id, paid.transaction.transaction_id, good),
        *(topup.topup_id, topup.gateway_order_id, "7654321", "1234567", "order-service"),
        harness.settings.mongodb_uri.get_secret_value(),
        *harness.settings.razorpay_key_secret.get_secret_value().split(),
    )
    assert [text for text in hidden if text.encode() in exported] == []


async def test_threat_forged_trace(traced: tuple[Harness, Collector]) -> None:
    """A stranger's text does not reach the collector, and the internet's trace is not believed."""
    harness, collector = traced
    text, trace_id = unique("written-by-a-stranger"), secrets.token_hex(16)
    parent = ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01")
    others = (("tracestate", f"x={text}"), ("baggage", f"x={text}"), ("b3", text), ("x-note", text))
    for metadata in ((parent, *others), (("traceparent", f"00-{text}-{text}-01"), *others)):
        call = harness.call("GetStatus", service.GetStatusRequest(), metadata=metadata)
        assert (await refusal_of(call)).reason == "TOKEN_MISSING"
    await spans_of(collector, trace_id, "GetStatus")
    from_outside = secrets.token_hex(16)
    status, _ = await harness.deliver(
        b"{}",
        traceparent=f"00-{from_outside}-{secrets.token_hex(8)}-01",
        tracestate=f"x={text}",
        baggage=f"x={text}",
    )
    assert status == 400

    async def is_told() -> bool:
        return bool(collector.named(f"{SERVICE}/ForwardWebhook"))

    await eventually(is_told)
    assert text.encode() not in b"".join(collector.raw)
    assert collector.of_trace(from_outside) == []


# The metrics' port.


async def test_threat_held_metrics_port(harness: Harness) -> None:
    """Who holds its connections takes no files from the server; Prometheus and payers go on."""
    payer = await harness.customer(100)
    address = harness.metrics_url.removeprefix("http://").removesuffix("/metrics")
    async with AsyncExitStack() as held:
        flood = [
            await held.enter_async_context(client(address, f"127.0.3.{number % 8 + 1}"))
            for number in range(160)
        ]
        async with harness.http.get(harness.metrics_url) as answer:
            assert "wallet_" in await answer.text()
        await harness.pay(payer, 1)
        async with asyncio.timeout(20):
            said = await asyncio.gather(*(one.answer() for one in flood))

    assert said == [b""] * 160
