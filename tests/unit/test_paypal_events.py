"""PayPal's events: what each says in the ledger's terms, and every trap in what they carry."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway_adapters.gateway import MalformedEvent
from gateway_adapters.paypal.disputes import LostDispute
from gateway_adapters.paypal.events import LOST_OUTCOMES, READERS, WON_OUTCOMES, read_event
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
)

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"
ORDER_ID, CAPTURE_ID, REFUND_ID = "4K5112848U951142F", "5VK462069F664902F", "09E71677NS257044M"
DISPUTE_ID = "PP-000-042-663-135"
API = "https://api.sandbox.paypal.com"

Json = dict[str, Any]


def usd(value: str) -> Json:
    """Return an amount in dollars."""
    return {"currency_code": "USD", "value": value}


def link(relation: str, path: str) -> Json:
    """Return a link to a resource."""
    return {"href": f"{API}{path}", "rel": relation, "method": "GET"}


def order_resource(**fields: object) -> Json:
    """Return an approved order, changed as asked."""
    return {
        "id": ORDER_ID,
        "intent": "CAPTURE",
        "status": "APPROVED",
        "purchase_units": [
            {"reference_id": "default", "amount": usd("10.00"), "custom_id": TOPUP_ID}
        ],
        **fields,
    }


def capture_resource(**fields: object) -> Json:
    """Return a completed capture, changed as asked."""
    return {
        "id": CAPTURE_ID,
        "status": "COMPLETED",
        "amount": usd("10.00"),
        "final_capture": True,
        "seller_receivable_breakdown": {"gross_amount": usd("10.00"), "net_amount": usd("9.16")},
        "supplementary_data": {"related_ids": {"order_id": ORDER_ID}},
        "custom_id": TOPUP_ID,
        "links": [
            link("self", f"/v2/payments/captures/{CAPTURE_ID}"),
            link("up", f"/v2/checkout/orders/{ORDER_ID}"),
        ],
        **fields,
    }


def refund_resource(**fields: object) -> Json:
    """Return a refund of a part, changed as asked."""
    return {
        "id": REFUND_ID,
        "status": "COMPLETED",
        "amount": usd("2.51"),
        "seller_payable_breakdown": {"total_refunded_amount": usd("7.00")},
        "custom_id": TOPUP_ID,
        "links": [
            link("self", f"/v2/payments/refunds/{REFUND_ID}"),
            link("up", f"/v2/payments/captures/{CAPTURE_ID}"),
        ],
        **fields,
    }


def dispute_resource(**fields: object) -> Json:
    """Return an open dispute, changed as asked."""
    return {
        "dispute_id": DISPUTE_ID,
        "create_time": "2026-10-20T08:00:00.000Z",
        "disputed_transactions": [{"seller_transaction_id": CAPTURE_ID}],
        "reason": "MERCHANDISE_OR_SERVICE_NOT_RECEIVED",
        "status": "OPEN",
        "dispute_amount": usd("3.00"),
        "dispute_life_cycle_stage": "INQUIRY",
        **fields,
    }


def resolved(outcome: object, **fields: object) -> Json:
    """Return a dispute that ended."""
    return dispute_resource(status="RESOLVED", dispute_outcome=outcome, **fields)


def body_of(event_type: object, resource: object, **fields: object) -> bytes:
    """Return the body of an event."""
    envelope = {
        "id": "WH-3UT90572MR669760L-7LL94124G5389840D",
        "create_time": "2021-10-17T05:05:03.389Z",
        "event_type": event_type,
        "resource": resource,
        **fields,
    }
    return json.dumps(envelope).encode()


def fact_of(event_type: str, resource: Json) -> Any:
    """Return what an event says."""
    return read_event(body_of(event_type, resource)).event.fact


def payment(status: GatewayPaymentStatus, payment_id: str = CAPTURE_ID) -> GatewayPayment:
    """Return a payment of ten dollars."""
    reason = "PayPal declined the payment." if status is GatewayPaymentStatus.FAILED else ""
    return GatewayPayment(payment_id, ORDER_ID, status, Money("USD", 1_000), reason)


def refund(kind: ReversalKind, state: ReversalState, *, is_final: bool) -> GatewayReversal:
    """Return a refund of a part."""
    money = Money("USD", 251)
    return GatewayReversal(REFUND_ID, kind, CAPTURE_ID, "", money, state, is_final)


def held(state: ReversalState, *, is_final: bool) -> GatewayReversal:
    """Return what a dispute holds."""
    money, kind = Money("USD", 300), ReversalKind.DISPUTE
    return GatewayReversal(DISPUTE_ID, kind, CAPTURE_ID, "", money, state, is_final)


REFUND, DISPUTE = ReversalKind.REFUND, ReversalKind.DISPUTE
TAKEN, RETURNED = ReversalState.TAKEN, ReversalState.RETURNED
WON = {"outcome_code": "RESOLVED_SELLER_FAVOUR"}

FACTS: dict[str, tuple[Json, GatewayPayment | GatewayReversal]] = {
    "CHECKOUT.ORDER.APPROVED": (
        order_resource(),
        payment(GatewayPaymentStatus.AUTHORIZED, payment_id=""),
    ),
    "CHECKOUT.PAYMENT-APPROVAL.REVERSED": (
        {"order_id": ORDER_ID, "purchase_units": [{"custom_id": TOPUP_ID}]},
        GatewayPayment(
            "",
            ORDER_ID,
            GatewayPaymentStatus.FAILED,
            Money("XXX", 0),
            "PayPal took the customer's approval back.",
        ),
    ),
    "PAYMENT.CAPTURE.COMPLETED": (capture_resource(), payment(GatewayPaymentStatus.CAPTURED)),
    "PAYMENT.CAPTURE.PENDING": (
        capture_resource(status="PENDING"),
        payment(GatewayPaymentStatus.PENDING),
    ),
    "PAYMENT.CAPTURE.DENIED": (
        capture_resource(status="DECLINED"),
        payment(GatewayPaymentStatus.FAILED),
    ),
    "PAYMENT.CAPTURE.DECLINED": (
        capture_resource(status="DECLINED"),
        payment(GatewayPaymentStatus.FAILED),
    ),
    "PAYMENT.CAPTURE.REFUNDED": (refund_resource(), refund(REFUND, TAKEN, is_final=True)),
    "PAYMENT.CAPTURE.REVERSED": (refund_resource(), refund(DISPUTE, TAKEN, is_final=True)),
    "PAYMENT.REFUND.PENDING": (
        refund_resource(status="PENDING"),
        refund(REFUND, TAKEN, is_final=False),
    ),
    "PAYMENT.REFUND.FAILED": (
        refund_resource(status="FAILED"),
        refund(REFUND, RETURNED, is_final=True),
    ),
    "CUSTOMER.DISPUTE.CREATED": (dispute_resource(), held(TAKEN, is_final=False)),
    "CUSTOMER.DISPUTE.UPDATED": (
        dispute_resource(status="UNDER_REVIEW"),
        held(TAKEN, is_final=False),
    ),
    "CUSTOMER.DISPUTE.RESOLVED": (resolved(WON), held(RETURNED, is_final=True)),
}


@pytest.mark.parametrize("event_type", READERS)
def test_every_event_says_its_fact(event_type: str) -> None:
    """Each event that moves money is read as one fact, and there is a case for each."""
    resource, expected = FACTS[event_type]
    assert fact_of(event_type, resource) == expected


@pytest.mark.parametrize(
    "event_type",
    ["CHECKOUT.ORDER.COMPLETED", "PAYMENT.SALE.COMPLETED", "BILLING.PLAN.CREATED", "NEW.EVENT-1"],
)
def test_all_other_events_change_nothing(event_type: str) -> None:
    """What says nothing of a top-up's money is read no further than its type."""
    told = read_event(body_of(event_type, "whatever"))
    assert (told.event.event_type, told.event.fact) == (event_type, None)


