"""What the Stripe sandbox tells by webhooks and lists, read by the adapter over real HTTP."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus

import pytest
from test_stripe_intents import (
    CAPTURED,
    FAILED,
    SECRET_KEY,
    WEBHOOK_SECRET,
    Bench,
    answering,
    running_bench,
)

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    Movement,
    SignatureInvalid,
    WebhookEvent,
)
from gateway_adapters.sandbox import stripe_signing
from gateway_adapters.sandbox.stripe_mount import StripeSandbox, StripeSandboxSettings
from gateway_adapters.sandbox.stripe_signing import StripeSigner
from gateway_adapters.stripe import Stripe
from gateway_adapters.stripe.api import PAGE_SIZE
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayReversal, ReversalKind, ReversalState

TAKEN, RETURNED = ReversalState.TAKEN, ReversalState.RETURNED
Reversed = tuple[str, Money, ReversalState, bool]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as made:
        yield made


def reversed_by(events: list[WebhookEvent]) -> list[Reversed]:
    """Return what the reversals among the events say."""
    return [
        (event.event_type, fact.amount, fact.state, fact.is_final)
        for event in events
        if isinstance(fact := event.fact, GatewayReversal)
    ]


async def movements(bench: Bench) -> list[Movement]:
    """Return all of the gateway's books."""
    return [movement async for movement in bench.stripe.movements(0, 10**13)]


async def test_a_payment_is_told_by_a_webhook_that_fits(bench: Bench) -> None:
    """The signed event names payment, order, top-up, amount and time."""
    before = int(time.time()) * 1_000
    topup = await bench.opened()
    intent_id = topup.gateway_order_id
    await bench.control(f"intents/{intent_id}/fail")
    await bench.control(f"intents/{intent_id}/pay", duplicate=1)
    failed, paid, again = await bench.events()
    assert paid == again
    assert isinstance(failed.fact, GatewayPayment)
    assert failed.fact.status is FAILED
    assert paid.fact == GatewayPayment(intent_id, intent_id, CAPTURED, topup.amount)
    assert paid.topup_id == failed.topup_id == topup.topup_id
    assert paid.report_time_ms is not None
    assert before <= paid.report_time_ms <= time.time() * 1_000


async def test_a_forged_or_stale_webhook_is_refused(bench: Bench) -> None:
    """One flipped bit, another secret, or a kept webhook: none is news."""
    await bench.paid()
    headers, body = bench.received[0]
    with pytest.raises(SignatureInvalid):
        await bench.stripe.read_webhook(headers, body.replace(b"12345", b"12346"))
    other = Stripe(bench.session, replace(bench.settings, webhook_secrets=("whsec_other",)))
    with pytest.raises(SignatureInvalid):
        await other.read_webhook(headers, body)
    for shift in (-1_000, 1_000):
        elsewhen = Stripe(bench.session, bench.settings, now=lambda: time.time() + shift)  # noqa: B023 - called before the next turn
        with pytest.raises(SignatureInvalid):
            await elsewhen.read_webhook(headers, body)
    rotating = ("whsec_new", WEBHOOK_SECRET)
    kept = Stripe(bench.session, replace(bench.settings, webhook_secrets=rotating))
    assert (await kept.read_webhook(headers, body)).fact is not None


