"""The feed's reader on a real MongoDB: positions that are gone, and moments that are."""

from dataclasses import replace

import pytest
from bson import decode, encode

from event_watch import watching
from harness import Harness
from server.feed import (
    EventFilter,
    HistoryPosition,
    LivePosition,
    Moment,
    Page,
    PositionLost,
    Told,
)
from server.ledger.chain import first_id
from server.store.connection import connect
from server.store.event_feed import MongoEventFeed, MongoEventReader

LONG_AGO = Moment(1, 1)


async def pages_of(reader: MongoEventReader) -> tuple[list[Told], Page]:
    """Read until the history is over; return what was told, and the last page."""
    told: list[Told] = []
    while True:
        page = await reader.next_page()
        told += page.told
        if isinstance(page.position, LivePosition):
            return told, page


async def test_a_token_that_the_database_does_not_know_is_lost(harness: Harness) -> None:
    """A place that is older than all that MongoDB keeps of its commits is said to be lost."""
    customer = await harness.customer()
    with connect(harness.settings.mongodb_uri.get_secret_value()) as database:
        feed = MongoEventFeed(database, 1)
        async with watching(harness.stub, customer_id=customer):
            reader = feed.reader(EventFilter(), None)
            await reader.next_page()
            await harness.customer(1_000)
            while not (page := await reader.next_page()).told:
                pass
            await reader.close()
        position = page.told[0].position
        assert isinstance(position, LivePosition)
        token = decode(position.token)["_data"]
        older = LivePosition(encode({"_data": f"8250000000{token[10:]}"}))
        lost = feed.reader(EventFilter(), older)
        with pytest.raises(PositionLost):
            await lost.next_page()
        await lost.close()
        feed.close()


async def test_history_goes_on_at_another_moment(harness: Harness) -> None:
    """Where MongoDB has let a moment go, the history goes on if nothing came in behind."""
    customer = await harness.customer(10_000)
    for _ in range(3):
        await harness.pay(customer, 1)
    ids = [entry["_id"] for entry in await harness.entries(customer)]
    with connect(harness.settings.mongodb_uri.get_secret_value()) as database:
        feed = MongoEventFeed(database, 1)
        before = first_id("txn_", 0)
        position = HistoryPosition(before, ids[1], 2, LONG_AGO)

        told, page = await pages_of(feed.reader(EventFilter(customer), position))
        missed = feed.reader(EventFilter(customer), replace(position, told=1))
        with pytest.raises(PositionLost):
            await missed.next_page()
        feed.close()

    assert [one.events[0].event_id for one in told] == [
        f"evt_{transaction_id.removeprefix('txn_')}_payment_made" for transaction_id in ids[2:]
    ]
    assert page.position != position
