"""What can be told of a MongoDB without changing anything, for `wallet-payment doctor`."""

import time
from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure

from server.store import schema
from server.store.connection import Database, find, store_errors


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """A MongoDB as it is just now. What the user may not ask is None."""

    version: tuple[int, ...]
    is_replica_set: bool
    members: int
    """Those that the replica set names; 0 behind a router of a sharded cluster."""
    clock_ahead_seconds: float
    """By how much its clock is ahead of this machine's, less half of the way there and back."""
    transaction_lifetime_seconds: int | None
    journals_majority: bool | None
    """Whether a write that a majority has is in their journals."""
    schema_version: int
    """0 where no server has started on it yet."""
    missing_indexes: tuple[str, ...]


async def examine(database: Database) -> DatabaseFacts:
    """Ask MongoDB about itself.

    Raises:
        StoreUnavailable, WriteRefused.
    """
    admin = database.client.admin
    with store_errors():
        asked = time.time()
        hello: dict[str, Any] = await admin.command("hello")
        answered = time.time()
        build = await admin.command("buildInfo")
    clock = hello["localTime"].timestamp() - (asked + answered) / 2
    lifetime = await _allowed(database, "getParameter", 1, "transactionLifetimeLimitSeconds")
    config = await _allowed(database, "replSetGetConfig", 1, "config")
    versions = await find(database, schema.SETTINGS, {"_id": "schema"})
    return DatabaseFacts(
        version=tuple(build["versionArray"]),
        is_replica_set="setName" in hello or hello.get("msg") == "isdbgrid",
        members=len(hello.get("hosts", ())),
        clock_ahead_seconds=clock,
        transaction_lifetime_seconds=lifetime,
        journals_majority=(
            config.get("writeConcernMajorityJournalDefault", True) if config else None
        ),
        schema_version=int(versions[0]["version"]) if versions else 0,
        missing_indexes=await _missing_indexes(database) if versions else (),
    )


async def _allowed(database: Database, command: str, value: int, field: str) -> Any:  # noqa: ANN401 - a field of an answer
    """Ask what needs a right of its own; None where that is refused."""
    options: dict[str, Any] = {field: 1} if command == "getParameter" else {}
    try:
        answer = await database.client.admin.command(command, value, **options)
    except OperationFailure:
        return None
    return answer.get(field)


async def _missing_indexes(database: Database) -> tuple[str, ...]:
    missing = []
    with store_errors():
        for collection, indexes in schema.indexes().items():
            found = await database[collection].index_information()
            names = [str(index.document["name"]) for index in indexes]
            missing += [f"{collection}.{name}" for name in names if name not in found]
    return tuple(missing)
