"""The run on growth: payments with a million stored entries beside payments with none, and reads.

The grown database has nine entries in each wallet, a wallet with as many entries as there are
wallets, but a hundred pages at least (the large one), and one with a hundred (the small one).
"""

import asyncio
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import bench_books
import grpc
from bench_cases import EMPTY, GROWN, growth_cases
from bench_money import Outcome
from bench_processes import Program, running_program
from bench_requests import HOT_CUSTOMER, customers_of, method, token
from bench_run import Call, Plan, Rig, Sample, Tell, pid_of_mongod, run_rounds
from bench_service import startup_seconds

from server.store import schema
from server.store.connection import connect
from server.store.embedded import embedded_mongod
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

_SMALL_CUSTOMER: Final = "customer-small-0"
_SMALL_ENTRIES: Final = 100
_ENTRIES: Final = 9
_FILLED_AT_ONCE: Final = 500
"""Wallets that a process fills before it is asked again."""
_PAGE_SIZE: Final = 20
_HUNDRED: Final = 100


async def run(plan: Plan, wallets: int, starts: int, tell: Tell) -> Outcome:
    """Fill a database, measure on it and on an empty one, prove both.

    Raises:
        BooksDiffer, ProgramEnded, EmbeddedMongoError, TimeoutError.
    """
    samples = [Sample(case) for case in growth_cases(wallets)]
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        uri = await resources.enter_async_context(embedded_mongod(folder))
        empty_uri = bench_books.uri_of_database(uri, f"bench_{EMPTY}")
        grown_uri = bench_books.uri_of_database(uri, f"bench_{GROWN}")
        started = time.monotonic()
        entries = await _fill(grown_uri, wallets, plan.load_processes)
        tell(f"{entries} entries in {wallets} wallets, in {time.monotonic() - started:.0f} s")
        await bench_books.seed(empty_uri)
        async with AsyncExitStack() as programs:
            loads = [
                await programs.enter_async_context(running_program("bench_load.py", str(number)))
                for number in range(plan.load_processes)
            ]
            rigs: dict[str, Rig] = {}
            for target, target_uri in ((EMPTY, empty_uri), (GROWN, grown_uri)):
                server = await programs.enter_async_context(
                    running_program("bench_server.py", target, target_uri)
                )
                rigs[target] = Rig(str((await server.read())["address"]), (server.pid,), loads)
            calls = await _reads(rigs[GROWN].address)
            await run_rounds(plan, samples, rigs, await pid_of_mongod(uri), tell, calls)
        tell("start-up")
        measures = {"startup_million_seconds": await startup_seconds(grown_uri, starts)}
        for target, target_uri, before in (
            (EMPTY, empty_uri, len(bench_books.CUSTOMERS)),
            (GROWN, grown_uri, entries),
        ):
            paid = [s for s in samples if s.case.target == target and s.case.name.startswith("pay")]
            acknowledged = sum(sample.acknowledged for sample in paid)
            came = await bench_books.prove(target_uri, acknowledged, before)
            tell(f"{target}: the books prove {came} payments, {acknowledged} acknowledged")
    return Outcome(samples, measures)


async def _fill(uri: str, wallets: int, processes: int) -> int:
    """Write the grown database, then its indexes; return how many entries it has."""
    customers = customers_of(wallets)
    waiting = iter(
        [
            {HOT_CUSTOMER: max(wallets, _HUNDRED * _PAGE_SIZE)},
            {_SMALL_CUSTOMER: _SMALL_ENTRIES},
            *(
                dict.fromkeys(customers[first : first + _FILLED_AT_ONCE], _ENTRIES)
                for first in range(0, wallets, _FILLED_AT_ONCE)
            ),
        ]
    )

    async def keep_busy(program: Program) -> int:
        return sum([(await program.ask(wallets_of_some))["entries"] for wallets_of_some in waiting])

    async with AsyncExitStack() as programs:
        running = [
            await programs.enter_async_context(running_program("bench_fill.py", uri, str(number)))
            for number in range(processes)
        ]
        entries = sum(await asyncio.gather(*map(keep_busy, running)))
    with connect(uri) as database:
        await schema.migrate(database)
        # What filling has left to be written down is not to be charged to the payments.
        await database.client.admin.command("fsync")
    return entries


async def _reads(address: str) -> Mapping[str, Call]:
    """Return what is read of the small and of the large wallet."""
    calls: dict[str, Call] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = service_grpc.WalletPaymentServiceStub(channel)
        metadata = (("authorization", f"Bearer {token()}"),)
        for size, customer in (("small", _SMALL_CUSTOMER), ("large", HOT_CUSTOMER)):
            page = service.ListTransactionsRequest(customer_id=customer, page_size=_PAGE_SIZE)
            newest = await stub.ListTransactions(page, metadata=metadata)
            calls[f"first_page_{size}"] = _call("ListTransactions", page)
            calls[f"status_{size}"] = _call(
                "GetStatus", service.GetStatusRequest(customer_id=customer)
            )
            calls[f"order_payment_{size}"] = _call(
                "GetOrderPayment",
                service.GetOrderPaymentRequest(
                    customer_id=customer, order_id=newest.transactions[0].order_id
                ),
            )
        for _ in range(1, _HUNDRED):
            answer = await stub.ListTransactions(page, metadata=metadata)
            page.page_token = answer.next_page_token
        calls["hundredth_page_large"] = _call("ListTransactions", page)
    return calls


def _call(name: str, request: Any) -> Call:
    return Call(method(name), request.SerializeToString())
