"""What PayPal's events say in the ledger's terms: one table, and how each kind is read.

Source: https://developer.paypal.com/api/rest/webhooks/event-names/ and
https://developer.paypal.com/docs/disputes/webhooks/.

Money that goes back can be told twice: a dispute that is lost ends with CUSTOMER.DISPUTE.RESOLVED,
and PayPal or the merchant then pays the buyer back by a refund of the capture, which has an id and
an event of its own (PAYMENT.CAPTURE.REVERSED or REFUNDED). The source of truth is the refund: every
movement of money is one, also where it is partial or has nothing to do with a dispute. A dispute is
a hold, as in PayPal's own books: it is taken while it is open, and given back when it is resolved,
whoever won. Only what was lost and no refund tells is booked by the dispute itself, and stays
taken; for that the adapter asks PayPal (see `disputes`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gateway_adapters.gateway import Fact, MalformedEvent, WebhookEvent
from gateway_adapters.paypal.amounts import read_amount
from gateway_adapters.paypal.disputes import LostDispute
from gateway_adapters.paypal.wire import (
    identifier,
    purchase_unit,
    read_capture,
    read_order,
    read_refund,
    read_time_ms,
    topup_id_in,
)
from gateway_adapters.wire import JsonObject, Unreadable, as_object, member, read_object
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
)

LOST_OUTCOMES: Final = frozenset({"RESOLVED_BUYER_FAVOUR", "ACCEPTED"})
"""Of a dispute: the buyer gets the money."""
WON_OUTCOMES: Final = frozenset(
    {
        "RESOLVED_SELLER_FAVOUR",
        "RESOLVED_WITH_PAYOUT",  # PayPal pays the buyer, and the seller keeps the money
        "CANCELED_BY_BUYER",
        "DENIED",
        "NONE",  # closed without a decision, for another dispute that has its own events
    }
)
"""Of a dispute: the seller keeps the money. With an outcome that is neither, the hold stays."""

NO_AMOUNT: Final = Money("XXX", 0)
"""Where an event tells of no amount: ISO 4217's code for no currency."""

_EVENT_TYPE: Final = re.compile(r"[A-Z0-9_-]+(\.[A-Z0-9_-]+)*")
_MAX_EVENT_TYPE_LENGTH: Final = 64
_EVENT_ID: Final = re.compile(r"[!-~]{1,128}")
_DISPUTE_ID: Final = re.compile(r"[A-Za-z0-9-]{1,128}")


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says: a fact, and the top-up that it names where it does."""

    fact: Fact
    topup_id: str = ""
    lost: LostDispute | None = None


@dataclass(frozen=True, slots=True)
class PaypalEvent:
    """An event as it was read, before PayPal is asked for anything."""

    event: WebhookEvent
    lost: LostDispute | None


def read_event(body: bytes) -> PaypalEvent:
    """Read the body of a webhook whose signature fits.

    Raises:
        MalformedEvent.
    """
    try:
        return _read_event(read_object(body))
    except Unreadable as error:
        raise MalformedEvent(str(error)) from None


def taken_by_dispute(event: WebhookEvent, amount: Money) -> WebhookEvent:
    """Return the end of a lost dispute of which some money went back by no refund: by itself."""
    fact = event.fact
    if not isinstance(fact, GatewayReversal):
        return event
    return replace(event, fact=replace(fact, amount=amount, state=ReversalState.TAKEN))


def _read_event(envelope: JsonObject) -> PaypalEvent:
    event_id = envelope.get("id")
    if not isinstance(event_id, str) or _EVENT_ID.fullmatch(event_id) is None:
        raise Unreadable("The event's id does not look like one.")
    event_type = envelope.get("event_type")
    if (
        not isinstance(event_type, str)
        or len(event_type) > _MAX_EVENT_TYPE_LENGTH
        or _EVENT_TYPE.fullmatch(event_type) is None
    ):
        raise Unreadable("`event_type` is not the name of an event.")
    reader = READERS.get(event_type)
    told = None if reader is None else reader(member(envelope, "resource"))
    event = WebhookEvent(
        event_id=event_id,
        event_type=event_type,
        fact=told.fact if told else None,
        report_time_ms=_report_time_ms(envelope),
        topup_id=told.topup_id if told else "",
    )
    return PaypalEvent(event, told.lost if told else None)


def _report_time_ms(envelope: JsonObject) -> int | None:
    """Return when PayPal made the event. No money is refused because that cannot be read."""
    try:
        return read_time_ms(envelope.get("create_time"), "The event's time")
    except Unreadable:
        return None


def _approved(resource: JsonObject) -> Told:
    """Read an order that the customer approved: there is no capture yet, and so no payment id."""
    order = read_order(resource)
    payment = GatewayPayment("", order.order_id, GatewayPaymentStatus.AUTHORIZED, order.amount)
    return Told(payment, order.topup_id)


def _approval_reversed(resource: JsonObject) -> Told:
    """Read that an approval was taken back before the capture. The event tells no amount."""
    payment = GatewayPayment(
        payment_id="",
        gateway_order_id=identifier(resource.get("order_id"), "The order's id"),
        status=GatewayPaymentStatus.FAILED,
        amount=NO_AMOUNT,
        failure_reason="PayPal took the customer's approval back.",
    )
    has_unit = "purchase_units" in resource
    return Told(payment, topup_id_in(purchase_unit(resource)) if has_unit else "")


def _completed(resource: JsonObject) -> Told:
    return _capture(resource, GatewayPaymentStatus.CAPTURED)


def _pending(resource: JsonObject) -> Told:
    return _capture(resource, GatewayPaymentStatus.PENDING)


def _denied(resource: JsonObject) -> Told:
    return _capture(resource, GatewayPaymentStatus.FAILED)


def _capture(resource: JsonObject, status: GatewayPaymentStatus) -> Told:
    """Take the event's word for the capture's status."""
    return Told(read_capture(resource, status=status), topup_id_in(resource))


def _refunded(resource: JsonObject) -> Told:
    """Read a refund that the merchant started. One that is still pending may yet fail."""
    is_final = resource.get("status") != "PENDING"
    return _refund(resource, ReversalKind.REFUND, ReversalState.TAKEN, is_final=is_final)


def _reversed(resource: JsonObject) -> Told:
    """Read a refund that PayPal made by itself: a lost dispute, a bank's return, a chargeback."""
    return _refund(resource, ReversalKind.DISPUTE, ReversalState.TAKEN, is_final=True)


