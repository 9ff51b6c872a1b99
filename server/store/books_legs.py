"""The legs of a proof: each goes through some records at one point in time.

A leg is done whole or, when something breaks it off, not at all: it changes a copy of the state.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from bson import Int64, MaxKey

from server.ledger.agreement import Lookups, check_entry, check_order, check_topup
from server.ledger.books import Difference, RecordKind, WalletProof, add_postings
from server.ledger.records import Transaction, Wallet, WalletKey
from server.store import books_lookups, documents, order_documents, schema
from server.store.books_state import BooksState, Phase
from server.store.connection import Collection, Cursor, Database, Document, Session

LEG_RECORDS: Final = 20_000
_LEG_SECONDS: Final = 60.0
"""MongoDB keeps a point in time for five minutes, by default."""
_BATCH: Final = 1_000

Tell = Callable[[Difference], None]
Item = TypeVar("Item")


async def wallets_leg(database: Database, state: BooksState, records: int, tell: Tell) -> None:
    """Walk wallets in the order of their keys, each with its entries; also in the midst of one."""
    end = _End(records)
    async with (
        await database.client.start_session(snapshot=True) as session,
        aclosing(_wallets(database, session, state, records)) as wallet_stream,
        aclosing(_entries(database, session, state, records)) as entry_stream,
    ):
        wallets, entries = _Ahead(wallet_stream, tell), _Ahead(entry_stream, tell)
        await wallets.advance()
        await entries.advance()
        while True:
            if state.is_wallet_done:
                key = min(_keys(wallets.item, entries.item), default=None)
                if key is None:
                    break
                if end.is_reached():
                    return
                state.proof, state.is_wallet_done = WalletProof(key), False
            if not await _walk(state, wallets, entries, end, tell):
                return
        await wallets.advance()
        await entries.advance()
    state.phase = Phase.ORDERS


async def orders_leg(database: Database, state: BooksState, records: int, tell: Tell) -> None:
    """Compare orders that this service has written to with their entries."""
    async with await database.client.start_session(snapshot=True) as session:
        query = await _next_range(database[schema.ORDERS], session, state, records) | _OURS
        async for batch in _batches(database[schema.ORDERS].find(query, session=session)):
            orders = _all_read(order_documents.read_order, batch, RecordKind.ORDER, tell)
            entries = await books_lookups.entries_of_orders(database, session, orders)
            for order in orders:
                _tell_all(check_order(order, entries), tell)
            state.report.orders += len(batch)
    if not state.last_id:
        state.phase = Phase.TOPUPS


async def topups_leg(database: Database, state: BooksState, records: int, tell: Tell) -> None:
    """Compare top-ups with their entries."""
    async with await database.client.start_session(snapshot=True) as session:
        query = await _next_range(database[schema.TOPUPS], session, state, records)
        async for batch in _batches(database[schema.TOPUPS].find(query, session=session)):
            topups = _all_read(documents.read_topup, batch, RecordKind.TOPUP, tell)
            entries = await books_lookups.entries_of_topups(database, session, topups)
            reversals = await books_lookups.reversals_of(database, session, topups)
            for topup in topups:
                _tell_all(check_topup(topup, entries, reversals[topup.topup_id]), tell)
            state.report.topups += len(batch)
    if not state.last_id:
        state.phase = Phase.SEALS


Leg = Callable[[Database, BooksState, int, Tell], Awaitable[None]]
LEGS: Final[Mapping[Phase, Leg]] = {
    Phase.WALLETS: wallets_leg,
    Phase.ORDERS: orders_leg,
    Phase.TOPUPS: topups_leg,
}

_OURS: Final[Document] = {
    "$or": [
        {"wallet_transaction_id": {"$gt": ""}},
        {"payment_method": {"$regex": "^wallet$", "$options": "i"}},
        {"refunds.refund_id": {"$regex": "^ref_"}},
    ]
}
"""Finds the orders that this service has written to."""


class _End:
    """Where a leg is to end: after so many records, or so much time."""

    def __init__(self, records: int) -> None:
        self._left = records
        self._until = time.monotonic() + _LEG_SECONDS

    def pass_one(self, state: BooksState) -> None:
        self._left -= 1
        state.passed += 1

    def is_reached(self) -> bool:
        return self._left <= 0 or time.monotonic() > self._until


@dataclass(slots=True)
class _Entry:
    """An entry, with what was looked up for it and its neighbours."""

    transaction: Transaction
    lookups: Lookups

    @property
    def key(self) -> WalletKey:
        return WalletKey(self.transaction.customer_id, self.transaction.currency_code)


class _Ahead(Generic[Item]):
    """A stream whose next item can be looked at; None after the last.

    What cannot be read is told when the item behind it is passed: one that was only looked at is
    read again by the next leg.
    """

    def __init__(self, stream: AsyncIterator[Item | Difference], tell: Tell) -> None:
        self._stream = stream
        self._tell = tell
        self._unreadable: list[Difference] = []
        self.item: Item | None = None

    async def advance(self) -> None:
        for difference in self._unreadable:
            self._tell(difference)
        self._unreadable = []
        while isinstance(item := await anext(self._stream, None), Difference):
            self._unreadable.append(item)
        self.item = item

    def tell_unreadable_of(self, key: WalletKey) -> None:
        """Tell what cannot be read of a wallet that is done."""
        for difference in self._unreadable:
            if difference.wallet == key:
                self._tell(difference)
        self._unreadable = [one for one in self._unreadable if one.wallet != key]


async def _walk(
    state: BooksState, wallets: _Ahead[Wallet], entries: _Ahead[_Entry], end: _End, tell: Tell
) -> bool:
    """Walk the state's wallet on; False says that the leg is over before the wallet is."""
    proof, report = state.proof, state.report
    assert proof is not None  # noqa: S101 - there is one once a wallet is begun
    while (entry := entries.item) is not None and entry.key == proof.key:
        if end.is_reached():
            return False
        _tell_all(proof.check(entry.transaction), tell)
        _tell_all(check_entry(entry.transaction, entry.lookups), tell)
        add_postings(report.accounts, entry.transaction)
        report.transactions += 1
        end.pass_one(state)
        await entries.advance()
    wallet = None
    if wallets.item is not None and wallets.item.key == proof.key:
        wallet = wallets.item
        report.wallets += 1
        end.pass_one(state)
        await wallets.advance()
    entries.tell_unreadable_of(proof.key)
    wallets.tell_unreadable_of(proof.key)
    _tell_all(proof.check_end(wallet), tell)
    report.balances[proof.key.currency_code] += proof.balance
    state.is_wallet_done = True
    return True


