"""Commits: whole or not at all, and only on what still is as it was read."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from server.commit.port import WriteConflict
from server.ledger.commands import (
    Command,
    DismissEvent,
    ExpireTopup,
    FreezeWallet,
    Needs,
    PayOrder,
    RecordEvent,
    SetTier,
)
from server.ledger.limits import Limits, WalletLimits
from server.ledger.money import Money
from server.ledger.records import GatewayPaymentKey, OrderPaymentState, Standing, Topup, WalletKey
from server.ledger.state import ChangeSet
from store_contract.stores import (
    GATEWAY,
    Prepared,
    Stores,
    captured,
    kept_event,
    load,
    opening,
    payment,
    prepare,
    recorded_order,
    refund,
    topup_request,
    unique,
    unique_key,
)

Pair = Callable[[Stores], Awaitable[tuple[Command, Command]]]


async def test_what_nobody_has_is_absent(stores: Stores) -> None:
    """A load tells of each record that was asked for, also that there is none; of no other."""
    customer, topup = await stores.customer(), unique("topup")
    needs = Needs()
    needs.add(payment(unique("stranger"), order_id="no-order"))
    needs.add(payment(customer, order_id="no-order-either"))
    needs.add(topup_request(customer))
    needs.add(ExpireTopup(customer, topup))
    needs.add(DismissEvent("no-event", "somebody", "for a test"))
    needs.credits.add(GatewayPaymentKey(GATEWAY, "no-payment"))

    state = (await stores.store.load(needs)).state

    assert sorted(state.customers.values()) == [False, True]
    assert state.wallets[customer] == {}
    assert state.orders == {"no-order": None, "no-order-either": None}
    assert set(state.transactions_by_key.values()) == {None}
    assert set(state.topups_by_key.values()) == {None}
    assert state.topups == {topup: None}
    assert state.credits == {GatewayPaymentKey(GATEWAY, "no-payment"): None}
    assert state.events == {"no-event": None}
    with pytest.raises(KeyError):
        state.wallet(WalletKey("nobody-asked", "INR"))


async def test_what_is_committed_is_loaded_by_every_server(stores: Stores) -> None:
    """Right after a commit, each of its records is read as it was written, by another server."""
    customer = await stores.customer()
    topup = await stores.opened(customer, amount=Money("INR", 500))
    credit = captured(topup)
    prepared = await prepare(stores.store, credit)
    await prepared.commit()

    state = (await load(stores.other_store, credit)).state

    assert state.wallets[customer]["INR"] in prepared.changes.wallets.values()
    assert state.topups[topup.topup_id] in prepared.changes.topups.values()
    assert state.events[credit.event.key] in prepared.changes.events.values()
    assert state.credits[credit.payment_key] == topup.topup_id

    command = payment(customer, 200)
    prepared = await prepare(stores.store, command)
    await prepared.commit()
    state = (await load(stores.other_store, command)).state
    assert state.transactions_by_key[command.idempotency_key] in prepared.changes.transactions
    assert state.orders[command.order_id] in prepared.changes.orders.values()
    assert state.wallets[customer]["INR"].balance == 300


async def test_a_load_does_not_change_by_later_commits(stores: Stores) -> None:
    """What was loaded stays as it was read, whatever is committed after it."""
    customer = await stores.customer(100)
    command = payment(customer, 60)
    snapshot = await load(stores.store, command)

    await stores.carry_out(command)

    assert snapshot.state.wallets[customer]["INR"].balance == 100
    assert snapshot.state.orders[command.order_id] is None


async def test_a_load_is_of_one_moment(stores: Stores) -> None:
    """While payments are committed, no load ever shows the half of one of them."""
    customer = await stores.customer(1_000)
    for _ in range(40):
        command = payment(customer, 1)
        prepared = await prepare(stores.store, command)
        [after] = prepared.changes.wallets.values()
        committing = asyncio.create_task(prepared.commit())
        is_seen = False
        while not is_seen:
            state = (await load(stores.other_store, command)).state
            is_seen = state.wallets[customer]["INR"] == after
            assert (state.orders[command.order_id] is not None) == is_seen
            assert (state.transactions_by_key[command.idempotency_key] is not None) == is_seen
        await committing


async def _two_payments(stores: Stores) -> tuple[Command, Command]:
    customer = await stores.customer(100)
    return payment(customer), payment(customer)


async def _two_first_credits(stores: Stores) -> tuple[Command, Command]:
    customer = await stores.customer()
    return captured(await stores.opened(customer)), captured(await stores.opened(customer))


async def _two_payments_of_a_new_order(stores: Stores) -> tuple[Command, Command]:
    order = unique("order")
    return (
        payment(await stores.customer(100), order_id=order),
        payment(await stores.customer(100), order_id=order),
    )


async def _two_starts_with_one_key(stores: Stores) -> tuple[Command, Command]:
    command = topup_request(await stores.customer())
    return command, replace(command, amount=replace(command.amount, minor_units=101))


async def _opened_and_expired(stores: Stores) -> tuple[Command, Command]:
    topup = await stores.started(await stores.customer(), lifetime_ms=0)
    return opening(topup), ExpireTopup(topup.customer_id, topup.topup_id)


async def _one_event_twice(_: Stores) -> tuple[Command, Command]:
    command = kept_event()
    return command, command


async def _one_event_settled_twice(stores: Stores) -> tuple[Command, Command]:
    command = kept_event()
    await stores.carry_out(command)
    key = command.event.key
    return DismissEvent(key, "one", "for a test"), DismissEvent(key, "other", "for a test")


@pytest.mark.parametrize(
    "pair",
    [
        _two_payments,
        _two_first_credits,
        _two_payments_of_a_new_order,
        _two_starts_with_one_key,
        _opened_and_expired,
        _one_event_twice,
        _one_event_settled_twice,
    ],
)
async def test_who_comes_second_conflicts(stores: Stores, pair: Pair) -> None:
    """Of two commands that were decided on the same record, the second to commit is refused."""
    first, second = await pair(stores)
    one = await prepare(stores.store, first)
    other = await prepare(stores.other_store, second)

    await one.commit()
    with pytest.raises(WriteConflict):
        await other.commit()


async def test_starts_of_limited_topups_conflict(stores: Stores) -> None:
    """Two starts of a customer's top-ups that count on the same open ones are not both written."""
    limits = Limits({"default": {"INR": WalletLimits(daily_topup=150)}})
    customer = await stores.customer()
    first = await prepare(stores.store, topup_request(customer), limits=limits)
    other = await prepare(stores.other_store, topup_request(customer), limits=limits)

    await first.commit()
    with pytest.raises(WriteConflict):
        await other.commit()

    state = (await load(stores.other_store, topup_request(customer), limits=limits)).state
    [topup] = first.changes.topups.values()
    assert state.open_topups == {customer: {topup.topup_id: topup}}
    assert list(first.changes.standings.values()) == [state.standings[customer]]


