"""The payment intents of the sandbox's Stripe for the checkout page."""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from gateway_adapters.sandbox.checkout import Payable, PayableState
from gateway_adapters.sandbox.stripe_account import StripeAccount
from gateway_adapters.sandbox.stripe_entities import Event, Intent
from gateway_adapters.sandbox.stripe_signing import StripeSigner
from gateway_adapters.sandbox.telling import Commit
from gateway_adapters.stripe.amounts import read_amount

_SUCCEEDED: Final = "succeeded"
_STATES: Final[Mapping[str, PayableState]] = MappingProxyType(
    {
        "processing": PayableState.PENDING,
        "requires_capture": PayableState.PENDING,
        "requires_action": PayableState.PENDING,
        _SUCCEEDED: PayableState.PAID,
        "canceled": PayableState.CLOSED,
    }
)
"""What an intent's status says, but for the one that it has before and after a failed attempt."""


class StripeCheckout:
    """The CheckoutAccount of one account."""

    name = "Stripe"
    paying_events = frozenset({"payment_intent.succeeded"})

    def __init__(self, account: StripeAccount, commit: Commit, signer: StripeSigner) -> None:
        self._account = account
        self._commit = commit
        self._signer = signer

    def payable(self, order_id: str) -> Payable | None:
        """Return an intent; see CheckoutAccount."""
        intent = self._account.intents.get(order_id)
        if intent is None:
            return None
        untried = PayableState.FAILED if intent.error else PayableState.OPEN
        is_paid = intent.status == _SUCCEEDED
        return Payable(
            order_id=order_id,
            topup_id=intent.metadata.get("topup_id", ""),
            amount=_text(intent, intent.amount),
            state=_STATES.get(intent.status, untried),
            paid_amount=_text(intent, intent.amount_received) if is_paid else "",
        )

    async def pay(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Pay an intent as its customer; see CheckoutAccount."""
        return await self._tell(self._account.pay(order_id, _SUCCEEDED, None))

    async def fail(self, order_id: str) -> Sequence[asyncio.Task[None]]:
        """Fail to; see CheckoutAccount."""
        return await self._tell(self._account.fail(order_id))

    async def _tell(self, events: Sequence[Event]) -> Sequence[asyncio.Task[None]]:
        return await self._commit(self._signer.webhooks(events), 1)


def _text(intent: Intent, amount: int) -> str:
    """Write an amount in Stripe's units as a person reads it."""
    return str(read_amount({"amount": amount, "currency": intent.currency}, "amount"))
