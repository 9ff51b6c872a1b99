"""What went through a wallet in the running hour, day and month, by which its limits are checked.

Periods are those of the calendar in UTC. The counts are a cache of the wallet's entries, as its
balance is: they follow from TOPUP and PAYMENT entries alone, and a proof of the books recounts
them.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()


class Period(StrEnum):
    """The periods in which is counted."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Window(NamedTuple):
    """What went through a wallet in one period. Amounts are minor units."""

    topups: int = 0
    topup_amount: int = 0
    payments: int = 0
    payment_amount: int = 0

    def with_topup(self, amount: int) -> "Window":
        """Return this and one more credited top-up."""
        topups, topup_amount, payments, payment_amount = self
        return Window(topups + 1, topup_amount + amount, payments, payment_amount)

    def with_payment(self, amount: int) -> "Window":
        """Return this and one more payment."""
        topups, topup_amount, payments, payment_amount = self
        return Window(topups, topup_amount, payments + 1, payment_amount + amount)


NOTHING: Final = Window()


@dataclass(frozen=True, slots=True)
class Usage:
    """What went through a wallet in the periods of `time_ms`, that of the last counted entry."""

    time_ms: int = 0
    hour: Window = NOTHING
    day: Window = NOTHING
    month: Window = NOTHING

    def at(self, time_ms: int) -> "Usage":
        """Return what counts at a later time: of a period that is over, nothing."""
        if time_ms // _HOUR_MS == self.time_ms // _HOUR_MS:
            return Usage(time_ms, self.hour, self.day, self.month)
        day, today = self.time_ms // _DAY_MS, time_ms // _DAY_MS
        return Usage(
            time_ms,
            NOTHING,
            self.day if today == day else NOTHING,
            self.month if _month(today) == _month(day) else NOTHING,
        )

    def window(self, period: Period) -> Window:
        """Return what went through in the running hour, day or month."""
        match period:
            case Period.HOUR:
                return self.hour
            case Period.DAY:
                return self.day
            case Period.MONTH:
                return self.month

    def with_topup(self, amount: int, time_ms: int) -> "Usage":
        """Return this and a top-up that was credited at `time_ms`."""
        now = self.at(time_ms)
        return Usage(
            time_ms,
            now.hour.with_topup(amount),
            now.day.with_topup(amount),
            now.month.with_topup(amount),
        )

    def with_payment(self, amount: int, time_ms: int) -> "Usage":
        """Return this and a payment that was made at `time_ms`."""
        now = self.at(time_ms)
        return Usage(
            time_ms,
            now.hour.with_payment(amount),
            now.day.with_payment(amount),
            now.month.with_payment(amount),
        )


NO_USAGE: Final = Usage()
"""Of a wallet that nothing went through yet."""

UNCOUNTED: Final = Usage(time_ms=-1)
"""Of a wallet that an earlier release wrote last: its entries tell."""


def period_start_ms(period: Period, time_ms: int) -> int:
    """Return when the period of `time_ms` began, in milliseconds since the epoch."""
    match period:
        case Period.HOUR:
            return time_ms - time_ms % _HOUR_MS
        case Period.DAY:
            return time_ms - time_ms % _DAY_MS
        case Period.MONTH:
            return _month_start_ms(_month(time_ms // _DAY_MS))


def period_end_ms(period: Period, time_ms: int) -> int:
    """Return when the next period begins, in milliseconds since the epoch."""
    match period:
        case Period.HOUR:
            return period_start_ms(period, time_ms) + _HOUR_MS
        case Period.DAY:
            return period_start_ms(period, time_ms) + _DAY_MS
        case Period.MONTH:
            return _month_start_ms(_month(time_ms // _DAY_MS) + 1)


@lru_cache(maxsize=64)
def _month(day: int) -> int:
    """Return the month of a day since the epoch, as the number of months since the year 0."""
    found = date.fromordinal(_EPOCH_ORDINAL + day)
    return 12 * found.year + found.month - 1


def _month_start_ms(month: int) -> int:
    start = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return (start.toordinal() - _EPOCH_ORDINAL) * _DAY_MS
