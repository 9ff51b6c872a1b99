"""PayPal's resources, read with suspicion: orders, captures, refunds and disputes.

Source of the fields: https://developer.paypal.com/docs/api/orders/v2/,
https://developer.paypal.com/docs/api/payments/v2/ and
https://developer.paypal.com/docs/api/customer-disputes/v1/.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from gateway_adapters.paypal.amounts import read_amount
from gateway_adapters.wire import JsonObject, Unreadable, as_object, display_text
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
)

RESOURCE_ID: Final = re.compile(r"[A-Z0-9]{1,36}")
"""Of orders, captures and refunds. With this shape an id cannot change the path of a request."""
TOPUP_ID: Final = re.compile(r"top_[0-9A-Za-z]{1,36}")

CAPTURE_STATUSES: Final[Mapping[str, GatewayPaymentStatus]] = MappingProxyType(
    {
        "COMPLETED": GatewayPaymentStatus.CAPTURED,
        # It was completed before. What became of the money since then is told by the refund.
        "PARTIALLY_REFUNDED": GatewayPaymentStatus.CAPTURED,
        "REFUNDED": GatewayPaymentStatus.CAPTURED,
        "PENDING": GatewayPaymentStatus.PENDING,
        "DECLINED": GatewayPaymentStatus.FAILED,
        "FAILED": GatewayPaymentStatus.FAILED,
    }
)
"""PayPal's capture states in the ledger's terms. One that nobody documented is PENDING: nothing is
paid by guess."""
REFUND_STATUSES: Final[Mapping[str, tuple[ReversalState, bool]]] = MappingProxyType(
    {
        "COMPLETED": (ReversalState.TAKEN, True),
        "PENDING": (ReversalState.TAKEN, False),
        "FAILED": (ReversalState.RETURNED, True),
        "CANCELLED": (ReversalState.RETURNED, True),
    }
)
"""Who has a refund's money, and whether that is PayPal's last word."""
_UNKNOWN_REFUND: Final = (ReversalState.TAKEN, False)

REFUNDED_STATUSES: Final = frozenset({"PARTIALLY_REFUNDED", "REFUNDED"})
"""Of a capture."""

_LINKED_ID: Final = re.compile(
    r"https?://[^/?#]+/(?:[^?#]*/)?(?P<kind>orders|captures)/(?P<id>[A-Z0-9]{1,36})(?:[?#].*)?",
    re.DOTALL,
)
"""Matched as a whole, not parsed: what is no URL leads nowhere, and that is all."""
_CHECKOUT_URL: Final = re.compile(r"https?://[!-~]{1,2000}")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHECKOUT_LINKS: Final = ("payer-action", "approve")


@dataclass(frozen=True, slots=True)
class WireOrder:
    """An order as PayPal tells it."""

    order_id: str
    status: str
    amount: Money
    topup_id: str
    """What the order was made for; empty where it does not say."""
    captures: tuple[GatewayPayment, ...]
    refunds: tuple[GatewayReversal, ...]
    """Of its captures, by the merchant or by PayPal itself: the order does not tell which."""
    checkout_url: str
    """Where the customer approves it; empty where nothing is left to approve."""


def read_order(content: JsonObject) -> WireOrder:
    """Read an order that has one purchase unit, as ours have.

    Raises:
        Unreadable.
    """
    order_id = identifier(content.get("id"), "The order's id")
    unit = purchase_unit(content)
    return WireOrder(
        order_id=order_id,
        status=_text(content.get("status")),
        amount=read_amount(unit.get("amount"), "The order's amount"),
        topup_id=topup_id_in(unit),
        captures=tuple(
            read_capture(as_object(one, "The capture"), order_id)
            for one in payments_in(unit, "captures")
        ),
        refunds=tuple(
            read_refund(as_object(one, "The refund"), order_id)
            for one in payments_in(unit, "refunds")
        ),
        checkout_url=_checkout_url(content),
    )


def read_capture(
    capture: JsonObject, order_id: str = "", status: GatewayPaymentStatus | None = None
) -> GatewayPayment:
    """Read a capture; `status` overrides its own where more is known.

    Raises:
        Unreadable.
    """
    if status is None:
        told = _text(capture.get("status"))
        status = CAPTURE_STATUSES.get(told, GatewayPaymentStatus.PENDING)
    return GatewayPayment(
        payment_id=identifier(capture.get("id"), "The capture's id"),
        gateway_order_id=order_id or order_of_resource(capture),
        status=status,
        amount=read_amount(capture.get("amount"), "The capture's amount"),
        failure_reason=_failure_reason(capture) if status is GatewayPaymentStatus.FAILED else "",
    )


def read_refund(refund: JsonObject, order_id: str = "") -> GatewayReversal:
    """Read a refund, of its own amount; the capture's id is empty where it does not tell.

    Raises:
        Unreadable.
    """
    state, is_final = REFUND_STATUSES.get(_text(refund.get("status")), _UNKNOWN_REFUND)
    return GatewayReversal(
        reversal_id=identifier(refund.get("id"), "The refund's id"),
        kind=ReversalKind.REFUND,
        payment_id=linked_id(refund, "captures"),
        gateway_order_id=order_id or order_of_resource(refund),
        amount=read_amount(refund.get("amount"), "The refund's amount"),
        state=state,
        is_final=is_final,
    )


def purchase_unit(order: JsonObject) -> JsonObject:
    """Return the order's purchase unit.

    Raises:
        Unreadable: there is none, or several.
    """
    units = order.get("purchase_units")
    if not isinstance(units, list) or len(units) != 1:
        raise Unreadable("The order has not one purchase unit.")
    return as_object(units[0], "The purchase unit")


def payments_in(unit: JsonObject, kind: str) -> list[object]:
    """Return a purchase unit's `captures` or `refunds`; none where it lists none."""
    payments = unit.get("payments")
    found = payments.get(kind) if isinstance(payments, dict) else None
    return found if isinstance(found, list) else []


