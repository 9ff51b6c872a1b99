"""The bare driver: what a payment writes, without gRPC and without this service.

`bench_driver.py <MongoDB URI>` takes the jobs of `bench_load` and pays with one caller. Each
payment is one transaction of the same documents with the same guarantees, written as a user of
PyMongo would: the wallet replaced where its version is still the one that was read, the entry and
the order inserted, committed with `w: majority, j: true`. The documents are made before the clock
starts, and nothing is read: this is the least that a payment costs, and its latency the floor.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from bench_jobs import Job, Tally
from bench_latency import bucket_of
from bench_ledger import Paid, paid
from bench_requests import CURRENCY, DRIVER_WORKER, customers_of, numbers_of
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from server.ledger.records import Wallet, WalletKey
from server.store import documents, order_documents, schema
from server.store.connection import CODEC_OPTIONS

_WALLET_CHANGED: Final = "another process pays from the driver's wallets"

Document = dict[str, Any]


def make_load(
    database: Database[Document], job: Job, wallets: dict[str, Wallet], numbers: Iterator[int]
) -> Tally:
    """Pay with one caller as long as the job says."""
    assert job.callers == 1, "the driver has one caller"
    tally = Tally()
    customers = customers_of(job.wallets)
    draw = random.Random(DRIVER_WORKER).choice
    while time.monotonic() < job.measure_until:
        customer_id = draw(customers)
        if customer_id not in wallets:
            wallets[customer_id] = _wallet(database, customer_id)
        payment = paid(wallets[customer_id], next(numbers), time.time_ns() // 1_000_000)
        records = _Records(payment)
        started = time.monotonic()
        _pay(database, records)
        ended = time.monotonic()
        wallets[customer_id] = payment.wallet
        tally.acknowledged += 1
        if job.measure_from <= ended < job.measure_until:
            tally.payments += 1
            tally.latencies[bucket_of(ended - started)] += 1
    return tally


class _Records:
    """The documents of a payment."""

    def __init__(self, payment: Paid) -> None:
        self.wallet = documents.wallet_document(payment.wallet)
        self.wallet_version_before = payment.wallet.version - 1
        self.transaction = documents.transaction_document(payment.transaction)
        self.order = order_documents.order_document(payment.order)


def _pay(database: Database[Document], records: _Records) -> None:
    with (
        database.client.start_session() as session,
        session.start_transaction(
            read_concern=ReadConcern("snapshot"),
            write_concern=WriteConcern("majority", j=True),
        ),
    ):
        as_read = {"_id": records.wallet["_id"], "version": records.wallet_version_before}
        replaced = database[schema.WALLETS].replace_one(as_read, records.wallet, session=session)
        assert replaced.modified_count == 1, _WALLET_CHANGED
        database[schema.TRANSACTIONS].insert_one(records.transaction, session=session)
        database[schema.ORDERS].insert_one(records.order, session=session)


def _wallet(database: Database[Document], customer_id: str) -> Wallet:
    found = database[schema.WALLETS].find_one(
        {"_id": documents.wallet_id(WalletKey(customer_id, CURRENCY))}
    )
    assert found is not None
    return documents.read_wallet(found)


def _work(uri: str) -> None:
    client: MongoClient[Document] = MongoClient(uri)
    with client:
        database = client.get_default_database(codec_options=CODEC_OPTIONS)
        wallets: dict[str, Wallet] = {}
        numbers = numbers_of(DRIVER_WORKER)
        for line in sys.stdin:
            tally = make_load(database, Job(**json.loads(line)), wallets, numbers)
            sys.stdout.write(json.dumps(tally.message()) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _work(sys.argv[1])
