"""What is read without changing anything: only what was durably committed."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.ledger.records import (
    EventOutcome,
    GatewayEvent,
    Order,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
)
from server.queries import TransactionFilter
from server.store import documents, order_documents, schema
from server.store.connection import Database, Document, find, store_errors, write
from server.store.encryption import NO_ENCRYPTION, Encryption


class MongoQueries:
    """Implements the port `Queries` on one MongoDB database."""

    def __init__(self, database: Database, encryption: Encryption = NO_ENCRYPTION) -> None:
        self._database = database
        self._encryption = encryption

    async def has_customer(self, customer_id: str) -> bool:
        """Tell whether the customer service knows the customer."""
        found = await find(
            self._database, schema.CUSTOMERS, {"_id": customer_id}, projection={"_id": 1}, limit=1
        )
        return bool(found)

    async def wallets(self, customer_id: str) -> list[Wallet]:
        """Return the customer's wallets by currency."""
        found = await find(
            self._database, schema.WALLETS, {"customer_id": customer_id}, sort={"currency": 1}
        )
        return [documents.read_wallet(document) for document in found]

    async def topup(self, customer_id: str, topup_id: str) -> Topup | None:
        """Return a customer's top-up."""
        return await self._topup({"_id": topup_id, "customer_id": customer_id})

    async def topup_of_gateway_order(self, gateway: str, gateway_order_id: str) -> Topup | None:
        """Return the top-up that the gateway's order was made for."""
        return await self._topup({"gateway": gateway, "gateway_order_id": gateway_order_id})

    async def topup_of_payment(self, gateway: str, payment_id: str) -> Topup | None:
        """Return the top-up that the gateway's payment was credited for."""
        found = await find(
            self._database,
            schema.TRANSACTIONS,
            {
                "type": TransactionType.TOPUP.value,
                "gateway": gateway,
                "gateway_payment_id": payment_id,
            },
            projection={"topup_id": 1},
            limit=1,
        )
        return await self._topup({"_id": found[0]["topup_id"]}) if found else None

    async def topup_by_id(self, gateway: str, topup_id: str) -> Topup | None:
        """Return a top-up of any customer, for a gateway that names it."""
        return await self._topup({"_id": topup_id, "gateway": gateway})

    async def pending_topups(self, customer_id: str, limit: int) -> list[Topup]:
        """Return the top-ups that are still on their way, newest first."""
        states = [TopupState.CREATED.value, TopupState.PENDING.value]
        found = await find(
            self._database,
            schema.TOPUPS,
            {"customer_id": customer_id, "state": {"$in": states}},
            sort={"_id": -1},
            limit=limit,
        )
        return [documents.read_topup(one) for one in self._encryption.opened(schema.TOPUPS, found)]

    async def order(self, order_id: str) -> Order | None:
        """Return an order of any customer."""
        found = await find(self._database, schema.ORDERS, {"_id": order_id}, limit=1)
        return order_documents.read_order(found[0]) if found else None

    async def transactions(
        self, wanted: TransactionFilter, limit: int, before_id: str = ""
    ) -> Sequence[Transaction]:
        """Return transactions, newest first, from the one before `before_id` on.

        Ids sort by time and, within a wallet, by sequence; new ones sort before every page that has
        been read, so that pages neither repeat nor skip.
        """
        query: Document = {"customer_id": wanted.customer_id}
        if wanted.currency_code:
            query["currency"] = wanted.currency_code
        if wanted.types:
            query["type"] = {"$in": sorted(wanted.types)}
        time: dict[str, Any] = {}
        if wanted.start_time_ms is not None:
            time["$gte"] = DatetimeMS(wanted.start_time_ms)
        if wanted.end_time_ms is not None:
            time["$lt"] = DatetimeMS(wanted.end_time_ms)
        if time:
            query["create_time"] = time
        if before_id:
            query["_id"] = {"$lt": before_id}
        found = await find(
            self._database, schema.TRANSACTIONS, query, sort={"_id": -1}, limit=limit
        )
        return [
            documents.read_transaction(one)
            for one in self._encryption.opened(schema.TRANSACTIONS, found)
        ]

    async def _topup(self, query: Document) -> Topup | None:
        found = await find(self._database, schema.TOPUPS, query, limit=1)
        opened = self._encryption.opened(schema.TOPUPS, found)
        return documents.read_topup(opened[0]) if opened else None


