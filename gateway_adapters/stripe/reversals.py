"""Stripe's refunds and disputes in the ledger's terms.

Source: https://docs.stripe.com/api/refunds/object, https://docs.stripe.com/api/disputes/object and
https://docs.stripe.com/disputes/how-disputes-work.

A refund is one reversal, under its own id, from when it is made until it fails or is canceled.
That it succeeded is not its last word: a bank can send the money back days later.

A dispute is one reversal, under its own id, whichever of its five events tells of it; `created`,
`updated`, `funds_withdrawn`, `funds_reinstated` and `closed` all carry the whole dispute and are
read alike, so that none of them counts twice. The source of truth for its money are its
`balance_transactions`: what Stripe took from the account and gave back.

    nothing withdrawn                 no reversal: an inquiry, or the charge was refunded before
    withdrawn, still open             TAKEN, by what was withdrawn, without Stripe's fee
    `lost`, `prevented`               TAKEN for good
    `won`, or all was reinstated      RETURNED for good; where `won` is told first, that suffices
    a part of it was reinstated       TAKEN for good, by the rest, which a person has to look at

A refund and a dispute of the same charge are two reversals, as they are two movements at Stripe: of
a charge that is refunded in part only the rest is withdrawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway_adapters.stripe.amounts import read_amount
from gateway_adapters.stripe.wire import CHARGE_ID, INTENT_ID, identifier, reference, status_of
from gateway_adapters.wire import JsonObject, Unreadable, as_object
from server.ledger.money import Money
from server.ledger.records import GatewayReversal, ReversalKind, ReversalState

_OF_NO_MONEY: Final = "expired_uncaptured_charge"
"""Why Stripe makes a refund of what was on hold and is let go: nothing was paid."""
_RETURNED_STATUSES: Final = frozenset({"failed", "canceled"})
_LOST_STATUSES: Final = frozenset({"lost", "prevented"})


def read_refund(entity: object, *, has_failed: bool = False) -> GatewayReversal | None:
    """Read a refund; None where it moved no money of a charge.

    `has_failed` overrides its own status where more is known.

    Raises:
        Unreadable.
    """
    refund = as_object(entity, "The refund")
    payment_id, intent_id = _payment_of(refund)
    if not payment_id or refund.get("reason") == _OF_NO_MONEY:
        return None
    is_returned = has_failed or status_of(refund) in _RETURNED_STATUSES
    return GatewayReversal(
        reversal_id=identifier(refund.get("id"), "The refund's id"),
        kind=ReversalKind.REFUND,
        payment_id=payment_id,
        gateway_order_id=intent_id,
        amount=read_amount(refund, "amount"),
        state=ReversalState.RETURNED if is_returned else ReversalState.TAKEN,
        is_final=is_returned,
    )


def read_dispute(entity: object) -> GatewayReversal | None:
    """Read a dispute; None while it has moved no money.

    Raises:
        Unreadable.
    """
    dispute = as_object(entity, "The dispute")
    payment_id, intent_id = _payment_of(dispute)
    if not payment_id:
        raise Unreadable("The dispute names no charge.")
    balance = _balance(dispute)
    if balance is None:
        return None
    status = status_of(dispute)
    left = balance.withdrawn.minor_units - balance.reinstated
    is_over = bool(balance.reinstated) or status in _LOST_STATUSES | {"won"}
    is_returned = left <= 0 or (status == "won" and not balance.reinstated)
    return GatewayReversal(
        reversal_id=identifier(dispute.get("id"), "The dispute's id"),
        kind=ReversalKind.DISPUTE,
        payment_id=payment_id,
        gateway_order_id=intent_id,
        amount=(balance.withdrawn if is_returned else Money(balance.withdrawn.currency_code, left)),
        state=ReversalState.RETURNED if is_returned else ReversalState.TAKEN,
        is_final=is_over,
    )


@dataclass(frozen=True, slots=True)
class _Balance:
    """What a dispute did to the account; `reinstated` is in minor units."""

    withdrawn: Money
    reinstated: int


def _balance(dispute: JsonObject) -> _Balance | None:
    """Sum up a dispute's balance transactions; None where nothing was withdrawn.

    They are in the currency of the account. Where that is another one than the dispute's, all that
    they tell is whether the disputed amount was taken or given back.
    """
    disputed = read_amount(dispute, "amount")
    withdrawn = reinstated = 0
    for entry in _balance_transactions(dispute):
        amount = entry.get("amount")
        if not isinstance(amount, int) or isinstance(amount, bool):
            raise Unreadable("A balance transaction's amount is not a whole number.")
        moved = read_amount({**entry, "amount": abs(amount)}, "amount", may_be_nothing=True)
        is_ours = moved.currency_code == disputed.currency_code
        minor_units = moved.minor_units if is_ours else disputed.minor_units
        if amount < 0:
            withdrawn += minor_units
        elif amount > 0:
            reinstated += minor_units
    return _Balance(Money(disputed.currency_code, withdrawn), reinstated) if withdrawn else None


def _balance_transactions(dispute: JsonObject) -> Iterator[JsonObject]:
    entries = dispute.get("balance_transactions")
    if not isinstance(entries, list):
        raise Unreadable("`balance_transactions` is not a list.")
    for entry in entries:
        yield as_object(entry, "A balance transaction")


def _payment_of(entity: JsonObject) -> tuple[str, str]:
    """Return the payment's id, and the intent's where it is told.

    Without the intent the charge stands in for it: it can be asked for. Both are empty where money
    was given back that no charge had brought.
    """
    intent_id = reference(entity, "payment_intent", INTENT_ID)
    return intent_id or reference(entity, "charge", CHARGE_ID), intent_id
