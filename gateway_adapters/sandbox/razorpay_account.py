"""An account at the sandbox's Razorpay: its orders, payments and refunds, and what is allowed."""

import hashlib
import json
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeVar

from gateway_adapters.sandbox.razorpay_entities import (
    Event,
    Order,
    Payment,
    Refund,
    order_entity,
    payment_entity,
    refund_entity,
)
from gateway_adapters.sandbox.razorpay_fields import (
    RazorpayError,
    amount_field,
    automatic_capture_field,
    currency_field,
    idempotency_key_field,
    notes_field,
    order_amount_field,
    receipt_field,
    speed_field,
)

_ID_CHARACTERS: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 14


@dataclass(frozen=True, slots=True)
class PaymentAttempt:
    """How the customer of the sandbox pays."""

    method: str = "card"
    amount: int | None = None
    """Other than the order's only to test what then happens; None is the order's."""
    is_authorized_only: bool = False


@dataclass(slots=True)
class RazorpayAccount:
    """Owns the records. Changes are made at once or not at all."""

    orders: dict[str, Order] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    _by_receipt: dict[str, list[str]] = field(default_factory=dict)
    _payments_of: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return {
            "orders": [asdict(order) for order in self.orders.values()],
            "payments": [asdict(payment) for payment in self.payments.values()],
            "refunds": [asdict(refund) for refund in self.refunds.values()],
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take over what was kept."""
        for fields in content.get("orders", []):
            self._add_order(Order(**fields))
        for fields in content.get("payments", []):
            self._add_payment(Payment(**fields))
        for fields in content.get("refunds", []):
            refund = Refund(**fields)
            self.refunds[refund.id] = refund

    def order(self, order_id: str) -> Order:
        """Return the order.

        Raises:
            RazorpayError: there is none.
        """
        return _found(self.orders.get(order_id))

    def payment(self, payment_id: str) -> Payment:
        """Return the payment.

        Raises:
            RazorpayError: there is none.
        """
        return _found(self.payments.get(payment_id))

    def orders_with(self, receipt: str) -> list[Order]:
        """Return the orders of that receipt, newest first. Receipts need not be unique."""
        return [self.orders[order_id] for order_id in reversed(self._by_receipt.get(receipt, []))]

    def payments_of(self, order_id: str) -> list[Payment]:
        """Return the order's payments, newest first.

        Raises:
            RazorpayError: there is no such order.
        """
        payments = self._payments_of.get(self.order(order_id).id, [])
        return [self.payments[payment_id] for payment_id in reversed(payments)]

    def create_order(self, content: Mapping[str, Any]) -> Order:
        """Make an order.

        Raises:
            RazorpayError: a field is not as Razorpay wants it.
        """
        currency = currency_field(content.get("currency"))
        order = Order(
            id=new_id("order"),
            amount=order_amount_field(content.get("amount"), currency),
            currency=currency,
            receipt=receipt_field(content.get("receipt")),
            notes=notes_field(content.get("notes")),
            is_captured_automatically=automatic_capture_field(content.get("payment")),
            status="created",
            amount_paid=0,
            attempts=0,
            created_at=_now(),
        )
        self._add_order(order)
        return order

    def pay(self, order_id: str, attempt: PaymentAttempt) -> tuple[Payment, list[Event]]:
        """Let the customer pay the order.

        Raises:
            RazorpayError: there is none, or it is paid.
        """
        payment = self._attempt(order_id, attempt, "authorized")
        if attempt.is_authorized_only or not self.orders[order_id].is_captured_automatically:
            return payment, [Event("payment.authorized", {"payment": payment_entity(payment)})]
        return self._capture(payment)

    def fail(self, order_id: str, attempt: PaymentAttempt) -> tuple[Payment, list[Event]]:
        """Let the customer's payment fail; the order can still be paid.

        Raises:
            RazorpayError: there is none, or it is paid.
        """
        payment = self._attempt(order_id, attempt, "failed")
        return payment, [Event("payment.failed", {"payment": payment_entity(payment)})]

    def capture(self, payment_id: str, content: Mapping[str, Any]) -> tuple[Payment, list[Event]]:
        """Take the money of an authorized payment.

        Raises:
            RazorpayError: it is captured already, or for another amount.
        """
        payment = self.payment(payment_id)
        amount = amount_field(content.get("amount"))
        if payment.status in {"captured", "refunded"}:
            raise RazorpayError("This payment has already been captured")
        if payment.status != "authorized":
            raise RazorpayError("Only payments which have been authorized can be captured")
        if content.get("currency", payment.currency) != payment.currency:
            raise RazorpayError("The currency does not match the payment's", "currency")
        if amount != payment.amount:
            raise RazorpayError("Capture amount must be equal to the amount authorized", "amount")
        if self.orders[payment.order_id].status == "paid":
            raise RazorpayError("The order has already been paid")
        return self._capture(payment)

    def refund(
        self, payment_id: str, content: Mapping[str, Any], idempotency_key: str
    ) -> tuple[Refund, list[Event]]:
        """Give back a part of a captured payment, or all that is left; once for each key.

        Raises:
            RazorpayError: it is not captured, too much, or the key was used for something else.
        """
        payment = self.payment(payment_id)
        fingerprint = _fingerprint(payment_id, content)
        earlier = self._refund_of(idempotency_key_field(idempotency_key))
        if earlier is not None and earlier.fingerprint == fingerprint:
            return earlier, []
        if earlier is not None:
            raise RazorpayError("Different request body sent for the same Idempotency Header")
        if payment.status == "refunded":
            raise RazorpayError("The payment has been fully refunded already")
        if payment.status != "captured":
            raise RazorpayError("The payment status should be captured for action to be taken")
        left = payment.amount - payment.amount_refunded
        amount = amount_field(content.get("amount", left))
        if amount > left:
            raise RazorpayError(
                "The total refund amount is greater than the refund payment amount", "amount"
            )
        refund = Refund(
            id=new_id("rfnd"),
            payment_id=payment_id,
            amount=amount,
            currency=payment.currency,
            receipt=receipt_field(content.get("receipt")),
            speed=speed_field(content.get("speed", "normal")),
            notes=notes_field(content.get("notes")),
            created_at=_now(),
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
        )
        self.refunds[refund.id] = refund
        payment = replace(
            payment,
            amount_refunded=payment.amount_refunded + amount,
            status="refunded" if amount == left else "captured",
        )
        self.payments[payment.id] = payment
        entities = {"refund": refund_entity(refund), "payment": payment_entity(payment)}
        return refund, [Event("refund.created", entities), Event("refund.processed", entities)]

    def _attempt(self, order_id: str, attempt: PaymentAttempt, status: str) -> Payment:
        order = self.order(order_id)
        if order.status == "paid":
            raise RazorpayError("The order has already been paid")
        payment = Payment(
            id=new_id("pay"),
            order_id=order_id,
            amount=order.amount if attempt.amount is None else amount_field(attempt.amount),
            currency=order.currency,
            method=attempt.method,
            status=status,
            amount_refunded=0,
            notes=order.notes,
            created_at=_now(),
        )
        self._add_payment(payment)
        self.orders[order_id] = replace(order, status="attempted", attempts=order.attempts + 1)
        return payment

    def _capture(self, payment: Payment) -> tuple[Payment, list[Event]]:
        captured = replace(payment, status="captured")
        paid = replace(self.orders[payment.order_id], status="paid", amount_paid=payment.amount)
        self.payments[captured.id] = captured
        self.orders[paid.id] = paid
        entity = payment_entity(captured)
        return captured, [
            Event("payment.captured", {"payment": entity}),
            Event("order.paid", {"payment": entity, "order": order_entity(paid)}),
        ]

    def _refund_of(self, idempotency_key: str) -> Refund | None:
        found = (r for r in self.refunds.values() if r.idempotency_key == idempotency_key)
        return next(found, None) if idempotency_key else None

    def _add_order(self, order: Order) -> None:
        self.orders[order.id] = order
        if order.receipt is not None:
            self._by_receipt.setdefault(order.receipt, []).append(order.id)

    def _add_payment(self, payment: Payment) -> None:
        self.payments[payment.id] = payment
        self._payments_of.setdefault(payment.order_id, []).append(payment.id)


_Record = TypeVar("_Record")


def _found(record: _Record | None) -> _Record:
    if record is None:
        raise RazorpayError("The id provided does not exist")
    return record


def _fingerprint(payment_id: str, content: Mapping[str, Any]) -> str:
    canonical = json.dumps([payment_id, content], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def new_id(prefix: str) -> str:
    """Return an id in Razorpay's shape, such as `order_RB58MiP5SPFYyM`."""
    return f"{prefix}_{''.join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))}"


def _now() -> int:
    return int(time.time())
