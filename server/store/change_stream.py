"""One change stream of MongoDB: the commits of the ledger's records, in their order.

By plain commands, since a page is then one hop to a thread and tells how far it has read, also
where nothing in it was wanted.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from bson import SON, Timestamp, decode, encode
from pymongo.errors import OperationFailure, PyMongoError

from server.commit.port import StoreUnavailable
from server.feed import LivePosition, PositionLost
from server.store.connection import (
    CODEC_OPTIONS,
    BlockingDatabase,
    BlockingSession,
    Document,
    store_errors,
)

_PAGE: Final = 1_000
"""Changes in a page, at most; MongoDB makes it smaller where they are large."""
_WAIT_MS: Final = 500
_LOST: Final = frozenset({280, 286})
"""ChangeStreamFatalError: the token is of no commit here. ChangeStreamHistoryLost: it was."""
_CURSOR_NOT_FOUND: Final = 43
_RESUMABLE: Final = "ResumableChangeStreamError"
_ALL: Final = "$cmd.aggregate"


class ChangeStream:
    """Reads the matching changes after a position. Blocking, and for one thread at a time."""

    def __init__(
        self, database: BlockingDatabase, condition: Document, position: LivePosition | None
    ) -> None:
        self._database = database
        self._condition = condition
        self._start = position
        self._session: BlockingSession | None = None
        self._cursor_id = 0

    def read(self) -> tuple[list[Document], bytes]:
        """Return what follows, after a moment perhaps nothing, and the token after all of it.

        Raises:
            PositionLost, StoreUnavailable.
        """
        if self._session is None:
            with store_errors():
                self._session = self._database.client.start_session(causal_consistency=False)
            command, batch = self._opening(), "firstBatch"
        else:
            command = SON(
                getMore=self._cursor_id, collection=_ALL, batchSize=_PAGE, maxTimeMS=_WAIT_MS
            )
            batch = "nextBatch"
        with _stream_errors():
            answer = self._database.command(
                command, session=self._session, codec_options=CODEC_OPTIONS
            )
        cursor = answer["cursor"]
        self._cursor_id = cursor["id"]
        if not self._cursor_id:
            raise StoreUnavailable("MongoDB ended the change stream")
        return cursor[batch], encode(cursor["postBatchResumeToken"])

    def close(self) -> None:
        """Let MongoDB forget the cursor; where it does not answer, it does so by itself."""
        if self._session is None:
            return
        with suppress(PyMongoError):
            if self._cursor_id:
                killed: SON[str, Any] = SON(killCursors=_ALL, cursors=[self._cursor_id])
                self._database.command(killed, session=self._session)
            self._session.end_session()
        self._session = None

    def _opening(self) -> SON[str, Any]:
        start: Document = {}
        if self._start is not None and self._start.token:
            start["resumeAfter"] = decode(self._start.token)
        elif self._start is not None and self._start.moment is not None:
            seconds, increment = self._start.moment
            start["startAtOperationTime"] = Timestamp(seconds, increment + 1)
        return SON(
            aggregate=1,
            pipeline=[{"$changeStream": start}, {"$match": self._condition}],
            cursor={"batchSize": _PAGE},
        )


def changes_of(wanted: Iterable[tuple[str, str, Document]]) -> Document:
    """Return the condition that finds changes, each by collection, operation, and the record."""
    return {
        "$or": [
            {"ns.coll": collection, "operationType": operation, **within("fullDocument", query)}
            for collection, operation, query in wanted
        ]
    }


def within(field: str, query: Document) -> Document:
    """Return the query of a record as one of the document that has it in a field."""
    return {
        name if name.startswith("$") else f"{field}.{name}": (
            [within(field, one) for one in value] if name.startswith("$") else value
        )
        for name, value in query.items()
    }


def token_of(change: Document) -> bytes:
    """Return the token of the place right after a change."""
    return encode(change["_id"])


@contextmanager
def _stream_errors() -> Iterator[None]:
    with store_errors():
        try:
            yield
        except OperationFailure as error:
            if error.code in _LOST:
                raise PositionLost from error
            if error.code == _CURSOR_NOT_FOUND or error.has_error_label(_RESUMABLE):
                raise StoreUnavailable(f"MongoDB error {error.code}") from error
            raise
