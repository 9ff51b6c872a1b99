"""What Razorpay's events say in the ledger's terms: one table, and how each kind is read.

Source: https://razorpay.com/docs/webhooks/payloads/.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gateway_adapters.gateway import Fact
from gateway_adapters.razorpay.reversals import reversal_of_dispute, reversal_of_refund
from gateway_adapters.razorpay.wire import (
    STATUSES,
    noted_topup,
    read_dispute,
    read_order,
    read_payment,
    read_payment_names,
    read_qr_code_id,
    read_refund,
    read_topup_id,
    status_of,
)
from gateway_adapters.wire import JsonObject, Unreadable, member
from server.ledger.records import (
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalState,
)


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says: a fact, and the top-up that it names where it does."""

    fact: Fact
    topup_id: str = ""


def read_told(event_type: str, payload: JsonObject) -> Told | None:
    """Read what an event says; None where its type changes nothing here.

    Raises:
        Unreadable.
    """
    reader = READERS.get(event_type)
    return None if reader is None else reader(payload)


def _authorized(payload: JsonObject) -> Told:
    """Read an authorized payment, which may be captured by the time it is told."""
    entity = _entity(payload, "payment")
    is_captured = STATUSES.get(status_of(entity)) is GatewayPaymentStatus.CAPTURED
    return _payment(
        payload, GatewayPaymentStatus.CAPTURED if is_captured else GatewayPaymentStatus.AUTHORIZED
    )


def _captured(payload: JsonObject) -> Told:
    return _payment(payload, GatewayPaymentStatus.CAPTURED)


def _failed(payload: JsonObject) -> Told:
    return _payment(payload, GatewayPaymentStatus.FAILED)


def _payment(payload: JsonObject, status: GatewayPaymentStatus) -> Told:
    """Take the event's word for the payment's status."""
    entity = _entity(payload, "payment")
    return Told(read_payment(entity, status).payment)


def _order_paid(payload: JsonObject) -> Told:
    """Read a paid order; its receipt, which only we set, names the top-up.

    A payment's notes are never asked: Checkout lets the customer set them, who could have somebody
    else's payment credited by them.
    """
    told = _captured(payload)
    order = _entity(payload, "order")
    if read_order(order).order_id != told.fact.gateway_order_id:
        raise Unreadable("The payment does not belong to the order beside it.")
    return Told(told.fact, read_topup_id(order.get("receipt")))


def _qr_credited(payload: JsonObject) -> Told:
    """Read a payment by QR code: the code stands for the order, and its notes are ours."""
    told = _captured(payload)
    qr_code = _entity(payload, "qr_code")
    fact = replace(
        told.fact, gateway_order_id=told.fact.gateway_order_id or read_qr_code_id(qr_code)
    )
    return Told(fact, noted_topup(qr_code))


def _refund_created(payload: JsonObject) -> Told:
    """Read a new refund. It may say processed by now; the last word is left to its own event."""
    refund = read_refund(_entity(payload, "refund"))
    reversal = reversal_of_refund(refund)
    is_final = reversal.state is ReversalState.RETURNED
    return _beside_payment(payload, replace(reversal, is_final=is_final))


def _refund_processed(payload: JsonObject) -> Told:
    return _refund(payload, ReversalState.TAKEN)


def _refund_failed(payload: JsonObject) -> Told:
    return _refund(payload, ReversalState.RETURNED)


def _refund(payload: JsonObject, state: ReversalState) -> Told:
    """Take the event's last word on a refund."""
    reversal = reversal_of_refund(read_refund(_entity(payload, "refund")))
    return _beside_payment(payload, replace(reversal, state=state, is_final=True))


def _dispute_open(payload: JsonObject) -> Told:
    """Hold the disputed money back from when it is known, whatever comes of it."""
    return _dispute(payload, ReversalState.TAKEN, is_final=False)


def _dispute_lost(payload: JsonObject) -> Told:
    return _dispute(payload, ReversalState.TAKEN, is_final=True)


def _dispute_won(payload: JsonObject) -> Told:
    return _dispute(payload, ReversalState.RETURNED, is_final=True)


def _dispute_closed(payload: JsonObject) -> Told:
    """Read a dispute that just ended: who has the money is told by what was deducted."""
    is_deducted = read_dispute(_entity(payload, "dispute")).is_deducted
    return _dispute_lost(payload) if is_deducted else _dispute_won(payload)


def _dispute(payload: JsonObject, state: ReversalState, *, is_final: bool) -> Told:
    """Take the event's word on a dispute."""
    reversal = reversal_of_dispute(read_dispute(_entity(payload, "dispute")))
    return _beside_payment(payload, replace(reversal, state=state, is_final=is_final))


def _beside_payment(payload: JsonObject, reversal: GatewayReversal) -> Told:
    """Add what the payment beside a refund or dispute tells; without it that can be asked for."""
    if payload.get("payment") is None:
        return Told(reversal)
    payment = _entity(payload, "payment")
    payment_id, order_id = read_payment_names(payment)
    if payment_id != reversal.payment_id:
        raise Unreadable("The payment is not the one that the refund or dispute beside it names.")
    return Told(replace(reversal, gateway_order_id=order_id))


def _entity(payload: JsonObject, name: str) -> JsonObject:
    return member(member(payload, name), "entity")


READERS: Final[Mapping[str, Callable[[JsonObject], Told]]] = MappingProxyType(
    {
        "payment.authorized": _authorized,
        "payment.captured": _captured,
        "payment.failed": _failed,
        "order.paid": _order_paid,
        "qr_code.credited": _qr_credited,
        "refund.created": _refund_created,
        "refund.processed": _refund_processed,
        "refund.failed": _refund_failed,
        "payment.dispute.created": _dispute_open,
        "payment.dispute.under_review": _dispute_open,
        "payment.dispute.action_required": _dispute_open,
        "payment.dispute.won": _dispute_won,
        "payment.dispute.lost": _dispute_lost,
        "payment.dispute.closed": _dispute_closed,
    }
)
"""The events that say something of money. All others are recorded and change nothing."""
