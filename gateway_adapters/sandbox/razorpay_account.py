"""An account at the sandbox's Razorpay: orders, QR codes, payments, refunds; what is allowed."""

import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeVar

from gateway_adapters.sandbox.razorpay_entities import (
    Dispute,
    Event,
    Order,
    Payment,
    QrCode,
    Refund,
    order_entity,
    payment_entity,
    qr_code_entity,
)
from gateway_adapters.sandbox.razorpay_fields import (
    RazorpayError,
    amount_field,
    automatic_capture_field,
    currency_field,
    notes_field,
    order_amount_field,
    receipt_field,
)

_ID_CHARACTERS: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 14


@dataclass(frozen=True, slots=True)
class PaymentAttempt:
    """How the customer of the sandbox pays."""

    method: str = "card"
    amount: int | None = None
    """Other than asked for only to test what then happens; None is what is asked for."""
    is_authorized_only: bool = False
    is_failing_first: bool = False
    """The first try fails, and a second one within the same payment succeeds."""
    is_pending: bool = False
    """The bank says nothing for now."""


@dataclass(slots=True)
class RazorpayAccount:
    """Owns the records. Changes are made at once or not at all."""

    orders: dict[str, Order] = field(default_factory=dict)
    qr_codes: dict[str, QrCode] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)
    _by_receipt: dict[str, list[str]] = field(default_factory=dict)
    _payments_of: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return {
            "orders": [asdict(order) for order in self.orders.values()],
            "qr_codes": [asdict(qr_code) for qr_code in self.qr_codes.values()],
            "payments": [asdict(payment) for payment in self.payments.values()],
            "refunds": [asdict(refund) for refund in self.refunds.values()],
            "disputes": [asdict(dispute) for dispute in self.disputes.values()],
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take over what was kept."""
        for fields in content.get("orders", []):
            self._add_order(Order(**fields))
        for fields in content.get("qr_codes", []):
            qr_code = QrCode(**fields)
            self.qr_codes[qr_code.id] = qr_code
        for fields in content.get("payments", []):
            self._add_payment(Payment(**fields))
        for fields in content.get("refunds", []):
            refund = Refund(**fields)
            self.refunds[refund.id] = refund
        for fields in content.get("disputes", []):
            dispute = Dispute(**fields)
            self.disputes[dispute.id] = dispute

    def order(self, order_id: str) -> Order:
        """Return the order.

        Raises:
            RazorpayError: there is none.
        """
        return found(self.orders.get(order_id))

    def qr_code(self, qr_code_id: str) -> QrCode:
        """Return the QR code.

        Raises:
            RazorpayError: there is none.
        """
        return found(self.qr_codes.get(qr_code_id))

    def payment(self, payment_id: str) -> Payment:
        """Return the payment.

        Raises:
            RazorpayError: there is none.
        """
        return found(self.payments.get(payment_id))

    def orders_with(self, receipt: str) -> list[Order]:
        """Return the orders of that receipt, newest first. Receipts need not be unique."""
        return [self.orders[order_id] for order_id in reversed(self._by_receipt.get(receipt, []))]

    def payments_of(self, payable: Order | QrCode) -> list[Payment]:
        """Return the payments of an order or a QR code, newest first."""
        payments = self._payments_of.get(payable.id, [])
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
            created_at=now_seconds(),
        )
        self._add_order(order)
        return order

    def pay(self, payable_id: str, attempt: PaymentAttempt) -> tuple[Payment, list[Event]]:
        """Let the customer pay the order or the QR code.

        Raises:
            RazorpayError: there is none, or it is paid or closed.
        """
        events = []
        payment = self._attempt(payable_id, attempt, "failed")
        if attempt.is_failing_first:
            events = [Event("payment.failed", {"payment": payment_entity(payment)})]
        if attempt.is_pending:
            return self._now("created", payment), events
        payment = self._now("authorized", payment)
        order = self.orders.get(payable_id)
        is_held = order is not None and not order.is_captured_automatically
        if attempt.is_authorized_only or is_held:
            return payment, [*events, authorized_event(payment)]
        payment, captured = self._capture(payment)
        return payment, events + captured

    def fail(self, payable_id: str, attempt: PaymentAttempt) -> tuple[Payment, list[Event]]:
        """Let the customer's payment fail; the order or QR code can still be paid.

        Raises:
            RazorpayError: there is none, or it is paid or closed.
        """
        payment = self._attempt(payable_id, attempt, "failed")
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
        check_open(self._payable(payment.payable_id))
        return self._capture(payment)

    def capture_late(self, payment_id: str) -> tuple[Payment, list[Event]]:
        """Let the bank authorize what was pending or had failed, and capture it.

        Raises:
            RazorpayError: there is no such payment, or it or what it pays is paid already.
        """
        payment = self.payment(payment_id)
        if payment.status in {"captured", "refunded"}:
            raise RazorpayError("This payment has already been captured")
        check_open(self._payable(payment.payable_id))
        return self._capture(payment)

    def add_attempt(self, payment: Payment) -> None:
        """Add a new payment, by which its order is attempted."""
        self._add_payment(payment)
        order = self.orders.get(payment.order_id)
        if order is not None:
            attempts = order.attempts + 1
            self.orders[order.id] = replace(order, status="attempted", attempts=attempts)

    def _attempt(self, payable_id: str, attempt: PaymentAttempt, status: str) -> Payment:
        payable = self._payable(payable_id)
        check_open(payable)
        amount = payable.amount if attempt.amount is None else amount_field(attempt.amount)
        if attempt.method == "upi":
            for waiting in self.payments_of(payable):
                if waiting.is_intent:
                    return self._now(status, replace(waiting, amount=amount, is_intent=False))
        payment = Payment(
            id=new_id("pay"),
            order_id=payable_id if isinstance(payable, Order) else "",
            amount=amount,
            currency=payable.currency,
            method=attempt.method,
            status=status,
            amount_refunded=0,
            notes=payable.notes,
            created_at=now_seconds(),
            qr_code_id=payable_id if isinstance(payable, QrCode) else "",
        )
        self.add_attempt(payment)
        return payment

    def _payable(self, payable_id: str) -> Order | QrCode:
        order, qr_code = self.orders.get(payable_id), self.qr_codes.get(payable_id)
        return found(qr_code) if order is None else order

    def _capture(self, payment: Payment) -> tuple[Payment, list[Event]]:
        captured = self._now("captured", replace(payment, is_intent=False))
        entity = payment_entity(captured)
        told = Event("payment.captured", {"payment": entity})
        if payment.qr_code_id:
            credited = qr_code_entity(self._close_as_paid(captured))
            return captured, [
                told,
                Event("qr_code.credited", {"payment": entity, "qr_code": credited}),
            ]
        paid = replace(self.orders[payment.order_id], status="paid", amount_paid=payment.amount)
        self.orders[paid.id] = paid
        return captured, [
            told,
            Event("order.paid", {"payment": entity, "order": order_entity(paid)}),
        ]

    def _close_as_paid(self, payment: Payment) -> QrCode:
        qr_code = self.qr_codes[payment.qr_code_id]
        closed = replace(
            qr_code,
            payments_count=qr_code.payments_count + 1,
            amount_received=qr_code.amount_received + payment.amount,
            closed_at=now_seconds(),
            close_reason="paid",
        )
        self.qr_codes[closed.id] = closed
        return closed

    def _now(self, status: str, payment: Payment) -> Payment:
        changed = replace(payment, status=status)
        self.payments[payment.id] = changed
        return changed

    def _add_order(self, order: Order) -> None:
        self.orders[order.id] = order
        if order.receipt is not None:
            self._by_receipt.setdefault(order.receipt, []).append(order.id)

    def _add_payment(self, payment: Payment) -> None:
        self.payments[payment.id] = payment
        self._payments_of.setdefault(payment.payable_id, []).append(payment.id)


_Record = TypeVar("_Record")


def found(record: _Record | None) -> _Record:
    """Return what was looked up.

    Raises:
        RazorpayError: there is none.
    """
    if record is None:
        raise RazorpayError("The id provided does not exist")
    return record


def check_open(payable: Order | QrCode) -> None:
    """Make sure that it can still be paid.

    Raises:
        RazorpayError: it is paid, or closed.
    """
    if isinstance(payable, QrCode) and payable.closed_at is not None:
        raise RazorpayError("The QR code has already been closed")
    if isinstance(payable, Order) and payable.status == "paid":
        raise RazorpayError("The order has already been paid")


def authorized_event(payment: Payment) -> Event:
    """Return what Razorpay tells of a payment that it holds."""
    return Event("payment.authorized", {"payment": payment_entity(payment)})


def new_id(prefix: str) -> str:
    """Return an id in Razorpay's shape, such as `order_RB58MiP5SPFYyM`."""
    return f"{prefix}_{''.join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))}"


def now_seconds() -> int:
    """Return the time as Razorpay tells it."""
    return int(time.time())
