"""How the records stand is told as it is in the database, and the books are proven all the time."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bson import Int64

from harness import (
    KEY_SECRET,
    WEBHOOK_SECRET,
    Harness,
    eventually,
    payment_of,
    running_harness,
    unique,
    with_database,
)
from harness import event_of as webhook_of
from scraped import Scraped, scraped
from server.store import schema
from server.store.connection import connect
from server.store.standing import MongoStanding

LEASE_MS = 180_000


@pytest.fixture
async def shop(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service that looks at its own database all the time; its books may be falsified."""
    async with running_harness(
        with_database(mongodb_uri, unique("standing")),
        books_agree=False,
        watch_interval_seconds=0.05,
        proof_interval_seconds=0.05,
    ) as running:
        yield running


def telling(
    shop: Harness, condition: Callable[[Scraped], object]
) -> Callable[[], Awaitable[Scraped | None]]:
    """Return what gives a scrape once a condition holds of it."""

    async def seen() -> Scraped | None:
        current = await scraped(shop.http, shop.metrics_url)
        return current if condition(current) else None

    return seen


async def test_pending_topups_are_told_by_their_age(shop: Harness) -> None:
    """What is on its way counts once, under its age; what arrived does not count."""
    customer = await shop.customer(100)
    for hours in (0, 2, 48):
        topup = await shop.initiate(customer, 700)
        await shop.database.topups.update_one(
            {"_id": topup.topup_id},
            {"$set": {"create_time": datetime.now(UTC) - timedelta(hours=hours)}},
        )

    name = "wallet_topups_pending"
    ages = {"under_5m": 1, "under_1h": 0, "under_1d": 1, "over_1d": 1}

    def is_by_age(one: Scraped) -> bool:
        return all(
            one.value(name, gateway="razorpay", age=age) == count for age, count in ages.items()
        )

    seen = await eventually(telling(shop, is_by_age))
    assert seen.value(name, gateway="razorpay") == 3
    assert abs(time.time() - seen.value("wallet_standing_read_timestamp_seconds")) < 60
    assert seen.value(name, gateway="stripe") == 0


async def test_the_review_queue_is_told_with_its_oldest_event(shop: Harness) -> None:
    """An event that nobody could use is in the queue of its gateway, with its time."""
    topup = await shop.initiate(await shop.customer(), 700)
    body = webhook_of("payment.captured", payment_of(topup, amount=600))
    assert (await shop.deliver(body))[0] == 200
    await shop.database.gateway_events.update_many(
        {}, {"$set": {"receive_time": datetime.now(UTC) - timedelta(hours=3)}}
    )

    def is_old(one: Scraped) -> bool:
        return one.value("wallet_review_oldest_age_seconds") > 3_600

    seen = await eventually(telling(shop, is_old))
    assert seen.value("wallet_review_queue", gateway="razorpay") == 1
    assert seen.value("wallet_review_queue") == 1
    assert 10_700 < seen.value("wallet_review_oldest_age_seconds") < 11_000


async def test_books_that_balance_are_told_with_what_they_hold(shop: Harness) -> None:
    """Once everything was gone through, imbalance and differences are told as zero."""
    customer = await shop.customer(1_000)
    await shop.pay(customer, 300)

    def holds_all(one: Scraped) -> bool:
        return one.value("wallet_ledger_held_minor_units", currency="INR") == 700

    seen = await eventually(telling(shop, holds_all))
    assert seen.labels("wallet_ledger_imbalance_minor_units", "currency") == ["INR"]
    assert seen.value("wallet_ledger_imbalance_minor_units") == 0
    assert "wallet_ledger_differences" in seen.families
    assert seen.value("wallet_ledger_differences") == 0
    assert seen.value("wallet_ledger_proven_timestamp_seconds") > 1_700_000_000


