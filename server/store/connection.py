"""The connection to MongoDB: its options, its checks, and its errors in the commit path's terms.

Motor carries out each command in a thread, and the way there and back costs more than the command:
317 microseconds of CPU against 124. So whatever belongs together is one piece of `Work` on Motor's
own blocking side, and takes that way once (`in_thread`).
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from bson import SON, CodecOptions, Timestamp
from bson.codec_options import DatetimeConversion
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
    AsyncIOMotorCursor,
    AsyncIOMotorDatabase,
)
from pymongo import database as blocking
from pymongo.client_session import ClientSession
from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)
from pymongo.monitoring import CommandListener
from pymongo.uri_parser import parse_uri

from server.commit.port import StoreUnavailable, WriteConflict, WriteRefused
from server.store.elections import fresh
from server.told import ToldInWords

Document = dict[str, Any]
Database = AsyncIOMotorDatabase[Document]
Collection = AsyncIOMotorCollection[Document]
Cursor = AsyncIOMotorCursor[Document]
Session = AsyncIOMotorClientSession
BlockingDatabase = blocking.Database[Document]
BlockingSession = ClientSession
EventListener = CommandListener

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
_MAX_THREADS: Final = 16
_THREADS: Final = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="mongodb")
_START_SECONDS: Final = 1.0
"""So long the threads wait for each other at a start."""
_WRITE_CONFLICT: Final = 112
_DUPLICATE_KEY: Final = 11_000
_MOMENT_GONE: Final = frozenset({239, 246})
"""SnapshotTooOld and SnapshotUnavailable: a moment that cannot be read, unlike the next one."""
_LARGEST_READ: Final = 10_000


class NotAReplicaSet(ToldInWords):
    """The MongoDB that was found has no transactions."""

    def __init__(self) -> None:
        super().__init__(
            "MongoDB runs as a single server without a replica set, which has no transactions. "
            "Start mongod with --replSet and run rs.initiate() once (one member is enough), or "
            "unset WALLET_MONGODB_URI and use `wallet-payment up`."
        )


class MomentGone(StoreUnavailable):
    """A moment of the past that cannot be read any more."""


class BadConnectionString(ToldInWords):
    """The MongoDB URI cannot be read; it is not shown, since it may hold a password."""

    def __init__(self) -> None:
        super().__init__(
            "WALLET_MONGODB_URI is not a MongoDB connection string, such as "
            "mongodb://host:27017/wallet_payment?replicaSet=name"
        )


@contextmanager
def connect(uri: str, listeners: Sequence[EventListener] = ()) -> Iterator[Database]:
    """Yield the database that `uri` names (`wallet_payment` by default); nothing is sent yet.

    `listeners` are told of each command.

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
    if listeners:
        options["event_listeners"] = list(listeners)
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


_Result = TypeVar("_Result")


async def in_thread(database: Database, work: Callable[[BlockingDatabase], _Result]) -> _Result:
    """Carry out `work`, with all the commands that it takes, in one hop to a thread.

    Who is cancelled meanwhile does not wait for it any more; it goes on to its end.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()  # a trace goes on in the thread
    return await loop.run_in_executor(_THREADS, context.run, work, database.delegate)


async def start_threads() -> None:
    """Start all threads now, so that a server's memory does not grow as calls coincide.

    Measured in ten minutes: 121 to 127 MiB where they came one by one.
    """
    loop = asyncio.get_running_loop()
    all_there = threading.Barrier(_MAX_THREADS)

    def meet() -> None:
        with suppress(threading.BrokenBarrierError):  # one is busy; it is there
            all_there.wait(_START_SECONDS)

    await asyncio.gather(*(loop.run_in_executor(_THREADS, meet) for _ in range(_MAX_THREADS)))


async def find(
    database: Database,
    collection: str,
    query: Mapping[str, Any],
    **options: Any,  # noqa: ANN401 - whatever the command takes
) -> list[Document]:
    """Read as `found` does, in a thread."""
    return await in_thread(database, lambda blocking: found(blocking, collection, query, **options))


async def write(
    database: Database, collection: str, operation: str, statements: list[Document]
) -> int:
    """Write as `written` does, in a thread."""
    return await in_thread(
        database, lambda blocking: written(blocking, collection, operation, statements)
    )


def found(
    database: BlockingDatabase,
    collection: str,
    query: Mapping[str, Any],
    **options: Any,  # noqa: ANN401 - whatever the command takes
) -> list[Document]:
    """Read all matching documents as they were durably committed (read concern majority)."""
    return _read(database, collection, query, {"level": "majority"}, options)[0]


class Moment:
    """Reads several collections as they were durably committed at one moment: the first read's."""

    def __init__(self, database: BlockingDatabase) -> None:
        self._database = database
        self._read_concern: Document = {"level": "snapshot"}

    def found(
        self,
        collection: str,
        query: Mapping[str, Any],
        **options: Any,  # noqa: ANN401 - whatever the command takes
    ) -> list[Document]:
        """Read all matching documents."""
        documents, time = _read(self._database, collection, query, self._read_concern, options)
        self._read_concern = {"level": "snapshot", "atClusterTime": time}
        return documents


