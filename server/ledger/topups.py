"""The rules of a top-up before its payment: from the first request to the end of its time."""

from dataclasses import replace

from server.ledger import chain
from server.ledger.commands import CreateTopup, ExpireTopup, OpenTopup
from server.ledger.decisions import Accepted, Decision, TopupReply
from server.ledger.events import topup_not_found
from server.ledger.limits import OPEN_TOPUP_STATES, WalletLimits, refuse_payment, refuse_topup
from server.ledger.orders import customer_not_found, key_reused
from server.ledger.records import Standing, Topup, TopupState, WalletKey
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State


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
    key = WalletKey(command.customer_id, command.amount.currency_code)
    limits = state.limits_of(key)
    if limits is not None:
        refusal = _refuse_for_limits(state, command, key, limits, now_ms)
        if refusal is not None:
            return refusal
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
        reversals=(),
        return_url=command.return_url,
        create_time_ms=now_ms,
        update_time_ms=now_ms,
        expire_time_ms=now_ms + command.lifetime_ms,
        report_time_ms=0,
        poll_time_ms=now_ms + command.first_poll_ms,
        poll_attempts=0,
        metadata=command.metadata,
        idempotency=idempotency,
        version=1,
    )
    standings = () if limits is None else (_met(state, command.customer_id),)
    return Accepted(TopupReply(topup), Changes(topups=(topup,), standings=standings))


def _refuse_for_limits(
    state: State, command: CreateTopup, key: WalletKey, limits: WalletLimits, now_ms: int
) -> Rejection | None:
    """Check the top-up, and the payment of the order that it is for, against the limits."""
    wallet, open_topups = state.wallet(key), state.open_topups[key.customer_id].values()
    amount, order = command.amount.minor_units, command.pay_order
    refusal = refuse_topup(limits, key, wallet, open_topups, amount, now_ms)
    if refusal is not None or order is None:
        return refusal
    return refuse_payment(limits, key, wallet, order.amount.minor_units, now_ms)


def _met(state: State, customer_id: str) -> Standing:
    """Return the customer's standing as written once more, so that of two at once one waits."""
    standing = state.standings[customer_id] or Standing(customer_id, "", 0)
    return replace(standing, version=standing.version + 1)


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
        expire_time_ms=command.checkout.expire_time_ms or topup.expire_time_ms,
        update_time_ms=now_ms,
        version=topup.version + 1,
    )
    return Accepted(TopupReply(topup), Changes(topups=(topup,)))


def expire(state: State, command: ExpireTopup, now_ms: int) -> Decision:
    """Note that the time to pay is over, where nothing was paid; otherwise change nothing."""
    topup = state.topups[command.topup_id]
    if topup is None or topup.customer_id != command.customer_id:
        return topup_not_found(command.customer_id, command.topup_id)
    if topup.state not in OPEN_TOPUP_STATES or now_ms < topup.expire_time_ms:
        return Accepted(TopupReply(topup), Changes())
    topup = replace(
        topup, state=TopupState.EXPIRED, update_time_ms=now_ms, version=topup.version + 1
    )
    return Accepted(TopupReply(topup), Changes(topups=(topup,)))
