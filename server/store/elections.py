"""Reads after an election: what was acknowledged before stays seen.

A primary that was just elected may not know yet how far the set had committed, and tells with read
concern majority what is older than a write that its predecessor acknowledged; until it has
committed something of its own term. A read of concern linearizable waits for just that. It takes a
tenth of a second, so that one is made for each election and process, not for each read.

What stays possible: a primary that was replaced and does not know it yet, since it is cut off from
the others but not from us, tells what is old until it steps down, by default after ten seconds.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from bson import SON, ObjectId
from pymongo import MongoClient
from pymongo.database import Database

Client = MongoClient[dict[str, Any]]

_LONGEST_WAIT_MS: Final = 5_000
_seen: "WeakKeyDictionary[Client, ObjectId]" = WeakKeyDictionary()
"""The last election after which a client's reads are known to be fresh."""

_Result = TypeVar("_Result")


def fresh(database: Database[dict[str, Any]], read: Callable[[], _Result]) -> _Result:
    """Read, if there was an election since the last time then after it has settled.

    The first primary of a client is taken as settled: a server starts with a majority write.

    Raises:
        PyMongoError.
    """
    client = database.client
    election = client.topology_description.max_election_id
    while True:
        settled = _seen.get(client)
        if settled is not None and settled != election:
            _settle(database)
        answer = read()
        before, election = election, client.topology_description.max_election_id
        if settled is None or before == election:
            if election is not None:
                _seen[client] = election
            return answer


def _settle(database: Database[dict[str, Any]]) -> None:
    """Wait until the primary has committed something of its own term."""
    command: SON[str, Any] = SON(
        find="service_settings",
        filter={"_id": "schema"},
        limit=1,
        projection={"_id": 1},
        singleBatch=True,
        readConcern={"level": "linearizable"},
        maxTimeMS=_LONGEST_WAIT_MS,
    )
    database.command(command)
