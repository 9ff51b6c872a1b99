"""The audit's chain in the real MongoDB: whatever is done to it afterwards is found."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from bson import Int64
from bson.datetime_ms import DatetimeMS

from harness import (
    eventually,
)
from server.audit import AuditEntry
from server.audit_chain import Segment, entry_hash
from server.metrics import Metrics
from server.store import audit_log, schema
from server.store.audit_log import MongoAuditLog
from server.store.audit_records import AuditFilter, AuditReport, MongoAuditRecords
from server.store.connection import Database
from written_audit import ENTRY, audit_database, is_written, verified, write_segment


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[Database]:
    """An empty database of its own."""
    async with audit_database(mongodb_uri) as opened:
        yield opened


async def test_what_was_written_is_proven(database: Database) -> None:
    """Segments that follow each other, and all their entries, are as they were written."""
    for count in (3, 0, 5):
        await write_segment(database, count)

    found, report = await verified(database)

    assert found == []
    assert (report.segments, report.open_segments, report.entries) == (2, 0, 8)


async def test_each_batch_goes_on_with_the_chain(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long segment is written in many batches, and a full one is followed by another."""
    monkeypatch.setattr(audit_log, "_MAX_BATCH", 10)
    monkeypatch.setattr(audit_log, "_MAX_SEGMENT_ENTRIES", 30)
    await write_segment(database, 95)

    found, report = await verified(database)

    assert found == []
    assert (report.segments, report.open_segments, report.entries) == (4, 0, 95)


async def test_writers_at_the_same_time_have_segments_of_their_own(database: Database) -> None:
    """Four servers that start at once take four places in the row."""
    await asyncio.gather(*(write_segment(database, 50) for _ in range(4)))

    found, report = await verified(database)

    assert found == []
    assert (report.segments, report.entries) == (4, 200)


Forgery = Callable[[Any], Awaitable[Any]]


async def _alter(logs: Any) -> None:
    await logs.update_one({"_id": "00000001:00000003"}, {"$set": {"caller": "nobody"}})


async def _alter_time(logs: Any) -> None:
    await logs.update_one({"_id": "00000001:00000003"}, {"$set": {"duration_us": 1}})


async def _hide_field(logs: Any) -> None:
    await logs.update_one({"_id": "00000001:00000003"}, {"$unset": {"customer_id": 1}})


async def _remove(logs: Any) -> None:
    await logs.delete_one({"_id": "00000001:00000003"})


async def _remove_two(logs: Any) -> None:
    await logs.delete_many({"_id": {"$in": ["00000001:00000003", "00000001:00000004"]}})


async def _remove_last(logs: Any) -> None:
    await logs.delete_one({"_id": "00000001:00000005"})


async def _reorder(logs: Any) -> None:
    """Let two entries trade places, whole."""
    third = await logs.find_one({"_id": "00000001:00000003"})
    fourth = await logs.find_one({"_id": "00000001:00000004"})
    await logs.replace_one({"_id": third["_id"]}, fourth | {"_id": third["_id"]})
    await logs.replace_one({"_id": fourth["_id"]}, third | {"_id": fourth["_id"]})


async def _append(logs: Any) -> None:
    last = await logs.find_one({"_id": "00000001:00000005"})
    await logs.insert_one(last | {"_id": "00000001:00000006"})


async def _of_no_segment(logs: Any) -> None:
    last = await logs.find_one({"_id": "00000001:00000005"})
    await logs.insert_one(last | {"_id": "00000000:00000001"})


async def _unreadable(logs: Any) -> None:
    await logs.update_one({"_id": "00000001:00000003"}, {"$unset": {"hash": 1}})


async def _remove_end(logs: Any) -> None:
    await logs.database.audit_segments.delete_one({"_id": "00000001:end"})


async def _remove_segment(logs: Any) -> None:
    """Remove a whole segment, with its head, its end and its entries."""
    await logs.delete_many({"_id": {"$regex": "^00000001:"}})
    await logs.database.audit_segments.delete_many({"_id": {"$regex": "^00000001"}})


async def _alter_head(logs: Any) -> None:
    await logs.database.audit_segments.update_one({"_id": "00000001"}, {"$set": {"writer": "x"}})


