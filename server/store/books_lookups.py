"""What a proof looks up for a batch of records, at the same point in time as the batch itself."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from server.ledger.agreement import Lookups, Owner, claim
from server.ledger.books import RecordKind
from server.ledger.records import Order, Topup, Transaction, TransactionType
from server.store import documents, schema
from server.store.connection import Database, Document, Session


async def owners_of(
    database: Database, session: Session, entries: Sequence[Transaction]
) -> Lookups:
    """Look up the orders, top-ups and settled events that entries belong to."""
    owners = {claimed.owner for entry in entries if (claimed := claim(entry))}
    lookups = Lookups()
    for kind, collection, name, listed, name_in_list in (
        (RecordKind.ORDER, schema.ORDERS, "wallet_transaction_id", "refunds", "refund_id"),
        (RecordKind.TOPUP, schema.TOPUPS, "transaction_id", "reversals", "reversal_id"),
    ):
        ids = (owner.record_id for owner in owners if owner.kind is kind)
        fields = {name: 1, f"{listed}.{name_in_list}": 1}
        for document in await _by_id(database, collection, session, ids, fields):
            names = [document.get(name), *_values(document.get(listed), name_in_list)]
            lookups.named[Owner(kind, document["_id"])] = {
                one for one in names if isinstance(one, str)
            }
    adjustments = [
        entry.transaction_id for entry in entries if entry.type is TransactionType.ADJUSTMENT
    ]
    if adjustments:
        query = {"resolution.transaction_id": {"$in": adjustments}}
        fields = {"resolution.transaction_id": 1}
        cursor = database[schema.EVENTS].find(query, fields, session=session)
        async for document in cursor:
            lookups.adjustments.add(document["resolution"]["transaction_id"])
    return lookups


async def entries_of_orders(
    database: Database, session: Session, orders: Iterable[Order]
) -> dict[str, Transaction]:
    """Look up the entries that orders name, by their ids."""
    ids = {refund.transaction_id for order in orders for refund in order.refunds}
    return await _entries(database, session, ids | {order.transaction_id for order in orders})


async def entries_of_topups(
    database: Database, session: Session, topups: Iterable[Topup]
) -> dict[str, Transaction]:
    """Look up the entries that top-ups name, by their ids."""
    ids = {topup.transaction_id for topup in topups}
    ids |= {topup.pay_order_outcome.transaction_id for topup in topups if topup.pay_order_outcome}
    return await _entries(database, session, ids)


async def reversals_of(
    database: Database, session: Session, topups: Iterable[Topup]
) -> dict[str, list[Transaction]]:
    """Look up the REVERSAL entries of the top-ups that something was taken back of."""
    found: defaultdict[str, list[Transaction]] = defaultdict(list)
    ids = [topup.topup_id for topup in topups if topup.reversals]
    if ids:
        query = {"type": TransactionType.REVERSAL.value, "topup_id": {"$in": ids}}
        cursor = database[schema.TRANSACTIONS].find(query, session=session)
        for entry in readable_entries(await cursor.to_list(None)):
            found[entry.topup_id].append(entry)
    return found


def readable_entries(found: Iterable[Document]) -> Iterator[Transaction]:
    """Read entries; one that cannot be read is as good as none, and named with its wallet."""
    for document in found:
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            yield documents.read_transaction(document)


async def _entries(
    database: Database, session: Session, ids: Iterable[str]
) -> dict[str, Transaction]:
    found = readable_entries(await _by_id(database, schema.TRANSACTIONS, session, ids))
    return {entry.transaction_id: entry for entry in found}


async def _by_id(
    database: Database,
    collection: str,
    session: Session,
    ids: Iterable[str],
    fields: Document | None = None,
) -> list[Document]:
    wanted = sorted({one for one in ids if one})
    if not wanted:
        return []
    cursor = database[collection].find({"_id": {"$in": wanted}}, fields, session=session)
    found: list[Document] = await cursor.to_list(None)
    return found


def _values(listed: Any, name: str) -> list[Any]:  # noqa: ANN401 - another service's data
    """Return a field of all parts of a list, whatever may have been put there."""
    if not isinstance(listed, list):
        return []
    return [part.get(name) for part in listed if isinstance(part, dict)]
