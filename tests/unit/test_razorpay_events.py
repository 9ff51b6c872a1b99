"""Razorpay's refunds, disputes and QR codes: what their events say, and what they cannot."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from gateway_adapters.gateway import MalformedEvent, WebhookEvent
from gateway_adapters.razorpay.events import READERS
from gateway_adapters.razorpay.webhook import read_webhook
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
)

SECRET = "webhook-secret"
TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"
TAKEN, RETURNED = ReversalState.TAKEN, ReversalState.RETURNED

Entity = dict[str, Any]


def read(event_type: str, *, created_at: int = 1_567_675_356, **entities: object) -> WebhookEvent:
    """Read an event under a good signature."""
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    body = json.dumps({"event": event_type, "payload": payload, "created_at": created_at}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return read_webhook({"x-razorpay-signature": signature}, body, [SECRET])


def payment(**fields: object) -> Entity:
    """Return a captured payment, changed as asked."""
    return {
        "id": "pay_1",
        "amount": 12345,
        "currency": "INR",
        "status": "captured",
        "order_id": "order_1",
        "notes": [],
        **fields,
    }


def refund(**fields: object) -> Entity:
    """Return a part of it that was refunded, changed as asked."""
    return {
        "id": "rfnd_1",
        "payment_id": "pay_1",
        "amount": 345,
        "currency": "INR",
        "status": "pending",
        **fields,
    }


def dispute(**fields: object) -> Entity:
    """Return a part of it that is disputed, changed as asked."""
    return {
        "id": "disp_1",
        "payment_id": "pay_1",
        "amount": 678,
        "amount_deducted": 0,
        "currency": "INR",
        "status": "open",
        **fields,
    }


def qr_code(**fields: object) -> Entity:
    """Return a QR code that names its top-up, changed as asked."""
    return {"id": "qr_1", "notes": {"topup_id": TOPUP_ID}, **fields}


def reversal_of(event: WebhookEvent) -> GatewayReversal:
    """Return the reversal that the event tells."""
    assert isinstance(event.fact, GatewayReversal)
    return event.fact


@pytest.mark.parametrize(
    ("event_type", "status", "state", "is_final"),
    [
        ("refund.created", "pending", TAKEN, False),
        ("refund.created", "processed", TAKEN, False),
        ("refund.created", "failed", RETURNED, True),
        ("refund.created", None, TAKEN, False),
        *[("refund.processed", status, TAKEN, True) for status in ("pending", "processed", "")],
        *[("refund.failed", status, RETURNED, True) for status in ("pending", "failed", None)],
    ],
)
def test_a_refund_is_taken_until_it_fails(
    event_type: str, status: object, state: ReversalState, is_final: bool
) -> None:
    """The last word is left to the event that is about it, whatever the status says meanwhile."""
    event = read(event_type, refund=refund(status=status), payment=payment())
    assert reversal_of(event) == GatewayReversal(
        reversal_id="rfnd_1",
        kind=ReversalKind.REFUND,
        payment_id="pay_1",
        gateway_order_id="order_1",
        amount=Money("INR", 345),
        state=state,
        is_final=is_final,
    )
    assert event.report_time_ms == 1567675356000


@pytest.mark.parametrize(
    ("event_name", "deducted", "state", "is_final"),
    [
        ("created", 0, TAKEN, False),
        ("under_review", 0, TAKEN, False),
        ("action_required", 0, TAKEN, False),
        ("lost", 678, TAKEN, True),
        ("lost", 0, TAKEN, True),
        ("won", 0, RETURNED, True),
        ("closed", 0, RETURNED, True),
        ("closed", None, RETURNED, True),
        ("closed", 678, TAKEN, True),
    ],
)
def test_a_dispute_is_held_back_until_it_is_won(
    event_name: str, deducted: object, state: ReversalState, is_final: bool
) -> None:
    """The disputed amount is taken at once; it comes back where it was not deducted in the end."""
    entity = dispute(amount_deducted=deducted)
    event = read(f"payment.dispute.{event_name}", dispute=entity, payment=payment())
    assert reversal_of(event) == GatewayReversal(
        reversal_id="disp_1",
        kind=ReversalKind.DISPUTE,
        payment_id="pay_1",
        gateway_order_id="order_1",
        amount=Money("INR", 678),
        state=state,
        is_final=is_final,
    )


@pytest.mark.parametrize("event_type", ["refund.processed", "payment.dispute.created"])
def test_the_payment_beside_it_names_the_order_and_no_topup(event_type: str) -> None:
    """Where the payment is there its order comes along; its notes may be the customer's."""
    beside = payment(notes={"topup_id": TOPUP_ID})
    event = read(event_type, refund=refund(), dispute=dispute(), payment=beside)
    assert reversal_of(event).gateway_order_id == beside["order_id"]
    assert event.topup_id == ""