@pytest.mark.parametrize(
    ("forgery", "places"),
    [
        (_alter, ["00000001:00000003"]),
        (_alter_time, ["00000001:00000003"]),
        (_hide_field, ["00000001:00000003"]),
        (_remove, ["00000001:00000003"]),
        (_remove_two, ["00000001:00000003"]),
        (_remove_last, ["00000001:00000005"]),
        (_reorder, ["00000001:00000003", "00000001:00000004"]),
        (_append, ["00000001:00000006"]),
        (_of_no_segment, ["00000000"]),
        (_unreadable, ["00000001:00000003"]),
        (_remove_end, ["00000002"]),
        (_remove_segment, ["00000001"]),
        (_alter_head, ["00000001:00000001"]),
    ],
)
async def test_what_is_done_to_the_audit_is_found_where_it_was_done(
    database: Database, forgery: Forgery, places: list[str]
) -> None:
    """An entry that is altered, removed, moved or added is named, and so is a segment."""
    await write_segment(database, 5)
    await write_segment(database, 5)

    await forgery(database[schema.LOGS])

    found, _ = await verified(database)
    assert set(places) <= {one.place for one in found}
    others = {one.place for one in found} - set(places)
    assert others <= {"00000001:00000004", "00000001:00000005", "00000001:00000006"}


async def write_side_by_side(database: Database) -> None:
    """Write segment 1, which ends after 2 was opened, 2, and 3, which is opened after both."""
    async with AsyncExitStack() as later:
        async with MongoAuditLog(database, Metrics()) as first:
            for number in range(3):
                first.put(replace(ENTRY, order_id=f"first-{number}"))
            await is_written(database, "00000001:00000003")
            second = await later.enter_async_context(MongoAuditLog(database, Metrics()))
            second.put(ENTRY)
            await is_written(database, "00000002:00000001")
        await write_segment(database, 1)


async def _cut_end(database: Any) -> None:
    await database.integration_logs.delete_one({"_id": "00000001:00000003"})
    await database.audit_segments.delete_one({"_id": "00000001:end"})


async def _end_earlier(database: Any) -> None:
    """Let the segment end one entry earlier, as if that had been its last."""
    await database.integration_logs.delete_one({"_id": "00000001:00000003"})
    last = await database.integration_logs.find_one({"_id": "00000001:00000002"})
    changed = {"entries": Int64(2), "head_hash": last["hash"]}
    await database.audit_segments.update_one({"_id": "00000001:end"}, {"$set": changed})


async def _forget_ended(database: Any) -> None:
    """Take an end away, and from the head that covers it, too."""
    await _cut_end(database)
    await database.audit_segments.update_one({"_id": "00000003"}, {"$unset": {"ended": 1}})


@pytest.mark.parametrize(
    ("forgery", "place", "problem"),
    [
        (_cut_end, "00000001", "the end of this segment was removed"),
        (_end_earlier, "00000001", "the end of this segment was altered"),
        (_forget_ended, "00000003:00000001", "it does not follow the entry before it"),
    ],
)
async def test_an_end_is_covered_also_where_another_segment_began_before_it(
    database: Database, forgery: Callable[[Any], Awaitable[None]], place: str, problem: str
) -> None:
    """Servers beside each other: the next head covers the ends that came since the one before."""
    await write_side_by_side(database)
    assert (await verified(database))[0] == []

    await forgery(database)

    [difference] = (await verified(database))[0]
    assert (difference.place, difference.problem) == (place, problem)


async def test_each_end_is_covered_once(database: Database) -> None:
    """Heads stay short however many segments there are."""
    await write_side_by_side(database)
    await write_segment(database, 1)
    await write_segment(database, 1)

    heads = await database[schema.AUDIT_SEGMENTS].find({"writer": {"$exists": True}}).to_list(None)
    covered = {head["_id"]: [number for number, _ in head.get("ended", ())] for head in heads}
    assert covered == {
        "00000001": [],
        "00000002": [],
        "00000003": [1],
        "00000004": [2],
        "00000005": [],
    }


async def test_a_server_of_the_release_before_opens_segments_beside_this_ones(
    database: Database,
) -> None:
    """During an upgrade it follows a head as it knows it, without the ends that it covers."""
    await write_side_by_side(database)
    segments: Any = database[schema.AUDIT_SEGMENTS]
    head = await segments.find_one_and_delete({"_id": "00000003"})
    await segments.delete_one({"_id": "00000003:end"})
    await database[schema.LOGS].delete_one({"_id": "00000003:00000001"})
    third = Segment(3, head["previous_hash"], "new:1", 1, ((1, head["ended"][0][1]),))
    fourth = Segment(4, third.hash_without_ended, "old:1", 2)
    for segment in (third, fourth):
        await segments.insert_one(audit_log._segment_document(segment))  # noqa: SLF001 - as written

    assert (await verified(database))[0] == []


@pytest.mark.parametrize("place", ["00000009:00000001", "99999999:00000001", 7, ""])
async def test_an_entry_of_no_segment_is_found(database: Database, place: object) -> None:
    """Who plants an entry behind the last segment, or under an id of another kind, is found."""
    await write_segment(database, 2)
    logs: Any = database[schema.LOGS]
    planted = await logs.find_one({"_id": "00000001:00000002"})
    await logs.insert_one(planted | {"_id": place, "caller": "nobody"})

    found, _ = await verified(database)

    assert len(found) == 1


