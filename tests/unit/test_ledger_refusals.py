"""Refusals of payments and refunds: the reason, and each value that the message names."""

from dataclasses import replace
from typing import Any

import pytest

from checked_ledger import Ledger, key
from server.ledger.books import WalletProof
from server.ledger.commands import Command, PayOrder, RefundOrder
from server.ledger.decisions import Accepted, PaymentReply, RefundReply
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.orders import MAX_REFUNDS_PER_ORDER
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    Order,
    OrderPaymentMethod,
    OrderPaymentState,
    Refund,
    TransactionType,
    WalletKey,
    WalletState,
)
from server.ledger.rejection import Reason, Rejection

WALLET = WalletKey("asha", "INR")
OF_ORDER = {"order_id": "order", "customer_id": "asha"}


def inr(minor_units: int) -> Money:
    """Return an amount in INR."""
    return Money("INR", minor_units)


def pay(amount: Money, number: int = 1, customer_id: str = "asha") -> PayOrder:
    """Return a payment of the order."""
    return PayOrder(customer_id, "order", amount, key("PayWithWallet", number), {})


def refund(amount: Money | None, number: int = 1, customer_id: str = "asha") -> RefundOrder:
    """Return a refund of the order."""
    return RefundOrder(customer_id, "order", amount, key("RefundToWallet", number), "late", {})


def unpaid(**changes: Any) -> Order:
    """Return an order as its service records it, of 60."""
    order = Order(
        order_id="order",
        customer_id="asha",
        amount=60,
        currency_code="INR",
        payment_state=None,
        payment_method=None,
        transaction_id="",
        refunded_amount=0,
        refunds=(),
        pay_time_ms=None,
    )
    return replace(order, **changes)


def bought(**changes: Any) -> Order:
    """Return an order that was paid through a gateway."""
    by_gateway = {"payment_method": OrderPaymentMethod.GATEWAY}
    return unpaid(payment_state=OrderPaymentState.PAID, **by_gateway | changes)


def ledger(order: Order | None = None, balance: int = 100) -> Ledger:
    """Return a ledger with a wallet of so much, and an order."""
    made = Ledger()
    if balance:
        account, cause = gateway_account("razorpay", "INR"), Cause(gateway="razorpay")
        wallet = empty_wallet(WALLET, made.now_ms)
        wallet, entry = post(wallet, TransactionType.TOPUP, balance, account, cause, made.now_ms)
        made.wallets[WALLET], made.entries = wallet, [entry]
        made.proofs[WALLET] = WalletProof(WALLET)
        assert list(made.proofs[WALLET].check(entry)) == []
    if order is not None:
        made.orders[order.order_id] = order
    return made


def refused(made: Ledger, command: Command) -> tuple[Reason, dict[str, str]]:
    """Return why a command is refused, and its values; all of them are in the message."""
    decision = made.carry_out(command)
    assert isinstance(decision, Rejection)
    return decision.reason, dict(decision.metadata)


@pytest.mark.parametrize(
    ("order", "reason", "more"),
    [
        (unpaid(customer_id="ben"), Reason.ORDER_MISMATCH, {"mismatch": "customer_id"}),
        (
            unpaid(payment_state=OrderPaymentState.PAID, transaction_id="txn_1"),
            Reason.ORDER_ALREADY_PAID,
            {"transaction_id": "txn_1"},
        ),
        (bought(), Reason.ORDER_ALREADY_PAID, {}),
        (
            unpaid(amount=61),
            Reason.ORDER_MISMATCH,
            {"amount_minor_units": "60", "order_amount_minor_units": "61"},
        ),
        (
            unpaid(amount=None),
            Reason.ORDER_MISMATCH,
            {"amount_minor_units": "60", "order_amount_minor_units": ""},
        ),
    ],
)
def test_an_order_that_does_not_fit_is_not_paid(
    order: Order, reason: Reason, more: dict[str, str]
) -> None:
    """What the order service has recorded of an order has to be what is paid."""
    made = ledger(order)
    assert refused(made, pay(inr(60))) == (reason, OF_ORDER | more)
    decision = made.carry_out(pay(inr(60)))
    assert isinstance(decision, Rejection)
    assert ("txn_1" in decision.message) == ("transaction_id" in more)
    assert ("no valid amount" in decision.message) == (order.amount is None)
    assert made.orders == {"order": order}


@pytest.mark.parametrize(("code", "told"), [("USD", "USD"), (None, "")])
def test_an_order_in_another_currency_is_neither_paid_nor_refunded(
    code: str | None, told: str
) -> None:
    """The refusal names both currencies, and says so where the order has none."""
    values = {"order_id": "order", "currency_code": "INR", "order_currency_code": told}
    order = unpaid(currency_code=code)
    assert refused(ledger(order), pay(inr(60))) == (Reason.CURRENCY_MISMATCH, values)
    decision = ledger(order).carry_out(pay(inr(60)))
    assert isinstance(decision, Rejection)
    assert (told or "no valid currency") in decision.message
    if code is not None:
        of_another = ledger(bought(currency_code=code))
        assert refused(of_another, refund(inr(1))) == (Reason.CURRENCY_MISMATCH, values)


@pytest.mark.parametrize(("balance", "missing"), [(0, 60), (59, 1)])
def test_too_little_money_is_told_to_the_last_penny(balance: int, missing: int) -> None:
    """A customer without a wallet holds nothing, and the refusal tells what is missing."""
    assert refused(ledger(balance=balance), pay(inr(60))) == (
        Reason.INSUFFICIENT_FUNDS,
        {
            "customer_id": "asha",
            "currency_code": "INR",
            "balance_minor_units": str(balance),
            "amount_minor_units": "60",
            "missing_minor_units": str(missing),
        },
    )


