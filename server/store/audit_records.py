"""Reads the audit: what was asked and by whom, and whether it is all there as it was written."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from bson.datetime_ms import DatetimeMS

from server.audit import AuditEntry
from server.audit_chain import (
    GENESIS_HASH,
    AuditDifference,
    ChainedEntry,
    Segment,
    SegmentCheck,
    SegmentEnd,
    check_row,
    place_of,
    uncovered,
)
from server.store import schema
from server.store.connection import BlockingDatabase, Database, Document, find, found, store_errors

_BATCH: Final = 1_000
_RECENT: Final = 1_000
"""Heads and ends that a new segment looks at for ends that it has to cover."""
_END: Final = ":end"
_FROM_TEXT: Final = {"$gt": ""}
"""Entries of the chain have texts as their ids; those of earlier releases had none of a chain."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What is looked for; an empty text stands for anything."""

    caller: str = ""
    customer_id: str = ""
    order_id: str = ""
    method: str = ""
    code: str = ""
    reason: str = ""
    correlation_id: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    """Before this."""


@dataclass(slots=True)
class AuditReport:
    """What a proof of the audit has seen."""

    segments: int = 0
    open_segments: int = 0
    """Those without an end: their servers run, or were killed."""
    entries: int = 0
    unchained: int = 0
    """Entries of releases before there was a chain."""
    differences: int = 0
    last_hash: str = ""
    """That of the last segment's end or head: whoever notes it can tell later that nothing before
    it was written anew."""