def test_an_event_has_its_id_its_time_and_its_topup() -> None:
    """The id and the time are PayPal's, in milliseconds; the top-up is the one that we noted."""
    event = read_event(body_of("PAYMENT.CAPTURE.COMPLETED", capture_resource())).event
    assert event.event_id == "WH-3UT90572MR669760L-7LL94124G5389840D"
    assert event.report_time_ms == 1_634_447_103_389
    assert event.topup_id == TOPUP_ID


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2021-10-17T05:05:03Z", 1_634_447_103_000),
        ("2021-10-17T05:05:03.3891234Z", 1_634_447_103_389),
        ("2018-08-15T14:30:10-07:00", 1_534_368_610_000),
        ("2023-11-01T10:00:00+0000", 1_698_832_800_000),
        ("yesterday", None),
        ("2021-13-17T05:05:03Z", None),
        ("2021-10-17T05:05:03", None),
        ("2021-10-17", None),
        (1_634_447_103, None),
        (None, None),
    ],
)
def test_no_money_is_lost_over_a_time_that_cannot_be_read(
    time: object, expected: int | None
) -> None:
    """A time in any form of RFC 3339 is read; without one the event still counts."""
    body = body_of("PAYMENT.CAPTURE.COMPLETED", capture_resource(), create_time=time)
    event = read_event(body).event
    assert event.report_time_ms == expected
    assert event.fact is not None


