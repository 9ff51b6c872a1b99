"""What operators ask of a customer: the tier, what was done by hand, credits past a limit."""

from server.ledger.records import OperatorAction, Standing, Topup
from server.store import documents, limit_documents, schema
from server.store.connection import Database, find


class MongoCustomerRecords:
    """The records of customers, as operators see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, customer_id: str) -> Standing | None:
        """Return what limits a customer; None where nothing was ever written of it."""
        found = await find(self._database, schema.STANDINGS, {"_id": customer_id}, limit=1)
        return limit_documents.read_standing(found[0]) if found else None

    async def actions(self, customer_id: str, limit: int) -> list[OperatorAction]:
        """Return what operators did to a customer's wallets, newest first."""
        found = await find(
            self._database,
            schema.ACTIONS,
            {"customer_id": customer_id},
            sort={"_id": -1},
            limit=limit,
        )
        return [limit_documents.read_action(document) for document in found]

    async def beyond_limits(self, limit: int) -> list[Topup]:
        """Return top-ups that were credited beyond a limit, by limit, newest first."""
        found = await find(
            self._database,
            schema.TOPUPS,
            {"passed_limits": {"$gt": ""}},
            sort={"passed_limits": 1, "_id": -1},
            limit=limit,
        )
        return [documents.read_topup(document) for document in found]
