"""The store of the commit path: loads what a batch needs, writes what it changed, all or nothing.

Reading happens before the transaction, all collections at once, as they were durably committed at
one moment. Every record that a batch changes is written under a guard: it must still be
what was read (a version, or the fields of an order that were relied upon), and what did not exist
must still not exist. So a commit is exactly as good as if its reads had been inside, with one
round trip instead of many, and no transaction stays open while commands are decided.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from server.commit.port import OutcomeUnknown, Snapshot, WriteConflict
from server.ledger.commands import Needs
from server.ledger.records import (
    EventOutcome,
    GatewayPaymentKey,
    Order,
    TransactionType,
    WalletKey,
)
from server.ledger.state import ChangeSet, State
from server.store import documents, schema
from server.store.connection import (
    Database,
    Document,
    Find,
    find_at_one_moment,
    is_transient,
    store_errors,
    write,
)

_UNKNOWN_COMMIT: Final = "UnknownTransactionCommitResult"
_COMMIT_ATTEMPTS: Final = 5
_COMMIT_RETRY_SECONDS: Final = 0.1
_IDS: Final = {"projection": {"_id": 1}}
_CREDITS: Final = {"projection": {"gateway": 1, "gateway_payment_id": 1, "topup_id": 1}}
_KNOWN_CUSTOMERS: Final = 100_000
_KNOWN_CUSTOMER_SECONDS: Final = 300.0


@dataclass(slots=True)
class _Read:
    """What was read: the guards of the writes that follow."""

    wallet_versions: dict[WalletKey, int] = field(default_factory=dict)
    topup_versions: dict[str, int] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    orders: dict[str, Order] = field(default_factory=dict)
    order_guards: dict[str, Document] = field(default_factory=dict)


class LedgerStore:
    """Implements the commit path's port on one MongoDB database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._customers = _KnownCustomers()

    async def load(self, needs: Needs) -> Snapshot:
        """Read everything at once; see the port."""
        state, read = State(), _Read()
        loads = (
            self._load_customers(needs, state),
            _load_wallets(needs, state, read),
            _load_orders(needs, state, read),
            _load_transactions(needs, state),
            _load_topups(needs, state, read),
            _load_credits(needs, state),
            _load_events(needs, state, read),
        )
        needed = [load for load in loads if load is not None]
        answers = await find_at_one_moment(self._database, [load.find for load in needed])
        for load, found in zip(needed, answers, strict=True):
            load.take(found)
        return Snapshot(state, read)

    async def commit(self, snapshot: Snapshot, changes: ChangeSet) -> None:
        """Write everything in one transaction; see the port."""
        read: _Read = snapshot.read
        with store_errors():
            session = await self._database.client.start_session()
        try:
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority", j=True),
                read_preference=ReadPreference.PRIMARY,
            )
            try:
                await self._write(read, changes, session)
            except BaseException:
                await _abort(session)
                raise
            await _commit(session)
        finally:
            await session.end_session()

    async def _write(
        self, read: _Read, changes: ChangeSet, session: AsyncIOMotorClientSession
    ) -> None:
        """Write collection by collection; hot wallets first, so that a conflict shows early."""
        for collection, inserts, updates in (
            (schema.WALLETS, *_wallet_writes(read, changes)),
            (schema.TRANSACTIONS, _transaction_inserts(changes), []),
            (schema.ORDERS, *_order_writes(read, changes)),
            (schema.TOPUPS, *_topup_writes(read, changes)),
            (schema.EVENTS, *_event_writes(read, changes)),
        ):
            if inserts:
                await write(self._database, collection, "insert", inserts, session)
            if updates:
                touched = await write(self._database, collection, "update", updates, session)
                if touched != len(updates):
                    raise WriteConflict(f"{collection}: a record changed since it was read")

    def _load_customers(self, needs: Needs, state: State) -> "_Load | None":
        unknown = [name for name in needs.customers if not self._customers.has(name)]
        state.customers = {name: name not in unknown for name in needs.customers}

        def take(found: list[Document]) -> None:
            names = [document["_id"] for document in found]
            self._customers.add(names)
            state.customers |= dict.fromkeys(names, True)

        query = {"_id": _any_of(unknown)}
        return _Load(Find(schema.CUSTOMERS, query, _IDS), take) if unknown else None


@dataclass(frozen=True, slots=True)
class _Load:
    """What has to be found, and what to do with it."""

    find: Find
    take: Callable[[list[Document]], None]


def _load_wallets(needs: Needs, state: State, read: _Read) -> _Load | None:
    state.wallets = {customer: {} for customer in needs.wallets_of}

    def take(found: list[Document]) -> None:
        for wallet in map(documents.read_wallet, found):
            state.wallets[wallet.customer_id][wallet.currency_code] = wallet
            read.wallet_versions[wallet.key] = wallet.version

    query = {"customer_id": _any_of(needs.wallets_of)}
    return _Load(Find(schema.WALLETS, query), take) if needs.wallets_of else None


def _load_orders(needs: Needs, state: State, read: _Read) -> _Load | None:
    state.orders = dict.fromkeys(needs.orders)

    def take(found: list[Document]) -> None:
        for document in found:
            order = documents.read_order(document)
            state.orders[order.order_id] = order
            read.orders[order.order_id] = order
            read.order_guards[order.order_id] = documents.order_guard(document)

    query = {"_id": _any_of(needs.orders)}
    return _Load(Find(schema.ORDERS, query), take) if needs.orders else None


