"""The orders of the sandbox's PayPal for the checkout page.

A customer approves; the money is taken when the service then captures. So a payment fails at the
capture, which is refused, and the customer may approve again.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway_adapters.sandbox.checkout import Payable, PayableState
from gateway_adapters.sandbox.paypal_account import REFUSALS, PaypalAccount
from gateway_adapters.sandbox.paypal_entities import Capture, Order
from gateway_adapters.sandbox.paypal_events import approved_events
from gateway_adapters.sandbox.paypal_signing import PaypalSigner
from gateway_adapters.sandbox.telling import Commit

_TAKEN: Final = frozenset({"COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED"})
_OVER: Final = frozenset({"COMPLETED", "VOIDED"})


class PaypalCheckout:
    """The CheckoutAccount of one account."""

    name = "PayPal"
    paying_events = frozenset({"PAYMENT.CAPTURE.COMPLETED"})

    def __init__(self, account: PaypalAccount, commit: Commit, signer: PaypalSigner) -> None:
        self._account = account
        self._commit = commit
        self._signer = signer

    def payable(self, order_id: str) -> Payable | None:
        """Return an order; see CheckoutAccount."""
        order = self._account.orders.get(order_id)
        if order is None:
            return None
        captures = self._account.captures_of(order_id)
        taken = [f"{one.currency} {one.value}" for one in captures if one.status in _TAKEN]
        return Payable(
            order_id=order_id,
            topup_id=order.custom_id,
            amount=f"{order.currency} {order.value}",
            state=PayableState.PAID if taken else _state(order, captures),
            paid_amount=taken[0] if taken else "",
            return_url=order.return_url,
        )

    async def pay(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Approve an order as its customer; see CheckoutAccount."""
        return await self._approve(order_id, "COMPLETED")

    async def fail(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Approve with what the capture is refused for; see CheckoutAccount."""
        return await self._approve(order_id, "INSTRUMENT_DECLINED")

    async def _approve(self, order_id: str, next_capture: str) -> Sequence[asyncio.Task[None]]:
        order = self._account.approve(order_id, next_capture, None)
        events = approved_events(self._account, order, self._signer.base_url)
        return await self._commit(self._signer.webhooks(events), 1)


def _state(order: Order, captures: Sequence[Capture]) -> PayableState:
    """Return where an order is of which nothing was taken."""
    if order.status == "APPROVED" or any(capture.status == "PENDING" for capture in captures):
        return PayableState.PENDING
    if order.status in _OVER:
        return PayableState.CLOSED
    return PayableState.FAILED if order.next_capture in REFUSALS else PayableState.OPEN