async def _wallets(
    database: Database, session: Session, state: BooksState, records: int
) -> AsyncGenerator[Wallet | Difference, None]:
    """Go through the wallets from the state's on, without it where it is done."""
    cursor = database[schema.WALLETS].find(session=session)
    proof, is_done = state.proof, state.is_wallet_done
    cursor = _from(cursor, _WALLET_ORDER, proof.key if proof else None)
    async for batch in _batches(cursor, records):
        for document in batch:
            if proof is None or not is_done or _raw_key(document) != proof.key:
                yield _read(documents.read_wallet, document, RecordKind.WALLET)


async def _entries(
    database: Database, session: Session, state: BooksState, records: int
) -> AsyncGenerator[_Entry | Difference, None]:
    """Go through the entries from where the state is, each batch with what it has to be told of."""
    cursor = database[schema.TRANSACTIONS].find(session=session)
    proof, is_done = state.proof, state.is_wallet_done
    start: tuple[Any, ...] | None = None
    if proof is not None:
        start = (*proof.key, MaxKey() if is_done else Int64(proof.sequence))
    passed = None if proof is None or is_done else (*proof.key, proof.sequence)
    async for batch in _batches(_from(cursor, _ENTRY_ORDER, start), records):
        read = [
            _read(documents.read_transaction, document, RecordKind.TRANSACTION)
            for document in batch
            if (*_raw_key(document), document.get("sequence")) != passed
        ]
        lookups = await books_lookups.owners_of(
            database, session, [one for one in read if isinstance(one, Transaction)]
        )
        for one in read:
            yield one if isinstance(one, Difference) else _Entry(one, lookups)


