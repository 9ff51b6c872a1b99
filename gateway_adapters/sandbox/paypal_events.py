"""What the sandbox's PayPal tells of what happened: its events, with the resource in each."""

from typing import Final

from gateway_adapters.sandbox.paypal_account import PaypalAccount
from gateway_adapters.sandbox.paypal_entities import (
    Capture,
    Dispute,
    Entity,
    Event,
    Order,
    Refund,
    capture_entity,
    dispute_entity,
    order_entity,
    refund_entity,
)

_CAPTURE_EVENTS: Final = {
    "COMPLETED": "PAYMENT.CAPTURE.COMPLETED",
    "PENDING": "PAYMENT.CAPTURE.PENDING",
    "DECLINED": "PAYMENT.CAPTURE.DENIED",
}
_REFUND_EVENTS: Final = {
    "PENDING": "PAYMENT.REFUND.PENDING",
    "FAILED": "PAYMENT.REFUND.FAILED",
}
_DISPUTE_EVENTS: Final = {
    "OPEN": "CUSTOMER.DISPUTE.CREATED",
    "RESOLVED": "CUSTOMER.DISPUTE.RESOLVED",
}


def order_content(account: PaypalAccount, order_id: str, base_url: str) -> Entity:
    """Return an order with its captures and their refunds.

    Raises:
        PaypalError: there is none.
    """
    return order_entity(
        account.order(order_id),
        [capture_entity(one, base_url) for one in account.captures_of(order_id)],
        [refund_entity(one, base_url) for one in account.refunds_of(order_id)],
        base_url,
    )


def approved_events(account: PaypalAccount, order: Order, base_url: str) -> list[Event]:
    """Tell that the customer approved."""
    content = order_content(account, order.id, base_url)
    return [Event("CHECKOUT.ORDER.APPROVED", "checkout-order", content)]


def voided_events(order: Order) -> list[Event]:
    """Tell that the approval was taken back; there is no amount in it."""
    unit = {"reference_id": order.custom_id or "default"}
    if order.custom_id:
        unit["custom_id"] = order.custom_id
    content: Entity = {"order_id": order.id, "purchase_units": [unit], "payment_source": {}}
    return [Event("CHECKOUT.PAYMENT-APPROVAL.REVERSED", "checkout-order", content)]


def capture_events(capture: Capture, base_url: str) -> list[Event]:
    """Tell where a capture stands."""
    entity = capture_entity(capture, base_url)
    return [Event(_CAPTURE_EVENTS[capture.status], "capture", entity)]


def refund_events(refund: Refund, base_url: str) -> list[Event]:
    """Tell of money that goes back."""
    done = "PAYMENT.CAPTURE.REVERSED" if refund.is_reversal else "PAYMENT.CAPTURE.REFUNDED"
    name = _REFUND_EVENTS.get(refund.status, done)
    return [Event(name, "refund", refund_entity(refund, base_url))]


def dispute_events(dispute: Dispute, base_url: str) -> list[Event]:
    """Tell where a dispute stands."""
    name = _DISPUTE_EVENTS.get(dispute.status, "CUSTOMER.DISPUTE.UPDATED")
    return [Event(name, "dispute", dispute_entity(dispute, base_url))]
