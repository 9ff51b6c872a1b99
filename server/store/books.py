"""Proof of the books on the stored records: streamed wallet by wallet, in bounded memory."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from motor.motor_asyncio import AsyncIOMotorClientSession

from server.ledger.books import Difference, WalletProof
from server.ledger.records import Transaction, Wallet, WalletKey
from server.store import documents, schema
from server.store.connection import Database, Document, store_errors

_BATCH: Final = 1_000

Item = TypeVar("Item")


@dataclass(slots=True)
class BooksReport:
    """What was proven."""

    wallets: int = 0
    transactions: int = 0
    balances: Counter[str] = field(default_factory=Counter)
    """Currency -> minor units in all wallets together, by their entries."""
    differences: int = 0


async def verify_books(database: Database, found: Callable[[Difference], None]) -> BooksReport:
    """Recompute every wallet from its entries, at one point in time, while payments go on.

    Each difference is handed to `found` as soon as it is seen.

    Raises:
        StoreUnavailable.
    """
    report = BooksReport()

    def tell(difference: Difference) -> None:
        report.differences += 1
        found(difference)

    with store_errors():
        async with await database.client.start_session(snapshot=True) as session:
            wallets = _Ahead(_wallets(database, session, tell))
            entries = _Ahead(_entries(database, session, tell))
            await wallets.advance()
            await entries.advance()
            while wallets.item is not None or entries.item is not None:
                key = min(_keys(wallets.item, entries.item))
                await _verify_wallet(key, wallets, entries, report, tell)
    return report


async def _verify_wallet(
    key: WalletKey,
    wallets: "_Ahead[Wallet]",
    entries: "_Ahead[Transaction]",
    report: BooksReport,
    tell: Callable[[Difference], None],
) -> None:
    proof = WalletProof(key)
    while entries.item is not None and _key_of(entries.item) == key:
        report.transactions += 1
        for difference in proof.check(entries.item):
            tell(difference)
        await entries.advance()
    wallet = None
    if wallets.item is not None and wallets.item.key == key:
        wallet = wallets.item
        report.wallets += 1
        await wallets.advance()
    for difference in proof.check_end(wallet):
        tell(difference)
    report.balances[key.currency_code] += proof.balance


class _Ahead(Generic[Item]):
    """A stream whose next item can be looked at; None after the last."""

    def __init__(self, stream: AsyncIterator[Item]) -> None:
        self._stream = stream
        self.item: Item | None = None

    async def advance(self) -> None:
        self.item = await anext(self._stream, None)


async def _wallets(
    database: Database, session: AsyncIOMotorClientSession, tell: Callable[[Difference], None]
) -> AsyncIterator[Wallet]:
    cursor = database[schema.WALLETS].find(session=session, batch_size=_BATCH)
    async for document in cursor.sort([("customer_id", 1), ("currency", 1)]):
        wallet = _readable(documents.read_wallet, document, "", tell)
        if wallet is not None:
            yield wallet


async def _entries(
    database: Database, session: AsyncIOMotorClientSession, tell: Callable[[Difference], None]
) -> AsyncIterator[Transaction]:
    order = [("customer_id", 1), ("currency", 1), ("sequence", 1)]
    cursor = database[schema.TRANSACTIONS].find(session=session, batch_size=_BATCH)
    async for document in cursor.sort(order):
        entry = _readable(documents.read_transaction, document, str(document["_id"]), tell)
        if entry is not None:
            yield entry


def _readable(
    read: Callable[[Document], Item],
    document: Document,
    entry_id: str,
    tell: Callable[[Difference], None],
) -> Item | None:
    """Read a record; one that cannot be read is named, and the proof goes on without it."""
    try:
        return read(document)
    except (ValueError, KeyError, TypeError) as error:
        key = WalletKey(str(document.get("customer_id")), str(document.get("currency")))
        tell(Difference(key, entry_id, f"the record cannot be read: {type(error).__name__}"))
        return None


def _key_of(entry: Transaction) -> WalletKey:
    return WalletKey(entry.customer_id, entry.currency_code)


def _keys(wallet: Wallet | None, entry: Transaction | None) -> list[WalletKey]:
    keys = [] if wallet is None else [wallet.key]
    return keys if entry is None else [*keys, _key_of(entry)]
