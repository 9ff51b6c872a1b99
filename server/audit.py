"""What is kept of every call: who asked for what, with which outcome. The port that a store writes.

Nothing secret is in it: no token, no proof, no metadata.
"""

from dataclasses import dataclass
from typing import Protocol


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

    def put(self, entry: AuditEntry) -> None:
        """Take an entry."""
