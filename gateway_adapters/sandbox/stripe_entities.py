"""Stripe's objects: what the sandbox keeps of them, and how they are told in JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

API_VERSION: Final = "2024-10-28.acacia"
DISPUTE_FEE: Final = 1_500

Entity = dict[str, Any]
"""An object as JSON has it."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment intent. `fingerprint` tells the same request from another one."""

    id: str
    amount: int
    currency: str
    metadata: Mapping[str, str]
    capture_method: str
    idempotency_key: str
    fingerprint: str
    created: int
    client_secret: str = field(repr=False)
    status: str = "requires_payment_method"
    amount_received: int = 0
    charge_id: str = ""
    error: str = ""
    """What the last attempt failed with."""
    cancellation_reason: str = ""


@dataclass(frozen=True, slots=True)
class Charge:
    """An attempt to pay an intent."""

    id: str
    intent_id: str
    amount: int
    currency: str
    created: int
    status: str = "succeeded"
    is_captured: bool = False
    amount_captured: int = 0
    amount_refunded: int = 0
    is_disputed: bool = False


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back of a charge."""

    id: str
    charge_id: str
    intent_id: str
    amount: int
    currency: str
    created: int
    status: str = "succeeded"


@dataclass(frozen=True, slots=True)
class Dispute:
    """A claim of the customer on a charge."""

    id: str
    charge_id: str
    intent_id: str
    amount: int
    currency: str
    created: int
    status: str
    withdrawn: int = 0
    reinstated: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with the object as it was then."""

    name: str
    entity: Entity


def intent_entity(intent: Intent, charge: Charge | None = None) -> Entity:
    """Return an intent as the API and the webhooks tell it; with its charge where asked for."""
    waits_for_capture = intent.status == "requires_capture"
    error = {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "generic_decline",
        "message": intent.error,
    }
    return {
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_capturable": intent.amount if waits_for_capture else 0,
        "amount_received": intent.amount_received,
        "canceled_at": None,
        "cancellation_reason": intent.cancellation_reason or None,
        "capture_method": intent.capture_method,
        "client_secret": intent.client_secret,
        "confirmation_method": "automatic",
        "created": intent.created,
        "currency": intent.currency,
        "customer": None,
        "description": None,
        "last_payment_error": error if intent.error else None,
        "latest_charge": charge_entity(charge) if charge else intent.charge_id or None,
        "livemode": False,
        "metadata": dict(intent.metadata),
        "payment_method": None,
        "payment_method_types": ["card"],
        "status": intent.status,
    }


def charge_entity(charge: Charge) -> Entity:
    """Return a charge as the API tells it."""
    return {
        "id": charge.id,
        "object": "charge",
        "amount": charge.amount,
        "amount_captured": charge.amount_captured,
        "amount_refunded": charge.amount_refunded,
        "captured": charge.is_captured,
        "created": charge.created,
        "currency": charge.currency,
        "disputed": charge.is_disputed,
        "livemode": False,
        "paid": charge.status == "succeeded",
        "payment_intent": charge.intent_id,
        "refunded": charge.amount_captured == charge.amount_refunded > 0,
        "status": charge.status,
    }


def refund_entity(refund: Refund) -> Entity:
    """Return a refund as the API and the webhooks tell it."""
    return {
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "charge": refund.charge_id,
        "created": refund.created,
        "currency": refund.currency,
        "metadata": {},
        "payment_intent": refund.intent_id,
        "reason": None,
        "status": refund.status,
    }


def dispute_entity(dispute: Dispute) -> Entity:
    """Return a dispute as the API and the webhooks tell it."""
    return {
        "id": dispute.id,
        "object": "dispute",
        "amount": dispute.amount,
        "balance_transactions": [
            _balance_transaction(dispute, amount, fee)
            for amount, fee in ((-dispute.withdrawn, DISPUTE_FEE), (dispute.reinstated, 0))
            if amount
        ],
        "charge": dispute.charge_id,
        "created": dispute.created,
        "currency": dispute.currency,
        "is_charge_refundable": not dispute.withdrawn,
        "livemode": False,
        "metadata": {},
        "payment_intent": dispute.intent_id,
        "reason": "fraudulent",
        "status": dispute.status,
    }


def page(entities: Sequence[Entity], *, url: str, has_more: bool) -> Entity:
    """Return a list the way the API tells lists."""
    return {"object": "list", "data": list(entities), "has_more": has_more, "url": url}


def envelope(event: Event, event_id: str, created: int) -> Entity:
    """Return the event as a webhook tells it."""
    return {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": created,
        "data": {"object": event.entity},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event.name,
    }


def _balance_transaction(dispute: Dispute, amount: int, fee: int) -> Entity:
    return {
        "id": f"txn_{dispute.id.removeprefix('du_')}",
        "object": "balance_transaction",
        "amount": amount,
        "currency": dispute.currency,
        "fee": fee,
        "net": amount - fee,
        "source": dispute.id,
        "type": "adjustment",
    }
