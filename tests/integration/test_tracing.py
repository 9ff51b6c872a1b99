"""A call can be followed from its caller to the database and the gateway; no secret shows."""

import asyncio
import json
import logging
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from collector import Collector, Seen, running_traced
from gateway_adapters.sidecar import sidecar_app, sidecar_runner
from harness import (
    Harness,
    bearer,
    event_of,
    eventually,
    inr,
    payment_of,
    refusal_of,
    running_harness,
    signature_of,
    token,
    unique,
    with_database,
)
from server.cli.logs import configure_logs
from server.config import SettingsError, load_settings
from server.listening import address_of, bind, http_server
from server.traces import tracing_of
from wallet_payment.v1 import wallet_payment_service_pb2 as service

SERVICE = "wallet_payment.v1.WalletPaymentService"
MARKER = "marker-that-nobody-may-ever-read"


@pytest.fixture
async def traced(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Harness, Collector]]:
    """A service that traces everything, and the collector that it tells."""
    secrets_of_it = {"razorpay_key_secret": MARKER, "razorpay_webhook_secrets": MARKER}
    async with running_traced(mongodb_uri, monkeypatch, **secrets_of_it) as running:
        yield running


def of_caller() -> tuple[tuple[tuple[str, str], ...], str, str]:
    """Return metadata with a caller's trace and token, and the ids of its trace and span."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    parent = ("traceparent", f"00-{trace_id}-{span_id}-01")
    return (*bearer(token()), parent), trace_id, span_id


async def spans_of(collector: Collector, trace_id: str, *wanted: str) -> list[Seen]:
    """Wait until a trace has spans of all these names; return all that it has."""

    async def complete() -> list[Seen]:
        spans = collector.of_trace(trace_id)
        has_all = all(any(name in span.name for span in spans) for name in wanted)
        return spans if has_all else []

    spans: list[Seen] = await eventually(complete)
    return spans


async def test_a_payment_is_followed_into_the_database(
    traced: tuple[Harness, Collector],
) -> None:
    """The call is a part of the caller's trace, its batch a part of the call, commands of that."""
    harness, collector = traced
    customer = await harness.customer(1_000)
    metadata, trace_id, caller_span = of_caller()
    request = service.PayWithWalletRequest(
        customer_id=customer,
        order_id=unique("order"),
        amount=inr(5),
        idempotency_key=unique("key"),
    )
    await harness.call("PayWithWallet", request, metadata=metadata)

    spans = await spans_of(collector, trace_id, "PayWithWallet", "commit batch")
    (call,) = [span for span in spans if span.name == f"{SERVICE}/PayWithWallet"]
    assert call.parent_id == caller_span
    assert call.service == "wallet-payment"
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert call.attributes["wallet.correlation_id"]
    assert not call.is_error
    (batch,) = [span for span in spans if span.name == "commit batch"]
    assert batch.parent_id == call.span_id
    (commit,) = [span for span in spans if span.name == "commitTransaction"]
    (insert,) = [span for span in spans if span.name == "insert wallet_transactions"]
    assert commit.parent_id == insert.parent_id == batch.span_id
    assert insert.attributes["db.collection.name"] == "wallet_transactions"


async def test_a_batch_is_linked_to_all_its_calls(traced: tuple[Harness, Collector]) -> None:
    """Each call of a batch is the batch's parent or one that it is linked to."""
    harness, collector = traced
    customer = await harness.customer(1_000)
    await asyncio.gather(*(harness.pay(customer, 1) for _ in range(12)))

    async def all_told() -> bool:
        calls = {span.span_id for span in collector.named("PayWithWallet")}
        batches = collector.named("commit batch")
        told = {one for batch in batches for one in (batch.parent_id, *batch.links)}
        return len(calls) == 12 and calls <= told and any(batch.links for batch in batches)

    await eventually(all_told)


async def test_a_refusal_has_its_reason_on_the_span(traced: tuple[Harness, Collector]) -> None:
    """What the contract refuses is an answer with its reason, and no error of the span."""
    harness, collector = traced
    metadata, trace_id, _ = of_caller()
    request = service.GetStatusRequest(customer_id="nobody")
    assert (await refusal_of(harness.call("GetStatus", request, metadata=metadata))).reason

    (call,) = [
        span
        for span in await spans_of(collector, trace_id, "GetStatus")
        if span.name == f"{SERVICE}/GetStatus"
    ]
    assert call.attributes["error.reason"] == "CUSTOMER_NOT_FOUND"
    assert call.attributes["error.domain"] == "wallet_payment.v1"
    assert call.attributes["rpc.grpc.status_code"] == 5
    assert not call.is_error


async def test_an_outbound_request_is_a_part_of_its_call(
    traced: tuple[Harness, Collector],
) -> None:
    """The gateway's time shows in the call's trace, and the gateway hears nothing of it."""
    harness, collector = traced
    metadata, trace_id, _ = of_caller()
    request = service.InitiateTopupRequest(
        customer_id=await harness.customer(),
        amount=inr(700),
        gateway="razorpay",
        method="card",
        idempotency_key=unique("key"),
    )
    await harness.call("InitiateTopup", request, metadata=metadata)

    spans = await spans_of(collector, trace_id, "POST 127.0.0.1", "InitiateTopup")
    (call,) = [span for span in spans if span.name == f"{SERVICE}/InitiateTopup"]
    (outbound,) = [span for span in spans if span.name == "POST 127.0.0.1"]
    assert outbound.parent_id == call.span_id
    assert outbound.attributes["http.response.status_code"] == 200