async def test_what_an_operator_does_conflicts_with_a_payment(stores: Stores) -> None:
    """A freeze or a new tier is not overtaken by a payment that was decided before it."""
    for act in (
        lambda customer: FreezeWallet(customer, "INR", "asha", "for a test"),
        lambda customer: SetTier(customer, "verified", "asha", "for a test"),
    ):
        customer = await stores.customer(100)
        paying = await prepare(stores.store, payment(customer))
        await stores.carry_out(act(customer), stores.other_store)

        with pytest.raises(WriteConflict):
            await paying.commit()


async def test_a_tier_is_loaded_with_the_wallet(stores: Stores) -> None:
    """Where wallets have limits, a load tells each customer's tier, also that none was set."""
    limits = Limits({"default": {"INR": WalletLimits(daily_spend=50)}})
    set_one, other = await stores.customer(100), await stores.customer(100)
    await stores.carry_out(SetTier(set_one, "verified", "asha", "for a test"))

    state = (await load(stores.store, payment(set_one), payment(other), limits=limits)).state

    assert state.standings == {set_one: Standing(set_one, "verified", 1), other: None}


async def test_two_at_the_same_moment_are_not_both_written(stores: Stores) -> None:
    """Ten payments from one wallet that are committed at once: one is written, nine conflict."""
    customer = await stores.customer(100)
    prepared = [await prepare(stores.store, payment(customer)) for _ in range(10)]

    ends = await asyncio.gather(*(one.commit() for one in prepared), return_exceptions=True)

    conflicts = [end for end in ends if isinstance(end, WriteConflict)]
    assert (len(conflicts), ends.count(None)) == (9, 1)
    [wallet] = await stores.queries.wallets(customer)
    assert wallet.balance == 90


