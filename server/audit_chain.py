"""The audit's hash chain: segments in one row, each with a chain of entries of one writer.

A process that serves writes segments of its own, so that none waits for another. A segment's
number is its place in the row; its head covers the head, or the end, of the one before it, and the
ends of others that no head before it covers. Each entry covers the one before it in its segment,
the first one the segment's head. An end says how many entries there are, and which is the last.

Digests are SHA-256 over a canonical JSON array: UTF-8, no white space, ASCII escapes, the fields in
the order in which they stand here. Anyone can recompute them in any language.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from server.audit import AuditEntry

GENESIS_HASH: Final = "0" * 64
"""What the first segment follows."""
_CANONICAL: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class Segment:
    """The head of a segment."""

    number: int
    """From 1, without gaps."""
    previous_hash: str
    """That of the end of the segment before it, or of its head while it had no end."""
    writer: str
    """The process that writes it, host:pid."""
    open_time_ms: int
    ended: tuple[tuple[int, str], ...] = ()
    """Segments that ended after the one behind them was opened: number, and the end's hash."""

    @property
    def hash(self) -> str:
        """What its first entry follows."""
        if not self.ended:
            return self.hash_without_ended
        return _digest(
            [self.number, self.previous_hash, self.writer, self.open_time_ms, self.ended]
        )

    @property
    def hash_without_ended(self) -> str:
        """What a release that knows nothing of `ended` takes for its hash."""
        return _digest([self.number, self.previous_hash, self.writer, self.open_time_ms])


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """What a writer says of a segment that it has written to its end."""

    number: int
    entries: int
    head_hash: str
    """The hash of its last entry, or of its head where there is none."""

    @property
    def hash(self) -> str:
        """What the next segment follows."""
        return _digest([self.number, self.entries, self.head_hash])


@dataclass(frozen=True, slots=True)
class ChainedEntry:
    """An entry in its place."""

    segment: int
    sequence: int
    """From 1, without gaps in its segment."""
    previous_hash: str
    hash: str
    entry: AuditEntry


def chained(segment: int, sequence: int, previous_hash: str, entry: AuditEntry) -> ChainedEntry:
    """Put an entry in its place."""
    digest = entry_hash(segment, sequence, previous_hash, entry)
    return ChainedEntry(segment, sequence, previous_hash, digest, entry)


def entry_hash(segment: int, sequence: int, previous_hash: str, entry: AuditEntry) -> str:
    """Return the hash that an entry must carry in this place."""
    return _digest(
        [
            segment,
            sequence,
            previous_hash,
            entry.time_ms,
            entry.method,
            entry.caller,
            entry.peer,
            entry.customer_id,
            entry.order_id,
            entry.code,
            entry.reason,
            entry.correlation_id,
            entry.duration_us,
        ]
    )


@dataclass(frozen=True, slots=True)
class AuditDifference:
    """Something in the audit that is not as it was written."""

    place: str
    """A segment, `<number>`, or an entry, `<number>:<sequence>`, as it is in `_id`."""
    problem: str


def place_of(segment: int, sequence: int | None = None) -> str:
    """Return how a segment, or an entry in it, is named; names sort as what they name."""
    return f"{segment:08}" if sequence is None else f"{segment:08}:{sequence:08}"


def check_row(
    segments: dict[int, Segment], ends: dict[int, SegmentEnd]
) -> Iterator[AuditDifference]:
    """Compare the heads with each other: all are there, and each follows the one before it."""
    last = 0
    for number in sorted(segments):
        segment, before = segments[number], segments.get(number - 1)
        first_missing, last = last + 1, number
        if number == 1:
            may_follow = {GENESIS_HASH}
        elif before is None:
            yield _missing_heads(first_missing, number - 1)
            continue
        else:
            # Where a server of the release before opens a segment during an upgrade.
            may_follow = {before.hash, before.hash_without_ended}
            may_follow |= {ends[number - 1].hash} if number - 1 in ends else set()
        if segment.previous_hash not in may_follow:
            yield AuditDifference(
                place_of(number),
                "its head does not follow the segment before it: one of the two was altered, or "
                "the end of the other was removed",
            )
        for ended, end_hash in segment.ended:
            if ended not in ends:
                yield AuditDifference(place_of(ended), "the end of this segment was removed")
            elif ends[ended].hash != end_hash:
                yield AuditDifference(place_of(ended), "the end of this segment was altered")


def uncovered(
    segments: dict[int, Segment], ends: dict[int, SegmentEnd]
) -> tuple[tuple[int, str], ...]:
    """Return the ends that no head covers, but for the last segment's: the next head follows it."""
    covered = {number for segment in segments.values() for number, _ in segment.ended}
    covered |= {
        number - 1
        for number, segment in segments.items()
        if number - 1 in ends and ends[number - 1].hash == segment.previous_hash
    }
    last = max(segments, default=0)
    return tuple((number, ends[number].hash) for number in sorted(ends.keys() - covered - {last}))


class SegmentCheck:
    """Takes a segment's entries in order, and names what is not as it was written."""

    def __init__(self, segment: Segment, end: SegmentEnd | None) -> None:
        self._number = segment.number
        self._end = end
        self._head_hash = segment.hash
        self._sequence = 0

    def add(self, chained_entry: ChainedEntry) -> Iterator[AuditDifference]:
        """Take the next entry."""
        place = place_of(self._number, chained_entry.sequence)
        expected = self._sequence + 1
        if chained_entry.sequence != expected:
            yield from self._missing(expected, chained_entry.sequence - 1)
        elif chained_entry.previous_hash != self._head_hash:
            yield AuditDifference(place, "it does not follow the entry before it")
        given = entry_hash(
            self._number, chained_entry.sequence, chained_entry.previous_hash, chained_entry.entry
        )
        if given != chained_entry.hash:
            yield AuditDifference(place, "it was altered")
        self._sequence, self._head_hash = chained_entry.sequence, chained_entry.hash

    def finish(self) -> Iterator[AuditDifference]:
        """Compare with the segment's end, where there is one."""
        if self._end is None:
            return
        if self._sequence < self._end.entries:
            yield from self._missing(self._sequence + 1, self._end.entries)
        elif (self._sequence, self._head_hash) != (self._end.entries, self._end.head_hash):
            yield AuditDifference(
                place_of(self._number, self._sequence), "it is not the last entry of its segment"
            )

    def _missing(self, first: int, last: int) -> Iterator[AuditDifference]:
        count = last - first + 1
        what = "it is missing" if count == 1 else f"{count} entries from here on are missing"
        yield AuditDifference(place_of(self._number, first), what)


def _missing_heads(first: int, last: int) -> AuditDifference:
    if first == last:
        return AuditDifference(place_of(first), "the head of this segment is missing")
    count = last - first + 1
    return AuditDifference(
        place_of(first), f"the heads of {count} segments from here on are missing"
    )


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(_CANONICAL.encode(content).encode()).hexdigest()
