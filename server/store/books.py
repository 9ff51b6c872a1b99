"""Proof of the books on the stored records: streamed in bounded memory, at any size.

The proof goes leg by leg. Each leg reads some thousand records at one point in time and ends long
before MongoDB forgets it, so that the proof may take hours while payments go on. Between legs all
that is known fits into a small state, from which it can be gone on with.
"""

import asyncio
import copy
from collections.abc import Callable, Sequence
from typing import Final

from server.commit.port import StoreUnavailable
from server.ledger.books import Difference, check_accounts
from server.store import books_legs, schema
from server.store.books_state import BooksReport, BooksState, Phase
from server.store.connection import Database, store_errors
from server.store.seals import SealToCheck, check_seals

_ATTEMPTS: Final = 5
_RETRY_SECONDS: Final = 1.0


async def verify_books(
    database: Database,
    found: Callable[[Difference], None],
    *,
    seals: Sequence[SealToCheck] = (),
    are_all_seals: bool = False,
    state: BooksState | None = None,
    went_on: Callable[[BooksState], None] = lambda _: None,
    leg_records: int = books_legs.LEG_RECORDS,
) -> BooksReport:
    """Recompute every wallet from its entries, and compare orders, top-ups and seals with them.

    Each difference is handed to `found`, after each leg the state to `went_on`. Given as `state`,
    it has the proof go on from there. Where `are_all_seals` that were made, none may be missing.

    Raises:
        StoreUnavailable.
    """
    state = state or BooksState()
    begun = False
    while state.phase is not Phase.SEALS:
        attempts = _ATTEMPTS if begun else 1
        state, differences = await next_leg(database, state, leg_records, attempts)
        begun = True
        for difference in differences:
            found(difference)
        went_on(state)
    start = state.report.seals
    async for differences in check_seals(database, seals, are_all=are_all_seals, start=start):
        state.report.seals += 1
        state.report.differences += len(differences)
        for difference in differences:
            found(difference)
        went_on(state)
    return state.report


async def books_size(database: Database) -> int:
    """Return about how many records a proof goes through, from what MongoDB keeps count of."""
    with store_errors():
        return sum(
            [
                await database[name].estimated_document_count()
                for name in (schema.WALLETS, schema.TRANSACTIONS, schema.ORDERS, schema.TOPUPS)
            ]
        )


async def ledger_identity(database: Database) -> str:
    """Return what tells this ledger from every other; empty where there is none yet."""
    with store_errors():
        found = await database.list_collections(filter={"name": schema.TRANSACTIONS})
        collections = await found.to_list(None)
    return "".join(collection["info"]["uuid"].hex() for collection in collections)


async def next_leg(
    database: Database, state: BooksState, records: int, attempts: int = 1
) -> tuple[BooksState, list[Difference]]:
    """Go one leg further, and after the last one compare the accounts' totals.

    What an election breaks off is begun anew from the same state.

    Raises:
        StoreUnavailable.
    """
    for attempt in range(1, attempts + 1):
        differences: list[Difference] = []
        further = copy.deepcopy(state)
        try:
            with store_errors():
                await books_legs.LEGS[state.phase](database, further, records, differences.append)
        except StoreUnavailable:
            if attempt == attempts:
                raise
            await asyncio.sleep(_RETRY_SECONDS * attempt)
        else:
            if further.phase is Phase.SEALS:
                differences += check_accounts(further.report.accounts, further.report.balances)
            further.report.differences += len(differences)
            return further, differences
    raise AssertionError("at least one attempt is made")
