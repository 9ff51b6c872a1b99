"""What operators ask of everything that is stored: from a secondary where there is one.

Only what was durably committed is read, page by page and by an index, so that a question neither
holds up payments nor is broken off by an election. A secondary may be a little behind.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from pymongo import ReadPreference
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from server.ledger import chain
from server.ledger.money import Money
from server.ledger.records import (
    GatewayEvent,
    Order,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    WalletKey,
)
from server.reports import MadeTopup, Moved
from server.store import documents, order_documents, schema
from server.store.connection import Database, Document, store_errors
from server.store.encryption import NO_ENCRYPTION, Encryption

_PAGE: Final = 2_000
_ENTRY_FIELDS: Final = ("currency", "type", "amount", "gateway", "topup_id", "create_time")
_MOST: Final = 100
"""Records that one name may find."""
_BAD_VALUE: Final = 2
"""MongoDB's error for a hint that names an index which the member asked does not have."""


class MongoInquiries:
    """Answers operators' questions on one MongoDB database."""

    def __init__(self, database: Database, encryption: Encryption = NO_ENCRYPTION) -> None:
        self._encryption = encryption
        self._database = database.with_options(
            read_preference=ReadPreference.SECONDARY_PREFERRED,
            read_concern=ReadConcern("majority"),
        )

    async def topups(self, name: str, gateways: tuple[str, ...]) -> list[Topup]:
        """Return the top-ups of this id, or of this order or payment at one of the gateways."""
        of_a_gateway = {"$in": list(gateways)}
        found = await self._found(schema.TOPUPS, {"_id": name})
        found += await self._found(
            schema.TOPUPS, {"gateway": of_a_gateway, "gateway_order_id": name}
        )
        credits_of_it = await self._found(
            schema.TRANSACTIONS,
            {
                "type": TransactionType.TOPUP.value,
                "gateway": of_a_gateway,
                "gateway_payment_id": name,
            },
        )
        ids = [credit["topup_id"] for credit in credits_of_it if "topup_id" in credit]
        found += await self._found(schema.TOPUPS, {"_id": {"$in": ids}})
        return [documents.read_topup(document) for document in found]

    async def transaction(self, transaction_id: str) -> Transaction | None:
        """Return an entry of any wallet."""
        found = await self._found(schema.TRANSACTIONS, {"_id": transaction_id})
        return documents.read_transaction(found[0]) if found else None

    async def order(self, order_id: str) -> Order | None:
        """Return an order of any customer."""
        found = await self._found(schema.ORDERS, {"_id": order_id})
        return order_documents.read_order(found[0]) if found else None

    async def events_of_topup(self, topup_id: str) -> list[GatewayEvent]:
        """Return what gateways told of a top-up, in the order in which it came."""
        found = await self._found(schema.EVENTS, {"topup_id": topup_id})
        events = [documents.read_event(document) for document in found]
        return sorted(events, key=lambda event: event.received.receive_time_ms)

    async def balance_before(self, wallet: WalletKey, time_ms: int) -> int:
        """Return what a wallet held just before a time."""
        query = _of_wallet(wallet) | {"_id": {"$lt": chain.first_id("txn_", time_ms)}}
        found = await self._found(
            schema.TRANSACTIONS, query, limit=1, sort=[("_id", -1)], hint=_BY_CUSTOMER
        )
        return int(found[0]["balance_after"]) if found else 0

    async def entries(
        self, wallet: WalletKey, start_time_ms: int, end_time_ms: int
    ) -> AsyncIterator[list[Transaction]]:
        """Go through a wallet's entries in a time, oldest first, some at a time."""
        pages = self._pages(
            schema.TRANSACTIONS,
            chain.first_id("txn_", start_time_ms),
            chain.first_id("txn_", end_time_ms),
            _of_wallet(wallet),
            hint=_BY_CUSTOMER,
        )
        async for page in pages:
            yield [documents.read_transaction(document) for document in page]

    async def ledger_size(self) -> int:
        """Return about how many entries there are, from what MongoDB keeps count of."""
        with store_errors():
            return await self._database[schema.TRANSACTIONS].estimated_document_count()

    async def moved_before(self, end_time_ms: int) -> AsyncIterator[list[Money]]:
        """Go through all amounts that moved into (+) or out of (-) wallets before a time."""
        end = chain.first_id("txn_", end_time_ms)
        fields = {"currency": 1, "amount": 1}
        async for page in self._pages(schema.TRANSACTIONS, "", end, projection=fields):
            yield [Money(one["currency"], int(one["amount"])) for one in page]

    async def moved(self, start_time_ms: int, end_time_ms: int) -> AsyncIterator[list[Moved]]:
        """Go through what moved in a time, oldest first, each top-up with how it was paid."""
        start, end = chain.first_id("txn_", start_time_ms), chain.first_id("txn_", end_time_ms)
        fields = dict.fromkeys(_ENTRY_FIELDS, 1)
        async for page in self._pages(schema.TRANSACTIONS, start, end, projection=fields):
            ids = [one["topup_id"] for one in page if one["type"] == "TOPUP" and "topup_id" in one]
            started = await self._found(
                schema.TOPUPS,
                {"_id": {"$in": ids}},
                limit=_PAGE,
                projection={"method": 1, "create_time": 1},
            )
            by_id = {one["_id"]: one for one in started}
            yield [_read_moved(one, by_id.get(one.get("topup_id", ""))) for one in page]

    async def made_topups(
        self, start_time_ms: int, end_time_ms: int
    ) -> AsyncIterator[list[MadeTopup]]:
        """Go through the top-ups that were started in a time, as they are now."""
        start, end = chain.first_id("top_", start_time_ms), chain.first_id("top_", end_time_ms)
        fields = {"gateway": 1, "method": 1, "state": 1}
        async for page in self._pages(schema.TOPUPS, start, end, projection=fields):
            yield [
                MadeTopup(one["gateway"], one["method"], TopupState(one["state"])) for one in page
            ]

    async def _pages(
        self,
        collection: str,
        start_id: str,
        end_id: str,
        query: Document | None = None,
        **options: Any,  # noqa: ANN401 - whatever the driver takes
    ) -> AsyncIterator[list[Document]]:
        """Go through documents by their ids, from `start_id` on and before `end_id`."""
        first = "$gte"
        while True:
            page = await self._found(
                collection,
                {**(query or {}), "_id": {first: start_id, "$lt": end_id}},
                limit=_PAGE,
                sort=[("_id", 1)],
                **options,
            )
            if page:
                yield page
            if len(page) < _PAGE:
                return
            first, start_id = "$gt", page[-1]["_id"]

    async def _found(
        self,
        collection: str,
        query: Document,
        *,
        limit: int = _MOST,
        hint: list[tuple[str, int]] | None = None,
        **options: Any,  # noqa: ANN401 - whatever the driver takes
    ) -> list[Document]:
        with store_errors():
            cursor = self._database[collection].find(query, limit=limit, hint=hint, **options)
            try:
                found = await cursor.to_list(None)
            except OperationFailure as error:
                if hint is None or error.code != _BAD_VALUE:
                    raise
                # A secondary that is behind may have the entries and not yet their index.
                return await self._found(collection, query, limit=limit, **options)
        return self._encryption.opened(collection, found)


_BY_CUSTOMER: Final = [("customer_id", 1), ("_id", -1)]
"""The index of a customer's entries in the order of their ids."""


def _of_wallet(wallet: WalletKey) -> Document:
    return {"customer_id": wallet.customer_id, "currency": wallet.currency_code}


def _read_moved(entry: Document, topup: Document | None) -> Moved:
    time_ms = int(entry["create_time"])
    return Moved(
        time_ms=time_ms,
        type=TransactionType(entry["type"]),
        amount=Money(entry["currency"], int(entry["amount"])),
        gateway=entry.get("gateway", ""),
        method=topup["method"] if topup else "",
        start_time_ms=int(topup["create_time"]) if topup else None,
    )