def order_of_resource(resource: JsonObject) -> str:
    """Return the order that a capture or refund belongs to; empty where it does not tell."""
    data = resource.get("supplementary_data")
    related = data.get("related_ids") if isinstance(data, dict) else None
    order_id = related.get("order_id") if isinstance(related, dict) else None
    if isinstance(order_id, str) and RESOURCE_ID.fullmatch(order_id):
        return order_id
    return linked_id(resource, "orders")


def linked_id(resource: JsonObject, kind: str) -> str:
    """Return the id of what a resource came from, by its link `up`; empty if that is no `kind`."""
    for href in links(resource, "up"):
        found = _LINKED_ID.fullmatch(href)
        if found is not None and found["kind"] == kind:
            return found["id"]
    return ""


def links(resource: JsonObject, relation: str) -> list[str]:
    """Return where a resource's links of a relation lead."""
    found = resource.get("links")
    entries = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    hrefs = [one.get("href") for one in entries if one.get("rel") == relation]
    return [href for href in hrefs if isinstance(href, str)]


def topup_id_in(resource: JsonObject) -> str:
    """Return the top-up that a resource was made for, by our ids on it; empty where it has none."""
    for name in ("custom_id", "invoice_id"):
        value = resource.get(name)
        if isinstance(value, str) and TOPUP_ID.fullmatch(value):
            return value
    return ""


def identifier(value: object, what: str) -> str:
    """Return an id that has the shape of PayPal's.

    Raises:
        Unreadable.
    """
    if not isinstance(value, str) or RESOURCE_ID.fullmatch(value) is None:
        raise Unreadable(f"{what} does not look like one.")
    return value


def read_time_ms(value: object, what: str) -> int:
    """Read a time in the format of RFC 3339 as milliseconds since the epoch.

    Raises:
        Unreadable.
    """
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        raise Unreadable(f"{what} is not a time.")
    try:
        return (datetime.fromisoformat(value) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise Unreadable(f"{what} is not a time.") from None


def _checkout_url(order: JsonObject) -> str:
    for relation in _CHECKOUT_LINKS:
        for href in links(order, relation):
            if _CHECKOUT_URL.fullmatch(href) is not None:
                return href
    return ""


def _failure_reason(capture: JsonObject) -> str:
    """Say why it failed, in PayPal's code or in ours."""
    details = capture.get("status_details")
    reason = display_text(details.get("reason")) if isinstance(details, dict) else ""
    return f"PayPal declined the payment: {reason}." if reason else "PayPal declined the payment."


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
