"""The gateway's side of the world: what really happened to customers' money.

It never crashes and forgets nothing; its answers and webhooks may get lost on their way.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
)

GATEWAY: Final = "simulated"
_SECRET: Final = "the gateway's and the server's"

CAPTURED: Final = GatewayPaymentStatus.CAPTURED
AUTHORIZED: Final = GatewayPaymentStatus.AUTHORIZED
FAILED: Final = GatewayPaymentStatus.FAILED
TAKEN: Final = ReversalState.TAKEN
RETURNED: Final = ReversalState.RETURNED


@dataclass(slots=True)
class PaymentHere:
    """A payment, as it is at the gateway."""

    payment_id: str
    order_id: str
    amount: Money
    status: GatewayPaymentStatus
    capture_time_ms: int | None = None
    reversals: list[str] = field(default_factory=list)

    def told(self) -> GatewayPayment:
        """Say it in the ledger's terms."""
        return GatewayPayment(self.payment_id, self.order_id, self.status, self.amount)


@dataclass(slots=True)
class ReversalHere:
    """A refund or dispute, as it is at the gateway."""

    reversal_id: str
    kind: ReversalKind
    payment_id: str
    amount: Money
    state: ReversalState
    is_final: bool
    time_ms: int

    def told(self, order_id: str = "") -> GatewayReversal:
        """Say it in the ledger's terms."""
        return GatewayReversal(
            self.reversal_id,
            self.kind,
            self.payment_id,
            order_id,
            self.amount,
            self.state,
            self.is_final,
        )


@dataclass(frozen=True, slots=True)
class Webhook:
    """What the gateway sends."""

    headers: dict[str, str]
    body: bytes
    is_about: str
    """The payment or reversal."""
    tells_capture: bool


class Account:
    """The shop's account at the gateway."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.orders: dict[str, str] = {}
        """The gateway's order -> the top-up that it was made for; empty for somebody else's."""
        self.amounts: dict[str, Money] = {}
        self.payments: dict[str, PaymentHere] = {}
        self.reversals: dict[str, ReversalHere] = {}
        self.send: Callable[[Webhook], None] = lambda _: None
        """Takes every webhook that the gateway makes."""
        self._number = 0

    def order_for(self, topup_id: str) -> str | None:
        """Return the first order that was made for a top-up."""
        return next(
            (order for order, made_for in self.orders.items() if made_for == topup_id), None
        )

    def make_order(self, topup_id: str, amount: Money) -> str:
        """Make an order."""
        order_id = self._name("gorder")
        self.orders[order_id] = topup_id
        self.amounts[order_id] = amount
        return order_id

    def payments_of(self, order_id: str) -> list[PaymentHere]:
        """Return an order's payments, oldest first."""
        return [payment for payment in self.payments.values() if payment.order_id == order_id]

    def pay(
        self, order_id: str, status: GatewayPaymentStatus, amount: Money | None = None
    ) -> PaymentHere:
        """Take a customer's payment."""
        payment = PaymentHere(
            self._name("pay"), order_id, amount or self.amounts[order_id], AUTHORIZED
        )
        self.payments[payment.payment_id] = payment
        self.bring(payment, status)
        return payment

    def bring(self, payment: PaymentHere, status: GatewayPaymentStatus) -> None:
        """Bring a payment to a status, and tell of it. Captured is captured for good."""
        if payment.status is CAPTURED:
            return
        payment.status = status
        if status is CAPTURED:
            payment.capture_time_ms = self._now_ms()
        self._tell_payment(f"payment.{status.lower()}", payment)
        if status is CAPTURED and self.orders[payment.order_id]:
            self._tell_payment("order.paid", payment, topup_id=self.orders[payment.order_id])

    def take_back(self, payment: PaymentHere, kind: ReversalKind, amount: int) -> ReversalHere:
        """Begin a refund or dispute of a captured payment."""
        reversal = ReversalHere(
            self._name(kind.lower()),
            kind,
            payment.payment_id,
            Money(payment.amount.currency_code, amount),
            TAKEN,
            is_final=False,
            time_ms=self._now_ms(),
        )
        self.reversals[reversal.reversal_id] = reversal
        payment.reversals.append(reversal.reversal_id)
        self._tell_reversal(reversal)
        return reversal

    def conclude(self, reversal: ReversalHere, state: ReversalState) -> None:
        """Say the last word on a refund or dispute."""
        reversal.state, reversal.is_final = state, True
        self._tell_reversal(reversal)

    def _tell_payment(self, event_type: str, payment: PaymentHere, **more: str) -> None:
        fact = {
            "payment_id": payment.payment_id,
            "order_id": payment.order_id,
            "status": payment.status.value,
            "currency": payment.amount.currency_code,
            "amount": payment.amount.minor_units,
        }
        self._tell(event_type, {"payment": fact} | more, payment.payment_id)

    def _tell_reversal(self, reversal: ReversalHere) -> None:
        """Tell of a reversal; a dispute names its payment alone."""
        payment = self.payments[reversal.payment_id]
        is_dispute = reversal.kind is ReversalKind.DISPUTE
        fact = {
            "reversal_id": reversal.reversal_id,
            "kind": reversal.kind.value,
            "payment_id": reversal.payment_id,
            "order_id": "" if is_dispute else payment.order_id,
            "currency": reversal.amount.currency_code,
            "amount": reversal.amount.minor_units,
            "state": reversal.state.value,
            "is_final": reversal.is_final,
        }
        event_type = f"{reversal.kind.lower()}.{reversal.state.lower()}"
        self._tell(event_type, {"reversal": fact}, reversal.reversal_id)

    def _tell(self, event_type: str, content: dict[str, Any], is_about: str) -> None:
        event = {"type": event_type, "time": self._now_ms() // 1_000} | content
        body = json.dumps(event).encode()
        headers = {"event-id": self._name("evt"), "signature": signature_of(body)}
        self.send(Webhook(headers, body, is_about, event_type in TELL_CAPTURE))

    def _name(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}_{self._number}"


TELL_CAPTURE: Final = frozenset({"payment.captured", "order.paid"})
"""The events that say that a payment was captured."""


def signature_of(body: bytes) -> str:
    """Sign a webhook's raw body."""
    return hashlib.sha256(_SECRET.encode() + body).hexdigest()
