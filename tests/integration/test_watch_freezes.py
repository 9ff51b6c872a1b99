"""Operators' freezes in the event feed: told once, in order, from a cursor and from the past."""

import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from event_watch import names_of, watching
from harness import Harness, another_server, eventually, inr, running_harness, unique
from operator_commands import operate
from replica_set import running_replica_set
from server.commit.errors import CommitError
from server.feed import EventFilter, HistoryPosition, Moment, PositionLost
from server.ledger.chain import first_id
from server.ledger.commands import FreezeWallet, SetTier, UnfreezeWallet
from server.ledger.records import WalletState
from server.store.connection import connect
from server.store.event_feed import MongoEventFeed
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

FROZEN = resources.WALLET_EVENT_TYPE_WALLET_FROZEN
THAWED = resources.WALLET_EVENT_TYPE_WALLET_THAWED


def freeze(customer: str) -> FreezeWallet:
    """Return the command that freezes a customer's wallet."""
    return FreezeWallet(customer, "INR", "asha", "a stolen phone")


def unfreeze(customer: str) -> UnfreezeWallet:
    """Return the command that lifts it."""
    return UnfreezeWallet(customer, "INR", "asha", "found again")


def just_before_now() -> Timestamp:
    """Return a time as the contract has it."""
    stamp = Timestamp()
    stamp.FromMilliseconds(round(time.time() * 1_000) - 1)
    return stamp


def ids_of(events: Sequence[resources.WalletEvent]) -> list[str]:
    """Return the ids of events."""
    return [event.event_id for event in events]


def payment(customer: str) -> service.PayWithWalletRequest:
    """Return a payment that can be repeated."""
    return service.PayWithWalletRequest(
        customer_id=customer,
        order_id=unique("order"),
        amount=inr(1),
        idempotency_key=unique("key"),
    )


async def test_a_freeze_and_a_thaw_are_told_once_among_what_moves_money(harness: Harness) -> None:
    """They come in their place, without an entry; repeats and a tier are no events."""
    customer = await harness.customer(10_000)
    async with watching(harness.stub, customer_id=customer) as watcher:
        paid = await harness.pay(customer, 1_000)
        await operate(harness, freeze(customer), freeze(customer))
        await harness.refund(customer, paid.payment.order_id)
        await operate(harness, unfreeze(customer), unfreeze(customer))
        await operate(harness, SetTier(customer, "verified", "asha", "papers seen"))
        await harness.pay(customer, 1_000)
        events = await watcher.until(lambda told: len(told) >= 5)

    assert names_of(events) == [
        "PAYMENT_MADE",
        "WALLET_FROZEN",
        "REFUND_MADE",
        "WALLET_THAWED",
        "PAYMENT_MADE",
    ]
    assert len(set(ids_of(events))) == 5
    assert {(event.customer_id, event.currency_code) for event in events} == {(customer, "INR")}
    has_entry = [event.HasField("transaction") for event in events]
    assert has_entry == [True, False, True, False, True]
    assert not any(event.HasField("topup") for event in events)
    times = [event.create_time.ToMilliseconds() for event in events]
    assert times == sorted(times)


async def test_a_reader_goes_on_right_after_a_freeze_at_another_server(harness: Harness) -> None:
    """The cursor of a freeze is good anywhere: what came meanwhile is told, the freeze is not."""
    customer = await harness.customer(10_000)
    async with watching(harness.stub, customer_id=customer) as before:
        await operate(harness, freeze(customer))
        await before.until(len)
    await operate(harness, unfreeze(customer))
    async with (
        another_server(harness) as other,
        watching(other, customer_id=customer, cursor=before.cursor) as after,
    ):
        await operate(harness, freeze(customer))
        await after.until(lambda told: len(told) >= 2)

    assert names_of(before.events) == ["WALLET_FROZEN"]
    assert names_of(after.events) == ["WALLET_THAWED", "WALLET_FROZEN"]
    assert len(set(ids_of(before.events + after.events))) == 3


async def test_freezes_are_told_once_over_an_election(tmp_path: Path) -> None:
    """When the primary is killed between them, a reader hears of the freeze and of the thaw."""
    async with (
        running_replica_set(tmp_path) as replica_set,
        running_harness(replica_set.uri) as harness,
    ):
        customer = await harness.customer(10_000)
        async with watching(harness.stub, customer_id=customer) as watcher:
            await operate(harness, freeze(customer))
            (await replica_set.primary()).send(signal.SIGKILL)

            async def is_thawed() -> bool:
                try:
                    [reply] = await operate(harness, unfreeze(customer))
                except CommitError:
                    return False
                return bool(reply.wallet.state is WalletState.ACTIVE)

            await eventually(is_thawed, 40)
            await harness.settled("PayWithWallet", [payment(customer)])
            events = await watcher.until(lambda told: len(told) >= 3, 40)

    assert names_of(events) == ["WALLET_FROZEN", "WALLET_THAWED", "PAYMENT_MADE"]


