"""The orders of the sandbox's Razorpay for the checkout page."""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from gateway_adapters.sandbox.checkout import Payable, PayableState
from gateway_adapters.sandbox.razorpay_account import PaymentAttempt, RazorpayAccount
from gateway_adapters.sandbox.razorpay_entities import Event, Payment
from gateway_adapters.sandbox.razorpay_signing import RazorpaySigner
from gateway_adapters.sandbox.telling import Commit
from server.ledger.money import Money

_STATES: Final[Mapping[str, PayableState]] = MappingProxyType(
    {
        "created": PayableState.PENDING,
        "authorized": PayableState.PENDING,
        "failed": PayableState.FAILED,
    }
)
"""What the latest payment makes of an order that is not paid."""


class RazorpayCheckout:
    """The CheckoutAccount of one account."""

    name = "Razorpay"
    paying_events = frozenset({"payment.captured", "order.paid"})

    def __init__(self, account: RazorpayAccount, commit: Commit, signer: RazorpaySigner) -> None:
        self._account = account
        self._commit = commit
        self._signer = signer

    def payable(self, order_id: str) -> Payable | None:
        """Return an order; see CheckoutAccount."""
        order = self._account.orders.get(order_id)
        if order is None:
            return None
        is_paid = order.status == "paid"
        paid_amount = str(Money(order.currency, order.amount_paid)) if is_paid else ""
        return Payable(
            order_id=order_id,
            topup_id=order.receipt or "",
            amount=str(Money(order.currency, order.amount)),
            state=PayableState.PAID if is_paid else _state(self._account.payments_of(order)),
            paid_amount=paid_amount,
            return_url=order.notes.get("return_url", ""),
        )

    async def pay(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Pay an order as its customer; see CheckoutAccount."""
        _, events = self._account.pay(order_id, PaymentAttempt())
        return await self._tell(events)

    async def fail(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Fail to; see CheckoutAccount."""
        _, events = self._account.fail(order_id, PaymentAttempt())
        return await self._tell(events)

    async def _tell(self, events: Sequence[Event]) -> Sequence[asyncio.Task[None]]:
        return await self._commit(self._signer.webhooks(events), 1)


def _state(newest_first: Sequence[Payment]) -> PayableState:
    """Return how far an order has come; an open UPI intent waits for the customer, as it does."""
    if not newest_first or newest_first[0].is_intent:
        return PayableState.OPEN
    return _STATES[newest_first[0].status]
