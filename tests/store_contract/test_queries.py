"""Reads and claims: what they find, whom they keep apart, and what they leave for the next."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from server.commit.port import WriteConflict
from server.ledger.commands import ExpireTopup
from server.ledger.records import Topup, TopupState, TransactionType
from server.queries import TransactionFilter
from store_contract.stores import (
    GATEWAY,
    NOW_MS,
    Stores,
    captured,
    opening,
    payment,
    prepare,
    recorded_order,
    unique,
)


async def test_wallets_come_by_currency(stores: Stores) -> None:
    """A customer's wallets are told in the order of their currencies; others' are not."""
    customer = await stores.customer()
    assert await stores.queries.wallets(customer) == []

    await stores.credited(customer, 200, "JPY")
    await stores.credited(customer, 100, "INR")
    await stores.customer(300)

    found = await stores.queries.wallets(customer)
    assert [(wallet.currency_code, wallet.balance) for wallet in found] == [
        ("INR", 100),
        ("JPY", 200),
    ]


async def test_customers_are_known_or_not(stores: Stores) -> None:
    """Only whom the customer service has recorded is a customer."""
    assert await stores.queries.has_customer(await stores.customer())
    assert not await stores.queries.has_customer(unique("stranger"))


async def test_a_top_up_is_told_to_its_own(stores: Stores) -> None:
    """By customer, by gateway, by gateway's order: whoever else asks finds none."""
    customer, stranger = await stores.customer(), await stores.customer()
    topup = await stores.opened(customer)
    topup_id, order_id = topup.topup_id, topup.gateway_order_id

    assert await stores.queries.topup(customer, topup_id) == topup
    assert await stores.queries.topup(stranger, topup_id) is None
    assert await stores.queries.topup_by_id(GATEWAY, topup_id) == topup
    assert await stores.queries.topup_by_id("another", topup_id) is None
    assert await stores.queries.topup_of_gateway_order(GATEWAY, order_id) == topup
    assert await stores.queries.topup_of_gateway_order("another", order_id) is None


async def test_a_checkouts_secret_is_not_kept(stores: Stores) -> None:
    """What lets the customer's app confirm a payment is told once, and read by nobody."""
    topup = await stores.started(await stores.customer())
    command = opening(topup)
    secret = replace(command.checkout, client_secret="told-and-not-kept")

    await stores.carry_out(replace(command, checkout=secret))

    assert (await stores.reloaded(topup)).checkout == command.checkout


async def test_pending_top_ups_are_told_newest_first(stores: Stores) -> None:
    """Those on their way are told, the newest first and not too many; those that ended are not."""
    customer = await stores.customer()
    topups = [await stores.opened(customer) for _ in range(3)]
    created = await stores.started(customer)
    await stores.credited(customer, 100)
    expired = await stores.started(customer, lifetime_ms=0)
    await stores.carry_out(ExpireTopup(customer, expired.topup_id))

    found = await stores.queries.pending_topups(customer, 10)

    expected = sorted((topup.topup_id for topup in [*topups, created]), reverse=True)
    assert [topup.topup_id for topup in found] == expected
    assert await stores.queries.pending_topups(customer, 2) == found[:2]


async def test_orders_of_any_service_are_told(stores: Stores) -> None:
    """An order is told as the order service or its payment has recorded it."""
    customer = await stores.customer(100)
    order = recorded_order(customer)
    assert await stores.queries.order(order.order_id) is None

    await stores.put_order(order)
    assert await stores.queries.order(order.order_id) == order

    prepared = await prepare(stores.store, payment(customer, order_id=order.order_id))
    await prepared.commit()
    assert await stores.queries.order(order.order_id) in prepared.changes.orders.values()


