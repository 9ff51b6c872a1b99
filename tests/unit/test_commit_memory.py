"""What a lane takes for granted: it saves reads, and is never what an answer stands on."""

from dataclasses import replace

import pytest

from faulty_store import (
    ONE_LANE,
    MemoryStore,
    Notes,
    balance,
    committer,
    give,
    payment,
    store_with,
)
from server.commit.errors import Rejected
from server.commit.memory import BATCHES_OF_NEW_ORDERS
from server.ledger.decisions import PaymentReply
from server.ledger.records import Order
from server.ledger.rejection import Reason

SOON = replace(ONE_LANE, batches_of_new_orders=2)
"""After two batches that paid new orders, orders are taken to be new."""


async def test_what_was_written_is_not_read_again() -> None:
    """The next payment of a wallet needs its order alone; wallet and key are taken for granted."""
    store = store_with(100)
    async with committer(store, Notes()) as work:
        await work.submit(payment(10))
        await work.submit(payment(10))
    assert [bool(needs.wallets_of) for needs in store.loads] == [True, False]
    assert not any(needs.transactions_by_key for needs in store.loads)
    assert all(needs.orders for needs in store.loads)
    assert balance(store) == 80


async def test_a_wallet_that_others_have_changed_is_noticed_by_the_commit() -> None:
    """What is remembered is outdated: the payment is decided anew, and nothing is overwritten."""
    store, notes = store_with(100), Notes()
    async with committer(store, notes) as work:
        await work.submit(payment(10))
        give(store, 1_000, "asha")
        reply = await work.submit(payment(10))
    assert isinstance(reply, PaymentReply)
    assert reply.wallet.balance == 1_080
    assert notes.retries == ["WriteConflict"]


async def test_a_refusal_is_never_told_from_memory() -> None:
    """Money came in elsewhere: the payment that memory says cannot be paid is paid."""
    store = store_with(15)
    async with committer(store, Notes()) as work:
        await work.submit(payment(10))
        give(store, 100, "asha")
        reply = await work.submit(payment(50))
    assert isinstance(reply, PaymentReply)
    assert balance(store) == 55


async def test_a_repeat_gets_its_first_answer_although_its_key_was_taken_for_new() -> None:
    """A repeated key is noticed by the commit, and answered as it was the first time."""
    store, notes = store_with(100), Notes()
    command = payment(10)
    async with committer(store, notes) as work:
        first = await work.submit(command)
        await work.submit(payment(10))
        again = await work.submit(command)
    assert isinstance(first, PaymentReply)
    assert isinstance(again, PaymentReply)
    assert (again.payment, again.transaction) == (first.payment, first.transaction)
    assert again.wallet.balance == 90
    assert balance(store) == 80
    assert len(store.commits) == 2


async def test_a_memory_that_misled_is_left_alone_for_a_while() -> None:
    """After others wrote to its wallets, a lane reads again before each batch for some batches."""
    store, notes = store_with(1_000), Notes()
    async with committer(store, notes) as work:
        await work.submit(payment(1))
        give(store, 1_000, "asha")
        for _ in range(20):
            await work.submit(payment(1))
    read = [bool(needs.wallets_of) for needs in store.loads]
    assert read[2:10] == [True] * 8
    assert read[-1] is False
    assert notes.retries == ["WriteConflict"]


def orders_read(store: MemoryStore) -> list[bool]:
    """Return of each load whether it asked for orders."""
    return [bool(needs.orders) for needs in store.loads]


def recorded(order_id: str, amount: int = 10) -> Order:
    """Return an unpaid order as the order service records it beforehand."""
    return Order(order_id, "asha", amount, "INR", None, None, "", 0, (), None)


async def test_where_orders_were_new_the_next_is_not_read() -> None:
    """After some batches that paid new orders alone, a payment reads nothing at all."""
    store, notes = store_with(100), Notes()
    async with committer(store, notes, SOON) as work:
        for _ in range(5):
            await work.submit(payment(10))
    assert orders_read(store) == [True, True, False, False, False]
    assert not any(needs.wallets_of or needs.transactions_by_key for needs in store.loads[2:])
    assert notes.retries == []
    assert balance(store) == 50


async def test_by_default_many_batches_have_to_agree() -> None:
    """One new order says little of the next."""
    store = store_with(1_000)
    async with committer(store, Notes()) as work:
        for _ in range(BATCHES_OF_NEW_ORDERS + 1):
            await work.submit(payment(1))
    assert orders_read(store) == [True] * BATCHES_OF_NEW_ORDERS + [False]


async def test_an_order_that_another_server_has_paid_is_not_paid_again() -> None:
    """It was taken to be new; the commit finds it, and the payment is refused by what is there."""
    store, notes = store_with(100), Notes()
    async with committer(store, notes, SOON) as work:
        for _ in range(3):
            await work.submit(payment(10))
        paid_elsewhere = payment(10, order="twice")
        async with committer(store, Notes()) as elsewhere:
            await elsewhere.submit(paid_elsewhere)
        give(store, 1_000, "ravi")
        with pytest.raises(Rejected) as refused:
            await work.submit(payment(10, order="twice", customer="ravi"))
        assert refused.value.rejection.reason is Reason.ORDER_MISMATCH
        again = await work.submit(paid_elsewhere)
    assert isinstance(again, PaymentReply)
    assert again.transaction.order_id == "twice"
    assert notes.retries == ["WriteConflict"]
    assert (balance(store), balance(store, "ravi")) == (60, 1_000)


async def test_after_a_wrong_guess_orders_are_read_again() -> None:
    """A memory that took a recorded order to be new waits for new evidence."""
    store, notes = store_with(1_000), Notes()
    settings = replace(ONE_LANE, batches_of_new_orders=10)
    async with committer(store, notes, settings) as work:
        for _ in range(11):
            await work.submit(payment(1))
        store.orders["recorded"] = recorded("recorded")
        before = len(store.loads)
        for order in ("recorded", *[""] * 11):
            await work.submit(payment(10, order=order))
    # The wrong guess, the load after it that finds the order, ten that find none.
    assert orders_read(store)[before:] == [False, *[True] * 11, False]
    assert notes.retries == ["WriteConflict"]


async def test_the_repeat_of_a_payment_is_looked_up() -> None:
    """An order that was just paid is not taken to be new: a repeat costs no failed commit."""
    store, notes = store_with(100), Notes()
    async with committer(store, notes, SOON) as work:
        for _ in range(3):
            await work.submit(payment(10))
        command = payment(10)
        first = await work.submit(command)
        again = await work.submit(command)
        await work.submit(payment(10))
    assert isinstance(first, PaymentReply)
    assert isinstance(again, PaymentReply)
    assert (again.payment, again.transaction) == (first.payment, first.transaction)
    assert notes.retries == []
    assert orders_read(store)[-1] is False  # nor does it say that orders are not new


async def test_orders_that_are_recorded_beforehand_are_always_read() -> None:
    """Where the order service records its orders first, nothing is guessed."""
    store, notes = store_with(100), Notes()
    async with committer(store, notes, SOON) as work:
        for number in range(6):
            order = recorded(f"recorded-{number}")
            store.orders[order.order_id] = order
            await work.submit(payment(10, order=order.order_id))
    assert orders_read(store) == [True] * 6
    assert notes.retries == []
    assert balance(store) == 40
