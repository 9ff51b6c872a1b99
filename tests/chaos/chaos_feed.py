"""What a reader of the event feed must have heard of a round: everything, once, in its order."""

from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any

from event_watch import Watcher, names_of

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
    told = _told(watcher)
    return [
        *(f"feed: {one} was not told" for one in sorted(written - told.keys())),
        *(f"feed: {one} was told and is not there" for one in sorted(told.keys() - written)),
        *(f"feed: {one} was told {times} times" for one, times in told.items() if times > 1),
        *_out_of_order(watcher),
    ]


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
