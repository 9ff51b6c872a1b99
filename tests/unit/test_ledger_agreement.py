"""Orders, top-ups and entries against each other: what differs is named, with how much."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest

from checked_ledger import Ledger, key, received
from server.ledger.agreement import Lookups, Owner, check_entry, check_order, check_topup
from server.ledger.books import Difference, RecordKind
from server.ledger.commands import (
    AdjustWallet,
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    PayOrder,
    RecordEvent,
    RefundOrder,
)
from server.ledger.decisions import Accepted
from server.ledger.money import Money
from server.ledger.records import (
    EventOutcome,
    GatewayPayment,
    GatewayPaymentKey,
    GatewayPaymentStatus,
    GatewayReversal,
    Order,
    OrderPaymentMethod,
    OrderPaymentState,
    OrderToPay,
    ReversalKind,
    ReversalState,
    Topup,
    TopupState,
    Transaction,
)

CAPTURED = GatewayPaymentStatus.CAPTURED
Told = tuple[str, int | None]


def inr(minor_units: int) -> Money:
    """Return an amount in INR."""
    return Money("INR", minor_units)


def stray_payment() -> Iterator[Command]:
    """Credit a payment of nobody's by hand."""
    event = received("razorpay", "stray", 1)
    payment = GatewayPayment("pay_stray", "", CAPTURED, inr(7))
    yield RecordEvent(event, EventOutcome.NEEDS_REVIEW, "unknown", payment)
    settled = GatewayPaymentKey("razorpay", "pay_stray").credit_key
    yield AdjustWallet(event.key, settled, "asha", inr(7), "ben", "a test")


class Books(NamedTuple):
    """One customer's records: a top-up of 1,000 that paid 100, an order of 200, and 50 of it back.

    The gateway took back 30, and a person put 7 into the wallet.
    """

    topup: Topup
    order: Order
    credit: Transaction
    paid_at_once: Transaction
    payment: Transaction
    refund: Transaction
    taken: Transaction
    adjustment: Transaction

    @property
    def entries(self) -> tuple[Transaction, ...]:
        """All entries, oldest first."""
        return self[2:]


@cache
def books() -> Books:
    """Return good books, written by the rules themselves."""
    ledger = Ledger()

    def carry_out(command: Command) -> Any:
        decision = ledger.carry_out(command)
        assert isinstance(decision, Accepted)
        return decision.reply

    start = CreateTopup(
        *("asha", inr(1_000), "razorpay", "upi", key("InitiateTopup", 1)),
        *(OrderToPay("at-once", inr(100)), "", {}, 60_000, 60_000),
    )
    topup_id = carry_out(start).topup.topup_id
    captured = GatewayPayment("pay_1", "", CAPTURED, inr(1_000))
    event = received("razorpay", captured, 2)
    carry_out(ApplyPayment("asha", topup_id, "at-once", captured, event))
    carry_out(PayOrder("asha", "order", inr(200), key("PayWithWallet", 1), {}))
    carry_out(RefundOrder("asha", "order", inr(50), key("RefundToWallet", 1), "late", {}))
    taken = GatewayReversal(
        *("rfnd_1", ReversalKind.REFUND, "pay_1", "", inr(30)),
        state=ReversalState.TAKEN,
        is_final=True,
    )
    carry_out(ApplyReversal("asha", topup_id, taken, received("razorpay", taken, 3)))
    for command in stray_payment():
        carry_out(command)
    return Books(ledger.topups[topup_id], ledger.orders["order"], *ledger.entries)


def told(differences: Iterator[Difference]) -> list[Told]:
    """Return what is told, with how much, and make sure of whose wallet and record it is."""
    found = list(differences)
    for one in found:
        assert one.wallet.customer_id in {"asha", "ben"}
        assert one.wallet.currency_code == "INR"
        assert one.record_id
    return [(one.what, one.minor_units) for one in found]


def of_order(order: Order, *others: Transaction) -> list[Told]:
    """Compare an order; `others` take the place of entries of their ids."""
    by_id = {entry.transaction_id: entry for entry in (*books().entries, *others)}
    return told(check_order(order, by_id))


def of_topup(topup: Topup, *others: Transaction) -> list[Told]:
    """Compare a top-up, as with orders."""
    by_id = {entry.transaction_id: entry for entry in (*books().entries, *others)}
    return told(check_topup(topup, by_id, [books().taken]))


