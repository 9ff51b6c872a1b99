"""The rules of topping up: from the first request to the credit, in whatever order facts come."""

from dataclasses import dataclass, replace

from server.ledger import chain
from server.ledger.commands import ApplyPayment, CreateTopup, OpenTopup, RecordEvent
from server.ledger.decisions import Accepted, Decision, EventReply, PaymentReply, TopupReply
from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.ledger.orders import customer_not_found, key_reused, pay_from
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayEvent,
    GatewayPayment,
    GatewayPaymentStatus,
    PayOrderOutcome,
    ReceivedEvent,
    Topup,
    TopupState,
    TransactionType,
    WalletKey,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State

_CREDITED_BEFORE = frozenset({TopupState.CREDITED, TopupState.REVERSED})
_WAITING = frozenset({TopupState.CREATED, TopupState.PENDING, TopupState.FAILED})


def create(state: State, command: CreateTopup, now_ms: int) -> Decision:
    """Decide the start of a top-up: the same request again, a refusal, or a new record."""
    idempotency = chain.idempotency(command)
    earlier = state.topups_by_key[command.idempotency_key]
    if earlier is not None:
        if earlier.idempotency != idempotency:
            return key_reused(command.idempotency_key)
        return Accepted(TopupReply(earlier), Changes())
    if not state.customers[command.customer_id]:
        return customer_not_found(command.customer_id)
    order = command.pay_order
    if order is not None and order.amount.currency_code != command.amount.currency_code:
        return Rejection(
            Reason.CURRENCY_MISMATCH,
            f"Order {order.order_id} is to be paid in {order.amount.currency_code} with a top-up "
            f"in {command.amount.currency_code}; both have to be in one currency.",
            {
                "order_id": order.order_id,
                "currency_code": command.amount.currency_code,
                "order_currency_code": order.amount.currency_code,
            },
        )
    topup = Topup(
        topup_id=chain.topup_id(idempotency, now_ms),
        customer_id=command.customer_id,
        amount=command.amount,
        gateway=command.gateway,
        method=command.method,
        state=TopupState.CREATED,
        gateway_order_id="",
        gateway_payment_id="",
        transaction_id="",
        pay_order=order,
        pay_order_outcome=None,
        failure_reason="",
        checkout=None,
        return_url=command.return_url,
        create_time_ms=now_ms,
        update_time_ms=now_ms,
        expire_time_ms=now_ms + command.lifetime_ms,
        metadata=command.metadata,
        idempotency=idempotency,
        version=1,
    )
    return Accepted(TopupReply(topup), Changes(topups=(topup,)))


def open_for_payment(state: State, command: OpenTopup, now_ms: int) -> Decision:
    """Note the gateway's order. Whoever is second, also after a payment came in, finds it done."""
    topup = state.topups[command.topup_id]
    if topup is None or topup.customer_id != command.customer_id:
        return topup_not_found(command.customer_id, command.topup_id)
    if topup.checkout is not None:
        return Accepted(TopupReply(topup), Changes())
    topup = replace(
        topup,
        state=TopupState.PENDING if topup.state is TopupState.CREATED else topup.state,
        gateway_order_id=command.checkout.gateway_order_id,
        checkout=command.checkout,
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    return Accepted(TopupReply(topup), Changes(topups=(topup,)))


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
        gateway_order_id=command.gateway_order_id,
        gateway_payment_id=command.gateway_payment_id,
        apply_time_ms=now_ms,
    )
    return Accepted(EventReply(command.outcome, None), Changes(events=(event,)))