def test_the_events_word_counts_and_not_the_status_beside_it() -> None:
    """A capture that was completed and refunded by the time it is told was still captured."""
    for status in ("REFUNDED", "PARTIALLY_REFUNDED", "PENDING", "UNHEARD_OF", None):
        fact = fact_of("PAYMENT.CAPTURE.COMPLETED", capture_resource(status=status))
        assert fact.status is GatewayPaymentStatus.CAPTURED
    pending = fact_of("PAYMENT.CAPTURE.PENDING", capture_resource(status="COMPLETED"))
    assert pending.status is GatewayPaymentStatus.PENDING


def test_a_declined_capture_says_why() -> None:
    """PayPal's code for the reason is passed on."""
    details = {"reason": "DECLINED_BY_RISK_FRAUD_FILTERS"}
    fact = fact_of("PAYMENT.CAPTURE.DENIED", capture_resource(status_details=details))
    assert fact.failure_reason == "PayPal declined the payment: DECLINED_BY_RISK_FRAUD_FILTERS."


def test_an_approved_order_that_was_captured_meanwhile_is_still_told_as_approved() -> None:
    """An approval names no capture, even where the order has one: the capture has its own event."""
    unit = {
        "amount": usd("10.00"),
        "custom_id": TOPUP_ID,
        "payments": {"captures": [capture_resource()]},
    }
    fact = fact_of("CHECKOUT.ORDER.APPROVED", order_resource(purchase_units=[unit]))
    assert (fact.payment_id, fact.status) == ("", GatewayPaymentStatus.AUTHORIZED)


@pytest.mark.parametrize(
    "missing", [None, {}, {"related_ids": None}, {"related_ids": {"order_id": "../x"}}]
)
def test_the_order_is_found_by_the_link_where_nothing_else_names_it(missing: object) -> None:
    """Older captures tell their order only by their link `up`."""
    resource = capture_resource(supplementary_data=missing)
    assert fact_of("PAYMENT.CAPTURE.COMPLETED", resource).gateway_order_id == ORDER_ID


