"""A server that is told to stop, or just dies, under load: what it acknowledged is in the books."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness import (
    IMPATIENT,
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Harness,
    bearer,
    differences,
    eventually,
    free_port,
    inr,
    jwt_keys,
    running_harness,
    token,
    unique,
)
from server.store.embedded import embedded_mongod
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

END_SECONDS = 10
END_SECONDS_WITHOUT_DATABASE = 15
CALLERS = 64
OPENING = 100_000


class Load:
    """Payments of 1 to one server from many callers, each with the next request at once."""

    def __init__(self, address: str, customers: list[str]) -> None:
        self._address = address
        self._customers = customers
        self._is_over = False
        self.acknowledged: dict[str, str] = {}
        """Order -> transaction."""
        self.unanswered: list[service.PayWithWalletRequest] = []

    async def run(self) -> None:
        """Pay until `end`, or until nobody listens any more."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub: Any = service_grpc.WalletPaymentServiceStub(channel)
            await asyncio.gather(*(self._pay(stub, number) for number in range(CALLERS)))

    def end(self) -> None:
        """Start no more payments."""
        self._is_over = True

    async def is_under_way(self) -> bool:
        """Tell whether payments are being acknowledged."""
        return len(self.acknowledged) > 3 * CALLERS

    async def _pay(self, stub: Any, number: int) -> None:
        metadata = bearer(token())
        while not self._is_over:
            request = service.PayWithWalletRequest(
                customer_id=self._customers[number % len(self._customers)],
                order_id=unique("order"),
                amount=inr(1),
                idempotency_key=unique("key"),
            )
            try:
                answer = await stub.PayWithWallet(request, metadata=metadata, timeout=8)
            except grpc.aio.AioRpcError as error:
                assert error.code() in {  # noqa: PT017 - the load goes on after it
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.CANCELLED,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                }
                self.unanswered.append(request)
                return
            self.acknowledged[request.order_id] = answer.transaction.transaction_id


@asynccontextmanager
async def serving(mongodb_uri: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `wallet-payment serve` in a process of its own; yield it with its address."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "PATH": os.environ["PATH"],
        "WALLET_MONGODB_URI": mongodb_uri,
        "WALLET_GRPC_ADDRESS": address,
        "WALLET_METRICS_ADDRESS": "127.0.0.1:0",
        "WALLET_LOG_LEVEL": "error",
        "WALLET_JWT_ALGORITHMS": "HS256",
        "WALLET_JWT_KEYS": json.dumps(jwt_keys()),
        "WALLET_RAZORPAY_KEY_ID": KEY_ID,
        "WALLET_RAZORPAY_KEY_SECRET": KEY_SECRET,
        "WALLET_RAZORPAY_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "WALLET_RAZORPAY_API_URL": "http://127.0.0.1:9",
    }
    program = Path(sys.executable).parent / "wallet-payment"
    process = await asyncio.create_subprocess_exec(program, "serve", env=environment)
    try:
        async with grpc.aio.insecure_channel(address, IMPATIENT) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)

            async def is_serving() -> bool:
                assert process.returncode is None
                request = health_pb2.HealthCheckRequest()
                answer = await health.Check(request, timeout=20, wait_for_ready=True)
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            await eventually(is_serving)
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def proven(harness: Harness, load: Load, customers: list[str]) -> None:
    """Check that each acknowledged payment is there, and each other one at most once."""
    entries = [
        entry
        for customer in customers
        for entry in await harness.entries(customer)
        if entry["type"] == "PAYMENT"
    ]
    by_order = {entry["order_id"]: entry["_id"] for entry in entries}
    assert len(by_order) == len(entries)
    assert load.acknowledged.items() <= by_order.items()
    unanswered = {request.order_id for request in load.unanswered}
    assert by_order.keys() <= load.acknowledged.keys() | unanswered
    orders = await harness.database.orders.find({"_id": {"$in": list(by_order)}}).to_list(None)
    assert {order["_id"]: order["wallet_transaction_id"] for order in orders} == by_order

    answers = await harness.settled("PayWithWallet", load.unanswered)
    settled = load.acknowledged | {
        answer.payment.order_id: answer.transaction.transaction_id for answer in answers
    }
    assert by_order.items() <= settled.items()
    spent = {customer: len(await harness.entries(customer)) - 1 for customer in customers}
    assert sum(spent.values()) == len(settled)
    for customer in customers:
        assert await harness.balance(customer) == OPENING - spent[customer]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_ending_under_load_loses_no_acknowledged_payment(
    harness: Harness, mongodb_uri: str, number: signal.Signals
) -> None:
    """Ended or killed under load: acknowledged payments are there, others once or not at all."""
    customers = [await harness.customer(OPENING) for _ in range(3)]
    async with serving(mongodb_uri) as (process, address):
        load = Load(address, customers)
        running = asyncio.create_task(load.run())
        await eventually(load.is_under_way)

        told = time.monotonic()
        process.send_signal(number)
        async with asyncio.timeout(END_SECONDS):
            code = await process.wait()
        assert time.monotonic() - told < END_SECONDS
        load.end()
        await running

    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    assert load.acknowledged
    await proven(harness, load, customers)
    assert await differences(mongodb_uri) == []


async def test_an_idle_server_ends_at_once(mongodb_uri: str) -> None:
    """With nothing to finish, SIGTERM ends the process in a moment, successfully."""
    async with serving(mongodb_uri) as (process, _):
        process.terminate()
        async with asyncio.timeout(3):
            assert await process.wait() == 0


async def test_a_server_whose_database_hangs_ends_all_the_same(tmp_path: Path) -> None:
    """SIGTERM while MongoDB answers nothing: the process ends by itself, no payment is lost."""
    async with embedded_mongod(tmp_path) as uri:
        async with running_harness(uri, books_agree=False) as harness:
            customer = await harness.customer(OPENING)
        async with serving(uri) as (process, address):
            load = Load(address, [customer])
            running = asyncio.create_task(load.run())
            await eventually(load.is_under_way)
            mongod = int((tmp_path / "mongodb" / "mongod.lock").read_text())
            os.kill(mongod, signal.SIGSTOP)
            try:
                process.terminate()
                async with asyncio.timeout(END_SECONDS_WITHOUT_DATABASE):
                    await process.wait()
            finally:
                os.kill(mongod, signal.SIGCONT)
            load.end()
            await running
        async with running_harness(uri) as harness:
            await proven(harness, load, [customer])
