"""Payments under load on a server in a process of its own, and the proof of what came of them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness import (
    IMPATIENT,
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Harness,
    bearer,
    eventually,
    free_port,
    inr,
    jwt_keys,
    token,
    unique,
)
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

CALLERS = 64
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
OPENING = 100_000
"""What the customers of a load have at first, in paise."""


class Load:
    """Payments of 1 to one server from many callers, each with the next request at once.

    A caller ends with the server, which shows by an error; where the server `stays`, losing a part
    of itself alone, the caller goes on with another payment.
    """

    def __init__(
        self, address: str, customers: list[str], connections: int = 1, *, stays: bool = False
    ) -> None:
        self._address = address
        self._stays = stays
        self._customers = customers
        self._connections = connections
        self._is_over = False
        self.acknowledged: dict[str, str] = {}
        """Order -> transaction."""
        self.unanswered: list[service.PayWithWalletRequest] = []

    async def run(self) -> None:
        """Pay until `end`, or until nobody listens any more."""
        async with AsyncExitStack() as channels:
            stubs: list[Any] = [
                service_grpc.WalletPaymentServiceStub(
                    await channels.enter_async_context(
                        grpc.aio.insecure_channel(self._address, _OWN_CONNECTION)
                    )
                )
                for _ in range(self._connections)
            ]
            await asyncio.gather(
                *(
                    self._pay(stubs[number % len(stubs)], number % len(self._customers))
                    for number in range(CALLERS)
                )
            )

    def end(self) -> None:
        """Start no more payments."""
        self._is_over = True

    async def is_under_way(self) -> bool:
        """Tell whether payments are being acknowledged."""
        return len(self.acknowledged) > 3 * CALLERS

    async def _pay(self, stub: Any, customer: int) -> None:
        metadata = bearer(token())
        while not self._is_over:
            request = service.PayWithWalletRequest(
                customer_id=self._customers[customer],
                order_id=unique("order"),
                amount=inr(1),
                idempotency_key=unique("key"),
            )
            try:
                answer = await stub.PayWithWallet(
                    request, metadata=metadata, timeout=8, wait_for_ready=self._stays
                )
            except grpc.aio.AioRpcError as error:
                assert error.code() in {  # noqa: PT017 - the load goes on after it
                    grpc.StatusCode.ABORTED,  # two carried out payments of one wallet
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.CANCELLED,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                }
                self.unanswered.append(request)
                if not self._stays:
                    return
                continue
            self.acknowledged[request.order_id] = answer.transaction.transaction_id


@asynccontextmanager
async def serving(
    mongodb_uri: str,
    *arguments: str,
    credentials: grpc.ChannelCredentials | None = None,
    stderr: IO[bytes] | None = None,
    **settings: str,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `wallet-payment serve` in a process of its own; yield it with its address.

    `credentials` are what a server with TLS is called with.
    """
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
    } | settings
    program = Path(sys.executable).parent / "wallet-payment"
    process = await asyncio.create_subprocess_exec(
        program, "serve", *arguments, env=environment, stderr=stderr
    )
    try:
        async with (
            grpc.aio.insecure_channel(address, IMPATIENT)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, IMPATIENT)
        ) as channel:
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
