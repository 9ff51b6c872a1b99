"""What is kept of every call: who asked for what, with which outcome. The port that a store writes.

Nothing secret is in it: no token, no proof, no metadata.
"""

from dataclasses import dataclass
from typing import Final, Protocol

LOST: Final = "AuditEntriesLost"
"""The method of an entry that stands for others: `reason` says how many were lost before it."""

TURNED_AWAY: Final = "CallsTurnedAway"
"""The method of an entry that stands for calls that were not looked at, since too many came without
a good token from `peer`: `reason` says how many."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A call that has ended. Absent texts are empty."""

    time_ms: int
    method: str
    caller: str
    """The calling service, empty where the token was refused."""
    peer: str
    customer_id: str
    order_id: str
    code: str
    """The status code, such as `OK`."""
    reason: str
    correlation_id: str
    duration_us: int


class AuditLog(Protocol):
    """Takes entries without waiting; they are written off the hot path."""

    @property
    def takes_calls(self) -> bool:
        """Whether calls may go on: not where they must be audited and cannot be."""

    def put(self, entry: AuditEntry) -> None:
        """Take an entry."""


class NoAudit:
    """Keeps nothing: for measuring what the audit costs."""

    takes_calls = True

    def put(self, entry: AuditEntry) -> None:
        """Forget the entry."""
