"""What a reader of the feed did not hear, or heard wrongly, is found after a round of chaos."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import chaos_feed
import pytest
from chaos_feed import cursor_findings, feed_findings
from motor.motor_asyncio import AsyncIOMotorClient

from event_watch import Watcher, watching
from harness import inr, running_harness, unique, with_database
from wallet_payment.v1 import resources_pb2 as resources

TYPES = ("TOPUP_CREDITED", "PAYMENT_MADE", "REFUND_MADE")


def told(numbers: Sequence[int]) -> Watcher:
    """Return a reader that was told of these entries of Asha's wallet, in this order."""
    watcher = Watcher([])
    for number in numbers:
        name = f"WALLET_EVENT_TYPE_{TYPES[(number - 1) % len(TYPES)]}"
        watcher.events.append(
            resources.WalletEvent(
                customer_id="asha",
                type=resources.WalletEventType.Value(name),
                transaction=resources.WalletTransaction(
                    transaction_id=f"txn_{number}", sequence=number, amount=inr(1)
                ),
            )
        )
    return watcher


@pytest.fixture
async def ledger(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A database with three entries, and a reader that is not waited for."""
    monkeypatch.setattr(chaos_feed, "_CATCH_UP_SECONDS", 0.05)
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(with_database(mongodb_uri, unique("feed")))
    database = client.get_default_database()
    await database.wallet_transactions.insert_many([{"_id": f"txn_{n}"} for n in (1, 2, 3)])
    yield database
    client.close()


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((1, 2, 3), []),
        ((1, 3), ["feed: txn_2 was not told"]),
        ((1, 2, 3, 4), ["feed: txn_4 was told and is not there"]),
        ((1, 2, 2, 3), ["feed: txn_2 was told 2 times"]),
        ((2, 1, 3), ["feed: asha:INR was told out of order"]),
        ((), [f"feed: txn_{number} was not told" for number in (1, 2, 3)]),
    ],
)
async def test_what_a_reader_was_told_is_held_against_the_ledger(
    ledger: Any, numbers: Sequence[int], found: list[str]
) -> None:
    """An event that is missing, invented, doubled or too early is found, and nothing else."""
    assert await feed_findings(told(numbers), ledger) == found


async def test_a_cursor_that_leads_elsewhere_is_found(mongodb_uri: str) -> None:
    """Each cursor leads to what came after it; one that would skip or repeat is found."""
    uri = with_database(mongodb_uri, unique("cursors"))
    async with running_harness(uri, events_heartbeat_seconds=0.1) as shop:
        async with watching(shop.stub) as watcher:
            customer = await shop.customer(1_000)
            for _ in range(2):
                await shop.pay(customer, 100)
            await watcher.until(lambda told: len(told) >= 3)
        good = await cursor_findings(watcher, [shop.stub])
        cursor, heard = watcher.cursors[0]
        watcher.cursors = [(cursor, heard + 1)]
        repeats = await cursor_findings(watcher, [shop.stub])

    assert good == []
    assert repeats == ["feed: the cursor after 1 events led to 3 others, not to the 2 that came"]
