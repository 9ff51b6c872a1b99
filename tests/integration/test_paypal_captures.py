"""Proofs, lookups and captures at PayPal: what was paid, and what only may be."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    LookupProof,
    PaypalProof,
    ProofInvalid,
    RazorpayProof,
    TokenGateway,
)
from paypal_bench import (
    AMOUNT,
    AUTHORIZED,
    CAPTURED,
    FAILED,
    PENDING,
    TAKEN,
    TOPUP_ID,
    Bench,
    make_topup,
    on_hold,
    refusal,
    running_bench,
    status,
)
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayPaymentStatus


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give an adapter whose every request to the API goes through the line."""
    async with running_bench() as running:
        yield running


async def test_a_lookup_finds_nothing_before_the_customer_approves(bench: Bench) -> None:
    """An order that nobody approved gives no report."""
    assert await bench.look_up(await bench.opened()) is None


async def test_an_approved_order_waits_for_its_capture(bench: Bench) -> None:
    """Approved is not paid: the payment is on hold, and has no id yet."""
    topup = await bench.approved()
    for proof in (PaypalProof(topup.gateway_order_id), LookupProof()):
        report = await bench.paypal.check_proof(topup, proof)
        assert report is not None
        assert report.payment == on_hold(topup)
        assert json.loads(report.body)["status"] == "APPROVED"


async def test_another_order_proves_nothing(bench: Bench) -> None:
    """The order that counts is the stored one, whatever the customer's app names."""
    paid, _ = await bench.captured()
    other = await bench.opened(make_topup(topup_id="top_2"))
    requests = len(bench.line.seen)
    for order_id in (paid.gateway_order_id, "", "../x"):
        with pytest.raises(ProofInvalid):
            await bench.paypal.check_proof(other, PaypalProof(order_id))
    assert len(bench.line.seen) == requests


async def test_a_proof_before_there_is_an_order_is_refused(bench: Bench) -> None:
    """Nothing can be proven for a top-up that PayPal has no order for."""
    for proof in (PaypalProof(""), LookupProof()):
        with pytest.raises(ProofInvalid):
            await bench.paypal.check_proof(make_topup(), proof)


async def test_proofs_of_other_gateways_do_not_hold(bench: Bench) -> None:
    """What Razorpay signed says nothing here, and PayPal is handed no wallet's token."""
    topup = await bench.opened()
    with pytest.raises(ProofInvalid):
        await bench.paypal.check_proof(topup, RazorpayProof("pay_1", "x"))
    assert not isinstance(bench.paypal, TokenGateway)


async def test_an_order_that_is_gone_is_a_payment_that_was_never_made(bench: Bench) -> None:
    """PayPal forgets orders that nobody approved: that is no failure of PayPal's."""
    assert await bench.look_up(make_topup(gateway_order_id="GONE")) is None


async def test_an_order_that_was_voided_has_failed(bench: Bench) -> None:
    """An approval that was taken back cannot be captured any more."""
    topup = await bench.approved()
    await bench.control(f"orders/{topup.gateway_order_id}/deny")
    report = await bench.look_up(topup)
    assert report is not None
    assert report.payment.status is FAILED


async def test_an_answer_about_another_order_is_not_believed(bench: Bench) -> None:
    """What comes back has to be what was asked for."""
    paid, _ = await bench.captured()
    other = await bench.opened(make_topup(topup_id="top_2"))
    order = json.dumps({"id": paid.gateway_order_id, "purchase_units": [], "status": "COMPLETED"})
    bench.line.due(other.gateway_order_id, status(200, order.encode()))
    with pytest.raises(GatewayUnavailable):
        await bench.look_up(other)


