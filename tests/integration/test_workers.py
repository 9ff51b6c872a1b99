"""Several workers on one port: one place for each wallet, whoever is called, whoever dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import (
    Harness,
    bearer,
    differences,
    eventually,
    free_port,
    inr,
    refusal_of,
    settings_for,
    token,
    unique,
)
from payment_load import OPENING, Load, proven, serving
from server.app import running_server
from server.ledger.commands import PayOrder
from server.ledger.money import Money
from server.ledger.records import NO_METADATA, IdempotencyKey
from server.workers.place import Place
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc


def owner_of(customer_id: str, place: Place) -> int:
    """Return the index of the worker that a customer's payments belong to."""
    key = IdempotencyKey("order-service", "PayWithWallet", "any")
    return place.owner_of(PayOrder(customer_id, "order", Money("INR", 1), key, NO_METADATA))


async def commits_of(place: Place) -> float:
    """Return how many batches a worker has committed, by its metrics."""
    connector = aiohttp.UnixConnector(str(place.metrics_socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://worker/metrics") as answer,
    ):
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "wallet_commit_batch_size_count"
    )


class Pair:
    """Two workers of one service; each is called on an address of its own."""

    def __init__(
        self, places: list[Place], stubs: list[Any], workers: list[AsyncExitStack]
    ) -> None:
        self.places = places
        self.stubs = stubs
        self.workers = workers

    async def pay(self, worker: int, customer_id: str, amount: int, key: str = "") -> Any:
        """Pay a new order through one of the workers."""
        request = service.PayWithWalletRequest(
            customer_id=customer_id,
            order_id=unique("order"),
            amount=inr(amount),
            idempotency_key=key or unique("key"),
        )
        return await self.stubs[worker].PayWithWallet(request, metadata=bearer(token()), timeout=20)


@asynccontextmanager
async def running_pair(mongodb_uri: str, folder: Path) -> AsyncIterator[Pair]:
    """Run two workers that know each other."""
    places = [Place(index, 2, folder) for index in range(2)]
    workers = [AsyncExitStack() for _ in places]
    stubs = []
    async with AsyncExitStack() as stack:
        for place, worker in zip(places, workers, strict=True):
            await stack.enter_async_context(worker)
            settings = settings_for(mongodb_uri, "http://127.0.0.1:9")
            running = await worker.enter_async_context(running_server(settings, place))
            channel = grpc.aio.insecure_channel(running.grpc_address)
            stubs.append(
                service_grpc.WalletPaymentServiceStub(await stack.enter_async_context(channel))
            )
        yield Pair(places, stubs, workers)


async def test_a_wallet_has_one_place_whoever_is_called(
    harness: Harness, mongodb_uri: str, tmp_path: Path
) -> None:
    """Payments of one customer through both workers are all committed by the one that owns it."""
    customer = await harness.customer(OPENING)
    async with running_pair(mongodb_uri, tmp_path) as pair:
        owner = owner_of(customer, pair.places[0])

        async def has_moved() -> bool:
            before = await commits_of(pair.places[1 - owner])
            await pair.pay(1 - owner, customer, 1)
            return await commits_of(pair.places[1 - owner]) == before

        await eventually(has_moved)
        elsewhere = await commits_of(pair.places[1 - owner])
        here = await commits_of(pair.places[owner])
        await asyncio.gather(*(pair.pay(number % 2, customer, 1) for number in range(20)))
        assert await commits_of(pair.places[1 - owner]) == elsewhere
        assert await commits_of(pair.places[owner]) > here


async def test_refusals_come_back_from_the_owner(
    harness: Harness, mongodb_uri: str, tmp_path: Path
) -> None:
    """A refusal carries its reason and values, a repeat its first answer, through either."""
    customer = await harness.customer(100)
    async with running_pair(mongodb_uri, tmp_path) as pair:
        for worker in (0, 1):
            refusal = await refusal_of(pair.pay(worker, customer, 101))
            assert refusal.reason == "INSUFFICIENT_FUNDS"
            assert refusal.metadata["missing_minor_units"] == "1"
        request = service.PayWithWalletRequest(
            customer_id=customer,
            order_id=unique("order"),
            amount=inr(10),
            idempotency_key=unique("key"),
            metadata={"cart": "7"},
        )
        answers = [
            await stub.PayWithWallet(request, metadata=bearer(token())) for stub in pair.stubs
        ]
        assert answers[0] == answers[1]
        assert answers[0].transaction.metadata == {"cart": "7"}


async def test_a_worker_goes_on_alone(harness: Harness, mongodb_uri: str, tmp_path: Path) -> None:
    """Where the owner is gone, payments are carried out by the worker that was called."""
    customers = [await harness.customer(OPENING) for _ in range(8)]
    async with running_pair(mongodb_uri, tmp_path) as pair:
        await pair.workers[1].aclose()
        for customer in customers:
            assert (await pair.pay(0, customer, 1)).wallet.balance.minor_units == OPENING - 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_worker_that_dies_is_started_again(
    harness: Harness, mongodb_uri: str, number: signal.Signals
) -> None:
    """A worker dies under load on few wallets: nothing is lost, and another one takes its place."""
    customers = [await harness.customer(OPENING) for _ in range(3)]
    async with serving(mongodb_uri, "--workers", "2", WALLET_METRICS_ADDRESS="127.0.0.1:0") as (
        supervisor,
        address,
    ):
        load = Load(address, customers, connections=8, stays=True)
        running = asyncio.create_task(load.run())
        await eventually(load.is_under_way)
        first = workers_of(supervisor.pid)
        assert len(first) == 2

        os.kill(min(first), number)

        async def is_replaced() -> bool:
            now = workers_of(supervisor.pid)
            return len(now) == 2 and min(first) not in now

        await eventually(is_replaced)
        before = len(load.acknowledged)

        async def goes_on() -> bool:
            return len(load.acknowledged) > before + 64

        await eventually(goes_on)
        load.end()
        await running
        supervisor.terminate()
        async with asyncio.timeout(15):
            assert await supervisor.wait() == 0
    assert workers_of(supervisor.pid) == set()
    await proven(harness, load, customers)
    assert await differences(mongodb_uri) == []


def workers_of(pid: int) -> set[int]:
    """Return the processes that a process has started and that still run."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return {int(child) for child in children.read_text("ascii").split()}
    except FileNotFoundError:
        return set()


_STANDING_WAS_READ = "wallet_standing_read_timestamp_seconds "


async def test_the_metrics_of_all_workers_are_told_together(mongodb_uri: str) -> None:
    """One address tells each worker's metrics, by a label; what describes the database, once."""
    metrics = f"127.0.0.1:{free_port()}"
    async with (
        serving(mongodb_uri, "--workers", "2", WALLET_METRICS_ADDRESS=metrics),
        aiohttp.ClientSession() as session,
    ):

        async def of_both() -> set[str]:
            async with session.get(f"http://{metrics}/metrics") as answer:
                text = await answer.text()
            names = [line for line in text.splitlines() if line.startswith("# TYPE")]
            assert len(names) == len(set(names))
            read = [line for line in text.splitlines() if line.startswith(_STANDING_WAS_READ)]
            if not read:
                return set()
            assert len(read) == 1, read
            found = {
                sample.labels["worker"]
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "wallet_commit_queue"
            }
            return found if len(found) == 2 else set()

        assert await eventually(of_both) == {"0", "1"}