class MongoAuditRecords:
    """The audit as it is stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, wanted: AuditFilter, limit: int) -> list[AuditEntry]:
        """Return the newest entries that fit, newest first."""
        query: Document = {
            name: value
            for name in (
                *("caller", "customer_id", "order_id", "method", "code"),
                *("reason", "correlation_id"),
            )
            if (value := getattr(wanted, name))
        }
        times = {
            operator: DatetimeMS(time_ms)
            for operator, time_ms in (("$gte", wanted.start_ms), ("$lt", wanted.end_ms))
            if time_ms is not None
        }
        if times:
            query["time"] = times
        documents = await find(self._database, schema.LOGS, query, sort={"time": -1}, limit=limit)
        return [_entry(document) for document in documents]

    async def verify(
        self, report: AuditReport, noted_hash: str = ""
    ) -> AsyncIterator[AuditDifference]:
        """Go through the whole audit; yield what is not as it was written, and fill the report.

        `noted_hash` is the `last_hash` of an earlier report, which has to be in it still.

        Calls go on meanwhile. Memory holds the heads of the segments and one batch of entries.
        """
        segments: dict[int, Segment] = {}
        ends: dict[int, SegmentEnd] = {}
        in_row = [*await self._read_row(segments, ends), *check_row(segments, ends)]
        hashes = {one.hash for one in segments.values()} | {one.hash for one in ends.values()}
        if noted_hash and noted_hash not in hashes:
            in_row.append(AuditDifference(noted_hash, "it was noted, and is no longer there"))
        for difference in in_row:
            report.differences += 1
            yield difference
        report.segments = len(segments)
        report.open_segments = len(segments.keys() - ends.keys())
        if segments:
            last = max(segments)
            report.last_hash = ends[last].hash if last in ends else segments[last].hash
        checks = {number: SegmentCheck(segments[number], ends.get(number)) for number in segments}
        unknown = _Unknown(max(segments, default=0))
        with store_errors():
            cursor = self._database[schema.LOGS].find({"_id": _FROM_TEXT}, batch_size=_BATCH)
            async for document in cursor.sort("_id", 1):
                report.entries += 1
                for difference in self._check(document, checks, unknown):
                    report.differences += 1
                    yield difference
        outside = [*await self._planted(unknown), *await self._unnamed(report)]
        ends_of = (one for check in checks.values() for one in check.finish())
        for difference in chain(ends_of, outside):
            report.differences += 1
            yield difference

    def _check(
        self,
        document: Document,
        checks: dict[int, SegmentCheck],
        unknown: "_Unknown",
    ) -> list[AuditDifference]:
        try:
            place = _chained(document)
        except (KeyError, ValueError, TypeError, AttributeError):
            return [AuditDifference(str(document["_id"]), "it cannot be read")]
        check = checks.get(place.segment)
        if check is not None:
            return list(check.add(place))
        return unknown.add(place.segment)

    async def _planted(self, unknown: "_Unknown") -> list[AuditDifference]:
        """Name the segments that have entries, and no head by now: a head is written before them.

        Those with one were opened after the proof began.
        """
        if not unknown.later:
            return []
        opened: dict[int, Segment] = {}
        await self._read_row(opened, {})
        return [_without_head(number) for number in sorted(unknown.later - opened.keys())]

    async def _unnamed(self, report: AuditReport) -> list[AuditDifference]:
        """Count entries of releases before the chain; name what no release has written."""
        logs = self._database[schema.LOGS]
        with store_errors():
            report.unchained = await logs.count_documents({"_id": {"$type": "objectId"}})
            others = await logs.count_documents(
                {"$nor": [{"_id": _FROM_TEXT}, {"_id": {"$type": "objectId"}}]}, hint={"_id": 1}
            )
        if not others:
            return []
        return [AuditDifference(schema.LOGS, f"{others} entries have an id that none can have")]

    async def _read_row(
        self, segments: dict[int, Segment], ends: dict[int, SegmentEnd]
    ) -> list[AuditDifference]:
        """Read the heads and the ends of all segments; return those that cannot be read."""
        # Newest first: the ends that a head covers were there before it, and are read after it.
        documents = await find(
            self._database, schema.AUDIT_SEGMENTS, {"_id": _FROM_TEXT}, sort={"_id": -1}
        )
        return [
            AuditDifference(place, "it cannot be read")
            for place in _sorted_into(segments, ends, documents)
        ]

    @staticmethod
    def end_of_row(database: BlockingDatabase) -> "EndOfRow":
        """Return what the next segment has to follow and to cover."""
        documents = found(
            database, schema.AUDIT_SEGMENTS, {"_id": _FROM_TEXT}, sort={"_id": -1}, limit=_RECENT
        )
        if not documents:
            return EndOfRow(0, GENESIS_HASH, ())
        is_end = documents[0]["_id"].endswith(_END)
        last = _end(documents[0]) if is_end else _segment(documents[0])
        segments: dict[int, Segment] = {}
        ends: dict[int, SegmentEnd] = {}
        _sorted_into(segments, ends, documents)
        return EndOfRow(last.number, last.hash, uncovered(segments, ends))


@dataclass(frozen=True, slots=True)
class EndOfRow:
    """Where the row of segments ends."""

    number: int
    """That of the last segment; 0 where there is none."""
    hash: str
    """Of its end, or of its head while it has none."""
    ended: tuple[tuple[int, str], ...]
    """Ends that no head covers yet."""


class _Unknown:
    """The segments that entries name, and no head that was read."""

    def __init__(self, last_segment: int) -> None:
        self._last_segment = last_segment
        self._named: set[int] = set()
        self.later: set[int] = set()
        """Those after the last one that was read."""

    def add(self, number: int) -> list[AuditDifference]:
        """Name a segment once, unless it may have been opened meanwhile."""
        if number > self._last_segment:
            self.later.add(number)
            return []
        if number in self._named:
            return []
        self._named.add(number)
        return [_without_head(number)]


def _without_head(number: int) -> AuditDifference:
    return AuditDifference(place_of(number), "it has entries, and no head")


def _sorted_into(
    segments: dict[int, Segment], ends: dict[int, SegmentEnd], documents: list[Document]
) -> list[str]:
    """Read heads and ends, each into its own; return the ids of those that cannot be read."""
    unreadable = []
    for document in documents:
        try:
            if document["_id"].endswith(_END):
                end = _end(document)
                ends[end.number] = end
            else:
                segment = _segment(document)
                segments[segment.number] = segment
        except (KeyError, ValueError, TypeError):
            unreadable.append(str(document["_id"]))
    return unreadable


def _segment(document: Document) -> Segment:
    return Segment(
        int(document["_id"]),
        document["previous_hash"],
        document["writer"],
        int(document["open_time_ms"]),
        tuple((int(number), str(end_hash)) for number, end_hash in document.get("ended", ())),
    )


def _end(document: Document) -> SegmentEnd:
    return SegmentEnd(
        int(document["_id"].removesuffix(_END)), int(document["entries"]), document["head_hash"]
    )


def _chained(document: Document) -> ChainedEntry:
    segment, sequence = document["_id"].split(":")
    return ChainedEntry(
        int(segment), int(sequence), document["previous_hash"], document["hash"], _entry(document)
    )


def _entry(document: Document) -> AuditEntry:
    time: Any = document["time"]
    return AuditEntry(
        time_ms=int(time),
        method=document["method"],
        caller=document.get("caller", ""),
        peer=document.get("peer", ""),
        customer_id=document.get("customer_id", ""),
        order_id=document.get("order_id", ""),
        code=document["code"],
        reason=document.get("reason", ""),
        correlation_id=document.get("correlation_id", ""),
        duration_us=int(document.get("duration_us", 0)),
    )