def of_entry(entry: Transaction, named: dict[Owner, set[str]], *adjustments: str) -> list[Told]:
    """Compare an entry with what records name."""
    return told(check_entry(entry, Lookups(named, set(adjustments))))


def test_good_books_agree() -> None:
    """What the rules have written is found good, in all ways."""
    good = books()
    order, topup = Owner(RecordKind.ORDER, "order"), Owner(RecordKind.TOPUP, good.topup.topup_id)
    named = {
        order: {good.payment.transaction_id, good.refund.refund_id},
        topup: {good.credit.transaction_id, "rfnd_1"},
        Owner(RecordKind.ORDER, "at-once"): {good.paid_at_once.transaction_id},
    }
    assert of_order(good.order) == of_topup(good.topup) == []
    for entry in good.entries:
        assert of_entry(entry, named, good.adjustment.transaction_id) == []


@pytest.mark.parametrize(
    ("which", "owner", "type_", "amount"),
    [
        ("credit", "topup", "TOPUP", 1_000),
        ("payment", "order", "PAYMENT", -200),
        ("refund", "order", "REFUND", 50),
        ("taken", "topup", "REVERSAL", -30),
    ],
)
def test_an_entry_that_nobody_names_is_told(
    which: str, owner: str, type_: str, amount: int
) -> None:
    """An entry whose record is gone, or names another one, may have been invented."""
    entry: Transaction = getattr(books(), which)
    record_id = "order" if owner == "order" else books().topup.topup_id
    assert of_entry(entry, {}) == [(f"there is no {owner} {record_id} for it", amount)]
    named = {Owner(RecordKind(owner), record_id): {"another"}}
    what = f"{owner} {record_id} does not name it as its {type_}"
    assert of_entry(entry, named) == [(what, amount)]


def test_an_adjustment_that_settled_nothing_is_told() -> None:
    """A person's entry needs an event that was settled by it."""
    told_of = of_entry(books().adjustment, {}, "another")
    assert told_of == [("no event was settled by this ADJUSTMENT", 7)]


