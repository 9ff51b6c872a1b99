"""The rules of settling what could not be applied: by a person, with a reason, once.

The command that settled an event may come again, because its answer was lost: it is told that it
was done. Any other is refused.
"""

from dataclasses import replace

from server.ledger import chain
from server.ledger.commands import AdjustWallet, DismissEvent, TieToTopup
from server.ledger.decisions import Accepted, Decision, EventReply
from server.ledger.events import Effect, topup_not_found
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.orders import customer_not_found
from server.ledger.payments import credit_captured
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    EventMoney,
    EventOutcome,
    GatewayEvent,
    GatewayPayment,
    GatewayPaymentKey,
    GatewayPaymentStatus,
    Idempotency,
    Resolution,
    TopupState,
    TransactionType,
    WalletKey,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State

Settling = TieToTopup | AdjustWallet | DismissEvent
"""The commands that settle an event."""


def tie_to_topup(state: State, command: TieToTopup, now_ms: int) -> Decision:
    """Credit the top-up with the event's payment, as its own webhook would have.

    The amounts have to agree: where they do not, a wallet is adjusted instead.
    """
    event = _open_event(state, command)
    if not isinstance(event, GatewayEvent):
        return event
    topup = state.topups[command.topup_id]
    if topup is None or topup.customer_id != command.customer_id:
        return topup_not_found(command.customer_id, command.topup_id)
    if topup.state in {TopupState.CREDITED, TopupState.REVERSED}:
        return _topup_state(command, f"is {topup.state} already")
    if event.money is not EventMoney.CAPTURED or event.amount is None:
        return _misfit(event, "tells of no payment that was captured: no top-up can take it")
    payment = GatewayPayment(
        payment_id=event.gateway_payment_id,
        gateway_order_id=topup.gateway_order_id or event.gateway_order_id,
        status=GatewayPaymentStatus.CAPTURED,
        amount=event.amount,
    )
    credited_by = state.credits[GatewayPaymentKey(topup.gateway, payment.payment_id)]
    effect: Effect = credit_captured(state, topup, payment, credited_by, now_ms)
    if effect.outcome is not EventOutcome.APPLIED:
        return _topup_state(command, f"cannot take it: {effect.reason}")
    resolution = _resolution(command, effect.topup.transaction_id, topup.topup_id, now_ms)
    return _settled(event, resolution, effect.changes)


def adjust_wallet(state: State, command: AdjustWallet, now_ms: int) -> Decision:
    """Move what an event is about into (or out of) a wallet, once for all events about the same.

    Never more than the event tells of, and in its direction only. What the gateway took may bring
    the wallet below zero, as it would have by itself.
    """
    event = _open_event(state, command)
    if not isinstance(event, GatewayEvent):
        return event
    if command.settlement_key is None or event.amount is None:
        return _misfit(event, "tells of no money that moved: it can only be dismissed")
    settled = state.transactions_by_key[command.settlement_key]
    if settled is not None:
        return _misfit(
            event,
            f"is about what transaction {settled.transaction_id} of customer "
            f"{settled.customer_id} has settled: it can only be dismissed",
        )
    most = (
        -event.amount.minor_units if event.money is EventMoney.TAKEN else event.amount.minor_units
    )
    amount = command.amount.minor_units
    is_within = min(most, 0) <= amount <= max(most, 0) and amount != 0
    if command.amount.currency_code != event.amount.currency_code or not is_within:
        return _misfit(
            event,
            f"is about {Money(event.amount.currency_code, most)}, and cannot be settled with "
            f"{command.amount}",
        )
    if not state.customers[command.customer_id]:
        return customer_not_found(command.customer_id)
    key = WalletKey(command.customer_id, command.amount.currency_code)
    wallet = state.wallet(key) or empty_wallet(key, now_ms)
    if wallet.balance + amount > MAX_BALANCE_MINOR_UNITS:
        return _misfit(event, "would bring the wallet over what a wallet can hold")
    wallet, entry = post(
        wallet,
        TransactionType.ADJUSTMENT,
        amount,
        gateway_account(event.received.gateway, key.currency_code),
        Cause(
            gateway=event.received.gateway,
            gateway_payment_id=event.gateway_payment_id,
            gateway_reversal_id=event.gateway_reversal_id,
            metadata={"by": command.by, "why": command.why},
            idempotency=Idempotency(command.settlement_key, event.received.key),
        ),
        now_ms,
    )
    changes = Changes(wallets=(wallet,), transactions=(entry,))
    return _settled(event, _resolution(command, entry.transaction_id, "", now_ms), changes)


def dismiss(state: State, command: DismissEvent, now_ms: int) -> Decision:
    """Settle an event without moving money."""
    event = _open_event(state, command)
    if not isinstance(event, GatewayEvent):
        return event
    return _settled(event, _resolution(command, "", "", now_ms), Changes())


def _open_event(state: State, command: Settling) -> GatewayEvent | Decision:
    """Return the event to settle, or the answer where it does not wait any more."""
    key = command.event_key
    event = state.events[key]
    if event is None:
        return Rejection(Reason.EVENT_NOT_FOUND, f"There is no event {key}.", {"event_key": key})
    if event.outcome is EventOutcome.NEEDS_REVIEW:
        return event
    settled_by = event.resolution.fingerprint if event.resolution else ""
    if settled_by == chain.resolution_fingerprint(command):
        return Accepted(EventReply(event.outcome, None), Changes())
    return Rejection(
        Reason.EVENT_SETTLED,
        f"Event {key} does not wait for review: it is {event.outcome}.",
        {"event_key": key, "outcome": event.outcome},
    )


def _resolution(command: Settling, transaction_id: str, topup_id: str, now_ms: int) -> Resolution:
    fingerprint = chain.resolution_fingerprint(command)
    return Resolution(command.by, command.why, transaction_id, topup_id, now_ms, fingerprint)


def _settled(event: GatewayEvent, resolution: Resolution, changes: Changes) -> Accepted:
    """Write down how the event was settled, with whatever that changes."""
    event = replace(event, outcome=EventOutcome.RESOLVED, resolution=resolution)
    topup = changes.topups[0] if changes.topups else None
    return Accepted(EventReply(EventOutcome.RESOLVED, topup), replace(changes, events=(event,)))


def _topup_state(command: TieToTopup, why_not: str) -> Rejection:
    return Rejection(
        Reason.TOPUP_STATE,
        f"Top-up {command.topup_id} {why_not}.",
        {"topup_id": command.topup_id, "event_key": command.event_key},
    )


def _misfit(event: GatewayEvent, why: str) -> Rejection:
    key = event.received.key
    return Rejection(Reason.EVENT_MISFIT, f"Event {key} {why}.", {"event_key": key})
