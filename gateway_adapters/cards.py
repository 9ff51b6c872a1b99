"""What is checked of a card that a wallet's token holds, before it is dropped."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_ON_EARTH: Final = timedelta(hours=12)
"""So long after UTC does a day end where it ends last."""


def has_expired(year: int, month: int, now_ms: int) -> bool:
    """Tell whether a card's last month is over everywhere, at `now_ms` in UTC milliseconds."""
    today = _EPOCH + timedelta(milliseconds=now_ms) - _LAST_ON_EARTH
    return (year, month) < (today.year, today.month)
