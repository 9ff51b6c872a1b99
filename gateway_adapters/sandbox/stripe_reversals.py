"""What is taken back at the sandbox's Stripe: refunds by the API or the dashboard, disputes."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway_adapters.sandbox.stripe_account import StripeAccount, new_id, now_seconds
from gateway_adapters.sandbox.stripe_entities import (
    Charge,
    Dispute,
    Event,
    Refund,
    charge_entity,
    dispute_entity,
    refund_entity,
)
from gateway_adapters.sandbox.stripe_fields import StripeError, missing

DISPUTE_STEPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "contest": "under_review",
        "escalate": "needs_response",
        "win": "won",
        "lose": "lost",
        "close": "warning_closed",
    }
)
"""What a step makes of a dispute; an inquiry is escalated or closed."""

_REFUND_EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {"succeeded": "refund.updated", "failed": "refund.failed", "canceled": "refund.updated"}
)


def refund(
    account: StripeAccount, charge_id: str, amount: int | None, status: str = "succeeded"
) -> tuple[Refund, list[Event]]:
    """Give back a part of a captured charge, or all that is left.

    Raises:
        StripeError: it is not captured, or too much.
    """
    charge = _captured(account, charge_id)
    left = charge.amount_captured - charge.amount_refunded
    if not left:
        raise StripeError("The charge has already been refunded.", "charge_already_refunded")
    if amount is not None and not 0 < amount <= left:
        raise StripeError("Refund amount is greater than unrefunded amount on charge.")
    made = Refund(
        id=new_id("re"),
        charge_id=charge.id,
        intent_id=charge.intent_id,
        amount=left if amount is None else amount,
        currency=charge.currency,
        created=now_seconds(),
        status=status,
    )
    account.refunds[made.id] = made
    _add_refunded(account, charge, made.amount)
    charge_told = charge_entity(account.charges[charge.id])
    return made, [
        Event("refund.created", refund_entity(made)),
        Event("charge.refunded", charge_told),
    ]


def bring_on_refund(
    account: StripeAccount, refund_id: str, status: str
) -> tuple[Refund, list[Event]]:
    """End a refund; also one that has succeeded can still fail.

    Raises:
        StripeError: there is none, no such end, or the money is back already.
    """
    made = account.refunds.get(refund_id)
    if made is None:
        raise missing(refund_id)
    if made.status in {"failed", "canceled"} or status not in _REFUND_EVENTS:
        raise StripeError(f"The refund is {made.status} and cannot be {status}.")
    made = replace(made, status=status)
    account.refunds[made.id] = made
    if status != "succeeded":
        _add_refunded(account, account.charges[made.charge_id], -made.amount)
    entity = refund_entity(made)
    names = dict.fromkeys((_REFUND_EVENTS[status], "refund.updated", "charge.refund.updated"))
    return made, [Event(name, entity) for name in names]


def open_dispute(
    account: StripeAccount, charge_id: str, amount: int | None, *, is_inquiry: bool
) -> tuple[Dispute, list[Event]]:
    """Let the customer dispute a charge; an inquiry takes no money yet.

    Raises:
        StripeError: it is not captured, or too much.
    """
    charge = _captured(account, charge_id)
    if amount is not None and not 0 < amount <= charge.amount_captured:
        raise StripeError("The disputed amount is greater than the charge's.")
    dispute = Dispute(
        id=new_id("du"),
        charge_id=charge.id,
        intent_id=charge.intent_id,
        amount=charge.amount_captured if amount is None else amount,
        currency=charge.currency,
        created=now_seconds(),
        status="warning_needs_response" if is_inquiry else "needs_response",
    )
    account.charges[charge.id] = replace(charge, is_disputed=True)
    if not is_inquiry:
        dispute = _withdrawn(account, dispute)
    return dispute, _told(account, dispute, "created", *_withdrawal(dispute))


def bring_on_dispute(
    account: StripeAccount, dispute_id: str, step: str
) -> tuple[Dispute, list[Event]]:
    """Bring a dispute a step further.

    Raises:
        StripeError: there is none, or it cannot take this step.
    """
    dispute = account.disputes.get(dispute_id)
    if dispute is None or step not in DISPUTE_STEPS:
        raise missing(dispute_id)
    is_inquiry = dispute.status.startswith("warning_")
    is_over = dispute.status in {"won", "lost", "warning_closed"}
    if is_over or is_inquiry != (step in {"escalate", "close"}):
        raise StripeError(f"The dispute is {dispute.status}: it cannot {step}.")
    dispute = replace(dispute, status=DISPUTE_STEPS[step])
    match step:
        case "contest":
            return dispute, _told(account, dispute, "updated")
        case "escalate":
            dispute = _withdrawn(account, dispute)
            return dispute, _told(account, dispute, "updated", *_withdrawal(dispute))
        case "win":
            # That it was won is told before the money is back.
            closed = _told(account, dispute, "closed")
            dispute = replace(dispute, reinstated=dispute.withdrawn)
            back = ("funds_reinstated",) if dispute.withdrawn else ()
            return dispute, [*closed, *_told(account, dispute, *back)]
        case _:
            return dispute, _told(account, dispute, "closed")


def _told(account: StripeAccount, dispute: Dispute, *names: str) -> list[Event]:
    """Note the dispute and return the events that tell of it."""
    account.disputes[dispute.id] = dispute
    return [Event(f"charge.dispute.{name}", dispute_entity(dispute)) for name in names]


def _withdrawal(dispute: Dispute) -> tuple[str, ...]:
    return ("funds_withdrawn",) if dispute.withdrawn else ()


def _withdrawn(account: StripeAccount, dispute: Dispute) -> Dispute:
    """Withdraw the disputed money, of what was not refunded already."""
    charge = account.charges[dispute.charge_id]
    left = charge.amount_captured - charge.amount_refunded
    return replace(dispute, withdrawn=min(dispute.amount, left))


def _captured(account: StripeAccount, charge_id: str) -> Charge:
    charge = account.charge(charge_id)
    if not charge.is_captured:
        raise StripeError("The charge was not captured.", "charge_not_refundable")
    return charge


def _add_refunded(account: StripeAccount, charge: Charge, amount: int) -> None:
    account.charges[charge.id] = replace(charge, amount_refunded=charge.amount_refunded + amount)
