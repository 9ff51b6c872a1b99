"""The store of the commit path: loads what a batch needs, writes what it changed, all or nothing.

Reading happens before the transaction, as everything was durably committed at one moment: a refusal
or a repeated answer writes nothing, and has to be true of that moment. Every record that a batch
changes is written under a guard: it must still be what was read (a version, or the fields of an
order that were relied upon), and what did not exist must still not exist. So a commit is exactly as
good as if its reads had been inside, and no transaction stays open while commands are decided.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from pymongo import ReadPreference, WriteConcern
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from server.commit.port import OutcomeUnknown, Snapshot, WriteConflict
from server.ledger import chain
from server.ledger.commands import Needs
from server.ledger.limits import OPEN_TOPUP_STATES
from server.ledger.posting import counted
from server.ledger.records import (
    EventOutcome,
    GatewayPaymentKey,
    IdempotencyKey,
    Order,
    Wallet,
    WalletKey,
)
from server.ledger.state import ChangeSet, State
from server.ledger.usage import NO_USAGE, UNCOUNTED, Period, Usage, period_start_ms
from server.store import documents, limit_documents, order_documents, schema
from server.store.connection import (
    BlockingDatabase,
    BlockingSession,
    Database,
    Document,
    Moment,
    in_thread,
    is_transient,
    store_errors,
    written,
)
from server.store.encryption import NO_ENCRYPTION, Encryption

_UNKNOWN_COMMIT: Final = "UnknownTransactionCommitResult"
_COMMIT_ATTEMPTS: Final = 5
_COMMIT_RETRY_SECONDS: Final = 0.1
_KNOWN_CUSTOMERS: Final = 100_000
_KNOWN_CUSTOMER_SECONDS: Final = 300.0


@dataclass(slots=True)
class _Read:
    """What was read: the guards of the writes that follow."""

    wallet_versions: dict[WalletKey, int] = field(default_factory=dict)
    topup_versions: dict[str, int] = field(default_factory=dict)
    standing_versions: dict[str, int] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    orders: dict[str, Order] = field(default_factory=dict)
    order_guards: dict[str, Document] = field(default_factory=dict)


class LedgerStore:
    """Implements the commit path's port on one MongoDB database."""

    def __init__(self, database: Database, encryption: Encryption = NO_ENCRYPTION) -> None:
        self._database = database
        self._encryption = encryption
        self._customers = _KnownCustomers()

    async def load(self, needs: Needs) -> Snapshot:
        """Read what is needed; see the port."""
        state, read = State(), _Read()
        unknown = self._recognise(needs.customers, state)

        reads = _reads(needs, unknown)

        def load(database: BlockingDatabase) -> None:
            moment = _OpenedMoment(database, self._encryption)
            for read_these in reads:
                read_these(moment, state, read)

        if reads:
            await in_thread(self._database, load)
        self._customers.add(customer for customer in unknown if state.customers[customer])
        return Snapshot(state, read)

    def trust(self, snapshot: Snapshot, wallets: Iterable[Wallet]) -> None:
        """Guard the wallets' writes by the versions that they have here; see the port."""
        versions: dict[WalletKey, int] = snapshot.read.wallet_versions
        for wallet in wallets:
            versions[wallet.key] = wallet.version

    async def commit(self, snapshot: Snapshot, changes: ChangeSet) -> None:
        """Write everything in one transaction; see the port."""
        read: _Read = snapshot.read
        await in_thread(
            self._database,
            lambda database: _write_in_transaction(database, read, changes, self._encryption),
        )

    def _recognise(self, customers: set[str], state: State) -> list[str]:
        """Note the customers who are known to exist; return the others, to be looked up."""
        unknown = [customer for customer in customers if not self._customers.has(customer)]
        state.customers = dict.fromkeys(customers, True)
        return unknown


class _OpenedMoment(Moment):
    """A moment's documents, with what is encrypted in them in the clear."""

    def __init__(self, database: BlockingDatabase, encryption: Encryption) -> None:
        super().__init__(database)
        self._encryption = encryption

    def found(
        self,
        collection: str,
        query: Mapping[str, Any],
        **options: Any,  # noqa: ANN401 - whatever the command takes
    ) -> list[Document]:
        """Read all matching documents."""
        return self._encryption.opened(collection, super().found(collection, query, **options))


_Load = Callable[[Moment, State, _Read], None]


def _reads(needs: Needs, unknown: list[str]) -> list[_Load]:
    """Return what has to be read, collection by collection."""
    possible: tuple[tuple[Collection[Any], _Load], ...] = (
        (unknown, partial(_load_customers, unknown)),
        (needs.wallets_of, partial(_load_wallets, needs.wallets_of)),
        (needs.standings(), partial(_load_standings, needs.standings())),
        (needs.open_topups_of, partial(_load_open_topups, needs.open_topups_of)),
        (needs.orders, partial(_load_orders, needs.orders)),
        (needs.transactions_by_key, partial(_load_transactions, needs.transactions_by_key)),
        (needs.topups | needs.topups_by_key, partial(_load_topups, needs)),
        (needs.credits, partial(_load_credits, needs.credits)),
        (needs.events, partial(_load_events, needs.events)),
    )
    return [read_these for names, read_these in possible if names]