def _read(
    database: BlockingDatabase,
    collection: str,
    query: Mapping[str, Any],
    read_concern: Document,
    options: Mapping[str, Any],
) -> tuple[list[Document], Any]:
    """Return all matching documents, and the cluster time of a snapshot.

    A plain command costs less than a driver's cursor, and there is one round trip in all but the
    largest answers.
    """
    command: SON[str, Any] = SON(
        find=collection,
        filter=query,
        batchSize=_LARGEST_READ,
        readConcern=read_concern,
        **options,
    )
    with store_errors(), database.client.start_session(causal_consistency=False) as session:
        # MongoDB gives the next batch in the session of the first alone.
        def run(batch: SON[str, Any]) -> Document:
            return database.command(batch, session=session, codec_options=CODEC_OPTIONS)

        answer = first = fresh(database, lambda: run(command))
        documents: list[Document] = answer["cursor"]["firstBatch"]
        while answer["cursor"]["id"]:
            answer = run(SON(getMore=answer["cursor"]["id"], collection=collection))
            documents += answer["cursor"]["nextBatch"]
        return documents, first["cursor"].get("atClusterTime")


def snapshot(
    database: BlockingDatabase, collection: str, pipeline: list[Document], time: Timestamp | None
) -> tuple[list[Document], Timestamp]:
    """Aggregate what was durably committed at a time, None: by now; return that time as well.

    Its answer has to fit one batch.

    Raises:
        MomentGone, StoreUnavailable.
    """
    read_concern: Document = {"level": "snapshot"}
    if time is not None:
        read_concern["atClusterTime"] = time
    command: SON[str, Any] = SON(
        aggregate=collection,
        pipeline=pipeline,
        cursor={"batchSize": _LARGEST_READ},
        readConcern=read_concern,
    )
    with store_errors():
        answer = database.command(command, codec_options=CODEC_OPTIONS)
    return answer["cursor"]["firstBatch"], answer["cursor"]["atClusterTime"]


def written(
    database: BlockingDatabase,
    collection: str,
    operation: str,
    statements: list[Document],
    session: BlockingSession | None = None,
) -> int:
    """Run one `insert` or `update` command; return how many documents it touched.

    Raises:
        WriteConflict: a document of this key exists, or another transaction holds one.
        StoreUnavailable, WriteRefused.
    """
    kind = "documents" if operation == "insert" else "updates"
    command: SON[str, Any] = SON([(operation, collection), (kind, statements), ("ordered", False)])
    with store_errors():
        answer = database.command(command, session=session)
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
        if error.code in _MOMENT_GONE:
            raise MomentGone(f"MongoDB error {error.code}") from error
        if is_transient(error):
            raise StoreUnavailable(f"MongoDB error {error.code}") from error
        raise WriteRefused(f"MongoDB error {error.code}") from error
    except PyMongoError as error:
        raise WriteRefused(type(error).__name__) from error


def is_transient(error: PyMongoError) -> bool:
    """Tell whether the same may succeed later: an election, a shutdown, a lost connection."""
    if isinstance(error, OperationFailure) and error.code in _MOMENT_GONE:
        return True
    return isinstance(error, ConnectionFailure) or any(
        error.has_error_label(label)
        for label in ("TransientTransactionError", "RetryableWriteError", "RetryableError")
    )
