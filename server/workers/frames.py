"""What workers say to each other: commands there, outcomes back, each as one frame.

A frame is its length in four bytes, then a pickle. Both ends are the same release of this program
under the same user, on a socket in a folder that nobody else may enter: whoever could write there
could as well replace the program.
"""

import asyncio
import copyreg
import io
import pickle
from types import MappingProxyType
from typing import Any, Final

from server.commit.errors import (
    CommandFailed,
    CommitError,
    Conflicted,
    NotStarted,
    QueueFull,
    Rejected,
    Unavailable,
)
from server.ledger.decisions import Reply
from server.ledger.rejection import Rejection

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""A command has at most a webhook's body; a reply at most an order's refunds."""

_LENGTH_BYTES: Final = 4
_ERRORS: Final[dict[str, type[CommitError]]] = {
    error.__name__: error
    for error in (QueueFull, NotStarted, Conflicted, Unavailable, CommandFailed)
}

Outcome = Reply | Rejection | str
"""A reply, a rejection, or the name of another CommitError."""


def outcome_of(error: CommitError) -> Outcome:
    """Say an error so that it can travel."""
    return error.rejection if isinstance(error, Rejected) else type(error).__name__


def reply_of(outcome: Outcome) -> Reply:
    """Return the reply that travelled, or raise the error.

    Raises:
        CommitError.
    """
    if isinstance(outcome, Rejection):
        raise Rejected(outcome)
    if isinstance(outcome, str):
        raise _ERRORS[outcome]
    return outcome


def frame_of(content: Any) -> bytes:  # noqa: ANN401 - a tuple of records
    """Write a frame."""
    buffer = io.BytesIO(b"\0" * _LENGTH_BYTES)
    buffer.seek(_LENGTH_BYTES)
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(content)
    frame = buffer.getvalue()
    return (len(frame) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES) + frame[_LENGTH_BYTES:]


async def read_frame(reader: asyncio.StreamReader) -> Any:  # noqa: ANN401 - a tuple of records
    """Read a frame.

    Raises:
        asyncio.IncompleteReadError, ConnectionError: the other one is gone.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
    if length > MAX_FRAME_BYTES:
        raise ConnectionError("a frame is too long")
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - see the module's head


class _Pickler(pickle.Pickler):
    """Writes the one kind of mapping that pickle does not know: it cannot be changed."""

    dispatch_table = copyreg.dispatch_table.copy()
    dispatch_table[MappingProxyType] = lambda mapping: (dict, (dict(mapping),))