@pytest.mark.parametrize(
    "links",
    [
        None,
        "up",
        [],
        [None],
        [{"rel": "up"}],
        [{"rel": "up", "href": 1}],
        [link("up", "/v2/payments/authorizations/7W5147081L658180V")],
        [link("self", f"/v2/checkout/orders/{ORDER_ID}")],
        [link("up", "/v2/checkout/orders/../x")],
        [link("up", "/x?y=/orders/4K5112848U951142F")],
        [{"rel": "up", "href": "//["}],
        [{"rel": "up", "href": f"https://orders/{ORDER_ID}"}],
    ],
)
def test_without_any_name_of_the_order_it_is_left_open(links: object) -> None:
    """An order that is not named is not guessed; the adapter may ask for it."""
    resource = capture_resource(supplementary_data=None, links=links)
    assert fact_of("PAYMENT.CAPTURE.COMPLETED", resource).gateway_order_id == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"custom_id": TOPUP_ID}, TOPUP_ID),
        ({"custom_id": None, "invoice_id": TOPUP_ID}, TOPUP_ID),
        ({"custom_id": "{my-local-db-purchase-id}"}, ""),
        ({"custom_id": f"{TOPUP_ID} "}, ""),
        ({"custom_id": 7}, ""),
    ],
)
def test_only_our_own_ids_name_a_topup(fields: Json, expected: str) -> None:
    """An account may have other uses, with other names on its payments."""
    event = read_event(body_of("PAYMENT.CAPTURE.COMPLETED", capture_resource(**fields))).event
    assert event.topup_id == expected


def test_a_refund_counts_by_its_own_amount_and_not_by_the_sum_of_all() -> None:
    """Of a second refund only its own amount is taken, whatever went back before."""
    assert fact_of("PAYMENT.CAPTURE.REFUNDED", refund_resource()).amount == Money("USD", 251)


def test_a_refund_that_is_still_pending_is_not_final() -> None:
    """A refund can be told as made and yet fail: its last word is still to come."""
    fact = fact_of("PAYMENT.CAPTURE.REFUNDED", refund_resource(status="PENDING"))
    assert (fact.state, fact.is_final) == (TAKEN, False)


def test_a_refund_without_its_capture_is_kept_for_a_person() -> None:
    """Money that went back is told even where it cannot be said of which payment."""
    assert fact_of("PAYMENT.CAPTURE.REVERSED", refund_resource(links=[])).payment_id == ""


@pytest.mark.parametrize("outcome", sorted(WON_OUTCOMES))
def test_what_was_held_for_a_dispute_that_was_won_comes_back(outcome: str) -> None:
    """Whatever the seller's success is called, the hold is over."""
    told = read_event(body_of("CUSTOMER.DISPUTE.RESOLVED", resolved({"outcome_code": outcome})))
    assert told.event.fact == held(RETURNED, is_final=True)
    assert told.lost is None


@pytest.mark.parametrize("outcome", sorted(LOST_OUTCOMES))
@pytest.mark.parametrize(("refunded", "lost"), [(None, 300), (usd("1.20"), 120)])
def test_the_hold_of_a_dispute_that_was_lost_ends_and_tells_the_loss(
    outcome: str, refunded: Json | None, lost: int
) -> None:
    """The hold comes back in full; what the buyer got stands beside it, for the capture to tell."""
    content = {"outcome_code": outcome} | ({"amount_refunded": refunded} if refunded else {})
    told = read_event(body_of("CUSTOMER.DISPUTE.RESOLVED", resolved(content)))
    assert told.event.fact == held(RETURNED, is_final=True)
    assert told.lost == LostDispute(Money("USD", lost), 1_792_483_200_000)


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        {},
        {"outcome_code": "RESOLVED_BY_CHANCE"},
        {"outcome_code": []},
        {"outcome_code": {}},
    ],
)
def test_with_an_outcome_that_nobody_knows_the_hold_stays(outcome: object) -> None:
    """Nothing comes back by guess."""
    told = read_event(body_of("CUSTOMER.DISPUTE.RESOLVED", resolved(outcome)))
    assert told.event.fact == held(TAKEN, is_final=False)
    assert told.lost is None


def test_an_update_may_tell_that_a_dispute_is_resolved() -> None:
    """The status counts where it says more than the event's name."""
    assert fact_of("CUSTOMER.DISPUTE.UPDATED", resolved(WON)) == held(RETURNED, is_final=True)


def test_a_dispute_names_the_topup_where_the_payment_did() -> None:
    """What was noted on the payment stands in the disputed transaction as `custom`."""
    transaction = {"seller_transaction_id": CAPTURE_ID, "custom": TOPUP_ID}
    resource = dispute_resource(disputed_transactions=[transaction])
    event = read_event(body_of("CUSTOMER.DISPUTE.CREATED", resource)).event
    assert event.topup_id == TOPUP_ID