ORDERS: dict[str, tuple[Callable[[Order], Order], list[Told]]] = {
    "open again": (
        lambda order: replace(order, payment_state=None),
        [("payment_status does not say paid, and {payment} paid it", -200)],
    ),
    "paid otherwise": (
        lambda order: replace(order, payment_method=OrderPaymentMethod.GATEWAY),
        [("payment_method is not WALLET, and {payment} paid it", None)],
    ),
    "another amount": (
        lambda order: replace(order, amount=190),
        [("amount is 190, 200 by PAYMENT {payment}", -10)],
    ),
    "another order, customer and currency": (
        lambda order: replace(order, order_id="x", customer_id="ben"),
        [
            ("order_id is x, order by PAYMENT {payment}", None),
            ("customer_id is ben, asha by PAYMENT {payment}", None),
            ("order_id is x, order by REFUND {refund}", None),
            ("customer_id is ben, asha by REFUND {refund}", None),
        ],
    ),
    "a payment that is a refund": (
        lambda order: replace(order, transaction_id=books().refund.transaction_id),
        [
            ("type is PAYMENT, REFUND by PAYMENT {refund}", None),
            ("amount is 200, -50 by PAYMENT {refund}", 250),
        ],
    ),
    "no payment": (
        lambda order: replace(order, transaction_id=""),
        [("its payment is not in the ledger: none is named", 200)],
    ),
    "a payment that is not there": (
        lambda order: replace(order, transaction_id="txn_none"),
        [("its payment is not in the ledger: txn_none", 200)],
    ),
    "no refunds": (
        lambda order: replace(order, refunds=()),
        [("refunded_amount is 50, its refunds sum to 0", 50)],
    ),
    "a refund of another amount": (
        lambda order: replace(
            order, refunds=(replace(order.refunds[0], amount=60),), refunded_amount=60
        ),
        [("amount is 60, 50 by REFUND {refund}", 10)],
    ),
    "a refund under another entry": (
        lambda order: replace(
            order, refunds=(replace(order.refunds[0], transaction_id="txn_none"),)
        ),
        [("refund {refund_id} is not in the ledger: txn_none", 50)],
    ),
    "a refund of another name": (
        lambda order: replace(order, refunds=(replace(order.refunds[0], refund_id="ref_x"),)),
        [("refund ref_x names {refund}, which is of {refund_id}", None)],
    ),
    "a refund that is a payment": (
        lambda order: replace(
            order,
            refunds=(replace(order.refunds[0], transaction_id=books().payment.transaction_id),),
        ),
        [
            ("refund {refund_id} names {payment}, which is of none", None),
            ("type is REFUND, PAYMENT by REFUND {payment}", None),
            ("amount is 50, -200 by REFUND {payment}", 250),
        ],
    ),
    "too little refunded": (
        lambda order: replace(order, refunded_amount=0),
        [
            ("refunded_amount is 0, its refunds sum to 50", -50),
            ("payment_status is PARTIALLY_REFUNDED, with 0 of 200 refunded it is PAID", None),
        ],
    ),
    "more refunded than paid": (
        lambda order: replace(order, refunded_amount=201),
        [
            ("refunded_amount is 201, its refunds sum to 50", 151),
            ("refunded_amount is 201 of 200: more than was paid", 1),
        ],
    ),
    "all refunded, and it says a part": (
        lambda order: replace(order, refunded_amount=200),
        [
            ("refunded_amount is 200, its refunds sum to 50", 150),
            (
                "payment_status is PARTIALLY_REFUNDED, with 200 of 200 refunded it is REFUNDED",
                None,
            ),
        ],
    ),
    "a part refunded, and it says paid": (
        lambda order: replace(order, payment_state=OrderPaymentState.PAID),
        [
            (
                "payment_status is PAID, with 50 of 200 refunded it is PARTIALLY_REFUNDED",
                None,
            )
        ],
    ),
    "paid through a gateway, and more refunded by its own service": (
        lambda order: replace(
            order,
            transaction_id="",
            payment_method=OrderPaymentMethod.GATEWAY,
            refunded_amount=60,
            payment_state=OrderPaymentState.PAID,
        ),
        [],
    ),
    "paid through a gateway, and refunded by its refunds alone": (
        lambda order: replace(
            order,
            transaction_id="",
            payment_method=OrderPaymentMethod.GATEWAY,
            payment_state=OrderPaymentState.PAID,
        ),
        [],
    ),
    "paid through a gateway, and less refunded than its refunds": (
        lambda order: replace(
            order,
            transaction_id="",
            payment_method=OrderPaymentMethod.GATEWAY,
            refunded_amount=40,
        ),
        [("refunded_amount is 40, its refunds sum to 50", -10)],
    ),
    "of no known amount": (
        lambda order: replace(order, amount=None),
        [("amount is None, 200 by PAYMENT {payment}", None)],
    ),
}


@pytest.mark.parametrize("what", ORDERS)
def test_an_order_that_says_something_else_is_told(what: str) -> None:
    """Each value of an order that the entries do not bear out is told once."""
    change, expected = ORDERS[what]
    good = books()
    names = {
        "payment": good.payment.transaction_id,
        "refund": good.refund.transaction_id,
        "refund_id": good.refund.refund_id,
    }
    assert of_order(change(good.order)) == [
        (text.format_map(names), amount) for text, amount in expected
    ]


def reversal(topup: Topup, **changes: Any) -> Topup:
    """Change what a top-up says was taken back of it."""
    return replace(topup, reversals=(replace(topup.reversals[0], **changes),))