def test_a_frozen_wallet_and_an_unknown_customer_pay_nothing() -> None:
    """Each has its reason; a frozen wallet is told before its balance is."""
    frozen = ledger(balance=10)
    frozen.wallets[WALLET] = replace(frozen.wallets[WALLET], state=WalletState.FROZEN)
    values = {"customer_id": "asha", "currency_code": "INR"}
    assert refused(frozen, pay(inr(60))) == (Reason.WALLET_FROZEN, values)
    nobody = {"customer_id": "nobody"}
    assert refused(ledger(), pay(inr(1), 1, "nobody")) == (Reason.CUSTOMER_NOT_FOUND, nobody)
    of_nobody = ledger(bought(customer_id="nobody"))
    assert refused(of_nobody, refund(None, 1, "nobody")) == (Reason.CUSTOMER_NOT_FOUND, nobody)


@pytest.mark.parametrize(
    ("order", "amount", "reason", "more"),
    [
        (None, None, Reason.ORDER_NOT_FOUND, {}),
        (bought(customer_id="ben"), None, Reason.ORDER_MISMATCH, {"mismatch": "customer_id"}),
        (unpaid(), None, Reason.ORDER_NOT_PAID, {}),
        (bought(amount=None), None, Reason.ORDER_MISMATCH, {}),
        (bought(currency_code=None), None, Reason.ORDER_MISMATCH, {}),
        (
            bought(refunded_amount=20),
            inr(41),
            Reason.REFUND_EXCEEDS_PAYMENT,
            {
                "amount_minor_units": "41",
                "remaining_minor_units": "40",
                "refunded_minor_units": "20",
            },
        ),
        (
            bought(refunded_amount=60),
            None,
            Reason.REFUND_EXCEEDS_PAYMENT,
            {"amount_minor_units": "0", "remaining_minor_units": "0", "refunded_minor_units": "60"},
        ),
    ],
)
def test_what_cannot_be_refunded_is_refused(
    order: Order | None, amount: Money | None, reason: Reason, more: dict[str, str]
) -> None:
    """No refund goes over what was paid, nor to an order that nobody can make sense of."""
    made = ledger(order)
    assert refused(made, refund(amount)) == (reason, OF_ORDER | more)
    decision = made.carry_out(refund(amount))
    assert isinstance(decision, Rejection)
    assert ("all that remains" in decision.message) == (more.get("amount_minor_units") == "0")


def test_an_order_has_200_refunds_at_most() -> None:
    """The 200th is taken; the next one is refused with the limit."""
    assert MAX_REFUNDS_PER_ORDER == 200
    given = tuple(Refund(f"ref_{number}", 1, "", f"txn_{number}", 1) for number in range(199))
    made = ledger(bought(amount=300, refunded_amount=199, refunds=given))
    assert isinstance(made.carry_out(refund(inr(1), 1)), Accepted)
    limit = OF_ORDER | {"max_refunds": "200"}
    assert refused(made, refund(inr(1), 2)) == (Reason.LIMIT_EXCEEDED, limit)


def test_a_refund_fills_a_wallet_to_its_bound_and_not_over() -> None:
    """A wallet holds what 64 bits can, to the last penny."""
    nearly = MAX_BALANCE_MINOR_UNITS - 10
    assert isinstance(ledger(bought(), nearly).carry_out(refund(inr(10))), Accepted)
    over = {"customer_id": "asha", "currency_code": "INR"}
    assert refused(ledger(bought(), nearly), refund(inr(11))) == (Reason.LIMIT_EXCEEDED, over)


def test_a_repeat_tells_what_was_told_and_another_request_is_refused() -> None:
    """Also of a refund after which others came, beside what the order service gave back itself."""
    made = ledger(bought(amount=100, refunded_amount=10))
    first = made.carry_out(refund(inr(20), 1))
    made.carry_out(refund(inr(70), 2))
    again = made.carry_out(refund(inr(20), 1))
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert isinstance(first.reply, RefundReply)
    assert isinstance(again.reply, RefundReply)
    assert again.reply.payment == first.reply.payment
    assert (again.reply.payment.refunded_amount, len(again.reply.payment.refunds)) == (30, 1)
    assert again.reply.payment.payment_state is OrderPaymentState.PARTIALLY_REFUNDED
    assert made.orders["order"].payment_state is OrderPaymentState.REFUNDED
    reused = {"idempotency_key": "1", "method": "RefundToWallet", "caller": "shop"}
    assert refused(made, refund(inr(21), 1)) == (Reason.IDEMPOTENCY_KEY_REUSED, reused)


def test_a_repeated_payment_tells_the_wallet_of_then() -> None:
    """Whatever the wallet holds by now, and whatever became of it."""
    made = ledger(unpaid())
    made.carry_out(pay(inr(60)))
    made.carry_out(PayOrder("asha", "another", inr(40), key("PayWithWallet", 2), {}))
    again = made.carry_out(pay(inr(60)))
    assert isinstance(again, Accepted)
    assert isinstance(again.reply, PaymentReply)
    assert (again.reply.wallet.balance, again.reply.wallet.sequence) == (40, 2)
    assert again.reply.payment.amount == 60
    reused = {"idempotency_key": "1", "method": "PayWithWallet", "caller": "shop"}
    assert refused(made, pay(inr(61))) == (Reason.IDEMPOTENCY_KEY_REUSED, reused)