async def test_a_segment_that_is_opened_meanwhile_is_no_difference(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts while the audit is proven has entries of a segment not read yet."""
    await write_segment(database, 2)
    read_row = MongoAuditRecords._read_row  # noqa: SLF001 - between it and the entries

    async def read_row_and_start(records: Any, segments: Any, ends: Any) -> Any:
        unreadable = await read_row(records, segments, ends)
        monkeypatch.setattr(MongoAuditRecords, "_read_row", read_row)
        await write_segment(database, 2)
        return unreadable

    monkeypatch.setattr(MongoAuditRecords, "_read_row", read_row_and_start)

    found, report = await verified(database)

    assert found == []
    assert report.entries == 4


async def test_a_number_far_off_is_one_difference(database: Database) -> None:
    """A planted head with a large number is told in a line, not in a line for each number."""
    await write_segment(database, 2)
    segments: Any = database[schema.AUDIT_SEGMENTS]
    head = await segments.find_one({"_id": "00000001"})
    await segments.insert_one(head | {"_id": "99999999"})

    found, _ = await verified(database)

    assert [one.place for one in found] == ["00000002"]
    assert "99999997 segments" in found[0].problem


@pytest.mark.parametrize("planted", [["zzz"], ["00000009:end"], ["99999999", "100000000"]])
async def test_a_row_that_cannot_be_gone_on_with_sets_the_alarm(
    database: Database, planted: list[str]
) -> None:
    """Who spoils the row of segments does not silence the audit: it fails loudly, and goes on."""
    segments: Any = database[schema.AUDIT_SEGMENTS]
    head = {"previous_hash": "", "writer": "", "open_time_ms": 1}
    await segments.insert_many([head | {"_id": place} for place in planted])
    async with MongoAuditLog(database, Metrics(), refuses=True) as audit:
        audit.put(ENTRY)

        async def is_refusing() -> bool:
            return not audit.takes_calls

        await eventually(is_refusing)
        await segments.delete_many({})

        async def is_written() -> bool:
            return audit.takes_calls

        await eventually(is_written)
    assert (await verified(database))[0] == []
    assert len(await MongoAuditRecords(database).search(AuditFilter(), 10)) == 1


async def test_each_field_of_an_entry_is_covered(database: Database) -> None:
    """Whichever field is altered, its entry is named."""
    await write_segment(database, 2, reason="LIMIT_EXCEEDED")
    logs: Any = database[schema.LOGS]
    entry = await logs.find_one({"_id": "00000001:00000001"})
    changed = {
        name: DatetimeMS(1) if name == "time" else 1 if name == "duration_us" else "other"
        for name, value in entry.items()
        if name not in {"_id", "previous_hash", "hash"}
    }
    assert changed.keys() == set(AuditEntry.__slots__) - {"time_ms"} | {"time"}

    for name, value in changed.items():
        await logs.update_one({"_id": entry["_id"]}, {"$set": {name: value}})
        found, _ = await verified(database)
        assert [one.place for one in found] == [entry["_id"]], name
        await logs.replace_one({"_id": entry["_id"]}, entry)


async def test_who_alters_an_entry_and_its_hash_breaks_the_next_link(database: Database) -> None:
    """A recomputed hash no longer is what the entry after it says."""
    await write_segment(database, 5)
    await write_segment(database, 1)
    logs: Any = database[schema.LOGS]
    [stored] = await logs.find({"_id": "00000001:00000003"}).to_list(None)
    forged = replace(ENTRY, order_id="order-2", caller="nobody")
    digest = entry_hash(1, 3, stored["previous_hash"], forged)
    await logs.update_one({"_id": stored["_id"]}, {"$set": {"caller": "nobody", "hash": digest}})

    found, _ = await verified(database)

    assert [one.place for one in found] == ["00000001:00000004"]
    assert "does not follow" in found[0].problem


async def test_a_history_that_was_written_anew_lacks_the_hash_that_was_noted(
    database: Database,
) -> None:
    """A chain that is whole in itself does not hold what an earlier proof told."""
    await write_segment(database, 5)
    _, report = await verified(database)
    noted = report.last_hash
    await write_segment(database, 5)
    records = MongoAuditRecords(database)
    assert [one async for one in records.verify(AuditReport(), noted)] == []

    for collection in (schema.LOGS, schema.AUDIT_SEGMENTS):
        await database[collection].delete_many({})
    await write_segment(database, 4)

    assert (await verified(database))[0] == []
    [difference] = [one async for one in records.verify(AuditReport(), noted)]
    assert difference.place == noted