def _load_transactions(needs: Needs, state: State) -> _Load | None:
    state.transactions_by_key = dict.fromkeys(needs.transactions_by_key)

    def take(found: list[Document]) -> None:
        for transaction in map(documents.read_transaction, found):
            if transaction.idempotency is not None:
                state.transactions_by_key[transaction.idempotency.key] = transaction

    keys = {documents.idempotency_id(key) for key in needs.transactions_by_key}
    query = {"idempotency_id": _any_of(keys)}
    return _Load(Find(schema.TRANSACTIONS, query), take) if keys else None


def _load_topups(needs: Needs, state: State, read: _Read) -> _Load | None:
    state.topups = dict.fromkeys(needs.topups)
    state.topups_by_key = dict.fromkeys(needs.topups_by_key)

    def take(found: list[Document]) -> None:
        for topup in map(documents.read_topup, found):
            state.topups[topup.topup_id] = topup
            state.topups_by_key[topup.idempotency.key] = topup
            read.topup_versions[topup.topup_id] = topup.version

    keys = {documents.idempotency_id(key) for key in needs.topups_by_key}
    either = [
        {name: _any_of(values)}
        for name, values in (("_id", needs.topups), ("idempotency_id", keys))
        if values
    ]
    query = either[0] if len(either) == 1 else {"$or": either}
    return _Load(Find(schema.TOPUPS, query), take) if either else None


def _load_credits(needs: Needs, state: State) -> _Load | None:
    state.credits = dict.fromkeys(needs.credits)

    def take(found: list[Document]) -> None:
        for document in found:
            key = GatewayPaymentKey(document["gateway"], document["gateway_payment_id"])
            state.credits[key] = document["topup_id"]

    either = [
        {"gateway": payment.gateway, "gateway_payment_id": payment.payment_id}
        for payment in needs.credits
    ]
    query = {"type": TransactionType.TOPUP.value, "$or": either}
    return _Load(Find(schema.TRANSACTIONS, query, _CREDITS), take) if either else None


def _load_events(needs: Needs, state: State, read: _Read) -> _Load | None:
    state.events = dict.fromkeys(needs.events)

    def take(found: list[Document]) -> None:
        for event in map(documents.read_event, found):
            state.events[event.received.key] = event
            read.events.add(event.received.key)

    query = {"_id": _any_of(needs.events)}
    return _Load(Find(schema.EVENTS, query), take) if needs.events else None


Writes = tuple[list[Document], list[Document]]


def _wallet_writes(read: _Read, changes: ChangeSet) -> Writes:
    inserts, updates = [], []
    for key, wallet in changes.wallets.items():
        document = documents.wallet_document(wallet)
        version = read.wallet_versions.get(key)
        if version is None:
            inserts.append(document)
        else:
            updates.append(_replacement(document, {"version": version}))
    return inserts, updates


def _transaction_inserts(changes: ChangeSet) -> list[Document]:
    return [documents.transaction_document(transaction) for transaction in changes.transactions]


def _order_writes(read: _Read, changes: ChangeSet) -> Writes:
    inserts, updates = [], []
    for order_id, order in changes.orders.items():
        before = read.orders.get(order_id)
        if before is None:
            inserts.append(documents.order_document(order))
        else:
            guard = read.order_guards[order_id]
            has_null = "refunds" in guard
            change = documents.order_changes(before, order, has_null_refunds=has_null)
            updates.append({"q": guard, "u": change})
    return inserts, updates


def _topup_writes(read: _Read, changes: ChangeSet) -> Writes:
    inserts, updates = [], []
    for topup_id, topup in changes.topups.items():
        document = documents.topup_document(topup)
        version = read.topup_versions.get(topup_id)
        if version is None:
            inserts.append(document)
        else:
            updates.append(_replacement(document, {"version": version}))
    return inserts, updates


def _event_writes(read: _Read, changes: ChangeSet) -> Writes:
    inserts, updates = [], []
    for key, event in changes.events.items():
        document = documents.event_document(event)
        if key in read.events:
            updates.append(_replacement(document, {"outcome": EventOutcome.NEEDS_REVIEW.value}))
        else:
            inserts.append(document)
    return inserts, updates


def _replacement(document: Document, guard: Document) -> Document:
    """Replace a whole document that is ours, if it still is what was read."""
    return {"q": {"_id": document["_id"], **guard}, "u": document}


def _any_of(values: Iterable[str]) -> Document:
    return {"$in": list(values)}


async def _abort(session: AsyncIOMotorClientSession) -> None:
    """Give up the transaction; where that gets no answer, MongoDB does so by itself."""
    try:
        await session.abort_transaction()
    except PyMongoError:
        return


async def _commit(session: AsyncIOMotorClientSession) -> None:
    """Commit, and ask again as long as MongoDB does not say what became of it."""
    for attempt in range(_COMMIT_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_COMMIT_RETRY_SECONDS * attempt)
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if error.has_error_label(_UNKNOWN_COMMIT):
                continue
            if is_transient(error):
                raise WriteConflict from error
            with store_errors():
                raise
        else:
            return
    raise OutcomeUnknown


class _KnownCustomers:
    """Remembers for some minutes who exists, so that a busy customer is not looked up each time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._until: OrderedDict[str, float] = OrderedDict()

    def has(self, customer: str) -> bool:
        return self._until.get(customer, 0.0) > self._now()

    def add(self, customers: Iterable[str]) -> None:
        until = self._now() + _KNOWN_CUSTOMER_SECONDS
        for customer in customers:
            self._until[customer] = until
            self._until.move_to_end(customer)
        while len(self._until) > _KNOWN_CUSTOMERS:
            self._until.popitem(last=False)
