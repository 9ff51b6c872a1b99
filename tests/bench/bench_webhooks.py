"""Webhooks from the sidecar to the credited wallet: sustained, and a burst of them at once.

The gateway has taken the money by then: top-ups wait in the database for their webhooks.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import bench_books
from bench_cases import SPREAD
from bench_jobs import read_tally
from bench_ledger import waiting_topup
from bench_processes import Program, running_program
from bench_requests import PRICE_MINOR_UNITS, customers_of
from bench_run import Plan, Rig
from bench_service import running_service, running_sidecar
from bench_webhook_bodies import gateway_order_id

from server.ledger.records import TopupState
from server.store import documents, schema
from server.store.connection import connect

_MOST_PER_SECOND: Final = 3_000
"""For so many, top-ups are made; a machine that takes more of them needs more here."""
_AT_ONCE: Final = 5_000


@dataclass(slots=True)
class Webhooks:
    """A running service with its sidecar, and processes that send webhooks."""

    rig: Rig
    uri: str
    loads: list[Program] = field(default_factory=list)
    acknowledged_in_burst: int = 0

    async def burst(self, webhooks: int) -> dict[str, float]:
        """Send so many webhooks at once; return how long it took until all were credited."""
        each = webhooks // len(self.loads)
        before = await _credited(self.uri)
        started = time.monotonic()
        answers = await asyncio.gather(
            *(load.ask({"burst": each, "address": self.rig.address}) for load in self.loads)
        )
        seconds = time.monotonic() - started
        tallies = [read_tally(answer) for answer in answers]
        self.acknowledged_in_burst = sum(tally.acknowledged for tally in tallies)
        credited = await _credited(self.uri) - before
        if credited != each * len(self.loads):
            raise bench_books.BooksDiffer(
                f"{self.acknowledged_in_burst} webhooks were acknowledged, {credited} credited."
            )
        return {
            "webhook_burst_seconds": seconds,
            "webhook_burst_per_second": credited / seconds,
            "webhook_burst_sent_again": sum(tally.errors.total() for tally in tallies),
        }


def topups_for(plan: Plan, burst: int) -> int:
    """Return how many top-ups each load process needs in a run."""
    return round((_MOST_PER_SECOND * plan.total_seconds + burst) / plan.load_processes)


@asynccontextmanager
async def running_webhooks(uri: str, loads: int, topups: int) -> AsyncIterator[Webhooks]:
    """Run sidecar, service and load processes, each of these with so many waiting top-ups."""
    await _prepare(uri, loads * topups)
    async with AsyncExitStack() as programs:
        service = await programs.enter_async_context(running_service(uri))
        url, sidecar = await programs.enter_async_context(running_sidecar(service))
        running = [
            await programs.enter_async_context(
                running_program("bench_webhook_load.py", str(number * topups), str(topups))
            )
            for number in range(loads)
        ]
        yield Webhooks(Rig(url, (*service.pids, sidecar.pid), running), uri, running)


async def prove_webhooks(uri: str, acknowledged: int) -> int:
    """Prove that each top-up that was acknowledged has its entry, and no other has; return them.

    Raises:
        BooksDiffer.
    """
    came = await bench_books.prove(uri, acknowledged)
    credited = await _credited(uri) - len(bench_books.CUSTOMERS)
    if came != credited:
        raise bench_books.BooksDiffer(f"{credited} top-ups are credited by {came} entries.")
    return came


async def _prepare(uri: str, topups: int) -> None:
    customers = customers_of(SPREAD)
    now_ms = time.time_ns() // 1_000_000
    with connect(uri) as database:
        for first in range(0, topups, _AT_ONCE):
            await database[schema.TOPUPS].insert_many(
                documents.topup_document(
                    waiting_topup(
                        customers[number % SPREAD],
                        gateway_order_id(number),
                        PRICE_MINOR_UNITS,
                        now_ms,
                    )
                )
                for number in range(first, min(first + _AT_ONCE, topups))
            )


async def _credited(uri: str) -> int:
    with connect(uri) as database:
        state = {"state": TopupState.CREDITED.value}
        return int(await database[schema.TOPUPS].count_documents(state))
