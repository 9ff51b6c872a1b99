"""The databases of a run: filled before the load, proven after it."""

import time
from typing import Final

from bench_cases import HOT, SPREAD
from bench_ledger import funded
from bench_requests import customers_of
from pymongo.uri_parser import parse_uri

from server.ledger.books import Difference
from server.store import documents, schema
from server.store.books import verify_books
from server.store.books_state import BooksReport
from server.store.connection import connect

CUSTOMERS: Final = (*customers_of(HOT), *customers_of(SPREAD))
"""Everyone who has a wallet, unless it is a database of millions."""

_DIFFERENCES_SHOWN: Final = 10


class BooksDiffer(Exception):
    """The ledger does not prove what was acknowledged: a defect of the service."""


def uri_of_database(uri: str, name: str) -> str:
    """Return the URI of another database on the same MongoDB."""
    found = parse_uri(uri)["database"]
    return uri.replace(f"/{found}?", f"/{name}?")


async def seed(uri: str) -> None:
    """Make collections and indexes, and give each customer a wallet with money in it."""
    now_ms = time.time_ns() // 1_000_000
    everyone = [funded(customer_id, now_ms) for customer_id in CUSTOMERS]
    with connect(uri) as database:
        await schema.migrate(database)
        for collection, rows in (
            (schema.CUSTOMERS, [{"_id": customer_id} for customer_id in CUSTOMERS]),
            (schema.WALLETS, [documents.wallet_document(one.wallet) for one in everyone]),
            (
                schema.TRANSACTIONS,
                [documents.transaction_document(one.transaction) for one in everyone],
            ),
            (schema.TOPUPS, [documents.topup_document(one.topup) for one in everyone]),
        ):
            await database[collection].insert_many(rows)


async def prove(uri: str, acknowledged: int, entries_before: int = len(CUSTOMERS)) -> int:
    """Verify the books, and that each acknowledged entry is in them; return how many came.

    Raises:
        BooksDiffer: with the first differences.
    """
    came = (await _verified(uri)).transactions - entries_before
    if came < acknowledged:
        raise BooksDiffer(f"{acknowledged} entries were acknowledged, the books have {came}.")
    return came


async def _verified(uri: str) -> BooksReport:
    differences: list[Difference] = []
    with connect(uri) as database:
        report = await verify_books(database, differences.append)
    if differences:
        shown = "\n".join(
            f"  {difference.wallet} {difference.transaction_id}: {difference.what}"
            for difference in differences[:_DIFFERENCES_SHOWN]
        )
        raise BooksDiffer(f"The books have {len(differences)} differences:\n{shown}")
    return report
