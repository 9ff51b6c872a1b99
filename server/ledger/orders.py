"""The rules of paying an order from a wallet and of refunding it into one."""

from dataclasses import replace
from typing import Final

from server.ledger import chain
from server.ledger.commands import PayOrder, RefundOrder
from server.ledger.decisions import Accepted, Decision, PaymentReply, RefundReply
from server.ledger.limits import WalletLimits, refuse_payment
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.posting import Cause, empty_wallet, orders_account, post
from server.ledger.records import (
    FreezeCause,
    IdempotencyKey,
    Order,
    OrderPaymentMethod,
    OrderPaymentState,
    Refund,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State

MAX_REFUNDS_PER_ORDER: Final = 200
MISMATCH: Final = "mismatch"
"""Names in a refusal's metadata what does not agree, where that is whose an order is."""


def pay(state: State, command: PayOrder, now_ms: int) -> Decision:
    """Decide a payment: the same request again, a refusal, or a new entry."""
    idempotency = chain.idempotency(command)
    earlier = state.transactions_by_key[command.idempotency_key]
    if earlier is not None:
        if earlier.idempotency != idempotency:
            return key_reused(command.idempotency_key)
        return Accepted(_payment_again(earlier), Changes())
    if not state.customers[command.customer_id]:
        return customer_not_found(command.customer_id)
    cause = Cause(
        order_id=command.order_id,
        metadata=command.metadata,
        idempotency=idempotency,
    )
    key = WalletKey(command.customer_id, command.amount.currency_code)
    order = state.orders[command.order_id]
    return pay_from(
        state.wallet(key),
        order,
        command.customer_id,
        command.amount,
        cause,
        now_ms,
        limits=state.limits_of(key),
    )


def pay_from(
    wallet: Wallet | None,
    order: Order | None,
    customer_id: str,
    amount: Money,
    cause: Cause,
    now_ms: int,
    *,
    limits: WalletLimits | None,
) -> Decision:
    """Decide the payment of `cause.order_id` from the customer's `wallet`."""
    refusal = _refuse_order(order, cause.order_id, customer_id, amount)
    if refusal is not None:
        return refusal
    if wallet is not None and wallet.state is WalletState.FROZEN:
        return Rejection(
            Reason.WALLET_FROZEN,
            f"The {amount.currency_code} wallet of customer {customer_id} is frozen: it takes "
            "money and spends none. An operator can unfreeze it.",
            {"customer_id": customer_id, "currency_code": amount.currency_code},
        )
    balance = 0 if wallet is None else wallet.balance
    if wallet is None or balance < amount.minor_units:
        return _insufficient_funds(customer_id, balance, amount)
    refusal = refuse_payment(limits, wallet.key, wallet, amount.minor_units, now_ms)
    if refusal is not None:
        return refusal
    wallet, transaction = post(
        wallet,
        TransactionType.PAYMENT,
        -amount.minor_units,
        orders_account(amount.currency_code),
        cause,
        now_ms,
    )
    reply = _payment_reply(transaction, wallet)
    changes = Changes(wallets=(wallet,), transactions=(transaction,), orders=(reply.payment,))
    return Accepted(reply, changes)


def refund(state: State, command: RefundOrder, now_ms: int) -> Decision:
    """Decide a refund: the same request again, a refusal, or a new entry."""
    idempotency = chain.idempotency(command)
    order = state.orders[command.order_id]
    earlier = state.transactions_by_key[command.idempotency_key]
    if earlier is not None:
        if earlier.idempotency != idempotency or order is None:
            return key_reused(command.idempotency_key)
        return Accepted(_refund_again(earlier, order), Changes())
    if not state.customers[command.customer_id]:
        return customer_not_found(command.customer_id)
    refusal = _refuse_refund(order, command)
    if refusal is not None:
        return refusal
    assert order is not None
    assert order.amount is not None
    assert order.currency_code is not None
    remaining = order.amount - order.refunded_amount
    amount = remaining if command.amount is None else command.amount.minor_units
    key = WalletKey(command.customer_id, order.currency_code)
    wallet = state.wallet(key) or empty_wallet(key, now_ms)
    if wallet.balance + amount > MAX_BALANCE_MINOR_UNITS:
        return Rejection(
            Reason.LIMIT_EXCEEDED,
            f"The refund would bring the {key.currency_code} wallet of customer {key.customer_id} "
            "over what a wallet can hold.",
            {"customer_id": key.customer_id, "currency_code": key.currency_code},
        )
    wallet, transaction = post(
        wallet,
        TransactionType.REFUND,
        amount,
        orders_account(order.currency_code),
        Cause(order_id=command.order_id, metadata=command.metadata, idempotency=idempotency),
        now_ms,
    )
    refunded = Refund(
        refund_id=transaction.refund_id,
        amount=amount,
        reason=command.reason,
        transaction_id=transaction.transaction_id,
        create_time_ms=transaction.create_time_ms,
    )
    order = _with_refunds(order, order.refunded_amount + amount, (*order.refunds, refunded))
    changes = Changes(wallets=(wallet,), transactions=(transaction,), orders=(order,))
    return Accepted(RefundReply(refunded, order, transaction, wallet), changes)


def customer_not_found(customer_id: str) -> Rejection:
    """Refuse what is asked for a customer whom the customer service does not know."""
    return Rejection(
        Reason.CUSTOMER_NOT_FOUND,
        f"There is no customer {customer_id}. Customers come from the customer service.",
        {"customer_id": customer_id},
    )


def key_reused(key: IdempotencyKey) -> Rejection:
    """Refuse a key that stands for another request already."""
    return Rejection(
        Reason.IDEMPOTENCY_KEY_REUSED,
        f"The idempotency key {key.key} was used for another {key.method} request of {key.caller}. "
        "Use a new key for a new request, and the same request for a repeat.",
        {"idempotency_key": key.key, "method": key.method, "caller": key.caller},
    )


def _refuse_order(
    order: Order | None,
    order_id: str,
    customer_id: str,
    amount: Money,
) -> Rejection | None:
    """Check what the order service has recorded of the order, if anything, against a payment."""
    if order is None:
        return None
    metadata = {"order_id": order_id, "customer_id": customer_id}
    if order.customer_id != customer_id:
        return another_customers(order_id, customer_id)
    if order.payment_state is not None:
        message = f"Order {order_id} is paid already"
        if order.transaction_id:
            metadata["transaction_id"] = order.transaction_id
            message += f", by transaction {order.transaction_id}"
        return Rejection(
            Reason.ORDER_ALREADY_PAID,
            message + ". Nothing was taken from the wallet.",
            metadata,
        )
    if order.currency_code != amount.currency_code:
        return _another_currency(order, amount.currency_code)
    if order.amount != amount.minor_units:
        recorded = "no valid amount" if order.amount is None else f"the amount {order.amount}"
        metadata |= {
            "amount_minor_units": str(amount.minor_units),
            "order_amount_minor_units": "" if order.amount is None else str(order.amount),
        }
        return Rejection(
            Reason.ORDER_MISMATCH,
            f"Order {order_id} is recorded with {recorded}, not with {amount.minor_units} minor "
            "units. Orders are paid whole: ask for the recorded amount.",
            metadata,
        )
    return None


def _refuse_refund(order: Order | None, command: RefundOrder) -> Rejection | None:
    """Check an order against a refund of it."""
    metadata = {"order_id": command.order_id, "customer_id": command.customer_id}
    if order is None:
        return Rejection(
            Reason.ORDER_NOT_FOUND,
            f"There is no order {command.order_id}.",
            metadata,
        )
    if order.customer_id != command.customer_id:
        return another_customers(command.order_id, command.customer_id)
    if order.payment_state is None:
        return Rejection(
            Reason.ORDER_NOT_PAID,
            f"Order {command.order_id} is not paid: there is nothing to refund.",
            metadata,
        )
    if order.amount is None or order.currency_code is None:
        return Rejection(
            Reason.ORDER_MISMATCH,
            f"Order {command.order_id} is recorded without a valid amount and currency, so that "
            "nothing tells how much may be refunded. The order service has to set them.",
            metadata,
        )
    if command.amount is not None and command.amount.currency_code != order.currency_code:
        return _another_currency(order, command.amount.currency_code)
    remaining = order.amount - order.refunded_amount
    asked = remaining if command.amount is None else command.amount.minor_units
    if asked > remaining or remaining <= 0:
        return Rejection(
            Reason.REFUND_EXCEEDS_PAYMENT,
            f"Of order {command.order_id}, {remaining} minor units remain to be refunded, and "
            f"{asked or 'all that remains'} were asked for.",
            metadata
            | {
                "amount_minor_units": str(asked),
                "remaining_minor_units": str(remaining),
                "refunded_minor_units": str(order.refunded_amount),
            },
        )
    if len(order.refunds) >= MAX_REFUNDS_PER_ORDER:
        return Rejection(
            Reason.LIMIT_EXCEEDED,
            f"Order {command.order_id} has {MAX_REFUNDS_PER_ORDER} refunds, the most that an order "
            "can have.",
            metadata | {"max_refunds": str(MAX_REFUNDS_PER_ORDER)},
        )
    return None


def another_customers(order_id: str, customer_id: str) -> Rejection:
    """Refuse what is asked about another customer's order."""
    return Rejection(
        Reason.ORDER_MISMATCH,
        f"Order {order_id} is recorded for another customer than {customer_id}.",
        {"order_id": order_id, "customer_id": customer_id, MISMATCH: "customer_id"},
    )


def _another_currency(order: Order, currency_code: str) -> Rejection:
    recorded = order.currency_code or ""
    return Rejection(
        Reason.CURRENCY_MISMATCH,
        f"Order {order.order_id} is recorded in {recorded or 'no valid currency'}, not in "
        f"{currency_code}.",
        {
            "order_id": order.order_id,
            "currency_code": currency_code,
            "order_currency_code": recorded,
        },
    )


def _insufficient_funds(customer_id: str, balance: int, amount: Money) -> Rejection:
    missing = amount.minor_units - balance
    return Rejection(
        Reason.INSUFFICIENT_FUNDS,
        f"The {amount.currency_code} wallet of customer {customer_id} holds {balance} minor units, "
        f"{missing} less than the {amount.minor_units} to pay. Top up, then repeat.",
        {
            "customer_id": customer_id,
            "currency_code": amount.currency_code,
            "balance_minor_units": str(balance),
            "amount_minor_units": str(amount.minor_units),
            "missing_minor_units": str(missing),
        },
    )


def _payment_reply(transaction: Transaction, wallet: Wallet) -> PaymentReply:
    """Tell a payment from its entry alone, so that a repeat tells the same."""
    payment = Order(
        order_id=transaction.order_id,
        customer_id=transaction.customer_id,
        amount=-transaction.amount,
        currency_code=transaction.currency_code,
        payment_state=OrderPaymentState.PAID,
        payment_method=OrderPaymentMethod.WALLET,
        transaction_id=transaction.transaction_id,
        refunded_amount=0,
        refunds=(),
        pay_time_ms=transaction.create_time_ms,
    )
    return PaymentReply(payment, transaction, wallet)


def _payment_again(transaction: Transaction) -> PaymentReply:
    return _payment_reply(transaction, _wallet_right_after(transaction))


def _refund_again(transaction: Transaction, order: Order) -> RefundReply:
    """Tell a refund as it was told first: later refunds of the order are left out."""
    place = [refund.refund_id for refund in order.refunds].index(transaction.refund_id)
    refunds = order.refunds[: place + 1]
    # What the order service had refunded by itself before our refunds is in the total only.
    refunded_elsewhere = order.refunded_amount - sum(refund.amount for refund in order.refunds)
    refunded_amount = refunded_elsewhere + sum(refund.amount for refund in refunds)
    return RefundReply(
        refunds[-1],
        _with_refunds(order, refunded_amount, refunds),
        transaction,
        _wallet_right_after(transaction),
    )


def _with_refunds(order: Order, refunded_amount: int, refunds: tuple[Refund, ...]) -> Order:
    """Return the order's payment with these refunds."""
    is_all = refunded_amount == order.amount
    return replace(
        order,
        refunded_amount=refunded_amount,
        refunds=refunds,
        payment_state=(
            OrderPaymentState.REFUNDED if is_all else OrderPaymentState.PARTIALLY_REFUNDED
        ),
    )


def _wallet_right_after(transaction: Transaction) -> Wallet:
    """Tell a wallet from its entry: what it was right after it."""
    return Wallet(
        customer_id=transaction.customer_id,
        currency_code=transaction.currency_code,
        balance=transaction.balance_after,
        state=transaction.wallet_state,
        freeze_cause=FreezeCause.NONE,
        sequence=transaction.sequence,
        head_hash=transaction.hash,
        create_time_ms=transaction.create_time_ms,
        update_time_ms=transaction.create_time_ms,
        version=0,
    )