_WALLET_ORDER: Final = ("customer_id", "currency")
_ENTRY_ORDER: Final = ("customer_id", "currency", "sequence")


def _from(cursor: Cursor, order: tuple[str, ...], start: tuple[Any, ...] | None) -> Cursor:
    """Have a cursor follow the index of these fields, from `start` on."""
    index = [(name, 1) for name in order]
    cursor = cursor.sort(index)
    return cursor if start is None else cursor.hint(index).min(list(zip(order, start, strict=True)))


async def _next_range(
    collection: Collection, session: Session, state: BooksState, records: int
) -> Document:
    """Return the query of the next so many records by id, and note where it ends.

    It counts all of them, so that a leg is short also where few of the records are wanted.
    """
    ids: Document = {"$gt": state.last_id}
    last = await (
        collection.find({"_id": ids}, {"_id": 1}, session=session)
        .sort("_id", 1)
        .skip(records - 1)
        .limit(1)
        .to_list(1)
    )
    state.last_id = ""
    if last:
        state.last_id = last[0]["_id"]
        state.passed += records
    return {"_id": ids | ({"$lte": state.last_id} if last else {})}


async def _batches(cursor: Cursor, records: int = _BATCH) -> AsyncIterator[list[Document]]:
    """Read in batches, none larger than a leg of so many records needs."""
    size = min(_BATCH, records + 1)  # and the one that it begins after
    try:
        cursor.batch_size(size)
        while batch := await cursor.to_list(size):
            yield batch
    finally:
        await cursor.close()


def _all_read(
    read: Callable[[Document], Item], batch: list[Document], kind: RecordKind, tell: Tell
) -> list[Item]:
    """Read records; those that cannot be read are told, and left out."""
    found = []
    for document in batch:
        one = _read(read, document, kind)
        if isinstance(one, Difference):
            tell(one)
        else:
            found.append(one)
    return found


def _read(
    read: Callable[[Document], Item], document: Document, kind: RecordKind
) -> Item | Difference:
    """Read a record, or say that it cannot be read; the proof goes on without it."""
    try:
        if kind is not RecordKind.ORDER:  # which others write, and in their way
            _check_types(document)
        return read(document)
    except _WrongType as error:
        why = str(error)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = type(error).__name__
    key = WalletKey(*(str(part) for part in _raw_key(document)))
    return Difference(key, kind, str(document["_id"]), f"the record cannot be read: {why}")


class _WrongType(ValueError):
    """A field is not of the type that it is written with."""


def _check_types(document: Document) -> None:
    """Refuse what reading would round or convert: the figure would not be the stored one."""
    for name, kind in _TYPES:
        if not isinstance(document.get(name, kind()), kind):
            raise _WrongType(f"{name} is a {type(document[name]).__name__}")
    for posting in document.get("postings", ()):
        if not isinstance(posting["amount"], int):
            raise _WrongType(f"a posting's amount is a {type(posting['amount']).__name__}")


_TYPES: Final[tuple[tuple[str, type], ...]] = (
    ("customer_id", str),
    ("currency", str),
    ("amount", int),
    ("balance", int),
    ("balance_after", int),
    ("sequence", int),
)


def _raw_key(document: Document) -> tuple[Any, Any]:
    return document.get("customer_id"), document.get("currency")


def _tell_all(differences: Iterable[Difference], tell: Tell) -> None:
    for difference in differences:
        tell(difference)


def _keys(wallet: Wallet | None, entry: _Entry | None) -> list[WalletKey]:
    keys = [] if wallet is None else [wallet.key]
    return keys if entry is None else [*keys, entry.key]
