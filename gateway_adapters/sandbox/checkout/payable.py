"""What the checkout page needs of an account: the order as it is, and to pay it or fail to.

An account at any gateway gets the page by these few methods; `app` hands it to the routes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class PayableState(StrEnum):
    """How far an order has come at the gateway."""

    OPEN = "open"
    FAILED = "failed"
    """The last attempt did; another one may follow."""
    PENDING = "pending"
    """Attempted, and not decided."""
    PAID = "paid"
    CLOSED = "closed"
    """Not paid, and cannot be any more."""


@dataclass(frozen=True, slots=True)
class Payable:
    """An order as a person is shown it. Amounts are texts such as `INR 123.45`."""

    order_id: str
    topup_id: str
    """What the merchant made the order for; empty where it did not say."""
    amount: str
    state: PayableState
    paid_amount: str = ""
    """What was taken; empty while that is nothing."""
    return_url: str = ""
    """Where the merchant wants the customer back; empty where it did not say."""


class CheckoutAccount(Protocol):
    """An account at a gateway of the sandbox, as the checkout page sees it."""

    name: str
    """The gateway's, as people write it: `Razorpay`."""

    paying_events: frozenset[str]
    """The events whose webhooks tell that an order was paid."""

    def payable(self, order_id: str) -> Payable | None:
        """Return an order; None where the account has none of this id."""

    async def pay(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Let the customer pay an order that is open or failed; return the webhooks' sendings."""

    async def fail(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Let the customer's attempt fail, the same way."""