def _refund_pending(resource: JsonObject) -> Told:
    return _refund(resource, ReversalKind.REFUND, ReversalState.TAKEN, is_final=False)


def _refund_failed(resource: JsonObject) -> Told:
    return _refund(resource, ReversalKind.REFUND, ReversalState.RETURNED, is_final=True)


def _refund(
    resource: JsonObject, kind: ReversalKind, state: ReversalState, *, is_final: bool
) -> Told:
    """Read a refund of its own amount. Where it names no capture a person has to look at it."""
    reversal = replace(read_refund(resource), kind=kind, state=state, is_final=is_final)
    return Told(reversal, topup_id_in(resource))


def _dispute(resource: JsonObject) -> Told:
    """Read a dispute, which may be resolved by the time it is told."""
    if resource.get("status") == "RESOLVED":
        return _dispute_resolved(resource)
    return _held(resource, ReversalState.TAKEN, is_final=False)


def _dispute_resolved(resource: JsonObject) -> Told:
    """Read the end of a dispute. Of a lost one PayPal may tell how much of it the buyer got."""
    outcome = resource.get("dispute_outcome")
    content = as_object(outcome, "The dispute's outcome") if outcome is not None else {}
    code = content.get("outcome_code")
    if not isinstance(code, str) or code not in LOST_OUTCOMES | WON_OUTCOMES:
        return _held(resource, ReversalState.TAKEN, is_final=False)
    told = _held(resource, ReversalState.RETURNED, is_final=True)
    if code in WON_OUTCOMES:
        return told
    refunded = content.get("amount_refunded")
    has_amount = refunded is not None
    amount = read_amount(refunded, "The refunded amount") if has_amount else told.fact.amount
    since_ms = read_time_ms(resource.get("create_time"), "The dispute's time")
    return replace(told, lost=LostDispute(amount, since_ms))


def _held(resource: JsonObject, state: ReversalState, *, is_final: bool) -> Told:
    """Read the money that a dispute is about."""
    dispute_id = resource.get("dispute_id")
    if not isinstance(dispute_id, str) or _DISPUTE_ID.fullmatch(dispute_id) is None:
        raise Unreadable("The dispute's id does not look like one.")
    capture_id, topup_id = _disputed_capture(resource)
    reversal = GatewayReversal(
        reversal_id=dispute_id,
        kind=ReversalKind.DISPUTE,
        payment_id=capture_id,
        gateway_order_id="",
        amount=read_amount(resource.get("dispute_amount"), "The dispute's amount"),
        state=state,
        is_final=is_final,
    )
    return Told(reversal, topup_id)


def _disputed_capture(resource: JsonObject) -> tuple[str, str]:
    """Return the capture, and the top-up if it is named.

    A dispute about several captures has no sum for each: it names none, and goes to a person.
    """
    transactions = resource.get("disputed_transactions")
    if not isinstance(transactions, list) or len(transactions) != 1:
        return "", ""
    transaction = as_object(transactions[0], "The disputed transaction")
    capture_id = identifier(transaction.get("seller_transaction_id"), "The disputed capture's id")
    named = {
        "custom_id": transaction.get("custom"),
        "invoice_id": transaction.get("invoice_number"),
    }
    return capture_id, topup_id_in(named)


READERS: Final[Mapping[str, Callable[[JsonObject], Told]]] = MappingProxyType(
    {
        "CHECKOUT.ORDER.APPROVED": _approved,
        "CHECKOUT.PAYMENT-APPROVAL.REVERSED": _approval_reversed,
        "PAYMENT.CAPTURE.COMPLETED": _completed,
        "PAYMENT.CAPTURE.PENDING": _pending,
        "PAYMENT.CAPTURE.DENIED": _denied,
        "PAYMENT.CAPTURE.DECLINED": _denied,
        "PAYMENT.CAPTURE.REFUNDED": _refunded,
        "PAYMENT.CAPTURE.REVERSED": _reversed,
        "PAYMENT.REFUND.PENDING": _refund_pending,
        "PAYMENT.REFUND.FAILED": _refund_failed,
        "CUSTOMER.DISPUTE.CREATED": _dispute,
        "CUSTOMER.DISPUTE.UPDATED": _dispute,
        "CUSTOMER.DISPUTE.RESOLVED": _dispute_resolved,
    }
)
"""The events that say something of money. All others are recorded and change nothing."""