def apply_payment(state: State, command: ApplyPayment, now_ms: int) -> Decision:
    """Let what the gateway says of a payment take effect, and record what it said, at once."""
    topup = state.topups[command.topup_id]
    if topup is None or topup.customer_id != command.customer_id:
        return topup_not_found(command.customer_id, command.topup_id)
    earlier = state.events[command.event.key]
    if earlier is not None and earlier.outcome is not EventOutcome.NEEDS_REVIEW:
        return Accepted(EventReply(EventOutcome.DUPLICATE, topup), Changes())
    match command.payment.status:
        case GatewayPaymentStatus.CAPTURED:
            credited_for = state.credits[command.payment_key]
            effect = _captured(state, topup, command.payment, credited_for, now_ms)
        case GatewayPaymentStatus.FAILED:
            effect = _failed(topup, command.payment, now_ms)
        case GatewayPaymentStatus.AUTHORIZED | GatewayPaymentStatus.PENDING:
            effect = _not_yet_captured(topup, command.payment, now_ms)
    if earlier is not None and effect.outcome is EventOutcome.NEEDS_REVIEW:
        return Accepted(EventReply(EventOutcome.DUPLICATE, topup), Changes())
    events: tuple[GatewayEvent, ...] = ()
    if _is_recorded(command.event, effect.outcome):
        events = (_event_record(command, effect, now_ms),)
    return Accepted(
        EventReply(effect.outcome, effect.topup),
        replace(effect.changes, events=events),
    )


def topup_not_found(customer_id: str, topup_id: str) -> Rejection:
    """Refuse what is asked for a top-up that the customer does not have."""
    return Rejection(
        Reason.TOPUP_NOT_FOUND,
        f"Customer {customer_id} has no top-up {topup_id}.",
        {"customer_id": customer_id, "topup_id": topup_id},
    )


@dataclass(frozen=True, slots=True)
class _Effect:
    """What a gateway's word does to a top-up."""

    outcome: EventOutcome
    topup: Topup
    changes: Changes
    reason: str = ""


def _captured(
    state: State, topup: Topup, payment: GatewayPayment, credited_for: str | None, now_ms: int
) -> _Effect:
    """Credit a captured payment once; whatever does not fit is kept for a person.

    `credited_for` is the top-up that this very payment was credited for, if it was.
    """
    if topup.state in _CREDITED_BEFORE:
        if topup.gateway_payment_id == payment.payment_id:
            return _Effect(EventOutcome.DUPLICATE, topup, Changes())
        reason = (
            f"Payment {payment.payment_id} was captured for a top-up that payment "
            f"{topup.gateway_payment_id} had been credited for: the customer may have paid twice."
        )
        return _Effect(EventOutcome.NEEDS_REVIEW, topup, Changes(), reason)
    if credited_for is not None:
        reason = f"Payment {payment.payment_id} was credited for top-up {credited_for} before."
        return _for_review(topup, payment, reason, now_ms)
    if topup.gateway_order_id and payment.gateway_order_id != topup.gateway_order_id:
        reason = (
            f"Payment {payment.payment_id} belongs to the gateway's order "
            f"{payment.gateway_order_id}, the top-up to {topup.gateway_order_id}."
        )
        return _for_review(topup, payment, reason, now_ms)
    if payment.amount != topup.amount:
        reason = f"Captured were {payment.amount}, the top-up is for {topup.amount}."
        return _for_review(topup, payment, reason, now_ms)
    key = WalletKey(topup.customer_id, topup.amount.currency_code)
    wallet = state.wallet(key) or empty_wallet(key, now_ms)
    if wallet.balance + payment.amount.minor_units > MAX_BALANCE_MINOR_UNITS:
        reason = "The credit would bring the wallet over what a wallet can hold."
        return _for_review(topup, payment, reason, now_ms)
    return _credit(state, topup, payment, now_ms)


