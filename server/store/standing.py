"""How the records stand as a whole, and the one proof of the books that all servers share."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bson import Int64
from bson.datetime_ms import DatetimeMS
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from server.ledger.books import Difference, imbalance
from server.ledger.records import EventOutcome, TopupState
from server.standing import AGES_MS, OLDEST, Proven, Reconciled, Standing
from server.store import schema
from server.store.books import ledger_identity, next_leg
from server.store.books_state import BadState, BooksState, Phase, read_state, write_state
from server.store.connection import Database, Document, find, store_errors

_PROOF: Final = "proof"
_RECONCILIATION: Final = "reconciliation:"
_LEASE_MS: Final = 180_000
"""So long after it began, a leg that did not end is taken up by another server."""
_MOST_COUNTED: Final = 100_000
_ON_THEIR_WAY: Final = (TopupState.CREATED, TopupState.PENDING)


class MongoStanding:
    """Implements the port `StandingRecords` on one MongoDB database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, now_ms: int) -> Standing:
        """Return how the records stand; see the port."""
        pending: dict[tuple[str, str], int] = {}
        for state in _ON_THEIR_WAY:
            for found in await self._counted(
                schema.TOPUPS, {"state": state.value}, {"gateway": "$gateway", "age": _age(now_ms)}
            ):
                key = found["_id"]["gateway"], found["_id"]["age"]
                pending[key] = pending.get(key, 0) + found["count"]
        waiting = await self._counted(
            schema.EVENTS, {"outcome": EventOutcome.NEEDS_REVIEW.value}, "$gateway"
        )
        oldest = await find(
            self._database,
            schema.EVENTS,
            {"outcome": EventOutcome.NEEDS_REVIEW.value},
            projection={"receive_time": 1},
            sort={"receive_time": 1},
            limit=1,
        )
        by_time = {"fail_time": {"$gt": DatetimeMS(0)}}  # all of them, by the index
        buried = await self._counted(schema.DEAD_LETTERS, by_time, None)
        checks = await find(self._database, schema.CHECKS, {}, hint={"_id": 1}, limit=_MOST_COUNTED)
        proof: Document = next((one for one in checks if one["_id"] == _PROOF), {})
        return Standing(
            time_ms=now_ms,
            pending=pending,
            waiting={found["_id"]: found["count"] for found in waiting},
            waiting_since_ms=int(oldest[0]["receive_time"]) if oldest else None,
            dead_letters=sum(found["count"] for found in buried),
            reconciled=tuple(map(_reconciled, (one for one in checks if "gateway" in one))),
            proven=_proven(proof["last"]) if "last" in proof else None,
            differences_so_far=proof.get("differences", 0),
        )

    async def note_reconciliation(self, gateway: str, now_ms: int, differences: int) -> None:
        """Keep what a reconciliation came to, for whoever tells it.

        Raises:
            StoreUnavailable.
        """
        change = {
            "gateway": gateway,
            "time": DatetimeMS(now_ms),
            "differences": Int64(differences),
        }
        with store_errors():
            await self._database[schema.CHECKS].update_one(
                {"_id": f"{_RECONCILIATION}{gateway}"}, {"$set": change}, upsert=True
            )

    async def prove_on(
        self, now_ms: int, interval_ms: int, records: int
    ) -> Sequence[Difference] | None:
        """Go one leg further; see the port."""
        claimed = await self._claim(now_ms)
        if claimed is None:
            return None
        identity = await ledger_identity(self._database)
        state, begin_time_ms = _state_of(claimed, identity, now_ms)
        state, found = await next_leg(self._database, state, records)
        change: Document = {"due_time": DatetimeMS(now_ms + interval_ms)}
        if state.phase is Phase.SEALS:
            change |= {"last": _last(state, begin_time_ms, now_ms), "state": ""}
            change |= {"differences": Int64(0)}
        else:
            change |= {"state": write_state(state, identity)}
            change |= {"begin_time": DatetimeMS(begin_time_ms)}
            change |= {"differences": Int64(state.report.differences)}
        with store_errors():
            await self._database[schema.CHECKS].update_one(
                {"_id": _PROOF, "due_time": claimed["due_time"]}, {"$set": change}
            )
        return found

    async def _claim(self, now_ms: int) -> Document | None:
        """Take the next leg, if it is due and nobody else goes it."""
        with store_errors():
            try:
                return await self._database[schema.CHECKS].find_one_and_update(
                    {"_id": _PROOF, "due_time": {"$lte": DatetimeMS(now_ms)}},
                    {"$set": {"due_time": DatetimeMS(now_ms + _LEASE_MS)}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
            except DuplicateKeyError:  # it is there, and not due
                return None

    async def _counted(
        self, collection: str, query: Document, by: Mapping[str, Any] | str | None
    ) -> list[Document]:
        pipeline: list[Document] = [
            {"$match": query},
            {"$limit": _MOST_COUNTED},
            {"$group": {"_id": by, "count": {"$sum": 1}}},
        ]
        with store_errors():
            return await self._database[collection].aggregate(pipeline).to_list(None)


def _age(now_ms: int) -> Document:
    branches = [
        {"case": {"$gt": ["$create_time", DatetimeMS(now_ms - age_ms)]}, "then": age}
        for age, age_ms in AGES_MS.items()
    ]
    return {"$switch": {"branches": branches, "default": OLDEST}}


def _state_of(claimed: Document, identity: str, now_ms: int) -> tuple[BooksState, int]:
    """Return where the proof stands and when it began; it begins anew where that is not known."""
    try:
        return read_state(claimed["state"], identity), int(claimed["begin_time"])
    except (BadState, KeyError):
        return BooksState(), now_ms


def _last(state: BooksState, begin_time_ms: int, now_ms: int) -> Document:
    report = state.report
    sums = imbalance(report.accounts, report.balances)
    return {
        "begin_time": DatetimeMS(begin_time_ms),
        "end_time": DatetimeMS(now_ms),
        "differences": Int64(report.differences),
        "held": [[currency, Int64(held)] for currency, held in report.balances.items()],
        "imbalance": [[currency, Int64(off)] for currency, off in sums.items()],
    }


def _proven(last: Document) -> Proven:
    return Proven(
        int(last["begin_time"]),
        int(last["end_time"]),
        last["differences"],
        dict(last["held"]),
        dict(last["imbalance"]),
    )


def _reconciled(check: Document) -> Reconciled:
    return Reconciled(check["gateway"], int(check["time"]), check["differences"])
