"""A few customers and open orders for development, as the customer and order services make them."""

from typing import Final

from bson import Int64

from server.store import schema
from server.store.connection import Database, store_errors

CUSTOMERS: Final = ("customer-1", "customer-2", "customer-3")
ORDERS: Final = (
    ("order-1", "customer-1", 25_000),
    ("order-2", "customer-2", 9_900),
    ("order-3", "customer-3", 149_900),
)
"""Id, customer, and amount in paise."""


async def seed_development(database: Database) -> None:
    """Make the customers and orders that are missing; the others stay as they are."""
    with store_errors():
        for customer_id in CUSTOMERS:
            await database[schema.CUSTOMERS].update_one(
                {"_id": customer_id}, {"$setOnInsert": {"name": customer_id}}, upsert=True
            )
        for order_id, customer_id, amount in ORDERS:
            order = {
                "customer_id": customer_id,
                "amount": Int64(amount),
                "currency": "INR",
                "payment_status": "PENDING",
            }
            await database[schema.ORDERS].update_one(
                {"_id": order_id}, {"$setOnInsert": order}, upsert=True
            )
