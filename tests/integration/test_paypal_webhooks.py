"""Webhooks of the sandbox's PayPal, read by the adapter: payments, refunds, disputes."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway_adapters.gateway import GatewayUnavailable, SignatureInvalid, WebhookEvent
from gateway_adapters.paypal import Paypal
from gateway_adapters.sandbox.paypal_mount import PaypalSandbox, PaypalSandboxSettings
from gateway_adapters.sandbox.webhooks import Webhook
from paypal_bench import (
    AUTHORIZED,
    CAPTURED,
    CLIENT_ID,
    CLIENT_SECRET,
    FAILED,
    PENDING,
    RETURNED,
    TAKEN,
    TOPUP_ID,
    WEBHOOK_ID,
    Answer,
    Bench,
    on_hold,
    running_bench,
    status,
)
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
    Topup,
)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give an adapter whose every request to the API goes through the line."""
    async with running_bench() as running:
        yield running


async def test_an_approval_leads_to_a_capture(bench: Bench) -> None:
    """The webhooks of a top-up that is paid: approved first, then captured."""
    topup, payment = await bench.captured()
    approved, captured = await bench.events()
    assert (approved.event_type, approved.fact) == ("CHECKOUT.ORDER.APPROVED", on_hold(topup))
    assert (captured.event_type, captured.fact) == ("PAYMENT.CAPTURE.COMPLETED", payment)
    assert approved.topup_id == captured.topup_id == TOPUP_ID
    assert approved.event_id != captured.event_id
    assert approved.report_time_ms is not None


async def test_the_sandboxes_webhooks_are_signed_as_paypals(bench: Bench) -> None:
    """One bit more or less, or another webhook's id, and they are refused."""
    await bench.approved()
    (webhook,) = bench.webhooks
    headers = {name.lower(): value for name, value in bench.sandbox.sign(webhook).items()}
    with pytest.raises(SignatureInvalid):
        await bench.paypal.read_webhook(headers, webhook.body.encode() + b" ")
    other = Paypal(bench.session, replace(bench.settings, webhook_id="ANOTHER"))
    with pytest.raises(SignatureInvalid):
        await other.read_webhook(headers, webhook.body.encode())


async def test_a_capture_that_names_no_order_is_asked_for_it(bench: Bench) -> None:
    """Without its order a capture could not be credited: PayPal knows it."""
    topup, payment = await bench.captured()
    webhook = bench.webhooks[-1]
    content = json.loads(webhook.body)
    del content["resource"]["supplementary_data"], content["resource"]["links"]
    event = await bench.read(replace(webhook, body=json.dumps(content)))
    assert event.fact == payment
    assert payment.gateway_order_id == topup.gateway_order_id


def reversal(event: WebhookEvent) -> tuple[Any, ...]:
    """Return what a webhook says of money that goes back."""
    assert isinstance(event.fact, GatewayReversal)
    fact = event.fact
    return (event.event_type, fact.kind, fact.amount.minor_units, fact.state, fact.is_final)


async def test_refunds_from_the_dashboard_come_with_their_own_amounts(bench: Bench) -> None:
    """Two refunds of parts are two reversals of the same capture, each of its own amount."""
    _, payment = await bench.captured()
    await bench.events()
    for amount in ("3.00", "120.45"):
        await bench.control(f"captures/{payment.payment_id}/refund", amount=amount)
    first, second = await bench.events()
    kind = ReversalKind.REFUND
    assert reversal(first) == ("PAYMENT.CAPTURE.REFUNDED", kind, 300, TAKEN, True)
    assert reversal(second) == ("PAYMENT.CAPTURE.REFUNDED", kind, 12_045, TAKEN, True)
    assert isinstance(first.fact, GatewayReversal)
    assert isinstance(second.fact, GatewayReversal)
    assert first.fact.payment_id == second.fact.payment_id == payment.payment_id
    assert first.fact.reversal_id != second.fact.reversal_id


async def test_a_refund_that_fails_comes_back(bench: Bench) -> None:
    """A refund that begins and then fails is taken, and returned for good."""
    _, payment = await bench.captured()
    await bench.events()
    await bench.control(f"captures/{payment.payment_id}/refund", fail=True)
    begun, failed = await bench.events()
    kind = ReversalKind.REFUND
    assert reversal(begun) == ("PAYMENT.REFUND.PENDING", kind, 12_345, TAKEN, False)
    assert reversal(failed) == ("PAYMENT.REFUND.FAILED", kind, 12_345, RETURNED, True)


