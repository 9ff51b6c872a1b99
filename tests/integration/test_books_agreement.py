"""Proof of orders, top-ups and entries against each other: each falsification is named exactly."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import Int64

from harness import unique, with_database
from written_books import Names, WrittenBooks, written_books


@pytest.fixture(scope="module")
async def books(mongodb_uri: str) -> AsyncIterator[WrittenBooks]:
    """Books that may be falsified."""
    async with written_books(with_database(mongodb_uri, unique("falsified"))) as opened:
        yield opened


async def named(books: WrittenBooks, names: Names) -> list[tuple[str, str, str, int | None]]:
    """Return what a proof names of a customer: kind, record, what, how much."""
    return [
        (one.kind.value, one.record_id, one.what, one.minor_units)
        for one in await books.differences()
        if one.wallet.customer_id == names["customer"]
    ]


def filled(expected: Any, names: Names) -> Any:
    """Fill a customer's names into what is expected."""
    if isinstance(expected, str):
        return expected.format_map(names)
    if isinstance(expected, tuple):
        return tuple(filled(part, names) for part in expected)
    return expected


def long(**fields: int) -> dict[str, Any]:
    """Return an update that sets amounts."""
    return {"$set": {name: Int64(value) for name, value in fields.items()}}


async def test_books_of_every_type_of_entry_agree(books: WrittenBooks) -> None:
    """What the service wrote agrees with itself in all ways, and its accounts add up."""
    names = await books.busy_customer()

    assert await named(books, names) == []
    (wallet,) = await books.database.wallets.find({"customer_id": names["customer"]}).to_list(None)
    assert wallet["balance"] == 727


FALSIFIED: dict[str, tuple[str, str, dict[str, Any], list[Any]]] = {
    "an order that is open again": (
        *("orders", "order", {"$set": {"payment_status": "PENDING"}}),
        [("order", "{order}", "payment_status does not say paid, and {payment} paid it", -200)],
    ),
    "an order paid otherwise": (
        *("orders", "order", {"$set": {"payment_method": "CARD"}}),
        [("order", "{order}", "payment_method is not WALLET, and {payment} paid it", None)],
    ),
    "an order with another amount": (
        *("orders", "order", long(amount=190)),
        [("order", "{order}", "amount is 190, 200 by PAYMENT {payment}", -10)],
    ),
    "another customer's order": (
        *("orders", "topup_order", {"$set": {"customer_id": "{customer}", "currency": "JPY"}}),
        [("order", "{topup_order}", "currency is JPY, INR by PAYMENT {paid_by_topup}", None)],
    ),
    "an order whose payment is another's": (
        *("orders", "order", {"$set": {"wallet_transaction_id": "{paid_by_topup}"}}),
        [
            (
                "transaction",
                "{payment}",
                "order {order} does not name it as its PAYMENT",
                -200,
            ),
            (
                "order",
                "{order}",
                "order_id is {order}, {topup_order} by PAYMENT {paid_by_topup}",
                None,
            ),
            ("order", "{order}", "amount is 200, 100 by PAYMENT {paid_by_topup}", 100),
        ],
    ),
    "an order that names no payment": (
        *("orders", "order", {"$unset": {"wallet_transaction_id": ""}}),
        [
            ("transaction", "{payment}", "order {order} does not name it as its PAYMENT", -200),
            ("order", "{order}", "its payment is not in the ledger: none is named", 200),
        ],
    ),
    "a refund that is forgotten": (
        *("orders", "order", {"$set": {"refunds": []}}),
        [
            ("transaction", "{refund_entry}", "order {order} does not name it as its REFUND", 50),
            ("order", "{order}", "refunded_amount is 50, its refunds sum to 0", 50),
        ],
    ),
    "a refund of another amount": (
        *("orders", "order", long(**{"refunds.0.amount": 60, "refunded_amount": 60})),
        [("order", "{order}", "amount is 60, 50 by REFUND {refund_entry}", 10)],
    ),
    "a refund under another entry": (
        *("orders", "order", {"$set": {"refunds.0.transaction_id": "txn_none"}}),
        [("order", "{order}", "refund {refund} is not in the ledger: txn_none", 50)],
    ),
    "a refunded amount that is too small": (
        *("orders", "order", long(refunded_amount=0)),
        [
            ("order", "{order}", "refunded_amount is 0, its refunds sum to 50", -50),
            (
                "order",
                "{order}",
                "payment_status is PARTIALLY_REFUNDED, with 0 of 200 refunded it is PAID",
                None,
            ),
        ],
    ),
    "a refunded amount over the payment": (
        *("orders", "order", long(refunded_amount=201)),
        [
            ("order", "{order}", "refunded_amount is 201, its refunds sum to 50", 151),
            ("order", "{order}", "refunded_amount is 201 of 200: more than was paid", 1),
        ],
    ),
    "a refunded order that says paid": (
        *("orders", "order", {"$set": {"payment_status": "PAID"}}),
        [
            (
                "order",
                "{order}",
                "payment_status is PAID, with 50 of 200 refunded it is PARTIALLY_REFUNDED",
                None,
            )
        ],
    ),
    "a top-up that is open again": (
        *("topups", "topup", {"$set": {"state": "PENDING"}}),
        [("topup", "{topup}", "is PENDING, and names {credit} as its credit", -1_000)],
    ),
    "a top-up of another amount": (
        *("topups", "topup", long(amount=999)),
        [("topup", "{topup}", "amount is 999, 1000 by its credit {credit}", -1)],
    ),
    "a top-up by another payment": (
        *("topups", "topup", {"$set": {"gateway": "stripe", "gateway_payment_id": "pay_x"}}),
        [
            ("topup", "{topup}", "gateway is stripe, razorpay by its credit {credit}", None),
            (
                "topup",
                "{topup}",
                "gateway_payment_id is pay_x, {gateway_payment} by its credit {credit}",
                None,
            ),
        ],
    ),
    "a top-up that names no credit": (
        *("topups", "topup", {"$unset": {"transaction_id": ""}}),
        [
            ("transaction", "{credit}", "topup {topup} does not name it as its TOPUP", 1_000),
            (
                "topup",
                "{topup}",
                "is CREDITED, its credit is not in the ledger: none is named",
                1_000,
            ),
        ],
    ),
    "a reversal that debited nothing": (
        *("topups", "topup", {"$set": {"reversals.0.is_debited": False}}),
        [("topup", "{topup}", "reversal {reversal} debited 0, its entries took 30", -30)],
    ),
    "a reversal of another amount": (
        *("topups", "topup", long(**{"reversals.0.amount": 31})),
        [("topup", "{topup}", "reversal {reversal} debited 31, its entries took 30", 1)],
    ),
    "a reversal that is forgotten": (
        *("topups", "topup", {"$unset": {"reversals": ""}}),
        [("transaction", "{taken}", "topup {topup} does not name it as its REVERSAL", -30)],
    ),
    "a top-up that says all was taken": (
        *("topups", "topup", {"$set": {"state": "REVERSED"}}),
        [("topup", "{topup}", "is REVERSED, with 30 of 1000 debited", None)],
    ),
    "a top-up that paid another order": (
        *("topups", "topup", {"$set": {"pay_order_outcome.transaction_id": "{payment}"}}),
        [
            (
                "topup",
                "{topup}",
                "order_id is {topup_order}, {order} by its payment {payment}",
                None,
            ),
            ("topup", "{topup}", "topup_id is {topup},  by its payment {payment}", None),
            ("topup", "{topup}", "amount is 100, 200 by its payment {payment}", -100),
        ],
    ),
    "a top-up whose order was paid by nothing": (
        *("topups", "topup", {"$set": {"pay_order_outcome.transaction_id": "txn_none"}}),
        [
            (
                "topup",
                "{topup}",
                "its payment of {topup_order} is not in the ledger: txn_none",
                100,
            )
        ],
    ),
    "an adjustment that settled nothing": (
        *("gateway_events", "event", {"$unset": {"resolution": ""}}),
        [("transaction", "{adjustment}", "no event was settled by this ADJUSTMENT", 7)],
    ),
    "a wallet with more in it": (
        *("wallets", "wallet", long(balance=728)),
        [("wallet", "{account}", "balance is 728 in the wallet, 727 by its entries", 1)],
    ),
    "an order that cannot be read": (
        *("orders", "order", {"$set": {"refunds.0.amount": "fifty"}}),
        [("order", "{order}", "the record cannot be read: ValueError", None)],
    ),
    "an amount that is not whole": (
        *("topups", "topup", {"$set": {"amount": 1000.5}}),
        [("topup", "{topup}", "the record cannot be read: amount is a float", None)],
    ),
}