class MongoPollSchedule:
    """Implements the port `PollSchedule`: a claim is one guarded update."""

    def __init__(self, database: Database, encryption: Encryption = NO_ENCRYPTION) -> None:
        self._database = database
        self._encryption = encryption

    async def claim_due(
        self, now_ms: int, limit: int, next_time_ms: Callable[[Topup], int | None]
    ) -> list[Topup]:
        """Claim what is due; see the port."""
        found = await find(
            self._database,
            schema.TOPUPS,
            {"poll_time": {"$lte": DatetimeMS(now_ms)}},
            sort={"poll_time": 1},
            limit=limit,
        )
        claimed = []
        for topup in map(documents.read_topup, self._encryption.opened(schema.TOPUPS, found)):
            change: Document = {"$inc": {"version": Int64(1), "poll_attempts": 1}}
            next_time = next_time_ms(topup)
            if next_time is None:
                change["$unset"] = {"poll_time": ""}
            else:
                change["$set"] = {"poll_time": DatetimeMS(next_time)}
            guard = {"_id": topup.topup_id, "version": topup.version}
            if await write(self._database, schema.TOPUPS, "update", [{"q": guard, "u": change}]):
                claimed.append(topup)
        return claimed


class MongoGatewayRecords:
    """What operators ask of a gateway's traffic: its events, and the entries that it made."""

    def __init__(self, database: Database, encryption: Encryption = NO_ENCRYPTION) -> None:
        self._database = database
        self._encryption = encryption

    async def waiting(self, limit: int) -> list[GatewayEvent]:
        """Return the events that wait for review, oldest first."""
        found = await find(
            self._database,
            schema.EVENTS,
            {"outcome": EventOutcome.NEEDS_REVIEW.value},
            sort={"receive_time": 1},
            limit=limit,
        )
        return [documents.read_event(one) for one in self._encryption.opened(schema.EVENTS, found)]

    async def waiting_about_the_same(self, event: GatewayEvent) -> list[GatewayEvent]:
        """Return the events that wait and tell of the same money as an event; not itself."""
        if event.settlement_key is None:
            return []
        found = await find(
            self._database,
            schema.EVENTS,
            {
                "outcome": EventOutcome.NEEDS_REVIEW.value,
                "gateway": event.received.gateway,
                "gateway_payment_id": event.gateway_payment_id or None,
                "gateway_reversal_id": event.gateway_reversal_id or None,
                "money": event.money.value,
            },
        )
        events = [
            documents.read_event(one) for one in self._encryption.opened(schema.EVENTS, found)
        ]
        return [other for other in events if other.received.key != event.received.key]

    async def event(self, key: str) -> GatewayEvent | None:
        """Return an event by its key."""
        found = await find(self._database, schema.EVENTS, {"_id": key}, limit=1)
        opened = self._encryption.opened(schema.EVENTS, found)
        return documents.read_event(opened[0]) if opened else None

    async def gateway_entries(
        self, gateway: str, start_time_ms: int, end_time_ms: int
    ) -> AsyncIterator[Transaction]:
        """Go through the entries that a gateway's money made, in a time."""
        time = {"$gte": DatetimeMS(start_time_ms), "$lt": DatetimeMS(end_time_ms)}
        cursor = self._database[schema.TRANSACTIONS].find({"gateway": gateway, "create_time": time})
        with store_errors():
            async for document in cursor:
                [opened] = self._encryption.opened(schema.TRANSACTIONS, [document])
                yield documents.read_transaction(opened)
