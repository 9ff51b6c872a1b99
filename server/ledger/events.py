"""What every report of a gateway has in common: it takes effect in the commit that records it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from server.ledger.commands import ApplyPayment, ApplyReversal, RecordEvent
from server.ledger.decisions import Accepted, Decision, EventReply
from server.ledger.records import (
    EventMoney,
    EventOrigin,
    EventOutcome,
    GatewayEvent,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalState,
    Topup,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State


@dataclass(frozen=True, slots=True)
class Effect:
    """What a gateway's word does to a top-up."""

    outcome: EventOutcome
    topup: Topup
    changes: Changes
    reason: str = ""
    """Why it changes nothing or needs review, for a person."""


def apply_report(
    state: State,
    command: ApplyPayment | ApplyReversal,
    effect_on: Callable[[Topup], Effect],
    now_ms: int,
) -> Decision:
    """Let a report take effect on its top-up, and record what was said, at once.

    A repeat changes nothing. A report that was kept for review is looked at anew: by now it may
    be applied.
    """
    topup = state.topups[command.topup_id]
    if topup is None or topup.customer_id != command.customer_id:
        return topup_not_found(command.customer_id, command.topup_id)
    earlier = state.events[command.event.key]
    if earlier is not None and earlier.outcome is not EventOutcome.NEEDS_REVIEW:
        return Accepted(EventReply(EventOutcome.DUPLICATE, topup), Changes())
    effect = effect_on(topup)
    if earlier is not None and effect.outcome is EventOutcome.NEEDS_REVIEW:
        return Accepted(EventReply(EventOutcome.DUPLICATE, topup), Changes())
    changes = effect.changes
    if _is_recorded(command, effect.outcome):
        changes = replace(changes, events=(_record(command, effect, now_ms),))
    return Accepted(EventReply(effect.outcome, effect.topup), changes)


def record_event(state: State, command: RecordEvent, now_ms: int) -> Decision:
    """Keep an event that belongs to no top-up."""
    if state.events[command.event.key] is not None:
        return Accepted(EventReply(EventOutcome.DUPLICATE, None), Changes())
    event = GatewayEvent(
        received=command.event,
        outcome=command.outcome,
        reason=command.reason,
        customer_id="",
        topup_id="",
        gateway_order_id=command.fact.gateway_order_id if command.fact else "",
        gateway_payment_id=command.fact.payment_id if command.fact else "",
        amount=command.fact.amount if command.fact else None,
        apply_time_ms=now_ms,
        money=_money(command.fact),
        gateway_reversal_id=_reversal_id(command.fact),
    )
    return Accepted(EventReply(command.outcome, None), Changes(events=(event,)))


def topup_not_found(customer_id: str, topup_id: str) -> Rejection:
    """Refuse what is asked for a top-up that the customer does not have."""
    return Rejection(
        Reason.TOPUP_NOT_FOUND,
        f"Customer {customer_id} has no top-up {topup_id}.",
        {"customer_id": customer_id, "topup_id": topup_id},
    )


def _is_recorded(command: ApplyPayment | ApplyReversal, outcome: EventOutcome) -> bool:
    """Record every webhook; of what we asked for, only what a person has to see."""
    is_webhook = command.event.origin is EventOrigin.WEBHOOK
    return is_webhook or outcome is EventOutcome.NEEDS_REVIEW


def _record(command: ApplyPayment | ApplyReversal, effect: Effect, now_ms: int) -> GatewayEvent:
    fact = command.payment if isinstance(command, ApplyPayment) else command.reversal
    return GatewayEvent(
        received=command.event,
        outcome=effect.outcome,
        reason=effect.reason,
        customer_id=command.customer_id,
        topup_id=command.topup_id,
        gateway_order_id=fact.gateway_order_id or effect.topup.gateway_order_id,
        gateway_payment_id=fact.payment_id,
        amount=fact.amount,
        apply_time_ms=now_ms,
        money=_money(fact),
        gateway_reversal_id=_reversal_id(fact),
    )


def _money(fact: GatewayPayment | GatewayReversal | None) -> EventMoney:
    """Say what the gateway's money did, by the event's word."""
    if isinstance(fact, GatewayReversal):
        is_taken = fact.state is ReversalState.TAKEN
        return EventMoney.TAKEN if is_taken else EventMoney.RETURNED
    if fact is not None and fact.status is GatewayPaymentStatus.CAPTURED:
        return EventMoney.CAPTURED
    return EventMoney.NONE


def _reversal_id(fact: GatewayPayment | GatewayReversal | None) -> str:
    return fact.reversal_id if isinstance(fact, GatewayReversal) else ""
