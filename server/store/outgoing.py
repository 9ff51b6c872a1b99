"""The records of outgoing webhooks: the lead, the progress and the dead letters."""

from collections.abc import Sequence
from typing import Any, Final

from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.commit.port import WriteConflict
from server.deliveries import DeadLetter, Progress
from server.feed import HistoryPosition, LivePosition, Moment, Position
from server.store import schema
from server.store.connection import Database, Document, find, write
from server.store.encryption import NO_ENCRYPTION, Encryption

_LEAD: Final = "outgoing_webhooks"


class MongoDeliveries:
    """Implements the port `Deliveries` on one MongoDB database; leases are in its time."""

    def __init__(self, database: Database, encryption: Encryption = NO_ENCRYPTION) -> None:
        self._database = database
        self._encryption = encryption

    async def claim(self, name: str, lease_seconds: float) -> bool:
        """Take or keep the lead; see the port."""
        is_free = {"$or": [{"$lt": ["$until", "$$NOW"]}, {"$eq": ["$holder", name]}]}
        until = {"$add": ["$$NOW", round(lease_seconds * 1_000)]}
        change = [{"$set": {"holder": name, "until": until}}]
        if await self._update({"_id": _LEAD, "$expr": is_free}, change):
            return True
        found = await find(self._database, schema.SETTINGS, {"_id": _LEAD}, limit=1)
        if not found:
            first: Document = {"_id": _LEAD, "holder": "", "until": DatetimeMS(0)}
            try:
                await write(self._database, schema.SETTINGS, "insert", [first])
            except WriteConflict:
                return False  # another server was faster
        return False

    async def release(self, name: str) -> None:
        """Give up the lead; see the port."""
        freed = {"$set": {"holder": "", "until": DatetimeMS(0)}}
        await self._update({"_id": _LEAD, "holder": name}, freed)

    async def progress(self) -> Progress:
        """Return how far delivery has come."""
        found = await find(self._database, schema.SETTINGS, {"_id": _LEAD}, limit=1)
        if not found or "position" not in found[0]:
            return Progress(None, 0)
        return Progress(_read_position(found[0]["position"]), int(found[0]["last_time_ms"]))

    async def advance(self, name: str, progress: Progress) -> bool:
        """Note how far it has come; see the port."""
        fields: Document = {"last_time_ms": Int64(progress.last_time_ms)}
        if progress.position is not None:
            fields["position"] = _position_document(progress.position)
        return await self._update({"_id": _LEAD, "holder": name}, {"$set": fields})

    async def bury(self, letter: DeadLetter) -> None:
        """Keep what could not be delivered; see the port."""
        document: Document = {
            "_id": letter.event_id,
            "customer_id": letter.customer_id,
            "body": letter.body,
            "problem": letter.problem,
            "fail_time": DatetimeMS(letter.fail_time_ms),
        }
        sealed = self._encryption.sealed(schema.DEAD_LETTERS, document)
        statement = {"q": {"_id": letter.event_id}, "u": sealed, "upsert": True}
        await write(self._database, schema.DEAD_LETTERS, "update", [statement])

    async def buried(self, limit: int) -> Sequence[DeadLetter]:
        """Return dead letters, oldest first."""
        found = await find(
            self._database, schema.DEAD_LETTERS, {}, sort={"fail_time": 1}, limit=limit
        )
        opened = self._encryption.opened(schema.DEAD_LETTERS, found)
        return [_read_letter(document) for document in opened]

    async def dead_letter(self, event_id: str) -> DeadLetter | None:
        """Return one of them."""
        found = await find(self._database, schema.DEAD_LETTERS, {"_id": event_id}, limit=1)
        opened = self._encryption.opened(schema.DEAD_LETTERS, found)
        return _read_letter(opened[0]) if opened else None

    async def revived(self, event_id: str) -> None:
        """Note that a dead letter was delivered after all."""
        await self._database[schema.DEAD_LETTERS].delete_one({"_id": event_id})

    async def _update(self, query: Document, change: Any) -> bool:  # noqa: ANN401 - or a pipeline
        statements = [{"q": query, "u": change}]
        return bool(await write(self._database, schema.SETTINGS, "update", statements))


def _read_letter(document: Document) -> DeadLetter:
    return DeadLetter(
        event_id=document["_id"],
        customer_id=document["customer_id"],
        body=bytes(document["body"]),
        problem=document["problem"],
        fail_time_ms=int(document["fail_time"]),
    )


def _position_document(position: Position) -> Document:
    moment = None if position.moment is None else [Int64(part) for part in position.moment]
    if isinstance(position, LivePosition):
        return {"token": position.token, "moment": moment}
    return {
        "first_id": position.first_id,
        "last_id": position.last_id,
        "told": Int64(position.told),
        "moment": moment,
    }


def _read_position(document: Document) -> Position:
    parts = document["moment"]
    moment = None if parts is None else Moment(*(int(part) for part in parts))
    if "token" in document:
        return LivePosition(bytes(document["token"]), moment)
    return HistoryPosition(document["first_id"], document["last_id"], int(document["told"]), moment)