@pytest.mark.parametrize("event_type", ["refund.processed", "payment.dispute.created"])
def test_without_the_payment_its_id_is_enough(event_type: str) -> None:
    """Money that was taken back is not dropped because the payment is missing beside it."""
    event = read(event_type, refund=refund(), dispute=dispute())
    assert (reversal_of(event).payment_id, reversal_of(event).gateway_order_id) == ("pay_1", "")


@pytest.mark.parametrize("event_type", ["refund.processed", "payment.dispute.created"])
@pytest.mark.parametrize(
    "beside", [payment(id="pay_2"), payment(order_id="../x"), payment(id=None), [], 7]
)
def test_another_payment_beside_it_is_malformed(event_type: str, beside: object) -> None:
    """A refund or dispute that does not fit its own payment is not believed."""
    with pytest.raises(MalformedEvent):
        read(event_type, refund=refund(), dispute=dispute(), payment=beside)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", "pay_1"),
        ("id", "rfnd_../x"),
        ("payment_id", None),
        ("payment_id", "order_1"),
        ("amount", 0),
        ("amount", -1),
        ("amount", 3.45),
        ("amount", "345"),
        ("amount", True),
        ("amount", 2**63),
        ("currency", "inr"),
        ("currency", None),
    ],
)
def test_a_field_of_another_kind_is_malformed(field: str, value: object) -> None:
    """No amount that was taken back is guessed, and no id can lead elsewhere."""
    for event_type in ("refund.created", "payment.dispute.lost"):
        with pytest.raises(MalformedEvent):
            read(
                event_type,
                refund=refund(**{field: value}),
                dispute=dispute(**{field: value}),
                payment=payment(),
            )


def test_a_payment_by_qr_code_is_correlated_by_the_code() -> None:
    """It has no order: the code stands for it, and the code's notes name the top-up."""
    event = read("qr_code.credited", payment=payment(order_id=None), qr_code=qr_code())
    assert event.fact == GatewayPayment(
        payment_id="pay_1",
        gateway_order_id="qr_1",
        status=GatewayPaymentStatus.CAPTURED,
        amount=Money("INR", 12345),
    )
    assert event.topup_id == TOPUP_ID


def test_the_notes_of_a_payment_by_qr_code_are_not_believed() -> None:
    """This service writes the code's notes; whoever pays may have a say in the payment's."""
    other = payment(notes={"topup_id": "top_SOMEBODYELSES"}, order_id=None)
    assert read("qr_code.credited", payment=other, qr_code=qr_code()).topup_id == TOPUP_ID
    silent = qr_code(notes=[])
    assert read("qr_code.credited", payment=other, qr_code=silent).topup_id == ""


@pytest.mark.parametrize("code", [{"id": "../x"}, {}, {"id": 7}])
def test_a_qr_code_without_a_good_id_is_malformed(code: Entity) -> None:
    """What was paid with has to have a name."""
    with pytest.raises(MalformedEvent):
        read("qr_code.credited", payment=payment(order_id=None), qr_code=code)


@pytest.mark.parametrize("event_type", sorted(READERS))
def test_an_event_of_money_without_its_entities_is_malformed(event_type: str) -> None:
    """Nothing that speaks of money is taken for an event without meaning."""
    with pytest.raises(MalformedEvent):
        read(event_type)
