"""What an operator's report adds up, in bounded memory: whole minor units by day and by way."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from server.ledger.money import Money
from server.ledger.records import TopupState, TransactionType

DAY_MS: Final = 86_400_000
CREDIT_BOUNDS_SECONDS: Final = (1, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400)
"""Upper bounds of the groups that times to credit are counted in; one more has no bound."""


@dataclass(frozen=True, slots=True)
class Moved:
    """An entry of the ledger, as far as a report tells of it."""

    time_ms: int
    type: TransactionType
    amount: Money
    """Signed: positive into the wallet."""
    gateway: str
    method: str
    """How its top-up was paid; empty for other entries."""
    start_time_ms: int | None
    """When its top-up was started; None for other entries."""


@dataclass(frozen=True, slots=True)
class MadeTopup:
    """A top-up that was started, as it is now."""

    gateway: str
    method: str
    state: TopupState


@dataclass(slots=True)
class Sum:
    """How many entries, and what they come to."""

    count: int = 0
    minor_units: int = 0

    def add(self, minor_units: int) -> None:
        """Add one entry."""
        self.count += 1
        self.minor_units += minor_units


@dataclass(slots=True)
class DayFigures:
    """What moved on a day in one currency, and what all wallets held at its end."""

    sums: dict[TransactionType, Sum] = field(default_factory=dict)
    held: int = 0

    def sum_of(self, kind: TransactionType) -> Sum:
        """Return what entries of one type come to."""
        return self.sums.get(kind, Sum())

    @property
    def moved(self) -> int:
        """What came in, less what went out."""
        return sum(one.minor_units for one in self.sums.values())


@dataclass(slots=True)
class Report:
    """The figures of a time: `start_time_ms` on, before `end_time_ms`, whole days UTC."""

    start_time_ms: int
    end_time_ms: int
    opening: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """What all wallets held at the start, by currency."""
    days: dict[str, dict[str, DayFigures]] = field(default_factory=dict)
    """By currency, then by day."""
    ways: dict[tuple[str, str, str], Sum] = field(default_factory=lambda: defaultdict(Sum))
    """What top-ups brought in, by gateway, method and currency."""
    outcomes: dict[tuple[str, str], dict[TopupState, int]] = field(default_factory=dict)
    """What became of the top-ups that were started, by gateway and method."""
    times_to_credit: dict[str, list[int]] = field(default_factory=dict)
    """Top-ups by how long they took from start to credit, by gateway: see CREDIT_BOUNDS_SECONDS."""

    def add_before(self, amounts: Iterable[Money]) -> None:
        """Take in what moved before the start."""
        for amount in amounts:
            self.opening[amount.currency_code] += amount.minor_units

    def add_moved(self, entries: Iterable[Moved]) -> None:
        """Take in what moved."""
        for entry in entries:
            days = self.days.setdefault(entry.amount.currency_code, {})
            figures = days.setdefault(day_of(entry.time_ms), DayFigures())
            figures.sums.setdefault(entry.type, Sum()).add(entry.amount.minor_units)
            if entry.type is not TransactionType.TOPUP:
                continue
            way = (entry.gateway, entry.method, entry.amount.currency_code)
            self.ways[way].add(entry.amount.minor_units)
            if entry.start_time_ms is not None:
                seconds = (entry.time_ms - entry.start_time_ms) / 1_000
                times = self.times_to_credit.setdefault(
                    entry.gateway, [0] * (len(CREDIT_BOUNDS_SECONDS) + 1)
                )
                times[bisect_left(CREDIT_BOUNDS_SECONDS, seconds)] += 1

    def add_topups(self, topups: Iterable[MadeTopup]) -> None:
        """Take in top-ups that were started."""
        for topup in topups:
            states = self.outcomes.setdefault((topup.gateway, topup.method), defaultdict(int))
            states[topup.state] += 1

    def close(self) -> None:
        """Work out what was held at the end of each day, also of those on which nothing moved."""
        names = [day_of(time_ms) for time_ms in range(self.start_time_ms, self.end_time_ms, DAY_MS)]
        for currency in sorted({*self.opening, *self.days}):
            held = self.opening[currency]
            moved = self.days.get(currency, {})
            filled = {name: moved.get(name, DayFigures()) for name in names}
            for figures in filled.values():
                held += figures.moved
                figures.held = held
            self.days[currency] = filled

    def total(self, currency_code: str, kind: TransactionType) -> Sum:
        """Return what entries of one type come to in one currency."""
        of_days = [day.sum_of(kind) for day in self.days[currency_code].values()]
        return Sum(sum(one.count for one in of_days), sum(one.minor_units for one in of_days))


_CREDITED: Final = (TopupState.CREDITED, TopupState.REVERSED)


def success_rate(states: dict[TopupState, int]) -> tuple[int, int]:
    """Return how many of the top-ups that came to an end were credited, and how many those are.

    One that was taken back later on was credited. One on its way counts for neither.
    """
    waiting = states.get(TopupState.CREATED, 0) + states.get(TopupState.PENDING, 0)
    credited = sum(states.get(state, 0) for state in _CREDITED)
    return credited, sum(states.values()) - waiting


def day_of(time_ms: int) -> str:
    """Return the day of a time, UTC."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d")