async def test_money_from_nowhere_is_an_imbalance(shop: Harness) -> None:
    """A posting that was altered behind the service's back shows by its amount."""
    customer = await shop.customer(1_000)
    await shop.database.wallet_transactions.update_one(
        {"customer_id": customer}, {"$set": {"postings.1.amount": Int64(-600)}}
    )

    def is_found(one: Scraped) -> bool:
        return one.value("wallet_ledger_imbalance_minor_units", currency="INR") == 400

    seen = await eventually(telling(shop, is_found))
    assert seen.value("wallet_ledger_differences") > 0


async def test_an_altered_balance_is_a_difference(shop: Harness) -> None:
    """The cached balance is compared with its entries; setting it right again ends the alarm."""
    customer = await shop.customer(1_000)
    wallet = {"customer_id": customer}
    await shop.database.wallets.update_one(wallet, {"$set": {"balance": Int64(9_000)}})
    await eventually(telling(shop, lambda one: one.value("wallet_ledger_differences") > 0))

    await shop.database.wallets.update_one(wallet, {"$set": {"balance": Int64(1_000)}})

    def is_over(one: Scraped) -> bool:
        return one.value("wallet_ledger_differences") == 0

    await eventually(telling(shop, is_over))


async def test_the_last_reconciliation_is_told(shop: Harness) -> None:
    """What `reconcile` found stays visible until it is run again."""
    topup = await shop.initiate(await shop.customer(), 700)
    assert (await shop.deliver(webhook_of("payment.captured", payment_of(topup))))[0] == 200
    environment = {
        "PATH": os.environ["PATH"],
        "WALLET_MONGODB_URI": shop.settings.mongodb_uri.get_secret_value(),
        "WALLET_RAZORPAY_KEY_ID": shop.settings.razorpay_key_id,
        "WALLET_RAZORPAY_KEY_SECRET": KEY_SECRET,
        "WALLET_RAZORPAY_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "WALLET_RAZORPAY_API_URL": shop.settings.razorpay_api_url,
    }
    now = datetime.now(UTC)
    days = [(now + timedelta(days=days)).strftime("%Y-%m-%d") for days in (-1, 2)]
    command = ("reconcile", "--gateway", "razorpay", "--from", days[0], "--to", days[1])
    program = Path(sys.executable).parent / "wallet-payment"
    process = await asyncio.create_subprocess_exec(program, *command, env=environment)
    assert await process.wait() == 1

    name = "wallet_reconciliation_differences"
    seen = await eventually(telling(shop, lambda one: one.value(name, gateway="razorpay")))
    assert seen.value(name, gateway="razorpay") == 1
    told_ago = now.timestamp() - seen.value("wallet_reconciliation_timestamp_seconds")
    assert abs(told_ago) < 120


async def test_servers_share_one_proof(mongodb_uri: str) -> None:
    """Of two that come at once one goes the leg; the next is due after the rest, for anyone."""
    with connect(with_database(mongodb_uri, unique("proof"))) as database:
        await schema.migrate(database)
        one, other = MongoStanding(database), MongoStanding(database)

        went = await asyncio.gather(*(each.prove_on(1_000, 500, 10) for each in (one, other)))
        assert sorted(found is None for found in went) == [False, True]
        assert await one.prove_on(1_499, 500, 10) is None
        assert await other.prove_on(1_500, 500, 10) == []
        assert await one.prove_on(1_999, 500, 10) is None


async def test_a_leg_whose_server_died_is_gone_by_another(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken up once nobody can be on it any more, and the round comes to its end."""
    with connect(with_database(mongodb_uri, unique("proof"))) as database:
        await schema.migrate(database)
        standing = MongoStanding(database)
        with monkeypatch.context() as dying:
            dying.setattr("server.store.standing.next_leg", _die)
            with pytest.raises(asyncio.CancelledError):
                await standing.prove_on(1_000, 500, 10)

        assert await standing.prove_on(1_000 + LEASE_MS - 1, 500, 10) is None
        now_ms = 1_000 + LEASE_MS
        while (await standing.standing(now_ms)).proven is None:
            assert await standing.prove_on(now_ms, 500, 10) == []
            now_ms += 500


async def _die(*_: object) -> None:
    raise asyncio.CancelledError
