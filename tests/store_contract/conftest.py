"""The two stores that the suite runs on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
from bson import Int64

from harness import unique, with_database
from server.ledger.records import Order
from server.store import schema
from server.store.connection import connect
from server.store.ledger_store import LedgerStore
from server.store.queries import MongoPollSchedule, MongoQueries
from sim.records import Database, Write
from sim.store import SimulatedPollSchedule, SimulatedQueries, SimulatedStore
from store_contract.stores import Stores

Answer = TypeVar("Answer")


class FaultlessLink:
    """Reaches the records at once, and lets others act in between."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, _: str, work: Callable[[], Answer]) -> Answer:
        """Have something read; see the simulator's Link."""
        await asyncio.sleep(0)
        answer = work()
        await asyncio.sleep(0)
        return answer

    async def write(self, _: str, work: Callable[[], Write | None]) -> bool:
        """Have something written; see the simulator's Link."""
        await asyncio.sleep(0)
        write = work()
        await asyncio.sleep(0)
        return write is not None and self._database.settle(write)


@pytest.fixture(scope="session")
async def mongodb_stores(mongodb_uri: str) -> AsyncIterator[Stores]:
    """The real store, on a database of its own."""
    with connect(with_database(mongodb_uri, unique("contract"))) as database:
        await schema.migrate(database)

        async def add_customer(customer_id: str) -> None:
            await database[schema.CUSTOMERS].insert_one({"_id": customer_id})

        async def put_order(order: Order) -> None:
            document: dict[str, Any] = {
                "customer_id": order.customer_id,
                "amount": Int64(order.amount or 0),
                "currency": order.currency_code,
                "payment_status": order.payment_state or "PENDING",
                "refunded_amount": Int64(order.refunded_amount),
            }
            await database[schema.ORDERS].update_one(
                {"_id": order.order_id}, {"$set": document}, upsert=True
            )

        yield Stores(
            LedgerStore(database),
            LedgerStore(database),
            MongoQueries(database),
            MongoPollSchedule(database),
            MongoPollSchedule(database),
            add_customer,
            put_order,
        )


@pytest.fixture(scope="session")
def simulated_stores() -> Stores:
    """The simulator's store, on records of its own."""
    database = Database()
    link = FaultlessLink(database)

    async def add_customer(customer_id: str) -> None:
        database.insert(customers={customer_id})

    async def put_order(order: Order) -> None:
        database.insert(orders={order.order_id: order})

    return Stores(
        SimulatedStore(database, link),
        SimulatedStore(database, link),
        SimulatedQueries(database, link),
        SimulatedPollSchedule(database, link),
        SimulatedPollSchedule(database, link),
        add_customer,
        put_order,
    )


@pytest.fixture(params=["mongodb", "simulated"])
def stores(request: pytest.FixtureRequest) -> Stores:
    """Each of them in turn."""
    found: Stores = request.getfixturevalue(f"{request.param}_stores")
    return found