def _load_customers(unknown: list[str], moment: Moment, state: State, _: _Read) -> None:
    query = {"_id": _any_of(unknown)}
    documents_found = moment.found(schema.CUSTOMERS, query, projection={"_id": 1})
    existing = {document["_id"] for document in documents_found}
    for customer in unknown:
        state.customers[customer] = customer in existing


def _load_wallets(customers: set[str], moment: Moment, state: State, read: _Read) -> None:
    for customer in customers:
        state.wallets[customer] = {}
    query = {"customer_id": _any_of(customers)}
    for document in moment.found(schema.WALLETS, query):
        wallet: Wallet = documents.read_wallet(document)
        if wallet.usage == UNCOUNTED:
            wallet = replace(wallet, usage=_recounted(moment, wallet))
        state.wallets[wallet.customer_id][wallet.currency_code] = wallet
        read.wallet_versions[wallet.key] = wallet.version


def _recounted(moment: Moment, wallet: Wallet) -> Usage:
    """Count what went through a wallet in its last month: an earlier release wrote it last."""
    start_ms = period_start_ms(Period.MONTH, wallet.update_time_ms)
    query = {
        "customer_id": wallet.customer_id,
        "currency": wallet.currency_code,
        "_id": {"$gte": chain.first_id("txn_", start_ms)},
    }
    usage = NO_USAGE
    for document in moment.found(schema.TRANSACTIONS, query, sort={"_id": 1}):
        entry = documents.read_transaction(document)
        usage = counted(usage, entry.type, entry.amount, entry.create_time_ms)
    return usage.at(wallet.update_time_ms)


def _load_standings(customers: set[str], moment: Moment, state: State, read: _Read) -> None:
    state.standings = dict.fromkeys(customers)
    for document in moment.found(schema.STANDINGS, {"_id": _any_of(customers)}):
        standing = limit_documents.read_standing(document)
        state.standings[standing.customer_id] = standing
        read.standing_versions[standing.customer_id] = standing.version


def _load_open_topups(customers: set[str], moment: Moment, state: State, _: _Read) -> None:
    for customer in customers:
        state.open_topups[customer] = {}
    query = {
        "customer_id": _any_of(customers),
        "state": _any_of(sorted(state.value for state in OPEN_TOPUP_STATES)),
    }
    for document in moment.found(schema.TOPUPS, query):
        topup = documents.read_topup(document)
        state.open_topups[topup.customer_id][topup.topup_id] = topup


def _load_orders(orders: set[str], moment: Moment, state: State, read: _Read) -> None:
    state.orders = dict.fromkeys(orders)
    for document in moment.found(schema.ORDERS, {"_id": _any_of(orders)}):
        order = order_documents.read_order(document)
        state.orders[order.order_id] = order
        read.orders[order.order_id] = order
        read.order_guards[order.order_id] = order_documents.order_guard(document)


def _load_transactions(wanted: set[IdempotencyKey], moment: Moment, state: State, _: _Read) -> None:
    state.transactions_by_key = dict.fromkeys(wanted)
    keys = {documents.idempotency_id(key) for key in wanted}
    query = {"idempotency_id": _any_of(keys)}
    for document in moment.found(schema.TRANSACTIONS, query):
        transaction = documents.read_transaction(document)
        if transaction.idempotency is not None:
            state.transactions_by_key[transaction.idempotency.key] = transaction


def _load_topups(needs: Needs, moment: Moment, state: State, read: _Read) -> None:
    state.topups = dict.fromkeys(needs.topups)
    state.topups_by_key = dict.fromkeys(needs.topups_by_key)
    keys = {documents.idempotency_id(key) for key in needs.topups_by_key}
    either = [
        {name: _any_of(values)}
        for name, values in (("_id", needs.topups), ("idempotency_id", keys))
        if values
    ]
    query = either[0] if len(either) == 1 else {"$or": either}
    for document in moment.found(schema.TOPUPS, query):
        topup = documents.read_topup(document)
        state.topups[topup.topup_id] = topup
        state.topups_by_key[topup.idempotency.key] = topup
        read.topup_versions[topup.topup_id] = topup.version


def _load_credits(payments: set[GatewayPaymentKey], moment: Moment, state: State, _: _Read) -> None:
    state.credits = dict.fromkeys(payments)
    by_id = {documents.idempotency_id(payment.credit_key): payment for payment in payments}
    for document in moment.found(
        schema.TRANSACTIONS,
        {"idempotency_id": _any_of(by_id)},
        projection={"idempotency_id": 1, "topup_id": 1},
    ):
        payment = by_id[document["idempotency_id"]]
        state.credits[payment] = document.get("topup_id") or document["_id"]