async def test_the_past_tells_freezes_in_the_order_in_which_they_happened(
    harness: Harness,
) -> None:
    """From a time on, page by page, all comes as it came live, with the same ids."""
    customer = await harness.customer(10_000)
    start = just_before_now()
    async with watching(harness.stub, customer_id=customer) as live:
        for number in (120, 73, 30):  # the last of the first 200 is a freeze
            await operate(harness, freeze(customer), unfreeze(customer))
            await harness.settled("PayWithWallet", [payment(customer) for _ in range(number)])
            await operate(harness, freeze(customer))
            await operate(harness, unfreeze(customer))
        await live.until(lambda told: len(told) >= 235)
    async with watching(harness.stub, customer_id=customer, start_time=start) as past:
        await operate(harness, freeze(customer))
        await past.until(lambda told: len(told) >= 236)

    assert names_of(live.events)[199] == "WALLET_FROZEN"
    assert ids_of(past.events)[:-1] == ids_of(live.events)
    assert names_of(past.events).count("WALLET_FROZEN") == 7
    assert names_of(past.events)[-1] == "WALLET_FROZEN"


async def test_a_filter_finds_freezes_alone(harness: Harness) -> None:
    """By customer and type, as they come and in the past."""
    customer, other = await harness.customer(10_000), await harness.customer(10_000)
    start = just_before_now()
    wanted: dict[str, Any] = {"customer_id": customer, "types": [FROZEN]}
    async with (
        watching(harness.stub, **wanted) as frozen,
        watching(harness.stub, customer_id=customer, types=[THAWED]) as thawed,
    ):
        await operate(harness, freeze(other), freeze(customer), unfreeze(customer))
        await harness.pay(customer, 1_000)
        await frozen.until(len)
        await thawed.until(len)
    async with watching(harness.stub, start_time=start, **wanted) as past:
        await past.until(len)

    assert names_of(frozen.events) == ["WALLET_FROZEN"]
    assert names_of(thawed.events) == ["WALLET_THAWED"]
    assert ids_of(past.events) == ids_of(frozen.events)


async def test_a_wallet_that_owes_is_thawed_by_what_settles_it(harness: Harness) -> None:
    """Lifting the freeze of a wallet that owes is no event: the credit that settles it is."""
    customer = await harness.customer(10_000)
    await harness.pay(customer, 8_000)
    credited = (await harness.entries(customer))[0]
    async with watching(harness.stub, customer_id=customer) as watcher:
        await operate(harness, freeze(customer))
        payment_id = credited["gateway_payment_id"]
        await harness.at_sandbox(f"payments/{payment_id}/refund", amount=10_000, wait=True)
        await watcher.until(lambda told: len(told) >= 2)
        await operate(harness, unfreeze(customer), freeze(customer), unfreeze(customer))
        topup = await harness.initiate(customer, 50_000)
        await harness.pay_at_gateway(topup.gateway_order_id)
        events = await watcher.until(lambda told: len(told) >= 4)

    assert names_of(events) == [
        "WALLET_FROZEN",
        "TOPUP_REVERSED",
        "TOPUP_CREDITED",
        "WALLET_THAWED",
    ]
    assert events[3].transaction == events[2].transaction


async def test_the_past_goes_on_at_another_moment_after_a_freeze(harness: Harness) -> None:
    """Freezes that were told count, so that one that came in behind is found."""
    customer = await harness.customer(10_000)
    await operate(harness, freeze(customer), unfreeze(customer))
    await harness.pay(customer, 1_000)
    action = await harness.database.operator_actions.find_one(
        {"customer_id": customer, "kind": "FREEZE"}
    )
    before, frozen_at = first_id("txn_", 0), "txn_" + action["_id"].removeprefix("act_")
    position = HistoryPosition(before, frozen_at, 2, Moment(1, 1))
    with connect(harness.settings.mongodb_uri.get_secret_value()) as database:
        feed = MongoEventFeed(database, 1)
        reader = feed.reader(EventFilter(customer), position)
        assert not (await reader.next_page()).told
        page = await reader.next_page()
        missed = feed.reader(EventFilter(customer), replace(position, told=1))
        with pytest.raises(PositionLost):
            await missed.next_page()
        feed.close()

    kinds = [event.type for told in page.told for event in told.events]
    assert kinds == ["WALLET_THAWED", "PAYMENT_MADE"]
