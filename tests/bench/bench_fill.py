"""A process that writes ledgers in bulk: `bench_fill.py <MongoDB URI> <worker number>`.

Each line of JSON names wallets and how many entries each is to have: a top-up, then payments with
their orders, made by the service's own rules. They go into collections without indexes.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from bench_ledger import funded, paid
from bench_requests import FILLING_WORKER, numbers_of
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database

from server.store import documents, order_documents, schema

_AT_ONCE: Final = 2_000
_APART_MS: Final = 1_000
"""Between two entries of a wallet."""

Document = dict[str, Any]


class _Writer:
    """Collects documents, and writes them when there are many."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._waiting: dict[str, list[Document]] = {}

    def put(self, collection: str, document: Document) -> None:
        waiting = self._waiting.setdefault(collection, [])
        waiting.append(document)
        if len(waiting) >= _AT_ONCE:
            self._write(collection)

    def flush(self) -> None:
        for collection in self._waiting:
            self._write(collection)

    def _write(self, collection: str) -> None:
        if self._waiting[collection]:
            self._database[collection].insert_many(self._waiting[collection], ordered=False)
            self._waiting[collection] = []


def fill(writer: _Writer, wallets: dict[str, int], numbers: Iterator[int]) -> int:
    """Write customers with their wallets; return how many entries they have together."""
    now_ms = time.time_ns() // 1_000_000
    for customer_id, entries in wallets.items():
        time_ms = now_ms - entries * _APART_MS
        start = funded(customer_id, time_ms)
        wallet = start.wallet
        writer.put(schema.CUSTOMERS, {"_id": customer_id})
        writer.put(schema.TOPUPS, documents.topup_document(start.topup))
        writer.put(schema.TRANSACTIONS, documents.transaction_document(start.transaction))
        for _ in range(1, entries):
            time_ms += _APART_MS
            payment = paid(wallet, next(numbers), time_ms)
            wallet = payment.wallet
            writer.put(schema.TRANSACTIONS, documents.transaction_document(payment.transaction))
            writer.put(schema.ORDERS, order_documents.order_document(payment.order))
        writer.put(schema.WALLETS, documents.wallet_document(wallet))
    writer.flush()
    return sum(wallets.values())


def _work(uri: str, worker: int) -> None:
    numbers = numbers_of(FILLING_WORKER + worker)
    client: MongoClient[Document] = MongoClient(uri)
    with client:
        unhurried = WriteConcern(w=1, j=False)
        writer = _Writer(client.get_default_database(write_concern=unhurried))
        for line in sys.stdin:
            entries = fill(writer, json.loads(line), numbers)
            sys.stdout.write(json.dumps({"entries": entries}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]))
