"""The connection to MongoDB: its options, its checks, and its errors in the commit path's terms."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bson import SON, CodecOptions
from bson.codec_options import DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorDatabase
from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)
from pymongo.uri_parser import parse_uri

from server.commit.port import StoreUnavailable, WriteConflict, WriteRefused

Document = dict[str, Any]
Database = AsyncIOMotorDatabase[Document]
Session = AsyncIOMotorClientSession

CODEC_OPTIONS: Final[CodecOptions[Document]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
"""Times are read as whole milliseconds, exactly as they are stored."""

_DEFAULT_OPTIONS: Final = {
    "appname": "wallet-payment",
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 2_000,
    "socketTimeoutMS": 10_000,
}
_CLOSE_SECONDS: Final = 1.0
_WRITE_CONFLICT: Final = 112
_DUPLICATE_KEY: Final = 11_000
_MOMENT_GONE: Final = {239, 246}
"""SnapshotTooOld and SnapshotUnavailable: a moment that cannot be read, unlike the next one."""
_LARGEST_READ: Final = 10_000


class NotAReplicaSet(Exception):
    """The MongoDB that was found has no transactions."""

    def __init__(self) -> None:
        super().__init__(
            "MongoDB runs as a single server without a replica set, which has no transactions. "
            "Start mongod with --replSet and run rs.initiate() once (one member is enough), or "
            "unset WALLET_MONGODB_URI and use `wallet-payment up`."
        )


class BadConnectionString(Exception):
    """The MongoDB URI cannot be read; it is not shown, since it may hold a password."""

    def __init__(self) -> None:
        super().__init__(
            "WALLET_MONGODB_URI is not a MongoDB connection string, such as "
            "mongodb://host:27017/wallet_payment?replicaSet=name"
        )


@contextmanager
def connect(uri: str) -> Iterator[Database]:
    """Yield the database that `uri` names (`wallet_payment` by default); nothing is sent yet.

    Raises:
        BadConnectionString.
    """
    try:
        parsed = parse_uri(uri)
    except PyMongoError:
        raise BadConnectionString from None
    given = {name.lower() for name in parsed["options"]}
    options: dict[str, Any] = {
        name: value for name, value in _DEFAULT_OPTIONS.items() if name.lower() not in given
    }
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, **options)
    try:
        yield client.get_database(parsed["database"] or "wallet_payment", CODEC_OPTIONS)
    finally:
        # Closing says goodbye to the server, which a hanging one does not answer.
        closing = threading.Thread(target=client.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


async def check_replica_set(database: Database) -> None:
    """Make sure that transactions are possible.

    Raises:
        StoreUnavailable: nothing answers.
        NotAReplicaSet: it is a single server.
    """
    with store_errors():
        hello = await database.client.admin.command("hello")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise NotAReplicaSet


@dataclass(frozen=True, slots=True)
class Find:
    """Which documents of a collection are wanted."""

    collection: str
    query: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the `find` command takes."""


async def find(
    database: Database,
    collection: str,
    query: Mapping[str, Any],
    **options: Any,  # noqa: ANN401 - whatever the command takes
) -> list[Document]:
    """Read all matching documents as they were durably committed (read concern majority).

    A plain command costs less than a driver's cursor, and there is one round trip in all but the
    largest answers.
    """
    answer = await _read(database, Find(collection, query, options), {"level": "majority"})
    return answer.documents


async def find_at_one_moment(database: Database, finds: Sequence[Find]) -> list[list[Document]]:
    """Read from several collections as they were durably committed at one and the same moment.

    All are asked side by side. Where something was committed in between, MongoDB answers some of
    them for an earlier moment than others: those are asked once more, for the latest one.

    Raises:
        StoreUnavailable.
    """
    if len(finds) < 2:  # noqa: PLR2004 - one alone is at one moment
        return [await find(database, one.collection, one.query, **one.options) for one in finds]
    answers = await asyncio.gather(*(_read(database, one, {"level": "snapshot"}) for one in finds))
    latest = max(answer.moment for answer in answers)
    at_latest = {"level": "snapshot", "atClusterTime": latest}

    async def at_the_latest(one: Find, answer: _Answer) -> list[Document]:
        if answer.moment != latest:
            answer = await _read(database, one, at_latest)
        return answer.documents

    return await asyncio.gather(*map(at_the_latest, finds, answers))


async def write(
    database: Database,
    collection: str,
    operation: str,
    statements: list[Document],
    session: Session | None = None,
) -> int:
    """Run one `insert` or `update` command; return how many documents it touched.

    Raises:
        WriteConflict: a document of this key exists, or another transaction holds one.
        StoreUnavailable, WriteRefused.
    """
    kind = "documents" if operation == "insert" else "updates"
    command: SON[str, Any] = SON([(operation, collection), (kind, statements), ("ordered", False)])
    with store_errors():
        answer = await database.command(command, session=session)
    for error in answer.get("writeErrors", ()):
        if error["code"] in {_DUPLICATE_KEY, _WRITE_CONFLICT}:
            raise WriteConflict
        raise WriteRefused(f"{collection}: MongoDB error {error['code']}")
    touched: int = answer["n"]
    return touched


@contextmanager
def store_errors() -> Iterator[None]:
    """Say what the driver raises in the commit path's terms, without its text."""
    try:
        yield
    except (ConnectionFailure, ExecutionTimeout) as error:
        raise StoreUnavailable(type(error).__name__) from error
    except OperationFailure as error:
        if error.code in {_WRITE_CONFLICT, _DUPLICATE_KEY}:
            raise WriteConflict from error
        if is_transient(error):
            raise StoreUnavailable(f"MongoDB error {error.code}") from error
        raise WriteRefused(f"MongoDB error {error.code}") from error
    except PyMongoError as error:
        raise WriteRefused(type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class _Answer:
    documents: list[Document]
    moment: Any
    """The cluster time that a snapshot was read at; None for another read concern."""


async def _read(database: Database, wanted: Find, read_concern: Document) -> _Answer:
    command: SON[str, Any] = SON(
        find=wanted.collection,
        filter=wanted.query,
        batchSize=_LARGEST_READ,
        readConcern=read_concern,
        **wanted.options,
    )
    with store_errors():
        answer = await database.command(command, codec_options=CODEC_OPTIONS)
        moment = answer["cursor"].get("atClusterTime")
        documents: list[Document] = answer["cursor"]["firstBatch"]
        while answer["cursor"]["id"]:
            more: SON[str, Any] = SON(getMore=answer["cursor"]["id"], collection=wanted.collection)
            answer = await database.command(more, codec_options=CODEC_OPTIONS)
            documents += answer["cursor"]["nextBatch"]
    return _Answer(documents, moment)


def is_transient(error: PyMongoError) -> bool:
    """Tell whether the same may succeed later: an election, a shutdown, a lost connection."""
    if isinstance(error, OperationFailure) and error.code in _MOMENT_GONE:
        return True
    return isinstance(error, ConnectionFailure) or any(
        error.has_error_label(label)
        for label in ("TransientTransactionError", "RetryableWriteError", "RetryableError")
    )