@pytest.mark.parametrize(
    "change",
    [
        {"customer_id": "another"},
        {"amount": 11},
        {"currency_code": "USD"},
        {"payment_state": OrderPaymentState.PAID},
        {"refunded_amount": 1},
    ],
    ids=str,
)
async def test_an_order_that_its_service_changes_conflicts(
    stores: Stores, change: dict[str, Any]
) -> None:
    """Whatever a decision relied upon of an order is guarded against the order service, too."""
    customer = await stores.customer(100)
    order = recorded_order(customer)
    await stores.put_order(order)
    prepared = await prepare(stores.store, payment(customer, order_id=order.order_id))

    await stores.put_order(replace(order, **change))

    with pytest.raises(WriteConflict):
        await prepared.commit()


async def test_a_refund_conflicts_with_another_of_its_order(stores: Stores) -> None:
    """Two refunds decided on the same order are not both written: its cap holds."""
    customer = await stores.customer(100)
    paid = payment(customer, 100)
    await stores.carry_out(paid)
    one = await prepare(stores.store, refund(customer, paid.order_id, 60))
    other = await prepare(stores.other_store, refund(customer, paid.order_id, 60))

    await one.commit()
    with pytest.raises(WriteConflict):
        await other.commit(ChangeSet(orders=other.changes.orders))  # under no guard but its own

    order = await stores.queries.order(paid.order_id)
    assert order is not None
    assert (order.refunded_amount, len(order.refunds)) == (60, 1)


async def test_keys_are_unique(stores: Stores) -> None:
    """An entry in another wallet under a key that was used is refused by the index itself."""
    command = payment(await stores.customer(100))
    await stores.carry_out(command)
    other = await prepare(stores.store, payment(await stores.customer(100)))
    [entry] = other.changes.transactions
    assert entry.idempotency is not None
    forged = replace(entry, idempotency=replace(entry.idempotency, key=command.idempotency_key))

    await _is_refused(stores, other, replace(other.changes, transactions=[forged]))


async def test_a_gateways_payment_is_credited_once(stores: Stores) -> None:
    """A second credit of a payment, to whatever top-up, is refused by the index itself."""
    credited = await stores.credited(await stores.customer(), 100)
    topup = await stores.opened(await stores.customer())
    other = await prepare(stores.store, captured(topup))
    [entry] = other.changes.transactions
    forged = replace(entry, gateway_payment_id=credited.gateway_payment_id)

    await _is_refused(stores, other, replace(other.changes, transactions=[forged]))


async def test_a_sequence_has_one_entry(stores: Stores) -> None:
    """A second entry with a wallet's sequence number is refused, also without its wallet."""
    customer = await stores.customer(100)
    first = await prepare(stores.store, payment(customer))
    second = await prepare(stores.store, payment(customer))
    await first.commit()

    await _is_refused(stores, second, ChangeSet(transactions=second.changes.transactions))


