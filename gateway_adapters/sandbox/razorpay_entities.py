"""Razorpay's entities: what the sandbox keeps of them, and how they are told in JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_DAYS_TO_RESPOND: Final = 6
_SECONDS_PER_DAY: Final = 86_400

Entity = dict[str, Any]
"""An entity as JSON has it."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order, that is paid once."""

    id: str
    amount: int
    currency: str
    receipt: str | None
    notes: Mapping[str, str]
    is_captured_automatically: bool
    status: str
    amount_paid: int
    attempts: int
    created_at: int


@dataclass(frozen=True, slots=True)
class QrCode:
    """A QR code, that is paid once."""

    id: str
    name: str | None
    description: str | None
    amount: int
    notes: Mapping[str, str]
    image_content: str
    close_by: int
    created_at: int
    payments_count: int = 0
    amount_received: int = 0
    closed_at: int | None = None
    close_reason: str | None = None

    @property
    def currency(self) -> str:
        """UPI pays in rupees."""
        return "INR"


@dataclass(frozen=True, slots=True)
class Payment:
    """An attempt to pay an order, or a QR code."""

    id: str
    order_id: str
    """Empty where it is a QR code that is paid."""
    amount: int
    currency: str
    method: str
    status: str
    amount_refunded: int
    notes: Mapping[str, str]
    created_at: int
    qr_code_id: str = ""
    is_intent: bool = False
    """Whether it waits for its customer to take it up in a UPI app."""

    @property
    def payable_id(self) -> str:
        """What it pays."""
        return self.order_id or self.qr_code_id


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back of a payment. `fingerprint` tells the same request from another one."""

    id: str
    payment_id: str
    amount: int
    currency: str
    receipt: str | None
    speed: str
    notes: Mapping[str, str]
    created_at: int
    idempotency_key: str
    fingerprint: str
    status: str = "processed"


@dataclass(frozen=True, slots=True)
class Dispute:
    """A claim of the customer on a payment."""

    id: str
    payment_id: str
    amount: int
    currency: str
    amount_deducted: int
    phase: str
    status: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with the entities that it happened to."""

    name: str
    entities: Mapping[str, Entity]


def order_entity(order: Order) -> Entity:
    """Return the order as the API and the webhooks tell it."""
    return {
        "id": order.id,
        "entity": "order",
        "amount": order.amount,
        "amount_paid": order.amount_paid,
        "amount_due": max(0, order.amount - order.amount_paid),
        "currency": order.currency,
        "receipt": order.receipt,
        "offer_id": None,
        "status": order.status,
        "attempts": order.attempts,
        "notes": _notes(order.notes),
        "created_at": order.created_at,
    }


def qr_code_entity(qr_code: QrCode) -> Entity:
    """Return the QR code as the API and the webhooks tell it."""
    return {
        "id": qr_code.id,
        "entity": "qr_code",
        "created_at": qr_code.created_at,
        "name": qr_code.name,
        "usage": "single_use",
        "type": "upi_qr",
        "image_url": qr_code.id.replace("qr_", "https://rzp.io/i/"),
        "image_content": qr_code.image_content,
        "payment_amount": qr_code.amount,
        "status": "active" if qr_code.closed_at is None else "closed",
        "description": qr_code.description,
        "fixed_amount": True,
        "payments_amount_received": qr_code.amount_received,
        "payments_count_received": qr_code.payments_count,
        "notes": _notes(qr_code.notes),
        "customer_id": None,
        "close_by": qr_code.close_by,
        "closed_at": qr_code.closed_at,
        "close_reason": qr_code.close_reason,
    }


def payment_entity(payment: Payment) -> Entity:
    """Return the payment as the API and the webhooks tell it."""
    has_failed = payment.status == "failed"
    is_captured = payment.status in {"captured", "refunded"}
    entity: Entity = {
        "id": payment.id,
        "entity": "payment",
        "amount": payment.amount,
        "currency": payment.currency,
        "status": payment.status,
        "order_id": payment.order_id or None,
        "invoice_id": None,
        "international": False,
        "method": payment.method,
        "amount_refunded": payment.amount_refunded,
        "refund_status": _refund_status(payment),
        "captured": is_captured,
        "description": "QRv2 Payment" if payment.qr_code_id else None,
        "card_id": payment.id.replace("pay_", "card_") if payment.method == "card" else None,
        "bank": "HDFC" if payment.method == "netbanking" else None,
        "wallet": None,
        "vpa": "customer@upi" if payment.method == "upi" else None,
        "email": "customer@example.com",
        "contact": "+919000090000",
        "notes": _notes(payment.notes),
        "fee": payment.amount * 2 // 100 if is_captured else None,
        "tax": 0 if is_captured else None,
        "error_code": "BAD_REQUEST_ERROR" if has_failed else None,
        "error_description": "Payment failed" if has_failed else None,
        "error_source": "issuer" if has_failed else None,
        "error_step": "payment_authorization" if has_failed else None,
        "error_reason": "payment_failed" if has_failed else None,
        "acquirer_data": {"rrn": None},
        "created_at": payment.created_at,
    }
    if payment.method == "upi":
        entity["upi"] = {
            "payer_account_type": "bank_account",
            "vpa": "customer@upi",
            "flow": "intent",
        }
    return entity


def refund_entity(refund: Refund) -> Entity:
    """Return the refund as the API and the webhooks tell it."""
    return {
        "id": refund.id,
        "entity": "refund",
        "amount": refund.amount,
        "currency": refund.currency,
        "payment_id": refund.payment_id,
        "notes": _notes(refund.notes),
        "receipt": refund.receipt,
        "acquirer_data": {"arn": None},
        "created_at": refund.created_at,
        "batch_id": None,
        "status": refund.status,
        "speed_processed": "normal" if refund.status == "processed" else None,
        "speed_requested": refund.speed,
    }


def dispute_entity(dispute: Dispute) -> Entity:
    """Return the dispute as the API and the webhooks tell it."""
    return {
        "id": dispute.id,
        "entity": "dispute",
        "payment_id": dispute.payment_id,
        "amount": dispute.amount,
        "currency": dispute.currency,
        "amount_deducted": dispute.amount_deducted,
        "reason_code": "goods_or_services_not_received_or_partially_received",
        "respond_by": dispute.created_at + _DAYS_TO_RESPOND * _SECONDS_PER_DAY,
        "status": dispute.status,
        "phase": dispute.phase,
        "evidence": {"amount": dispute.amount, "summary": None, "submitted_at": None},
        "created_at": dispute.created_at,
    }


def collection(entities: Sequence[Entity]) -> Entity:
    """Return a list the way the API tells lists."""
    return {"entity": "collection", "count": len(entities), "items": entities}


def envelope(event: Event, created_at: int) -> Entity:
    """Return the event as a webhook tells it."""
    return {
        "entity": "event",
        "account_id": "acc_SandboxAccount",
        "event": event.name,
        "contains": list(event.entities),
        "payload": {name: {"entity": entity} for name, entity in event.entities.items()},
        "created_at": created_at,
    }


def _refund_status(payment: Payment) -> str | None:
    if payment.amount_refunded == 0:
        return None
    return "full" if payment.amount_refunded == payment.amount else "partial"


def _notes(notes: Mapping[str, str]) -> dict[str, str] | list[str]:
    """Return the notes as Razorpay does: an object, and a list where there are none."""
    return dict(notes) or []
