"""Cursors: a reader's position in the event feed, sealed so that only this service can make one."""

import base64
import json
from typing import Any, Final

from server.feed import EventFilter, HistoryPosition, LivePosition, Moment, Position
from server.rpc.errors import InvalidArgument, Violation
from server.rpc.sealing import sealed, unsealed

_MAX_CHARACTERS: Final = 4_096


class Cursors:
    """Makes and reads cursors with one secret key, shared by all servers."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, wanted: EventFilter, position: Position) -> str:
        """Return the cursor of a position among the wanted events."""
        content = json.dumps(_written(position), separators=(",", ":"))
        return sealed(self._key, _scope(wanted), content)

    def read(self, wanted: EventFilter, cursor: str) -> Position:
        """Return the position of a cursor; it must be of these very filters.

        Raises:
            InvalidArgument: it was changed, or belongs to other filters.
        """
        content = unsealed(self._key, _scope(wanted), cursor, _MAX_CHARACTERS)
        if content is None:
            raise InvalidArgument(
                [
                    Violation(
                        "cursor",
                        "is not a cursor of these events. Pass `cursor` as it came, with the same "
                        "filters, or a `start_time` instead",
                    )
                ]
            )
        return _position(json.loads(content))


Content = list[str | int | Moment | None]


def _written(position: Position) -> Content:
    match position:
        case LivePosition():
            token = base64.b64encode(position.token).decode()
            return ["live", token, position.moment]
        case HistoryPosition():
            first_id, last_id = position.first_id, position.last_id
            return ["history", first_id, last_id, position.told, position.moment]


def _position(content: Any) -> Position:  # noqa: ANN401 - what `_written` wrote
    kind, *parts, moment = content
    when = None if moment is None else Moment(*moment)
    if kind == "live":
        return LivePosition(base64.b64decode(parts[0]), when)
    first_id, last_id, told = parts
    return HistoryPosition(first_id, last_id, told, when)


def _scope(wanted: EventFilter) -> list[str]:
    return ["cursor", wanted.customer_id, ",".join(sorted(wanted.types))]