async def dispute(bench: Bench, step: str, **content: Any) -> list[tuple[Any, ...]]:
    """Have a payment disputed, and the dispute brought to an end; return what was told."""
    _, payment = await bench.captured()
    await bench.events()
    opened = await bench.control(f"captures/{payment.payment_id}/dispute", **content)
    dispute_id = opened["dispute"]["dispute_id"]
    await bench.control(f"disputes/{dispute_id}/contest")
    await bench.control(f"disputes/{dispute_id}/{step}")
    events = await bench.events()
    for event in events:
        assert isinstance(event.fact, GatewayReversal)
        assert event.fact.payment_id == payment.payment_id
    return [reversal(event) for event in events]


@pytest.mark.parametrize("step", ["win", "cancel"])
async def test_a_dispute_that_is_won_holds_the_money_for_a_while(bench: Bench, step: str) -> None:
    """The disputed part is taken while it is open, and comes back."""
    kind = ReversalKind.DISPUTE
    assert await dispute(bench, step, amount="5.00") == [
        ("CUSTOMER.DISPUTE.CREATED", kind, 500, TAKEN, False),
        ("CUSTOMER.DISPUTE.UPDATED", kind, 500, TAKEN, False),
        ("CUSTOMER.DISPUTE.RESOLVED", kind, 500, RETURNED, True),
    ]


@pytest.mark.parametrize(
    ("step", "event_type", "kind"),
    [
        ("lose", "PAYMENT.CAPTURE.REVERSED", ReversalKind.DISPUTE),
        ("accept", "PAYMENT.CAPTURE.REFUNDED", ReversalKind.REFUND),
    ],
)
async def test_a_dispute_that_is_lost_takes_the_money_once(
    bench: Bench, step: str, event_type: str, kind: ReversalKind
) -> None:
    """The hold ends, and the refund that PayPal made of the capture takes the money."""
    assert await dispute(bench, step, amount="5.00") == [
        ("CUSTOMER.DISPUTE.CREATED", ReversalKind.DISPUTE, 500, TAKEN, False),
        ("CUSTOMER.DISPUTE.UPDATED", ReversalKind.DISPUTE, 500, TAKEN, False),
        ("CUSTOMER.DISPUTE.RESOLVED", ReversalKind.DISPUTE, 500, RETURNED, True),
        (event_type, kind, 500, TAKEN, True),
    ]


async def lost(bench: Bench, refunded: str = "", **content: Any) -> tuple[Topup, Webhook]:
    """Return a payment whose dispute was lost, and the webhook that tells so.

    `refunded` is given back before the dispute, and has nothing to do with it.
    """
    topup, payment = await bench.captured()
    if refunded:
        await bench.control(f"captures/{payment.payment_id}/refund", amount=refunded)
    opened = await bench.control(f"captures/{payment.payment_id}/dispute", **content)
    bench.webhooks.clear()
    await bench.control(f"disputes/{opened['dispute']['dispute_id']}/lose")
    return topup, bench.webhooks[0]


async def shown(bench: Bench, topup: Topup, refunds: int) -> Answer:
    """Return the order as PayPal tells it when it shows so many refunds only, of a day before."""
    report = await bench.look_up(topup)
    assert report is not None
    order = json.loads(report.body)
    payments = order["purchase_units"][0]["payments"]
    earlier = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    payments["refunds"] = [
        refund | {"create_time": earlier} for refund in payments["refunds"][:refunds]
    ]
    return status(200, json.dumps(order).encode())


def a_day_later(bench: Bench) -> Paypal:
    """Return an adapter to which the dispute ended yesterday."""
    return Paypal(
        bench.session, bench.settings, now=lambda: datetime.now(UTC) + timedelta(hours=25)
    )


@pytest.mark.parametrize(
    ("refunded", "disputed", "taken"),
    [("", "123.45", 12_345), ("3.00", "5.00", 500), ("120.00", "123.45", 345)],
)
async def test_a_dispute_that_is_lost_without_a_refund_takes_the_money_itself(
    bench: Bench, refunded: str, disputed: str, taken: int
) -> None:
    """A refund may show late, and would be debited besides: only after a day there is none.

    What was refunded before the dispute is no part of it, and no more is taken than is left.
    """
    topup, resolved = await lost(bench, refunded, amount=disputed)
    told_by_paypal = await shown(bench, topup, refunds=1 if refunded else 0)

    bench.line.due(topup.gateway_order_id, told_by_paypal)
    with pytest.raises(GatewayUnavailable):
        await bench.read(resolved)

    bench.paypal = a_day_later(bench)
    bench.line.due(topup.gateway_order_id, told_by_paypal)
    told = reversal(await bench.read(resolved))
    assert told == ("CUSTOMER.DISPUTE.RESOLVED", ReversalKind.DISPUTE, taken, TAKEN, True)