def _credit(state: State, topup: Topup, payment: GatewayPayment, now_ms: int) -> _Effect:
    """Credit the wallet and, where the top-up asks for it, pay the order from it."""
    key = WalletKey(topup.customer_id, topup.amount.currency_code)
    wallet, transaction = post(
        state.wallet(key) or empty_wallet(key, now_ms),
        TransactionType.TOPUP,
        payment.amount.minor_units,
        gateway_account(topup.gateway, key.currency_code),
        Cause(
            topup_id=topup.topup_id,
            gateway=topup.gateway,
            gateway_payment_id=payment.payment_id,
            metadata=topup.metadata,
        ),
        now_ms,
    )
    topup = replace(
        topup,
        state=TopupState.CREDITED,
        gateway_order_id=topup.gateway_order_id or payment.gateway_order_id,
        gateway_payment_id=payment.payment_id,
        transaction_id=transaction.transaction_id,
        failure_reason="",
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    credit = Changes(wallets=(wallet,), transactions=(transaction,), topups=(topup,))
    if topup.pay_order is None:
        return _Effect(EventOutcome.APPLIED, topup, credit)
    order = topup.pay_order
    cause = Cause(order_id=order.order_id, topup_id=topup.topup_id, metadata=topup.metadata)
    recorded = state.orders[order.order_id]
    decision = pay_from(wallet, recorded, topup.customer_id, order.amount, cause, now_ms)
    if isinstance(decision, Rejection):
        topup = replace(topup, pay_order_outcome=PayOrderOutcome("", decision.reason))
        return _Effect(EventOutcome.APPLIED, topup, replace(credit, topups=(topup,)))
    assert isinstance(decision.reply, PaymentReply)
    paid = decision.reply.transaction
    topup = replace(topup, pay_order_outcome=PayOrderOutcome(paid.transaction_id, ""))
    changes = Changes(
        wallets=decision.changes.wallets,
        transactions=(transaction, paid),
        orders=decision.changes.orders,
        topups=(topup,),
    )
    return _Effect(EventOutcome.APPLIED, topup, changes)


def _failed(topup: Topup, payment: GatewayPayment, now_ms: int) -> _Effect:
    """Note a failed attempt. It is not final: another attempt, or this one, may still succeed."""
    if topup.state not in _WAITING:
        return _Effect(EventOutcome.IGNORED, topup, Changes(), f"The top-up is {topup.state}.")
    failed = replace(
        topup,
        state=TopupState.FAILED,
        gateway_payment_id=payment.payment_id,
        failure_reason=payment.failure_reason or "The gateway gave no reason.",
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    return _Effect(EventOutcome.APPLIED, failed, Changes(topups=(failed,)))


def _not_yet_captured(topup: Topup, payment: GatewayPayment, now_ms: int) -> _Effect:
    """Note that a payment is under way: nothing is paid before it is captured."""
    if topup.state not in _WAITING:
        return _Effect(EventOutcome.IGNORED, topup, Changes(), f"The top-up is {topup.state}.")
    pending = replace(
        topup,
        state=TopupState.PENDING,
        gateway_order_id=topup.gateway_order_id or payment.gateway_order_id,
        gateway_payment_id=payment.payment_id,
        failure_reason="",
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    return _Effect(EventOutcome.APPLIED, pending, Changes(topups=(pending,)))


def _for_review(topup: Topup, payment: GatewayPayment, reason: str, now_ms: int) -> _Effect:
    """Stop the top-up until a person has looked at it; nothing is credited."""
    stopped = replace(
        topup,
        state=TopupState.NEEDS_REVIEW,
        gateway_payment_id=payment.payment_id,
        failure_reason=reason,
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    return _Effect(EventOutcome.NEEDS_REVIEW, stopped, Changes(topups=(stopped,)), reason)


def _is_recorded(event: ReceivedEvent, outcome: EventOutcome) -> bool:
    """Record every webhook; of what we asked for, only what a person has to see."""
    return event.origin is EventOrigin.WEBHOOK or outcome is EventOutcome.NEEDS_REVIEW


def _event_record(command: ApplyPayment, effect: _Effect, now_ms: int) -> GatewayEvent:
    return GatewayEvent(
        received=command.event,
        outcome=effect.outcome,
        reason=effect.reason,
        customer_id=command.customer_id,
        topup_id=command.topup_id,
        gateway_order_id=command.payment.gateway_order_id,
        gateway_payment_id=command.payment.payment_id,
        apply_time_ms=now_ms,
    )
