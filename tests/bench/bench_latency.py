"""Latencies as counts in buckets, so that those of many processes and rounds can be added up.

A bucket is 1 % wide, so that a quantile is exact to half a per cent at any scale.
"""

import math
from collections import Counter
from typing import Final

_WIDTH: Final = math.log(1.01)
_MICROSECOND: Final = 1e-6

Latencies = Counter[int]
"""Bucket -> how many calls took that long."""


def bucket_of(seconds: float) -> int:
    """Return the bucket of a latency."""
    return int(math.log(max(seconds, _MICROSECOND) / _MICROSECOND) / _WIDTH)


def quantile_ms(latencies: Latencies, fraction: float) -> float | None:
    """Return what `fraction` of the calls took at most, in milliseconds; None without calls."""
    wanted = fraction * latencies.total()
    seen = 0
    for bucket in sorted(latencies):
        seen += latencies[bucket]
        if seen >= wanted:
            return math.exp((bucket + 0.5) * _WIDTH) * _MICROSECOND * 1_000
    return None