@pytest.mark.parametrize(
    ("order_status", "captures", "expected"),
    [
        ("CREATED", [], None),
        ("SAVED", [], None),
        ("PAYER_ACTION_REQUIRED", [], None),
        ("UNHEARD_OF", [], None),
        ("COMPLETED", [], None),
        ("APPROVED", [], AUTHORIZED),
        ("VOIDED", [], FAILED),
        ("COMPLETED", ["COMPLETED"], CAPTURED),
        ("COMPLETED", ["PENDING"], PENDING),
        ("COMPLETED", ["UNHEARD_OF"], PENDING),
        ("COMPLETED", ["DECLINED"], FAILED),
        ("COMPLETED", ["FAILED"], FAILED),
        ("COMPLETED", ["REFUNDED"], CAPTURED),
        ("COMPLETED", ["PARTIALLY_REFUNDED"], CAPTURED),
        ("COMPLETED", ["DECLINED", "PENDING", "COMPLETED"], CAPTURED),
        ("COMPLETED", ["DECLINED", "PENDING"], PENDING),
        ("APPROVED", ["DECLINED"], AUTHORIZED),
        ("PAYER_ACTION_REQUIRED", ["DECLINED"], FAILED),
    ],
)
async def test_of_all_that_an_order_tells_what_counts_is_reported(
    bench: Bench,
    order_status: str,
    captures: list[str],
    expected: GatewayPaymentStatus | None,
) -> None:
    """Captured before pending before approved before failed; what is unknown is not paid."""
    amount = {"currency_code": "USD", "value": "123.45"}
    payments = {
        "captures": [
            {"id": f"CAPTURE{number}", "status": one, "amount": amount}
            for number, one in enumerate(captures)
        ]
    }
    unit = {"amount": amount, "custom_id": TOPUP_ID, "payments": payments}
    order = {"id": "ORDER1", "status": order_status, "purchase_units": [unit]}
    bench.line.due("/ORDER1", status(200, json.dumps(order).encode()))
    report = await bench.look_up(make_topup(gateway_order_id="ORDER1"))
    assert (report and report.payment.status) == expected


async def test_a_lookup_tells_of_refunds_too(bench: Bench) -> None:
    """With no webhook at all, what went back is found beside the payment."""
    topup, payment = await bench.captured()
    await bench.control(f"captures/{payment.payment_id}/refund", amount="3.00")
    await bench.control(f"captures/{payment.payment_id}/reverse", amount="0.45")
    report = await bench.look_up(topup)
    assert report is not None
    assert report.payment == payment
    told = [(one.payment_id, one.amount, one.state, one.is_final) for one in report.reversals]
    assert told == [
        (payment.payment_id, Money("USD", 300), TAKEN, True),
        (payment.payment_id, Money("USD", 45), TAKEN, True),
    ]


async def test_an_approved_order_is_captured_whole(bench: Bench) -> None:
    """The capture has PayPal's id and the exact amount, and is found again by a lookup."""
    topup = await bench.approved()
    report = await bench.paypal.capture(topup, on_hold(topup))
    (capture,) = bench.sandbox.account.captures.values()
    expected = GatewayPayment(capture.id, topup.gateway_order_id, CAPTURED, AMOUNT)
    assert report.payment == expected
    found = await bench.look_up(topup)
    assert found is not None
    assert found.payment == expected


async def test_a_lost_answer_leaves_one_capture(bench: Bench) -> None:
    """When the answer to the capture is lost, the repeat gets the capture that was made."""
    topup = await bench.approved()
    bench.line.due("/capture", "lose the answer")
    report = await bench.paypal.capture(topup, on_hold(topup))
    assert report.payment.status is CAPTURED
    first, second = bench.line.requests("POST", "/capture")
    assert first["PayPal-Request-Id"] == second["PayPal-Request-Id"]
    assert len(bench.sandbox.account.captures) == 1


async def test_two_captures_at_once_take_the_money_once(bench: Bench) -> None:
    """The webhook and the customer's app may both ask: each gets the one capture."""
    topup = await bench.approved()
    later = replace(topup, report_time_ms=5)
    reports = await asyncio.gather(
        *(bench.paypal.capture(one, on_hold(topup)) for one in (topup, topup, later, later))
    )
    assert {report.payment.status for report in reports} == {CAPTURED}
    assert len({report.payment.payment_id for report in reports}) == 1
    assert len(bench.sandbox.account.captures) == 1


