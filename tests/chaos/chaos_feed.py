"""What a reader of the event feed must have heard of a round: everything, once, in its order."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from event_watch import Watcher, names_of, watching

_CURSORS: Final = 5
_CATCH_UP_SECONDS = 60
_ENTRY = {
    "TOPUP_CREDITED",
    "TOPUP_REVERSED",
    "TOPUP_REVERSAL_RETURNED",
    "PAYMENT_MADE",
    "REFUND_MADE",
}


async def feed_findings(watcher: Watcher, database: Any) -> list[str]:
    """Compare what was told with the ledger, once the reader has caught up or failed to."""
    entries = await database.wallet_transactions.find({}, {"_id": 1}).to_list(None)
    written = {entry["_id"] for entry in entries}
    with suppress(TimeoutError):
        await watcher.until(lambda _: written <= _told(watcher).keys(), _CATCH_UP_SECONDS)
        await _until_quiet(watcher)  # what would come once more would have come by then
    told = _told(watcher)
    return [
        *(f"feed: {one} was not told" for one in sorted(written - told.keys())),
        *(f"feed: {one} was told and is not there" for one in sorted(told.keys() - written)),
        *(f"feed: {one} was told {times} times" for one, times in told.items() if times > 1),
        *_out_of_order(watcher),
    ]


async def cursor_findings(watcher: Watcher, stubs: Sequence[Any]) -> list[str]:
    """Go on from some of the cursors of the whole round; each has to lead to the rest, once."""
    findings: list[str] = []
    step = max(1, len(watcher.cursors) // _CURSORS)
    for cursor, heard in watcher.cursors[::step]:
        expected = Counter(event.event_id for event in watcher.events[heard:])
        again = await _led_to(stubs, cursor, expected.total())
        if Counter(event.event_id for event in again.events) != expected:
            findings.append(
                f"feed: the cursor after {heard} events led to {len(again.events)} others, "
                f"not to the {expected.total()} that came"
            )
        findings += _out_of_order(again)
    return findings


async def _led_to(stubs: Sequence[Any], cursor: str, count: int) -> Watcher:
    """Watch from a cursor until so many events were told and no more come."""
    async with watching(*stubs, cursor=cursor) as again:
        with suppress(TimeoutError):
            await again.until(lambda told: len(told) >= count, _CATCH_UP_SECONDS)
            await _until_quiet(again)
    return again


async def _until_quiet(watcher: Watcher) -> None:
    """Wait for the next heartbeat: there is nothing to tell any more."""
    heard = watcher.heartbeats
    await watcher.until(lambda _: watcher.heartbeats > heard, _CATCH_UP_SECONDS)


def _told(watcher: Watcher) -> Counter[str]:
    """Return the ledger's entries that were told, and how often."""
    return Counter(
        event.transaction.transaction_id
        for event, name in zip(watcher.events, names_of(watcher.events), strict=True)
        if name in _ENTRY
    )


def _out_of_order(watcher: Watcher) -> list[str]:
    sequences: defaultdict[str, list[int]] = defaultdict(list)
    for event in watcher.events:
        if event.HasField("transaction"):
            wallet = f"{event.customer_id}:{event.transaction.amount.currency_code}"
            sequences[wallet].append(event.transaction.sequence)
    return [
        f"feed: {wallet} was told out of order"
        for wallet, told in sequences.items()
        if told != sorted(told)
    ]
