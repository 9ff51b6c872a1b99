"""Rate limits: how much a key has used lately is one number, in a table of a fixed size.

The number is the time at which the key will have used nothing any more, which is the whole state of
a leaky bucket (GCRA, "virtual scheduling" in ITU-T I.371). A key that is not in the table has used
nothing, and so has one whose time is over: forgetting it forgets nothing. Where a new key finds no
place, the key that has used the least makes room. So a flood of keys takes no memory, and does not
wash out those that are at their limit.
"""

import hashlib
import mmap
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

KEYS: Final = 65_536
"""So many keys at most are known at a time."""
_TABLE_BYTES: Final = 16 * KEYS
_WAYS: Final = 8
"""A key has its place in one set of so many."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many uses a second on the average, and so many at once after a pause."""

    per_second: float
    burst: int

    @property
    def interval_seconds(self) -> float:
        """What one use costs."""
        return 1 / self.per_second

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read `<per second>` or `<per second>:<burst>`, such as `0.5:10`.

        The burst is a second's worth where it is not given.

        Raises:
            ValueError: it is neither.
        """
        per_second_text, colon, burst_text = text.partition(":")
        try:
            per_second = float(per_second_text)
            burst = int(burst_text) if colon else max(1, round(per_second))
        except (ValueError, OverflowError):
            raise ValueError(_WHAT_A_RATE_IS) from None
        if not (_SLOWEST <= per_second <= _FASTEST and 1 <= burst <= _FASTEST):
            raise ValueError(_WHAT_A_RATE_IS)
        return cls(per_second, burst)


_SLOWEST: Final = 0.001
_FASTEST: Final = 1_000_000
_WHAT_A_RATE_IS: Final = (
    "takes <per second> or <per second>:<burst>, from 0.001 and 1 to 1000000 each, such as 0.5:10"
)


@dataclass(frozen=True, slots=True)
class Rates:
    """A general rate, and those of names that have their own; None is no limit."""

    general: Rate | None = None
    named: Mapping[str, Rate] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, texts: Iterable[str], names: Collection[str]) -> "Rates":
        """Read rates such as `50:100` for all, or `PayWithWallet=5:10` for one of `names`.

        Raises:
            ValueError: one of them is neither, or is given twice.
        """
        found: dict[str, Rate] = {}
        for text in texts:
            name, equals, rate = text.rpartition("=")
            if equals and name not in names:
                raise ValueError(f"knows none of the name {name!r}: {', '.join(sorted(names))}")
            if name in found:
                raise ValueError("takes one rate for all, and one for each name")
            found[name] = Rate.parse(rate)
        return cls(found.pop("", None), MappingProxyType(found))


class RateTable:
    """What the keys have used, in memory of this process or of several on this machine.

    Processes that share it may, at the same moment, overwrite each other's note: a use is then
    counted once instead of twice. That is exact enough for a limit, and needs no lock.
    """

    def __init__(
        self, memory: mmap.mmap, secret: bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`secret` keeps others from choosing keys that crowd out a certain one."""
        numbers = memoryview(memory)
        self._keys = numbers[: _TABLE_BYTES // 2].cast("Q")
        self._times = numbers[_TABLE_BYTES // 2 :].cast("d")
        self._secret = secret
        self._clock = clock

    def wait_seconds(self, key: str, rate: Rate) -> float:
        """Return how long until `key` may be used at `rate`; 0.0 where it may be used now."""
        name, first = self._place(key)
        for slot in range(first, first + _WAYS):
            if self._keys[slot] == name:
                unused_at = self._times[slot] - (rate.burst - 1) * rate.interval_seconds
                wait = unused_at - self._clock()
                return wait if wait > _ROUNDING_SECONDS else 0.0
        return 0.0

    def use(self, key: str, rate: Rate) -> None:
        """Note a use of `key`, also of one that is at its limit: it never owes more than that."""
        name, first = self._place(key)
        slots = range(first, first + _WAYS)
        slot = next((slot for slot in slots if self._keys[slot] == name), None)
        now = self._clock()
        if slot is None:
            slot = min(slots, key=self._times.__getitem__)
            self._times[slot] = now
            self._keys[slot] = name
        used_until = max(self._times[slot], now) + rate.interval_seconds
        self._times[slot] = min(used_until, now + rate.burst * rate.interval_seconds)

    def give_back(self, key: str, rate: Rate) -> None:
        """Take back a use that was noted before it was known whether it counts."""
        name, first = self._place(key)
        for slot in range(first, first + _WAYS):
            if self._keys[slot] == name:
                self._times[slot] -= rate.interval_seconds

    def _place(self, key: str) -> tuple[int, int]:
        """Return the name that stands for a key, and the first slot of its set."""
        digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=16, key=self._secret)
        both = int.from_bytes(digest.digest())
        return (both & _NAME) or 1, (both >> 64) % (KEYS // _WAYS) * _WAYS


_ROUNDING_SECONDS: Final = 1e-6
_NAME: Final = 2**64 - 1


def private_table(clock: Callable[[], float] = time.monotonic) -> RateTable:
    """Return a table of this process alone."""
    return RateTable(mmap.mmap(-1, _TABLE_BYTES), os.urandom(32), clock)


def shared_table(folder: Path, name: str = "rates") -> RateTable:
    """Return the table of all processes that give the same `folder` and `name`, made by the first.

    The folder is theirs alone and has a random name, which nobody else knows. Their clock is that
    of the machine, so that times of one mean the same to the others.
    """
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, _TABLE_BYTES)
        memory = mmap.mmap(descriptor, _TABLE_BYTES)
    finally:
        os.close(descriptor)
    return RateTable(memory, hashlib.blake2b(str(folder).encode()).digest())
