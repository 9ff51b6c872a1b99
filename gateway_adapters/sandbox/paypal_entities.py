"""The resources of the sandbox's PayPal: what it keeps of them, and how they are told in JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Entity = dict[str, Any]
"""A resource as JSON has it."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order, that is captured once."""

    id: str
    value: str
    currency: str
    custom_id: str
    invoice_id: str
    request_id: str
    status: str
    next_capture: str
    """What becomes of the capture: a capture's status, or the issue that PayPal refuses it with."""
    captured_value: str
    """Other than the order's only to test what then happens."""
    create_time: str
    return_url: str = ""


@dataclass(frozen=True, slots=True)
class Capture:
    """Money that was taken for an order."""

    id: str
    order_id: str
    custom_id: str
    invoice_id: str
    value: str
    currency: str
    request_id: str
    status: str
    create_time: str


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back of a capture: by the merchant, or by PayPal itself (`is_reversal`)."""

    id: str
    capture_id: str
    custom_id: str
    value: str
    currency: str
    request_id: str
    status: str
    is_reversal: bool
    create_time: str


@dataclass(frozen=True, slots=True)
class Dispute:
    """A claim of a customer about a capture."""

    id: str
    capture_id: str
    custom_id: str
    value: str
    currency: str
    status: str
    outcome: str
    create_time: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with the resource that it happened to."""

    name: str
    resource_type: str
    resource: Entity


def order_entity(
    order: Order, captures: Sequence[Entity], refunds: Sequence[Entity], base_url: str
) -> Entity:
    """Return the order as the API and the webhooks tell it."""
    unit: Entity = {
        "reference_id": order.custom_id or "default",
        "amount": {"currency_code": order.currency, "value": order.value},
        "payee": {"email_address": "merchant@example.com", "merchant_id": "SANDBOXMERCHANT"},
    }
    if order.custom_id:
        unit["custom_id"] = order.custom_id
    if order.invoice_id:
        unit["invoice_id"] = order.invoice_id
    if captures:
        unit["payments"] = {"captures": list(captures)}
        if refunds:
            unit["payments"]["refunds"] = list(refunds)
    url = f"{base_url}/v2/checkout/orders/{order.id}"
    links = [_link(url, "self", "GET")]
    if order.status == "PAYER_ACTION_REQUIRED":
        links.append(_link(f"{base_url}/checkout/{order.id}", "payer-action", "GET"))
    if order.status == "APPROVED":
        links.append(_link(f"{url}/capture", "capture", "POST"))
    return {
        "id": order.id,
        "intent": "CAPTURE",
        "status": order.status,
        "payment_source": {"paypal": {}},
        "purchase_units": [unit],
        "create_time": order.create_time,
        "links": links,
    }


def capture_entity(capture: Capture, base_url: str) -> Entity:
    """Return the capture as the API and the webhooks tell it."""
    url = f"{base_url}/v2/payments/captures/{capture.id}"
    entity: Entity = {
        "id": capture.id,
        "status": capture.status,
        "amount": {"currency_code": capture.currency, "value": capture.value},
        "final_capture": True,
        "seller_protection": {"status": "NOT_ELIGIBLE"},
        "supplementary_data": {"related_ids": {"order_id": capture.order_id}},
        "create_time": capture.create_time,
        "update_time": capture.create_time,
        "links": [
            _link(url, "self", "GET"),
            _link(f"{url}/refund", "refund", "POST"),
            _link(f"{base_url}/v2/checkout/orders/{capture.order_id}", "up", "GET"),
        ],
    }
    if capture.custom_id:
        entity["custom_id"] = capture.custom_id
    if capture.invoice_id:
        entity["invoice_id"] = capture.invoice_id
    reasons = {"PENDING": "PENDING_REVIEW", "DECLINED": "DECLINED_BY_RISK_FRAUD_FILTERS"}
    if capture.status in reasons:
        entity["status_details"] = {"reason": reasons[capture.status]}
    return entity


def refund_entity(refund: Refund, base_url: str) -> Entity:
    """Return the refund as the API and the webhooks tell it."""
    amount = {"currency_code": refund.currency, "value": refund.value}
    entity: Entity = {
        "id": refund.id,
        "status": refund.status,
        "amount": amount,
        "note_to_payer": "Payment reversed" if refund.is_reversal else "Refunded",
        "seller_payable_breakdown": {"gross_amount": amount, "net_amount": amount},
        "create_time": refund.create_time,
        "update_time": refund.create_time,
        "links": [
            _link(f"{base_url}/v2/payments/refunds/{refund.id}", "self", "GET"),
            _link(f"{base_url}/v2/payments/captures/{refund.capture_id}", "up", "GET"),
        ],
    }
    if refund.custom_id:
        entity["custom_id"] = refund.custom_id
    return entity


def dispute_entity(dispute: Dispute, base_url: str) -> Entity:
    """Return the dispute as the webhooks tell it."""
    amount = {"currency_code": dispute.currency, "value": dispute.value}
    entity: Entity = {
        "dispute_id": dispute.id,
        "create_time": dispute.create_time,
        "update_time": dispute.create_time,
        "disputed_transactions": [
            {
                "seller_transaction_id": dispute.capture_id,
                "seller": {"merchant_id": "SANDBOXMERCHANT", "name": "Sandbox"},
                "items": [],
            }
        ],
        "reason": "MERCHANDISE_OR_SERVICE_NOT_RECEIVED",
        "status": dispute.status,
        "dispute_amount": amount,
        "dispute_life_cycle_stage": "CHARGEBACK",
        "dispute_channel": "INTERNAL",
        "links": [_link(f"{base_url}/v1/customer/disputes/{dispute.id}", "self", "GET")],
    }
    if dispute.outcome:
        entity["dispute_outcome"] = {"outcome_code": dispute.outcome}
    return entity


def transaction_entity(record: Capture | Refund) -> Entity:
    """Return an entry of the account's books as Transaction Search tells it."""
    is_capture = isinstance(record, Capture)
    info: Entity = {
        "transaction_id": record.id,
        "transaction_event_code": _event_code(record),
        "transaction_initiation_date": record.create_time,
        "transaction_updated_date": record.create_time,
        "transaction_amount": {
            "currency_code": record.currency,
            "value": record.value if is_capture else f"-{record.value}",
        },
        "transaction_status": _STATUS_CODES.get(record.status, "P"),
    }
    if isinstance(record, Refund):
        info |= {"paypal_reference_id": record.capture_id, "paypal_reference_id_type": "TXN"}
    if record.custom_id:
        info["custom_field"] = record.custom_id
    return {"transaction_info": info}


_STATUS_CODES = {
    "COMPLETED": "S",
    "PARTIALLY_REFUNDED": "S",
    "REFUNDED": "V",
    "PENDING": "P",
    "DECLINED": "D",
    "FAILED": "D",
}


def _event_code(record: Capture | Refund) -> str:
    if isinstance(record, Capture):
        return "T0006"
    return "T1106" if record.is_reversal else "T1107"


def _link(href: str, relation: str, method: str) -> Entity:
    return {"href": href, "rel": relation, "method": method}
