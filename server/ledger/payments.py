"""The rules of a top-up's payment: credited once, when it is captured, in whatever order news come.

Only captured is paid. Whatever does not fit is kept for a person, never credited by guess.
"""

from dataclasses import replace
from typing import Final

from server.ledger.commands import ApplyPayment
from server.ledger.decisions import Decision, PaymentReply
from server.ledger.events import Effect, apply_report
from server.ledger.limits import passed_by_credit
from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.ledger.orders import pay_from
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    EventOutcome,
    GatewayPayment,
    GatewayPaymentKey,
    GatewayPaymentStatus,
    Idempotency,
    Order,
    OrderToPay,
    PayOrderOutcome,
    ReversalState,
    Topup,
    TopupState,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.rejection import Rejection
from server.ledger.reversals import debit_noted
from server.ledger.state import Changes, State

_CREDITED_BEFORE: Final = frozenset({TopupState.CREDITED, TopupState.REVERSED})
_WAITING: Final = frozenset({TopupState.CREATED, TopupState.PENDING, TopupState.FAILED})


def apply_payment(state: State, command: ApplyPayment, now_ms: int) -> Decision:
    """Let what the gateway says of a payment take effect, and record what it said, at once."""
    payment, report_time_ms = command.payment, command.event.report_time_ms

    def effect_on(topup: Topup) -> Effect:
        match payment.status:
            case GatewayPaymentStatus.CAPTURED:
                credited_by = state.credits[command.payment_key]
                return credit_captured(state, topup, payment, credited_by, now_ms)
            case GatewayPaymentStatus.FAILED:
                return _failed(topup, payment, report_time_ms, now_ms)
            case GatewayPaymentStatus.STARTED if topup.state is TopupState.EXPIRED:
                return _old_news(topup)
            case _:
                return _not_yet_captured(topup, payment, report_time_ms, now_ms)

    return apply_report(state, command, effect_on, now_ms)


def credit_captured(
    state: State, topup: Topup, payment: GatewayPayment, credited_by: str | None, now_ms: int
) -> Effect:
    """Credit a captured payment once; whatever does not fit is kept for a person.

    `credited_by` is the top-up or the person's entry that this very payment was credited by.
    """
    if topup.state in _CREDITED_BEFORE:
        if topup.gateway_payment_id == payment.payment_id:
            return Effect(EventOutcome.DUPLICATE, topup, Changes())
        reason = (
            f"Payment {payment.payment_id} was captured for a top-up that payment "
            f"{topup.gateway_payment_id} had been credited for: the customer may have paid twice."
        )
        reason += _taken_back(topup, payment)
        return Effect(EventOutcome.NEEDS_REVIEW, topup, Changes(), reason)
    if credited_by is not None:
        reason = f"Payment {payment.payment_id} was credited before, by {credited_by}."
        return _for_review(topup, payment, reason, now_ms)
    told, known = payment.gateway_order_id, topup.gateway_order_id
    if told and known and told != known:
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


def _credit(state: State, topup: Topup, payment: GatewayPayment, now_ms: int) -> Effect:
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
            idempotency=Idempotency(
                GatewayPaymentKey(topup.gateway, payment.payment_id).credit_key, topup.topup_id
            ),
        ),
        now_ms,
    )
    passed = passed_by_credit(state.limits_of(key), wallet)
    topup = replace(
        topup,
        state=TopupState.CREDITED,
        gateway_order_id=topup.gateway_order_id or payment.gateway_order_id,
        gateway_payment_id=payment.payment_id,
        transaction_id=transaction.transaction_id,
        failure_reason="",
        poll_time_ms=None,
        update_time_ms=now_ms,
        version=topup.version + 1,
        passed_limits=passed,
    )
    entries = [transaction]
    orders: tuple[Order, ...] = ()
    if topup.pay_order is not None:
        decision = _pay_order(state, wallet, topup, topup.pay_order, now_ms)
        if isinstance(decision, Rejection):
            outcome = PayOrderOutcome("", decision.reason)
        else:
            assert isinstance(decision.reply, PaymentReply)
            wallet = decision.reply.wallet
            entries.append(decision.reply.transaction)
            orders = decision.changes.orders
            outcome = PayOrderOutcome(decision.reply.transaction.transaction_id, "")
        topup = replace(topup, pay_order_outcome=outcome)
    wallet, topup, debits = debit_noted(wallet, topup, now_ms)
    changes = Changes(
        wallets=(wallet,),
        transactions=(*entries, *debits),
        orders=orders,
        topups=(topup,),
    )
    reason = f"Credited beyond {', '.join(passed)}: it was captured." if passed else ""
    return Effect(EventOutcome.APPLIED, topup, changes, reason)