async def test_transactions_are_filtered_and_paged(stores: Stores) -> None:
    """Newest first, by currency, type and time, page after page without a gap or a repeat."""
    customer = await stores.customer(1_000)
    await stores.credited(customer, 500, "JPY")
    for _ in range(4):
        await stores.carry_out(payment(customer))

    everything = await stores.queries.transactions(TransactionFilter(customer), 100)
    ids = [entry.transaction_id for entry in everything]
    assert len(ids) == 6
    assert ids == sorted(ids, reverse=True)

    rupees = await stores.queries.transactions(TransactionFilter(customer, "INR"), 100)
    assert [entry.sequence for entry in rupees] == [5, 4, 3, 2, 1]
    of_payments = TransactionFilter(customer, types=frozenset({TransactionType.PAYMENT}))
    assert len(await stores.queries.transactions(of_payments, 100)) == 4
    for wanted, count in (
        (TransactionFilter(customer, start_time_ms=NOW_MS, end_time_ms=NOW_MS + 1), 6),
        (TransactionFilter(customer, start_time_ms=NOW_MS + 1), 0),
        (TransactionFilter(customer, end_time_ms=NOW_MS), 0),
    ):
        assert len(await stores.queries.transactions(wanted, 100)) == count

    first = await stores.queries.transactions(TransactionFilter(customer), 4)
    rest = await stores.queries.transactions(
        TransactionFilter(customer), 4, first[-1].transaction_id
    )
    assert [*first, *rest] == list(everything)


async def test_what_is_due_is_claimed_once(stores: Stores) -> None:
    """Of two that look at once each top-up is claimed by one; what is not due, by none."""
    now_ms = _moment()
    customer = await stores.customer()
    due = [await stores.opened(customer, first_poll_ms=now_ms - NOW_MS - n) for n in range(6)]
    await stores.opened(customer, first_poll_ms=now_ms - NOW_MS + 1)

    claimed = await asyncio.gather(
        stores.schedule.claim_due(now_ms, 100, _after(5_000)),
        stores.other_schedule.claim_due(now_ms, 100, _after(5_000)),
    )

    ids = [topup.topup_id for found in claimed for topup in found]
    assert sorted(ids) == sorted(topup.topup_id for topup in due)
    assert await stores.schedule.claim_due(now_ms, 100, _after(5_000)) == []


async def test_the_longest_due_are_claimed_first(stores: Stores) -> None:
    """With more due than may be claimed, those that wait longest come first."""
    now_ms = _moment()
    customer = await stores.customer()
    due = [await stores.opened(customer, first_poll_ms=now_ms - NOW_MS - n) for n in range(3)]

    first = await stores.schedule.claim_due(now_ms, 2, _after(5_000))
    rest = await stores.schedule.claim_due(now_ms, 2, _after(5_000))

    assert [topup.topup_id for topup in first] == [due[2].topup_id, due[1].topup_id]
    assert [topup.topup_id for topup in rest] == [due[0].topup_id]


async def test_a_claim_puts_off_and_counts(stores: Stores) -> None:
    """A claimed top-up comes again at its next time, asked once more; after None it never does."""
    now_ms = _moment()
    topup = await stores.opened(await stores.customer(), first_poll_ms=now_ms - NOW_MS)

    [claimed] = await stores.schedule.claim_due(now_ms, 100, _after(5_000))
    assert claimed == topup
    [again] = await stores.schedule.claim_due(now_ms + 5_000, 100, _never)
    assert again.poll_time_ms == now_ms + 5_000
    assert again.poll_attempts == topup.poll_attempts + 1
    assert again.version == topup.version + 1
    assert await stores.schedule.claim_due(now_ms + 10_000, 100, _after(5_000)) == []
    assert (await stores.reloaded(topup)).poll_time_ms is None


async def test_a_claim_is_a_write_like_any_other(stores: Stores) -> None:
    """A commit on a top-up that was claimed meanwhile conflicts, and is decided anew."""
    now_ms = _moment()
    topup = await stores.opened(await stores.customer(), first_poll_ms=now_ms - NOW_MS)
    prepared = await prepare(stores.store, captured(topup))

    await stores.schedule.claim_due(now_ms, 100, _after(5_000))

    with pytest.raises(WriteConflict):
        await prepared.commit()
    await stores.carry_out(captured(topup))
    credited = await stores.reloaded(topup)
    assert credited.state is TopupState.CREDITED
    assert credited.poll_time_ms is None


def _moment() -> int:
    """Return a time long before that of any other test that claims."""
    return next(_moments)


_moments = iter(range(NOW_MS - 1, 0, -100_000))


def _after(wait_ms: int) -> Callable[[Topup], int | None]:
    def next_time_ms(topup: Topup) -> int | None:
        assert topup.poll_time_ms is not None
        return topup.poll_time_ms + wait_ms

    return next_time_ms


def _never(_: Topup) -> int | None:
    return None