@pytest.mark.parametrize("what", FALSIFIED)
async def test_a_falsified_record_is_named_with_what_and_how_much(
    books: WrittenBooks, what: str
) -> None:
    """Each altered value is told once, with its record, both values, and the money in question."""
    collection, record, change, expected = FALSIFIED[what]
    names = await books.busy_customer()
    update = copy.deepcopy(change)
    for fields in update.values():
        fields |= {name: filled(value, names) for name, value in fields.items()}
    await books.database[collection].update_one(
        {"_id": names[record]}, update, bypass_document_validation=True
    )

    assert await named(books, names) == [filled(one, names) for one in expected]


@pytest.mark.parametrize(
    ("collection", "record", "expected"),
    [
        (
            "orders",
            "order",
            [
                ("transaction", "{payment}", "there is no order {order} for it", -200),
                ("transaction", "{refund_entry}", "there is no order {order} for it", 50),
            ],
        ),
        (
            "topups",
            "topup",
            [
                ("transaction", "{credit}", "there is no topup {topup} for it", 1_000),
                ("transaction", "{taken}", "there is no topup {topup} for it", -30),
            ],
        ),
        (
            "wallets",
            "wallet",
            [("wallet", "{account}", "entries without a wallet", -727)],
        ),
    ],
)
async def test_a_deleted_record_is_named_by_its_entries(
    books: WrittenBooks, collection: str, record: str, expected: list[Any]
) -> None:
    """Entries whose order, top-up or wallet is gone say so."""
    names = await books.busy_customer()
    await books.database[collection].delete_one({"_id": names[record]})

    assert await named(books, names) == [filled(one, names) for one in expected]