async def test_a_webhook_is_followed_from_the_sidecar(traced: tuple[Harness, Collector]) -> None:
    """Sidecar and server are two services of one trace."""
    harness, collector = traced
    topup = await harness.initiate(await harness.customer(), 700)
    body = event_of("payment.captured", payment_of(topup))
    settings = harness.settings
    bound = bind("127.0.0.1:0", "sidecar")
    with tracing_of(settings, "sidecar-of-the-test") as tracing:
        app = sidecar_app(
            lambda: harness.channel, lambda: token(scope="webhook.forward"), tracing=tracing
        )
        async with http_server(sidecar_runner(app), bound):
            headers = {
                "Content-Type": "application/json",
                "X-Razorpay-Event-Id": unique("evt"),
                "X-Razorpay-Signature": signature_of(body, MARKER),
            }
            url = f"http://{address_of(bound)}/webhooks/razorpay"
            async with harness.http.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()

        async def is_told() -> list[Seen]:
            return [
                span for span in collector.named("/webhooks") if span.service.startswith("sidecar")
            ]

        (edge,) = await eventually(is_told)
    spans = await spans_of(collector, edge.trace_id, "ForwardWebhook")
    (forwarded,) = [span for span in spans if "ForwardWebhook" in span.name]
    assert forwarded.parent_id == edge.span_id
    assert forwarded.service == "wallet-payment"


@pytest.fixture
def logs() -> Iterator[None]:
    """Have logs as a process has them, and put them back as the tests have them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    config = structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**config)


async def test_no_secret_shows_in_traces_or_logs(
    traced: tuple[Harness, Collector],
    logs: None,  # noqa: ARG001 - restores what this test changes
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A marker goes through as key, secret, proof, key of a request, note, reason and token."""
    harness, collector = traced
    settings = harness.settings.model_copy(update={"log_level": "debug", "log_format": "json"})
    configure_logs(settings)
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    # A command that ran in this process before may have kept the edge's, as it was set up then.
    monkeypatch.setattr("server.rpc.edge._log", structlog.get_logger("rpc"))
    customer = await harness.customer()
    order = unique("order")
    topup = await harness.initiate(customer, 700, idempotency_key=MARKER, metadata={"note": MARKER})
    wrong = service.RazorpayProof(payment_id="pay_00000000000001", signature=MARKER)
    await refusal_of(harness.verify(topup, razorpay=wrong))
    body = json.dumps(json.loads(event_of("payment.captured", payment_of(topup))) | {"x": MARKER})
    signature = signature_of(body.encode(), MARKER)
    assert (await harness.deliver(body.encode(), X_Razorpay_Signature=signature))[0] == 200
    await harness.pay(customer, 100, order, idempotency_key=MARKER, metadata={"note": MARKER})
    await harness.refund(customer, order, reason=MARKER)
    request = service.GetStatusRequest(customer_id=customer)
    bad = f"Bearer {MARKER}"
    call = harness.call("GetStatus", request, metadata=(("authorization", bad),))
    assert (await refusal_of(call)).reason == "TOKEN_INVALID"
    metadata, trace_id, _ = of_caller()
    call = harness.call(
        "GetStatus", service.GetStatusRequest(customer_id="nobody"), metadata=metadata
    )
    await refusal_of(call)
    await spans_of(collector, trace_id, "GetStatus")

    written = capsys.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    (refused,) = [line for line in lines if line.get("reason") == "CUSTOMER_NOT_FOUND"]
    assert refused["trace_id"] == trace_id
    assert refused["correlation_id"]
    assert refused["level"] == "info"
    exported = b"".join(collector.raw)
    assert b"PayWithWallet" in exported
    assert MARKER not in written
    assert MARKER.encode() not in exported
    sent_token = metadata[0][1].removeprefix("Bearer ")
    assert sent_token not in written
    assert sent_token.encode() not in exported


def test_what_is_not_traced_loads_nothing() -> None:
    """Without an endpoint OpenTelemetry is not even imported: off costs nothing."""
    code = "import sys, server.app, server.cli.main; print('opentelemetry' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "False"


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever switches tracing on without its packages is told what to install."""
    monkeypatch.setitem(sys.modules, "server.tracing", None)
    settings = load_settings(otlp_endpoint="http://127.0.0.1:4317")

    with pytest.raises(SettingsError, match=r"wallet-payment\[tracing\]"):
        tracing_of(settings, "any")


async def test_a_collector_that_is_away_holds_up_nothing(mongodb_uri: str) -> None:
    """Calls go on, and the server ends, where nobody takes the traces."""
    uri = with_database(mongodb_uri, unique("tracing"))
    nobody: dict[str, Any] = {"otlp_endpoint": "http://127.0.0.1:9", "trace_share": 1.0}
    async with asyncio.timeout(60), running_harness(uri, **nobody) as harness:
        await harness.pay(await harness.customer(100), 1)