@pytest.mark.parametrize("transactions", [None, [], [{}, {}]])
def test_a_dispute_about_several_payments_is_kept_for_a_person(transactions: object) -> None:
    """Whose money it is cannot be said, so that no payment is named."""
    resource = dispute_resource(disputed_transactions=transactions)
    assert fact_of("CUSTOMER.DISPUTE.CREATED", resource).payment_id == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"id":"WH-1","event_type":"A.B","x":NaN}',
        b"{}",
        body_of(None, {}),
        body_of(7, {}),
        body_of("", {}),
        body_of("payment.capture.completed", {}),
        body_of("A" * 65, {}),
        body_of("A.B\n", {}),
        body_of("A.B", {}, id=None),
        body_of("A.B", {}, id=""),
        body_of("A.B", {}, id="WH 1"),
        body_of("A.B", {}, id="W" * 129),
    ],
)
def test_what_is_no_event_is_malformed(body: bytes) -> None:
    """A body that PayPal would not send is refused, without an accident."""
    with pytest.raises(MalformedEvent):
        read_event(body)


@pytest.mark.parametrize(
    ("event_type", "resource"),
    [
        *((event_type, None) for event_type in READERS),
        *((event_type, {}) for event_type in READERS),
        ("CHECKOUT.ORDER.APPROVED", order_resource(id="x/../y")),
        ("CHECKOUT.ORDER.APPROVED", order_resource(purchase_units=[])),
        ("CHECKOUT.ORDER.APPROVED", order_resource(purchase_units=[{}, {}])),
        ("CHECKOUT.ORDER.APPROVED", order_resource(purchase_units=[{"custom_id": TOPUP_ID}])),
        ("PAYMENT.CAPTURE.COMPLETED", capture_resource(id="5VK?x=1")),
        ("PAYMENT.CAPTURE.COMPLETED", capture_resource(id="A" * 37)),
        ("PAYMENT.CAPTURE.COMPLETED", capture_resource(amount=usd("10.001"))),
        ("PAYMENT.CAPTURE.COMPLETED", capture_resource(amount=usd("-10.00"))),
        ("PAYMENT.CAPTURE.REFUNDED", refund_resource(amount=None)),
        ("CUSTOMER.DISPUTE.CREATED", dispute_resource(dispute_id="PP/D")),
        ("CUSTOMER.DISPUTE.CREATED", dispute_resource(dispute_amount=None)),
        ("CUSTOMER.DISPUTE.CREATED", dispute_resource(disputed_transactions=["x"])),
        ("CUSTOMER.DISPUTE.RESOLVED", resolved({"outcome_code": "ACCEPTED"}, create_time=None)),
        ("CUSTOMER.DISPUTE.RESOLVED", resolved("RESOLVED_SELLER_FAVOUR")),
        (
            "CUSTOMER.DISPUTE.RESOLVED",
            resolved({"outcome_code": "ACCEPTED", "amount_refunded": usd("x")}),
        ),
    ],
)
def test_a_known_event_that_cannot_be_read_is_malformed(event_type: str, resource: object) -> None:
    """No field is guessed where it is missing or has another form."""
    with pytest.raises(MalformedEvent):
        read_event(body_of(event_type, resource))


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared vectors are not on this machine")
def test_every_published_sample_is_read() -> None:
    """Payloads that PayPal's sandbox sent to others give the payment that they tell of."""
    samples = json.loads((VECTORS / "paypal.json").read_bytes())["sample_payloads"]
    assert samples
    expected = {
        "CHECKOUT.ORDER.APPROVED": payment(GatewayPaymentStatus.AUTHORIZED, payment_id=""),
        "PAYMENT.CAPTURE.COMPLETED": payment(GatewayPaymentStatus.CAPTURED),
    }
    for sample in samples:
        told = read_event(json.dumps(sample["payload"]).encode())
        assert told.event.event_type == sample["event"]
        assert told.event.fact == expected[sample["event"]]