TOPUPS: dict[str, tuple[Callable[[Topup], Topup], list[Told]]] = {
    "open again": (
        lambda topup: replace(topup, state=TopupState.PENDING),
        [("is PENDING, and names {credit} as its credit", -1_000)],
    ),
    "failed, and without a credit": (
        lambda topup: replace(topup, state=TopupState.FAILED, transaction_id="", pay_order=None),
        [],
    ),
    "no credit": (
        lambda topup: replace(topup, transaction_id=""),
        [("is CREDITED, its credit is not in the ledger: none is named", 1_000)],
    ),
    "a credit that is not there": (
        lambda topup: replace(topup, transaction_id="txn_none"),
        [("is CREDITED, its credit is not in the ledger: txn_none", 1_000)],
    ),
    "another amount": (
        lambda topup: replace(topup, amount=inr(999)),
        [("amount is 999, 1000 by its credit {credit}", -1)],
    ),
    "another customer": (
        lambda topup: replace(topup, customer_id="ben"),
        [("customer_id is ben, asha by its credit {credit}", None)],
    ),
    "another payment": (
        lambda topup: replace(topup, gateway="stripe", gateway_payment_id="pay_x"),
        [
            ("gateway is stripe, razorpay by its credit {credit}", None),
            ("gateway_payment_id is pay_x, pay_1 by its credit {credit}", None),
        ],
    ),
    "a credit of another kind": (
        lambda topup: replace(topup, transaction_id=books().adjustment.transaction_id),
        [
            ("type is TOPUP, ADJUSTMENT by its credit {adjustment}", None),
            ("topup_id is {topup},  by its credit {adjustment}", None),
            ("amount is 1000, 7 by its credit {adjustment}", 993),
            ("gateway_payment_id is pay_1, pay_stray by its credit {adjustment}", None),
        ],
    ),
    "a reversal that debited nothing": (
        lambda topup: reversal(topup, is_debited=False),
        [("reversal rfnd_1 debited 0, its entries took 30", -30)],
    ),
    "a reversal of another amount": (
        lambda topup: reversal(topup, amount=31),
        [("reversal rfnd_1 debited 31, its entries took 30", 1)],
    ),
    "a reversal of all": (
        lambda topup: reversal(topup, amount=1_000),
        [
            ("reversal rfnd_1 debited 1000, its entries took 30", 970),
            ("is CREDITED, with 1000 of 1000 debited", None),
        ],
    ),
    "all was taken": (
        lambda topup: replace(topup, state=TopupState.REVERSED),
        [("is REVERSED, with 30 of 1000 debited", None)],
    ),
    "paid another order": (
        lambda topup: replace(topup, pay_order=OrderToPay("order-x", inr(101))),
        [
            ("order_id is order-x, at-once by its payment {paid_at_once}", None),
            ("amount is 101, 100 by its payment {paid_at_once}", 1),
        ],
    ),
    "paid by another's payment": (
        lambda topup: paid_by(topup, books().refund.transaction_id),
        [
            ("type is PAYMENT, REFUND by its payment {refund}", None),
            ("order_id is at-once, order by its payment {refund}", None),
            ("topup_id is {topup},  by its payment {refund}", None),
            ("amount is 100, -50 by its payment {refund}", 150),
        ],
    ),
    "paid by nothing": (
        lambda topup: paid_by(topup, "txn_none"),
        [("its payment of at-once is not in the ledger: txn_none", 100)],
    ),
    "did not pay": (lambda topup: paid_by(topup, ""), []),
    "paid nothing yet": (lambda topup: replace(topup, pay_order_outcome=None), []),
}


def paid_by(topup: Topup, transaction_id: str) -> Topup:
    """Change which entry a top-up says has paid its order."""
    assert topup.pay_order_outcome is not None
    outcome = replace(topup.pay_order_outcome, transaction_id=transaction_id)
    return replace(topup, pay_order_outcome=outcome)


@pytest.mark.parametrize("what", TOPUPS)
def test_a_top_up_that_says_something_else_is_told(what: str) -> None:
    """Each value of a top-up that the entries do not bear out is told once."""
    change, expected = TOPUPS[what]
    good = books()
    names = {
        name: getattr(good, name).transaction_id
        for name in ("credit", "paid_at_once", "payment", "refund", "adjustment")
    } | {"topup": good.topup.topup_id}
    assert of_topup(change(good.topup)) == [
        (text.format_map(names), amount) for text, amount in expected
    ]


def test_an_entry_in_another_currency_is_told() -> None:
    """Amounts of different currencies are not the same money."""
    good = books()
    payment = replace(good.payment, currency_code="USD")
    what = f"currency is INR, USD by PAYMENT {payment.transaction_id}"
    assert of_order(good.order, payment) == [(what, None)]
    credit = replace(good.credit, currency_code="USD")
    what = f"currency is INR, USD by its credit {credit.transaction_id}"
    assert of_topup(good.topup, credit) == [(what, None)]


def test_reversals_of_one_name_are_added_up() -> None:
    """What was taken in one entry, and came back in another, is one sum."""
    good = books()
    by_id = {entry.transaction_id: entry for entry in good.entries}
    found = told(check_topup(good.topup, by_id, [good.taken, replace(good.taken, amount=10)]))
    assert found == [("reversal rfnd_1 debited 30, its entries took 20", 10)]
