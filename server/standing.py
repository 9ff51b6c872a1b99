"""How the records stand as a whole: what is told of the database, and not of one process.

A store implements the port. Each method may raise `StoreUnavailable`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server.ledger.books import Difference

AGES_MS: Mapping[str, int] = {
    "under_5m": 5 * 60_000,
    "under_1h": 3_600_000,
    "under_1d": 24 * 3_600_000,
}
"""How long a top-up waits: less than this, and not less than the one before."""
OLDEST = "over_1d"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What the last reconciliation with a gateway came to."""

    gateway: str
    time_ms: int
    differences: int


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof of the books that went through all records came to."""

    begin_time_ms: int
    end_time_ms: int
    differences: int
    held: Mapping[str, int]
    """Currency -> minor units in all wallets together."""
    imbalance: Mapping[str, int]
    """Currency -> minor units that came from nowhere; zero where the books balance."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the records stood at one time."""

    time_ms: int
    pending: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Gateway and age -> top-ups that are on their way."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Gateway -> events that wait for a person's review."""
    waiting_since_ms: int | None = None
    """When the oldest of them came."""
    dead_letters: int = 0
    """Outgoing webhooks that their receiver did not take."""
    reconciled: tuple[Reconciled, ...] = ()
    proven: Proven | None = None
    """None before the first proof has gone through everything."""
    differences_so_far: int = 0
    """What the proof that is going on has found."""


class StandingRecords(Protocol):
    """Reads how the records stand, and keeps what was found out about them."""

    async def standing(self, now_ms: int) -> Standing:
        """Return how the records stand now; what is counted is bounded."""

    async def prove_on(
        self, now_ms: int, interval_ms: int, records: int
    ) -> Sequence[Difference] | None:
        """Go one leg further in the proof of the books; None where it is not due yet.

        All servers of a database share one proof: after each leg it is due again in `interval_ms`,
        and whoever comes first goes on.
        """
