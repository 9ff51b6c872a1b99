"""What is taken back at the sandbox's Razorpay: refunds by the API or the dashboard, disputes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gateway_adapters.sandbox.razorpay_account import (
    RazorpayAccount,
    found,
    new_id,
    now_seconds,
)
from gateway_adapters.sandbox.razorpay_entities import (
    Dispute,
    Event,
    Payment,
    Refund,
    dispute_entity,
    payment_entity,
    refund_entity,
)
from gateway_adapters.sandbox.razorpay_fields import (
    RazorpayError,
    amount_field,
    idempotency_key_field,
    notes_field,
    phase_field,
    receipt_field,
    speed_field,
)

_UNSETTLED: Final = frozenset({"open", "under_review"})


class _Step(NamedTuple):
    """What a step makes of a dispute."""

    status: str
    event: str
    is_deducted: bool


DISPUTE_STEPS: Final[Mapping[str, _Step]] = MappingProxyType(
    {
        "contest": _Step("under_review", "payment.dispute.under_review", is_deducted=False),
        "query": _Step("open", "payment.dispute.action_required", is_deducted=False),
        "win": _Step("won", "payment.dispute.won", is_deducted=False),
        "lose": _Step("lost", "payment.dispute.lost", is_deducted=True),
        "close": _Step("closed", "payment.dispute.closed", is_deducted=False),
    }
)


def refund(
    account: RazorpayAccount, payment_id: str, content: Mapping[str, Any], idempotency_key: str
) -> tuple[Refund, list[Event]]:
    """Give back a part of a captured payment, or all that is left; once for each key.

    Raises:
        RazorpayError: it is not captured, too much, or the key was used for something else.
    """
    fingerprint = _fingerprint(payment_id, content)
    earlier = _refund_of(account, idempotency_key_field(idempotency_key))
    if earlier is not None and earlier.fingerprint == fingerprint:
        return earlier, []
    if earlier is not None:
        raise RazorpayError("Different request body sent for the same Idempotency Header")
    made = _take(account, payment_id, content, "processed", idempotency_key, fingerprint)
    entities = _entities(account, made)
    return made, [Event("refund.created", entities), Event("refund.processed", entities)]


def refund_from_dashboard(
    account: RazorpayAccount, payment_id: str, content: Mapping[str, Any], *, is_failing: bool
) -> tuple[Refund, list[Event]]:
    """Give back as a person does at Razorpay's dashboard; what fails was pending before.

    Raises:
        RazorpayError: it is not captured, or too much.
    """
    if not is_failing:
        return refund(account, payment_id, content, "")
    made = _take(account, payment_id, content, "pending", "", "")
    created = Event("refund.created", _entities(account, made))
    made = replace(made, status="failed")
    account.refunds[made.id] = made
    payment = account.payment(payment_id)
    account.payments[payment_id] = replace(
        payment, amount_refunded=payment.amount_refunded - made.amount, status="captured"
    )
    return made, [created, Event("refund.failed", _entities(account, made))]


def open_dispute(
    account: RazorpayAccount, payment_id: str, content: Mapping[str, Any]
) -> tuple[Dispute, list[Event]]:
    """Let the customer dispute a payment, or a part of it.

    Raises:
        RazorpayError: it is not captured, or too much.
    """
    payment = _captured(account, payment_id)
    amount = amount_field(content.get("amount", payment.amount))
    if amount > payment.amount:
        raise RazorpayError("The disputed amount is greater than the payment's", "amount")
    dispute = Dispute(
        id=new_id("disp"),
        payment_id=payment_id,
        amount=amount,
        currency=payment.currency,
        amount_deducted=0,
        phase=phase_field(content.get("phase", "chargeback")),
        status="open",
        created_at=now_seconds(),
    )
    account.disputes[dispute.id] = dispute
    return dispute, [_dispute_event(account, "payment.dispute.created", dispute)]


def bring_on_dispute(
    account: RazorpayAccount, payment_id: str, dispute_id: str, step: str
) -> tuple[Dispute, list[Event]]:
    """Bring a dispute a step further.

    Raises:
        RazorpayError: there is no such dispute or step, or it is settled.
    """
    dispute = found(account.disputes.get(dispute_id))
    made = found(DISPUTE_STEPS.get(step))
    if dispute.payment_id != payment_id:
        raise RazorpayError("The id provided does not exist")
    if dispute.status not in _UNSETTLED:
        raise RazorpayError(f"The dispute is {dispute.status} already")
    dispute = replace(
        dispute,
        status=made.status,
        amount_deducted=dispute.amount if made.is_deducted else 0,
    )
    account.disputes[dispute_id] = dispute
    return dispute, [_dispute_event(account, made.event, dispute)]


def _take(
    account: RazorpayAccount,
    payment_id: str,
    content: Mapping[str, Any],
    status: str,
    idempotency_key: str,
    fingerprint: str,
) -> Refund:
    """Make a refund of what is left, or of a part of that."""
    payment = account.payment(payment_id)
    if payment.status == "refunded":
        raise RazorpayError("The payment has been fully refunded already")
    payment = _captured(account, payment_id)
    left = payment.amount - payment.amount_refunded
    amount = amount_field(content.get("amount", left))
    if amount > left:
        raise RazorpayError(
            "The total refund amount is greater than the refund payment amount", "amount"
        )
    made = Refund(
        id=new_id("rfnd"),
        payment_id=payment_id,
        amount=amount,
        currency=payment.currency,
        receipt=receipt_field(content.get("receipt")),
        speed=speed_field(content.get("speed", "normal")),
        notes=notes_field(content.get("notes")),
        created_at=now_seconds(),
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
        status=status,
    )
    account.refunds[made.id] = made
    account.payments[payment_id] = replace(
        payment,
        amount_refunded=payment.amount_refunded + amount,
        status="refunded" if amount == left else "captured",
    )
    return made


def _captured(account: RazorpayAccount, payment_id: str) -> Payment:
    payment = account.payment(payment_id)
    if payment.status not in {"captured", "refunded"}:
        raise RazorpayError("The payment status should be captured for action to be taken")
    return payment


def _refund_of(account: RazorpayAccount, idempotency_key: str) -> Refund | None:
    same = (r for r in account.refunds.values() if r.idempotency_key == idempotency_key)
    return next(same, None) if idempotency_key else None


def _entities(account: RazorpayAccount, made: Refund) -> dict[str, dict[str, Any]]:
    payment = account.payment(made.payment_id)
    return {"refund": refund_entity(made), "payment": payment_entity(payment)}


def _dispute_event(account: RazorpayAccount, name: str, dispute: Dispute) -> Event:
    payment = payment_entity(account.payment(dispute.payment_id))
    return Event(name, {"payment": payment, "dispute": dispute_entity(dispute)})


def _fingerprint(payment_id: str, content: Mapping[str, Any]) -> str:
    canonical = json.dumps([payment_id, content], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
