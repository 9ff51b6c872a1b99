"""The databases of a run: filled before the load, proven after it."""

import time
from typing import Final

from bench_requests import CUSTOMERS, funded_wallet
from pymongo.uri_parser import parse_uri

from server.ledger.books import Difference
from server.store import documents, schema
from server.store.books import verify_books
from server.store.connection import connect

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
    funded = [funded_wallet(customer_id, now_ms) for customer_id in CUSTOMERS]
    with connect(uri) as database:
        await schema.migrate(database)
        for collection, rows in (
            (schema.CUSTOMERS, [{"_id": customer_id} for customer_id in CUSTOMERS]),
            (schema.WALLETS, [documents.wallet_document(wallet) for wallet, _ in funded]),
            (schema.TRANSACTIONS, [documents.transaction_document(entry) for _, entry in funded]),
        ):
            await database[collection].insert_many(rows)


async def prove(uri: str, acknowledged: int) -> int:
    """Verify the books, and that each acknowledged payment is in them; return how many are.

    Raises:
        BooksDiffer: with the first differences.
    """
    differences: list[Difference] = []
    with connect(uri) as database:
        report = await verify_books(database, differences.append)
    if differences:
        shown = "\n".join(
            f"  {difference.wallet} {difference.transaction_id}: {difference.what}"
            for difference in differences[:_DIFFERENCES_SHOWN]
        )
        raise BooksDiffer(f"The books have {len(differences)} differences:\n{shown}")
    paid = report.transactions - len(CUSTOMERS)
    if paid < acknowledged:
        raise BooksDiffer(f"{acknowledged} payments were acknowledged, the books have {paid}.")
    return paid