def _load_events(events: set[str], moment: Moment, state: State, read: _Read) -> None:
    state.events = dict.fromkeys(events)
    for document in moment.found(schema.EVENTS, {"_id": _any_of(events)}):
        event = documents.read_event(document)
        state.events[event.received.key] = event
        read.events.add(event.received.key)


Writes = tuple[list[Document], list[Document]]


def _by_version(
    changed: Iterable[tuple[Document, int | None]],
) -> Writes:
    """Insert documents that were not there, replace those that were read with a version."""
    inserts, updates = [], []
    for document, version in changed:
        if version is None:
            inserts.append(document)
        else:
            updates.append(_replacement(document, {"version": version}))
    return inserts, updates


def _wallet_writes(read: _Read, changes: ChangeSet) -> Writes:
    return _by_version(
        (documents.wallet_document(wallet), read.wallet_versions.get(key))
        for key, wallet in changes.wallets.items()
    )


def _standing_writes(read: _Read, changes: ChangeSet) -> Writes:
    return _by_version(
        (limit_documents.standing_document(standing), read.standing_versions.get(customer))
        for customer, standing in changes.standings.items()
    )


def _topup_writes(read: _Read, changes: ChangeSet) -> Writes:
    written = []
    for topup_id, topup in changes.topups.items():
        document = documents.topup_document(topup)
        version = read.topup_versions.get(topup_id)
        if version is not None and topup.failure_version > version:
            document["is_new_failure"] = True  # for the event feed: the next write drops it
        written.append((document, version))
    return _by_version(written)


def _transaction_inserts(changes: ChangeSet) -> list[Document]:
    return [documents.transaction_document(transaction) for transaction in changes.transactions]


def _order_writes(read: _Read, changes: ChangeSet) -> Writes:
    inserts, updates = [], []
    for order_id, order in changes.orders.items():
        before = read.orders.get(order_id)
        if before is None:
            inserts.append(order_documents.order_document(order))
        else:
            guard = read.order_guards[order_id]
            has_null = "refunds" in guard
            change = order_documents.order_changes(before, order, has_null_refunds=has_null)
            updates.append({"q": guard, "u": change})
    return inserts, updates


def _action_inserts(changes: ChangeSet) -> list[Document]:
    return [limit_documents.action_document(action) for action in changes.actions]


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


def _write_in_transaction(
    database: BlockingDatabase, read: _Read, changes: ChangeSet, encryption: Encryption
) -> None:
    with store_errors():
        session = database.client.start_session()
    with session:
        session.start_transaction(
            read_concern=ReadConcern("snapshot"),
            write_concern=WriteConcern("majority", j=True),
            read_preference=ReadPreference.PRIMARY,
        )
        try:
            _write(database, read, changes, encryption, session)
        except BaseException:
            _abort(session)
            raise
        _commit(session)


def _write(
    database: BlockingDatabase,
    read: _Read,
    changes: ChangeSet,
    encryption: Encryption,
    session: BlockingSession,
) -> None:
    """Write collection by collection; hot wallets first, so that a conflict shows early.

    The event feed tells a commit's records in this order. What an operator does is no part of it:
    the command line commits each command by itself.
    """
    for collection, inserts, updates in (
        (schema.WALLETS, *_wallet_writes(read, changes)),
        (schema.STANDINGS, *_standing_writes(read, changes)),
        (schema.TRANSACTIONS, _transaction_inserts(changes), []),
        (schema.ORDERS, *_order_writes(read, changes)),
        (schema.TOPUPS, *_topup_writes(read, changes)),
        (schema.EVENTS, *_event_writes(read, changes)),
        (schema.ACTIONS, _action_inserts(changes), []),
    ):
        if inserts:
            sealed = [encryption.sealed(collection, document) for document in inserts]
            written(database, collection, "insert", sealed, session)
        if updates:
            for update in updates:
                update["u"] = encryption.sealed(collection, update["u"])
            touched = written(database, collection, "update", updates, session)
            if touched != len(updates):
                raise WriteConflict(f"{collection}: a record changed since it was read")


def _abort(session: BlockingSession) -> None:
    """Give up the transaction; where that gets no answer, MongoDB does so by itself."""
    try:
        session.abort_transaction()
    except PyMongoError:
        return


def _commit(session: BlockingSession) -> None:
    """Commit, and ask again as long as MongoDB does not say what became of it."""
    for attempt in range(_COMMIT_ATTEMPTS):
        if attempt:
            time.sleep(_COMMIT_RETRY_SECONDS * attempt)
        try:
            session.commit_transaction()
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
