"""What outgoing webhooks remember: who delivers, how far they came, what could not be delivered.

The port that a store implements. Each method may raise `StoreUnavailable`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.feed import Position


@dataclass(frozen=True, slots=True)
class Progress:
    """How far delivery has come."""

    position: Position | None
    """None before the first page."""
    last_time_ms: int
    """When the newest event that was read happened; 0 before the first."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that its receiver did not take."""

    event_id: str
    customer_id: str
    body: bytes
    """What was posted."""
    problem: str
    """What became of the last attempt."""
    fail_time_ms: int


class Deliveries(Protocol):
    """The records of delivery: there is one leader at a time, by a lease."""

    async def claim(self, name: str, lease_seconds: float) -> bool:
        """Take or keep the lead, unless another one has it; tell whether it is had."""

    async def release(self, name: str) -> None:
        """Give up the lead, so that another one takes it at once."""

    async def progress(self) -> Progress:
        """Return how far delivery has come."""

    async def advance(self, name: str, progress: Progress) -> bool:
        """Note how far it has come; False where the lead was lost, and nothing was noted."""

    async def bury(self, letter: DeadLetter) -> None:
        """Keep what could not be delivered; the same event again replaces itself."""

    async def buried(self, limit: int) -> Sequence[DeadLetter]:
        """Return dead letters, oldest first."""

    async def dead_letter(self, event_id: str) -> DeadLetter | None:
        """Return one of them."""

    async def revived(self, event_id: str) -> None:
        """Note that a dead letter was delivered after all."""
