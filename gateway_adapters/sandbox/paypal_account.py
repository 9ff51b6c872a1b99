"""An account at the sandbox's PayPal: its orders, captures, refunds and disputes."""

import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final, TypeVar

from gateway_adapters.sandbox.paypal_entities import Capture, Dispute, Order, Refund
from gateway_adapters.sandbox.paypal_fields import (
    PaypalError,
    amount_field,
    name_field,
    return_url_field,
)

REFUSALS: Final = frozenset({"INSTRUMENT_DECLINED", "PAYER_ACTION_REQUIRED"})
"""What a capture can be refused with, as the control endpoints choose."""
CAPTURE_STATUSES: Final = frozenset({"COMPLETED", "PENDING", "DECLINED"})

_ID_CHARACTERS: Final = string.ascii_uppercase + string.digits
_ID_LENGTH: Final = 17
_REVERSIBLE: Final = frozenset({"COMPLETED", "PARTIALLY_REFUNDED"})


@dataclass(slots=True)
class PaypalAccount:
    """Owns the records. Changes are made at once or not at all."""

    orders: dict[str, Order] = field(default_factory=dict)
    captures: dict[str, Capture] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return {
            "orders": [asdict(order) for order in self.orders.values()],
            "captures": [asdict(capture) for capture in self.captures.values()],
            "refunds": [asdict(refund) for refund in self.refunds.values()],
            "disputes": [asdict(dispute) for dispute in self.disputes.values()],
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take over what was kept."""
        self.orders = {one["id"]: Order(**one) for one in content.get("orders", [])}
        self.captures = {one["id"]: Capture(**one) for one in content.get("captures", [])}
        self.refunds = {one["id"]: Refund(**one) for one in content.get("refunds", [])}
        self.disputes = {one["id"]: Dispute(**one) for one in content.get("disputes", [])}

    def order(self, order_id: str) -> Order:
        """Return the order.

        Raises:
            PaypalError: there is none.
        """
        return found(self.orders.get(order_id))

    def captures_of(self, order_id: str) -> list[Capture]:
        """Return all captures of an order, oldest first."""
        return [one for one in self.captures.values() if one.order_id == order_id]

    def refunds_of(self, order_id: str) -> list[Refund]:
        """Return the refunds of an order's captures, oldest first."""
        captures = {capture.id for capture in self.captures_of(order_id)}
        return [refund for refund in self.refunds.values() if refund.capture_id in captures]

    def create_order(self, content: Mapping[str, Any], request_id: str) -> Order:
        """Make an order, once for each request id.

        Raises:
            PaypalError: a field is not as PayPal wants it.
        """
        earlier = _of_request(self.orders.values(), request_id)
        if earlier is not None:
            return earlier
        if content.get("intent") != "CAPTURE":
            raise PaypalError("UNSUPPORTED_INTENT")
        units = content.get("purchase_units")
        if not isinstance(units, list) or len(units) != 1 or not isinstance(units[0], dict):
            raise PaypalError("INVALID_PARAMETER_SYNTAX", HTTPStatus.BAD_REQUEST)
        currency, value = amount_field(units[0].get("amount"))
        order = Order(
            id=new_id(),
            value=value,
            currency=currency,
            custom_id=name_field(units[0].get("custom_id")),
            invoice_id=name_field(units[0].get("invoice_id")),
            request_id=request_id,
            status="PAYER_ACTION_REQUIRED",
            next_capture="COMPLETED",
            captured_value=value,
            create_time=now(),
            return_url=return_url_field(content),
        )
        self.orders[order.id] = order
        return order

    def approve(self, order_id: str, next_capture: str, captured_value: str | None) -> Order:
        """Let the customer approve the order.

        Raises:
            PaypalError: there is none, or it is captured or voided.
        """
        order = self.order(order_id)
        if order.status in {"COMPLETED", "VOIDED"}:
            raise PaypalError(f"ORDER_{order.status}")
        approved = replace(
            order,
            status="APPROVED",
            next_capture=next_capture,
            captured_value=captured_value or order.value,
        )
        self.orders[order_id] = approved
        return approved

    def void(self, order_id: str) -> Order:
        """Take the customer's approval back.

        Raises:
            PaypalError: there is none, or it is captured.
        """
        order = self.order(order_id)
        if order.status == "COMPLETED":
            raise PaypalError("ORDER_ALREADY_CAPTURED")
        voided = replace(order, status="VOIDED")
        self.orders[order_id] = voided
        return voided

    def capture(self, order_id: str, request_id: str) -> tuple[Order, Capture | None]:
        """Capture an approved order; a repeat of the request gives no new capture.

        Raises:
            PaypalError: it is not approved, captured already, or PayPal declines.
        """
        order = self.order(order_id)
        if _of_request(self.captures_of(order_id), request_id) is not None:
            return order, None
        if order.status == "COMPLETED":
            raise PaypalError("ORDER_ALREADY_CAPTURED")
        if order.status != "APPROVED":
            raise PaypalError("ORDER_NOT_APPROVED")
        if order.next_capture in REFUSALS:
            self.orders[order_id] = replace(order, status="PAYER_ACTION_REQUIRED")
            raise PaypalError(order.next_capture)
        capture = Capture(
            id=new_id(),
            order_id=order.id,
            custom_id=order.custom_id,
            invoice_id=order.invoice_id,
            value=order.captured_value,
            currency=order.currency,
            request_id=request_id,
            status=order.next_capture,
            create_time=now(),
        )
        self.captures[capture.id] = capture
        self.orders[order_id] = replace(order, status="COMPLETED")
        return self.orders[order_id], capture

    def settle(self, capture_id: str, status: str) -> Capture:
        """Bring a pending capture to its end.

        Raises:
            PaypalError: there is none, or it is not pending.
        """
        capture = found(self.captures.get(capture_id))
        if capture.status != "PENDING":
            raise PaypalError("CAPTURE_NOT_PENDING")
        settled = replace(capture, status=status)
        self.captures[capture_id] = settled
        return settled

    def refund(
        self, capture_id: str, value: str | None, request_id: str = "", *, is_reversal: bool = False
    ) -> tuple[Refund, bool]:
        """Give back a part of a capture, or all that is left; tell whether that was new.

        Raises:
            PaypalError: there is none, it is not completed, or that is too much.
        """
        capture = found(self.captures.get(capture_id))
        earlier = _of_request(self.refunds.values(), request_id)
        if earlier is not None:
            return earlier, False
        if capture.status not in _REVERSIBLE:
            raise PaypalError("CAPTURE_FULLY_REFUNDED")
        remaining = self.remaining(capture)
        back = remaining if value is None else Decimal(value)
        if not 0 < back <= remaining:
            raise PaypalError("REFUND_AMOUNT_EXCEEDED")
        refund = Refund(
            id=new_id(),
            capture_id=capture.id,
            custom_id=capture.custom_id,
            value=f"{back:f}",
            currency=capture.currency,
            request_id=request_id,
            status="COMPLETED",
            is_reversal=is_reversal,
            create_time=now(),
        )
        self.refunds[refund.id] = refund
        status = "REFUNDED" if back == remaining else "PARTIALLY_REFUNDED"
        self.captures[capture.id] = replace(capture, status=status)
        return refund, True

    def fail_refund(self, refund_id: str) -> Refund:
        """Let a refund that was made fail: the money is the capture's again.

        Raises:
            PaypalError: there is none.
        """
        failed = replace(found(self.refunds.get(refund_id)), status="FAILED")
        self.refunds[refund_id] = failed
        capture = self.captures[failed.capture_id]
        is_whole = self.remaining(capture) == Decimal(capture.value)
        status = "COMPLETED" if is_whole else "PARTIALLY_REFUNDED"
        self.captures[capture.id] = replace(capture, status=status)
        return failed

    def remaining(self, capture: Capture) -> Decimal:
        """Return how much of a capture was not given back."""
        back = (
            Decimal(refund.value)
            for refund in self.refunds.values()
            if refund.capture_id == capture.id and refund.status != "FAILED"
        )
        return Decimal(capture.value) - sum(back, Decimal(0))


_Record = TypeVar("_Record", Order, Capture, Refund)
_Any = TypeVar("_Any")


def found(record: _Any | None) -> _Any:
    """Return a record that has to be there.

    Raises:
        PaypalError.
    """
    if record is None:
        raise PaypalError("RESOURCE_NOT_FOUND", HTTPStatus.NOT_FOUND)
    return record


def new_id() -> str:
    """Return an id in PayPal's shape, such as `5VK462069F664902F`."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


def now() -> str:
    """Return the time as PayPal writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _of_request(records: Iterable[_Record], request_id: str) -> _Record | None:
    matching = (one for one in records if request_id and one.request_id == request_id)
    return next(matching, None)