async def test_a_webhook_that_is_sent_again_is_signed_at_that_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late a try comes, its signature is fresh, and the event and its body are the same."""
    times = itertools.count(1_700_000_000, 400)
    monkeypatch.setattr(stripe_signing, "now_seconds", lambda: next(times))
    bench.refused = 2
    await bench.paid()

    assert len(bench.received) == 3
    assert len({body for _, body in bench.received}) == 1
    signed = [int(headers["stripe-signature"][2:12]) for headers, _ in bench.received]
    assert signed == [signed[0], signed[0] + 400, signed[0] + 800]
    for seconds, (headers, body) in zip(signed, bench.received, strict=True):
        then = Stripe(bench.session, bench.settings, now=lambda: float(seconds))  # noqa: B023 - called before the next turn
        assert (await then.read_webhook(headers, body)).fact is not None


async def test_what_is_kept_of_a_webhook_has_no_client_secret(bench: Bench) -> None:
    """Stripe writes it into each intent; the rest is kept byte for byte."""
    topup = await bench.paid()
    headers, body = bench.received[0]
    event = await bench.stripe.read_webhook(headers, body)
    secret = bench.sandbox.account.intents[topup.gateway_order_id].client_secret.encode()
    assert secret in body
    assert event.kept_body == body.replace(secret, b"(not kept)")
    assert secret.decode() not in repr(event)


async def test_refunds_from_the_dashboard_are_told_each_by_its_own_amount(bench: Bench) -> None:
    """A part, and then the rest, which fails after it had succeeded."""
    topup = await bench.paid()
    intent = f"intents/{topup.gateway_order_id}"
    await bench.control(f"{intent}/refund", amount=345)
    rest = (await bench.control(f"{intent}/refund", status="pending"))["refund"]["id"]
    await bench.control(f"refunds/{rest}/succeeded")
    await bench.control(f"refunds/{rest}/failed")
    part, whole = Money("USD", 345), Money("USD", 12_000)
    assert reversed_by(await bench.events()) == [
        ("refund.created", part, TAKEN, False),
        ("refund.created", whole, TAKEN, False),
        ("refund.updated", whole, TAKEN, False),
        ("charge.refund.updated", whole, TAKEN, False),
        ("refund.failed", whole, RETURNED, True),
        ("refund.updated", whole, RETURNED, True),
        ("charge.refund.updated", whole, RETURNED, True),
    ]


async def test_a_dispute_is_told_from_its_inquiry_to_its_end(bench: Bench) -> None:
    """An inquiry is no fact; then each event tells the same reversal, until it is won."""
    topup = await bench.paid()
    opened = await bench.control(f"intents/{topup.gateway_order_id}/dispute", inquiry=True)
    dispute = f"disputes/{opened['dispute']['id']}"
    for step in ("escalate", "contest", "win"):
        await bench.control(f"{dispute}/{step}")
    events = await bench.events()
    assert [event.event_type for event in events if event.fact is None] == [
        "charge.dispute.created"
    ]
    amount = topup.amount
    assert reversed_by(events) == [
        ("charge.dispute.updated", amount, TAKEN, False),
        ("charge.dispute.funds_withdrawn", amount, TAKEN, False),
        ("charge.dispute.updated", amount, TAKEN, False),
        ("charge.dispute.closed", amount, RETURNED, True),
        ("charge.dispute.funds_reinstated", amount, RETURNED, True),
    ]
    assert len({e.fact.reversal_id for e in events if isinstance(e.fact, GatewayReversal)}) == 1


async def test_a_dispute_of_what_was_refunded_in_part_takes_the_rest(bench: Bench) -> None:
    """The refund and the dispute together take the payment, and not more."""
    topup = await bench.paid()
    intent = f"intents/{topup.gateway_order_id}"
    await bench.control(f"{intent}/refund", amount=345)
    opened = await bench.control(f"{intent}/dispute")
    await bench.control(f"disputes/{opened['dispute']['id']}/lose")
    told = reversed_by(await bench.events())
    assert told[0][:2] == ("refund.created", Money("USD", 345))
    assert told[-1] == ("charge.dispute.closed", Money("USD", 12_000), TAKEN, True)


async def test_a_lookup_tells_what_was_taken_back_meanwhile(bench: Bench) -> None:
    """Webhooks that were lost are made up for, with the ids that they would have had."""
    topup = await bench.paid(webhook=False)
    intent = f"intents/{topup.gateway_order_id}"
    refund = await bench.control(f"{intent}/refund", amount=345, webhook=False)
    dispute = await bench.control(f"{intent}/dispute", webhook=False)
    assert bench.received == []
    report = await bench.look_up(topup)
    assert report is not None
    assert report.payment.status is CAPTURED
    assert [(one.reversal_id, one.kind, one.payment_id) for one in report.reversals] == [
        (refund["refund"]["id"], ReversalKind.REFUND, topup.gateway_order_id),
        (dispute["dispute"]["id"], ReversalKind.DISPUTE, topup.gateway_order_id),
    ]


async def test_a_charge_leads_to_its_intent(bench: Bench) -> None:
    """Reports that name the charge alone are about the payment that the credit recorded."""
    topup = await bench.paid()
    intent_id = topup.gateway_order_id
    charge_id = bench.sandbox.account.intents[intent_id].charge_id
    assert await bench.stripe.order_of(charge_id) == intent_id
    bench.seen.clear()
    assert await bench.stripe.order_of(intent_id) == intent_id
    for strange in ("", "ch_1/../x", "pay_1"):
        assert await bench.stripe.order_of(strange) == ""
    assert bench.seen == []
    assert await bench.stripe.order_of("ch_unknown") == ""
    bench.due.append(answering(400))
    with pytest.raises(GatewayRefused):
        await bench.stripe.order_of(charge_id)


async def test_a_webhook_that_names_the_charge_alone_is_about_the_intent(bench: Bench) -> None:
    """Stripe is asked, so that the reversal correlates with the credit."""
    topup = await bench.paid()
    intent_id = topup.gateway_order_id
    entity = {
        "id": "re_1",
        "amount": 5,
        "currency": "usd",
        "charge": bench.sandbox.account.intents[intent_id].charge_id,
        "payment_intent": None,
        "status": "succeeded",
    }
    for charge, expected in ((entity["charge"], intent_id), ("ch_foreign", "")):
        event = {"object": "event", "type": "refund.created", "data": {"object": entity}}
        body = json.dumps(
            {**event, "id": "evt_1", "data": {"object": {**entity, "charge": charge}}}
        )
        webhook = sign(body)
        fact = (await bench.stripe.read_webhook(webhook, body.encode())).fact
        assert isinstance(fact, GatewayReversal)
        assert (fact.gateway_order_id, fact.payment_id) == (expected, expected or "ch_foreign")


def sign(body: str) -> dict[str, str]:
    """Return the headers of a body that was signed just now."""
    signer = StripeSigner(WEBHOOK_SECRET)
    seconds = int(time.time())
    return {"stripe-signature": signer.signature(body, seconds)}


async def test_the_books_hold_what_moved_and_nothing_else(bench: Bench) -> None:
    """Captured charges, refunds and disputes that took money: each once, with its time."""
    topup = await bench.paid()
    intent = f"intents/{topup.gateway_order_id}"
    await bench.control(f"{intent}/refund", amount=345)
    await bench.control(f"{intent}/dispute")
    inquired = await bench.opened(topup_id="top_inquired")
    await bench.control(f"intents/{inquired.gateway_order_id}/pay")
    await bench.control(f"intents/{inquired.gateway_order_id}/dispute", inquiry=True)
    for number, status in enumerate(("processing", "requires_capture")):
        waiting = await bench.opened(topup_id=f"top_{number}")
        await bench.control(f"intents/{waiting.gateway_order_id}/pay", status=status)
    failed = await bench.opened(topup_id="top_failed")
    await bench.control(f"intents/{failed.gateway_order_id}/fail")
    facts = [movement.fact for movement in await movements(bench)]
    assert [fact.payment_id for fact in facts if isinstance(fact, GatewayPayment)] == [
        inquired.gateway_order_id,
        topup.gateway_order_id,
    ]
    assert [
        (fact.kind, fact.payment_id) for fact in facts if isinstance(fact, GatewayReversal)
    ] == [
        (ReversalKind.REFUND, topup.gateway_order_id),
        (ReversalKind.DISPUTE, topup.gateway_order_id),
    ]


async def test_the_books_are_told_page_by_page_and_within_their_time(bench: Bench) -> None:
    """Each entry comes once; the start belongs to the time, the end does not."""
    topup = await bench.paid()
    charges = bench.sandbox.account.charges
    (charge,) = charges.values()
    count = 2 * PAGE_SIZE + 1
    for number in range(count - 1):
        made = replace(charge, id=f"ch_{number}", intent_id=f"pi_{number}", created=number + 1)
        charges[made.id] = made
    charges[charge.id] = replace(charge, created=count)
    found = await movements(bench)
    assert sorted(movement.time_ms for movement in found) == [
        1_000 * (number + 1) for number in range(count)
    ]
    assert topup.gateway_order_id in {movement.fact.payment_id for movement in found}
    for start, end, times in (
        (2_000, 4_000, {2_000, 3_000}),
        (2_001, 4_001, {3_000, 4_000}),
        (0, 0, set[int]()),
    ):
        part = [movement async for movement in bench.stripe.movements(start, end)]
        assert {movement.time_ms for movement in part} == times


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"data": {}, "has_more": False},
        {"data": [], "has_more": True},
        {"data": ["ch_1"], "has_more": False},
        {"data": [{"id": "ch/1", "created": 1}], "has_more": True},
        {"data": [{"id": "ch_1", "status": "failed"}], "has_more": False},
    ],
)
async def test_a_list_that_cannot_be_read_is_as_good_as_none(bench: Bench, content: object) -> None:
    """Nothing is compared with half a list."""
    bench.due.append(answering(HTTPStatus.OK, content))
    with pytest.raises(GatewayUnavailable):
        await movements(bench)


async def test_the_sandbox_keeps_all_over_a_restart(bench: Bench) -> None:
    """What was kept comes back the same, also as JSON."""
    topup = await bench.paid()
    await bench.control(f"intents/{topup.gateway_order_id}/refund", amount=345)
    await bench.control(f"intents/{topup.gateway_order_id}/dispute")
    kept = json.loads(json.dumps(bench.sandbox.to_json()))

    async def commit(*_: object) -> list[asyncio.Task[None]]:
        return []

    settings = StripeSandboxSettings(SECRET_KEY, WEBHOOK_SECRET)
    assert StripeSandbox(settings, commit, kept).to_json() == kept
    assert {name: len(records) for name, records in kept.items()} == {
        "intents": 1,
        "charges": 1,
        "refunds": 1,
        "disputes": 1,
    }


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("intents/pi_unknown/pay", {}),
        ("intents/{id}/pay", {}),
        ("intents/{id}/fail", {}),
        ("intents/{id}/settle", {}),
        ("intents/{id}/cancel", {}),
        ("intents/{id}/pay", {"status": "paid"}),
        ("intents/{id}/refund", {"amount": 12_346}),
        ("intents/{id}/refund", {"amount": 0}),
        ("intents/{id}/refund", {"amount": "5"}),
        ("intents/{id}/dispute", {"amount": 12_346}),
        ("refunds/re_unknown/failed", {}),
        ("disputes/du_unknown/win", {}),
    ],
)
async def test_the_sandbox_refuses_what_stripe_would(
    bench: Bench, path: str, content: dict[str, object]
) -> None:
    """A paid intent is paid once, and no more is taken back than came; nothing changes."""
    topup = await bench.paid()
    before = bench.sandbox.to_json()
    url = f"{bench.url}/sandbox/stripe/{path.format(id=topup.gateway_order_id)}"
    async with bench.session.post(url, json=content) as answer:
        assert answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}
        assert (await answer.json())["error"]
    assert bench.sandbox.to_json() == before


async def test_the_sandboxs_api_refunds_an_intent(bench: Bench) -> None:
    """Whoever holds the secret key refunds as the dashboard does, and the webhook tells it."""
    topup = await bench.paid()
    bench.received.clear()
    form = {"payment_intent": topup.gateway_order_id, "amount": "345"}
    headers = {"Authorization": f"Bearer {SECRET_KEY}"}
    url = f"{bench.url}/stripe/v1/refunds"
    async with bench.session.post(url, data=form, headers=headers) as answer:
        assert (await answer.json())["amount"] == 345
    async with bench.session.post(url, data=form) as answer:
        assert answer.status == HTTPStatus.UNAUTHORIZED
    async with bench.session.post(url, json=form, headers=headers) as answer:
        assert answer.status == HTTPStatus.BAD_REQUEST
    assert [refund.amount for refund in bench.sandbox.account.refunds.values()] == [345]