async def test_a_refund_that_shows_late_is_the_only_one_to_take_the_money(bench: Bench) -> None:
    """The dispute that was told too early is told again, and leaves the money to its refund."""
    topup, resolved = await lost(bench, "3.00", amount="5.00")
    bench.line.due(topup.gateway_order_id, await shown(bench, topup, refunds=1))
    with pytest.raises(GatewayUnavailable):
        await bench.read(resolved)

    assert reversal(await bench.read(resolved))[3] is RETURNED


@pytest.mark.parametrize(("told", "state"), [("COMPLETED", TAKEN), ("REFUNDED", RETURNED)])
async def test_without_its_order_a_capture_tells_whether_there_was_a_refund(
    bench: Bench, told: str, state: ReversalState
) -> None:
    """PayPal need not keep an order as long as a payment can be disputed."""
    topup, resolved = await lost(bench)
    capture_id = json.loads(resolved.body)["resource"]["disputed_transactions"][0][
        "seller_transaction_id"
    ]
    bench.paypal = a_day_later(bench)
    bench.line.due(topup.gateway_order_id, status(404, b'{"name": "RESOURCE_NOT_FOUND"}'))
    related = {"related_ids": {"order_id": topup.gateway_order_id}}
    capture = {"id": capture_id, "status": told, "supplementary_data": related}
    bench.line.due(capture_id, status(200, json.dumps(capture).encode()))
    assert reversal(await bench.read(resolved))[2:] == (12_345, state, True)


async def test_the_end_of_a_lost_dispute_waits_until_paypal_answers(bench: Bench) -> None:
    """Who took the money is not guessed: the webhook is refused for now, and sent again."""
    _, payment = await bench.captured()
    await bench.events()
    opened = await bench.control(f"captures/{payment.payment_id}/dispute")
    await bench.control(f"disputes/{opened['dispute']['dispute_id']}/lose")
    _, resolved, _ = bench.webhooks
    bench.line.due(payment.payment_id, status(500), status(500))
    with pytest.raises(GatewayUnavailable):
        await bench.read(resolved)
    assert reversal(await bench.read(resolved))[3] is RETURNED


async def test_an_approval_that_was_taken_back_has_failed(bench: Bench) -> None:
    """The webhook tells no amount, and needs none."""
    topup = await bench.approved()
    await bench.events()
    await bench.control(f"orders/{topup.gateway_order_id}/deny")
    (event,) = await bench.events()
    assert isinstance(event.fact, GatewayPayment)
    assert (event.fact.status, event.topup_id) == (FAILED, TOPUP_ID)


@pytest.mark.parametrize(("decline", "expected"), [(False, CAPTURED), (True, FAILED)])
async def test_a_pending_capture_comes_to_an_end(
    bench: Bench, *, decline: bool, expected: GatewayPaymentStatus
) -> None:
    """What was under review is told again when it is decided."""
    topup = await bench.approved(capture="PENDING")
    report = await bench.paypal.capture(topup, on_hold(topup))
    await bench.control(f"captures/{report.payment.payment_id}/settle", decline=decline)
    facts = [event.fact for event in await bench.events()]
    statuses = [fact.status for fact in facts if isinstance(fact, GatewayPayment)]
    assert statuses == [AUTHORIZED, PENDING, expected]


async def test_the_sandbox_comes_back_with_its_keys_and_its_records(bench: Bench) -> None:
    """After a restart what was signed before still passes, and nothing is forgotten."""
    topup, _ = await bench.captured()
    kept = json.loads(json.dumps(bench.sandbox.to_json()))

    async def commit(_made: Sequence[Webhook], _copies: int) -> list[asyncio.Task[None]]:
        return []

    settings = PaypalSandboxSettings(CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID, bench.settings.api_url)
    again = PaypalSandbox(settings, commit, kept)
    assert again.trust_anchors_pem == bench.sandbox.trust_anchors_pem
    assert again.account == bench.sandbox.account
    assert topup.gateway_order_id in again.account.orders