async def test_an_order_that_was_captured_already_is_a_success(bench: Bench) -> None:
    """`ORDER_ALREADY_CAPTURED` means to look: what is found there counts."""
    topup, payment = await bench.captured()
    again = await bench.paypal.capture(replace(topup, report_time_ms=7), on_hold(topup))
    assert again.payment == payment
    assert bench.line.seen[-1][0] == "GET"


async def test_a_pending_capture_is_not_paid(bench: Bench) -> None:
    """What PayPal reviews is pending, until it says how that ended."""
    topup = await bench.approved(capture="PENDING")
    report = await bench.paypal.capture(topup, on_hold(topup))
    assert report.payment.status is PENDING
    await bench.control(f"captures/{report.payment.payment_id}/settle")
    found = await bench.look_up(topup)
    assert found is not None
    assert found.payment.status is CAPTURED


async def test_a_declined_capture_has_failed(bench: Bench) -> None:
    """A capture that PayPal declined says so, with the reason."""
    topup = await bench.approved(capture="DECLINED")
    report = await bench.paypal.capture(topup, on_hold(topup))
    assert report.payment.status is FAILED
    assert "DECLINED_BY_RISK_FRAUD_FILTERS" in report.payment.failure_reason


async def test_a_declined_instrument_has_failed_and_another_one_may_succeed(bench: Bench) -> None:
    """The customer can approve again in another way: that is captured, by a request of its own."""
    topup = await bench.approved(capture="INSTRUMENT_DECLINED")
    report = await bench.paypal.capture(topup, on_hold(topup))
    assert report.payment.status is FAILED
    assert report.payment.failure_reason == "PayPal declined the payment: INSTRUMENT_DECLINED."
    assert json.loads(report.body)["details"][0]["issue"] == "INSTRUMENT_DECLINED"
    await bench.control(f"orders/{topup.gateway_order_id}/approve")
    again = await bench.paypal.capture(replace(topup, report_time_ms=9), on_hold(topup))
    assert again.payment.status is CAPTURED
    first, second = bench.line.requests("POST", "/capture")
    assert first["PayPal-Request-Id"] != second["PayPal-Request-Id"]


@pytest.mark.parametrize("issue", ["ORDER_NOT_APPROVED", "PAYER_ACTION_REQUIRED", "UNHEARD_OF"])
async def test_any_other_refusal_of_a_capture_says_nothing_of_the_payment(
    bench: Bench, issue: str
) -> None:
    """Nothing has failed that PayPal did not call declined."""
    topup = await bench.approved()
    bench.line.due("/capture", refusal(issue))
    with pytest.raises(GatewayRefused):
        await bench.paypal.capture(topup, on_hold(topup))


async def test_a_capture_without_an_answer_is_not_told_as_anything(bench: Bench) -> None:
    """After two errors of the server the caller hears that PayPal is not available."""
    topup = await bench.approved()
    bench.line.due("/capture", status(500), status(502))
    with pytest.raises(GatewayUnavailable):
        await bench.paypal.capture(topup, on_hold(topup))


async def test_a_capture_of_another_amount_is_told_as_it_is(bench: Bench) -> None:
    """The adapter decides nothing: the ledger sees that the amount differs."""
    topup = await bench.approved(amount="100.00")
    report = await bench.paypal.capture(topup, on_hold(topup))
    assert report.payment.amount == Money("USD", 10_000)


async def test_the_order_of_a_capture_can_be_asked_for(bench: Bench) -> None:
    """A capture names its order; what is not there, or is no id, has none."""
    topup, payment = await bench.captured()
    assert await bench.paypal.order_of(payment.payment_id) == topup.gateway_order_id
    assert await bench.paypal.order_of("GONE") == ""
    requests = len(bench.line.seen)
    assert await bench.paypal.order_of("") == ""
    assert await bench.paypal.order_of("../checkout/orders/X") == ""
    assert len(bench.line.seen) == requests