async def test_a_gateways_order_belongs_to_one_top_up(stores: Stores) -> None:
    """A second top-up cannot be opened with another one's order."""
    customer = await stores.customer()
    topup = await stores.opened(customer)
    another = await stores.started(customer)

    other = await prepare(stores.store, opening(another, topup.gateway_order_id))
    with pytest.raises(WriteConflict):
        await other.commit()


async def test_what_may_repeat_is_taken(stores: Stores) -> None:
    """Only a top-up's credit makes a gateway's payment unique: a reversal of it is taken."""
    customer = await stores.customer()
    topup = await stores.credited(customer, 100)
    prepared = await prepare(stores.store, payment(customer))
    [entry] = prepared.changes.transactions
    named = replace(entry, gateway=GATEWAY, gateway_payment_id=topup.gateway_payment_id)

    await prepared.commit(replace(prepared.changes, transactions=[named]))

    [wallet] = await stores.queries.wallets(customer)
    assert wallet.balance == 90


Act = Callable[[Stores, PayOrder, Topup, RecordEvent], Awaitable[Any]]


async def _spend(stores: Stores, paid: PayOrder, _: Topup, __: RecordEvent) -> None:
    await stores.carry_out(payment(paid.customer_id))


async def _use_key(stores: Stores, paid: PayOrder, _: Topup, __: RecordEvent) -> None:
    customer = await stores.customer(100)
    await stores.carry_out(payment(customer, idempotency_key=paid.idempotency_key))


async def _record_order(stores: Stores, paid: PayOrder, _: Topup, __: RecordEvent) -> None:
    await stores.put_order(recorded_order("another", order_id=paid.order_id))


async def _expire(stores: Stores, _: PayOrder, topup: Topup, __: RecordEvent) -> None:
    await stores.carry_out(ExpireTopup(topup.customer_id, topup.topup_id))


async def _keep_event(stores: Stores, _: PayOrder, __: Topup, kept: RecordEvent) -> None:
    await stores.carry_out(kept)


@pytest.mark.parametrize("act", [_spend, _use_key, _record_order, _expire, _keep_event])
async def test_a_batch_is_written_whole_or_not_at_all(stores: Stores, act: Act) -> None:
    """A conflict over any record of a batch leaves nothing of all the others."""
    payer, receiver = await stores.customer(100), await stores.customer()
    topup = await stores.opened(receiver, lifetime_ms=0)
    paid, credit, kept = payment(payer), captured(topup), kept_event()
    batch = await prepare(stores.store, paid, credit, kept)

    await act(stores, paid, topup, kept)
    before = (await load(stores.store, paid, credit, kept)).state
    with pytest.raises(WriteConflict):
        await batch.commit()

    assert (await load(stores.store, paid, credit, kept)).state == before
    assert before.wallets[receiver] == {}
    assert before.events[credit.event.key] is None


async def test_a_batch_that_conflicts_with_itself_is_not_written(stores: Stores) -> None:
    """Two entries of one batch under one key, as no lane would make them, are refused."""
    one, other = await stores.customer(100), await stores.customer(100)
    key = unique_key()
    first = await prepare(stores.store, payment(one, idempotency_key=key))
    second = await prepare(stores.store, payment(other, idempotency_key=key))
    snapshot = await load(stores.store, payment(one), payment(other))
    both = ChangeSet(
        wallets=first.changes.wallets | second.changes.wallets,
        transactions=first.changes.transactions + second.changes.transactions,
    )

    with pytest.raises(WriteConflict):
        await stores.store.commit(snapshot, both)

    assert (await load(stores.store, payment(one), payment(other))).state.wallets == (
        snapshot.state.wallets
    )


async def _is_refused(stores: Stores, prepared: Prepared, changes: ChangeSet) -> None:
    """Check that changes conflict and that nothing of them is written."""
    wallets = [key.customer_id for key in prepared.changes.wallets]
    before = [await stores.queries.wallets(customer) for customer in wallets]
    with pytest.raises(WriteConflict):
        await prepared.commit(changes)
    assert [await stores.queries.wallets(customer) for customer in wallets] == before
