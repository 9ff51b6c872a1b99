"""What the run asks of a process that makes load, and what that answers: lines of JSON."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench_latency import Latencies


@dataclass(frozen=True, slots=True)
class Job:
    """Load for one case. Times are CLOCK_MONOTONIC in seconds, the same for all processes."""

    address: str
    wallets: int
    callers: int
    rate: float
    """Calls a second of an open loop; 0 for a closed one."""
    method: str
    """The full name of the RPC."""
    request: str
    """The bytes of each request, as hex; empty for payments, each of which is another."""
    has_notes: bool
    """Whether each payment brings metadata."""
    measure_from: float
    """What is answered before is warm-up."""
    measure_until: float
    """From here on nothing is sent any more."""
    access: str
    """The folder with a caller's certificate and token; empty: plaintext, and a shared secret."""


@dataclass(slots=True)
class Tally:
    """What a process saw of one case."""

    payments: int = 0
    """Answered well within the time that is measured; in an open loop, of those due within it."""
    acknowledged: int = 0
    """Answered well at any time."""
    latencies: Latencies = field(default_factory=Latencies)
    """Of `payments`; in an open loop from when they were due, and of those never answered, too."""
    errors: Counter[str] = field(default_factory=Counter)
    """Status code and reason -> how often, at any time."""
    most_at_once: int = 0
    """Calls of an open loop that waited at the same time, at most."""

    def message(self) -> dict[str, Any]:
        """Return what `read_tally` reads."""
        return {
            "payments": self.payments,
            "acknowledged": self.acknowledged,
            "latencies": dict(self.latencies),
            "errors": dict(self.errors),
            "most_at_once": self.most_at_once,
        }


def read_tally(message: dict[str, Any]) -> Tally:
    """Read what a process answered."""
    return Tally(
        payments=message["payments"],
        acknowledged=message["acknowledged"],
        latencies=Latencies({int(key): count for key, count in message["latencies"].items()}),
        errors=Counter(message["errors"]),
        most_at_once=message.get("most_at_once", 0),  # medici has no open loop
    )