def _pay_order(
    state: State, wallet: Wallet, topup: Topup, order: OrderToPay, now_ms: int
) -> Decision:
    """Decide the payment of the top-up's order from the wallet as it is after the credit."""
    cause = Cause(order_id=order.order_id, topup_id=topup.topup_id, metadata=topup.metadata)
    recorded = state.orders[order.order_id]
    return pay_from(
        wallet,
        recorded,
        topup.customer_id,
        order.amount,
        cause,
        now_ms,
        limits=state.limits_of(wallet.key),
    )


def _failed(topup: Topup, payment: GatewayPayment, report_time_ms: int, now_ms: int) -> Effect:
    """Note a failed attempt. It is not final: another attempt, or this one, may still succeed."""
    if topup.state not in _WAITING or report_time_ms <= topup.report_time_ms:
        return _old_news(topup)
    failed = replace(
        topup,
        state=TopupState.FAILED,
        gateway_payment_id=payment.payment_id,
        failure_reason=payment.failure_reason or "The gateway gave no reason.",
        report_time_ms=report_time_ms,
        update_time_ms=now_ms,
        version=topup.version + 1,
        failure_version=topup.version + 1,
    )
    return Effect(EventOutcome.APPLIED, failed, Changes(topups=(failed,)))


def _not_yet_captured(
    topup: Topup, payment: GatewayPayment, report_time_ms: int, now_ms: int
) -> Effect:
    """Note that a payment is under way: nothing is paid before it is captured."""
    can_wait = topup.state in _WAITING or topup.state is TopupState.EXPIRED
    if not can_wait or report_time_ms < topup.report_time_ms:
        return _old_news(topup)
    pending = replace(
        topup,
        state=TopupState.PENDING,
        gateway_order_id=topup.gateway_order_id or payment.gateway_order_id,
        gateway_payment_id=payment.payment_id,
        failure_reason="",
        report_time_ms=report_time_ms,
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    return Effect(EventOutcome.APPLIED, pending, Changes(topups=(pending,)))


def _old_news(topup: Topup) -> Effect:
    """Change nothing: more is known already. At equal times a payment under way is the newer."""
    reason = f"The top-up is {topup.state}, by a later report."
    return Effect(EventOutcome.IGNORED, topup, Changes(), reason)


def _taken_back(topup: Topup, payment: GatewayPayment) -> str:
    """Tell a person what the gateway has taken back of a payment already; empty if nothing."""
    amounts = [
        one.amount
        for one in topup.reversals
        if one.payment_id == payment.payment_id and one.state is ReversalState.TAKEN
    ]
    if not amounts:
        return ""
    return f" The gateway has taken back {sum(amounts)} minor units of it already."


def _for_review(topup: Topup, payment: GatewayPayment, reason: str, now_ms: int) -> Effect:
    """Stop the top-up until a person has looked at it; nothing is credited."""
    reason += _taken_back(topup, payment)
    stopped = replace(
        topup,
        state=TopupState.NEEDS_REVIEW,
        poll_time_ms=None,
        gateway_payment_id=payment.payment_id,
        failure_reason=reason,
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    return Effect(EventOutcome.NEEDS_REVIEW, stopped, Changes(topups=(stopped,)), reason)
