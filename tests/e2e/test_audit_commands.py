"""`wallet-payment audit` as operators and auditors meet it, also after a server was killed."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from motor.motor_asyncio import AsyncIOMotorClient

import command_line
from harness import (
    IMPATIENT,
    bearer,
    eventually,
    free_port,
    jwt_keys,
    refusal_of,
    token,
    unique,
    with_database,
)
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

SECRET = "secret-of-nobody-else"


async def audit(uri: str, *arguments: str, status: int = 0) -> str:
    """Run `wallet-payment audit`; return what it prints."""
    environment = {"WALLET_MONGODB_URI": uri}
    output, _ = await command_line.run("audit", *arguments, environment=environment, status=status)
    return output


@asynccontextmanager
async def serving(uri: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """Run `wallet-payment serve` as long as the context lasts; give it and a stub."""
    address = f"127.0.0.1:{free_port()}"
    process = await command_line.start(
        "serve",
        environment={
            "WALLET_MONGODB_URI": uri,
            "WALLET_GRPC_ADDRESS": address,
            "WALLET_METRICS_ADDRESS": "127.0.0.1:0",
            "WALLET_JWT_ALGORITHMS": "HS256",
            "WALLET_JWT_KEYS": json.dumps(jwt_keys()),
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with grpc.aio.insecure_channel(address, IMPATIENT) as channel:
            yield process, service_grpc.WalletPaymentServiceStub(channel)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def ask(stub: Any, customer: str) -> str:
    """Ask for the status of a customer who does not exist; return the reason once it is told."""
    request = service.GetStatusRequest(customer_id=customer)

    async def told() -> str:
        call = stub.GetStatus(request, metadata=bearer(token()), timeout=10, wait_for_ready=True)
        reason = (await refusal_of(call)).reason
        return "" if reason == "DATABASE_UNAVAILABLE" else reason

    reason: str = await eventually(told, 60)
    return reason


async def test_calls_are_found_and_proven_and_a_forgery_is_named(mongodb_uri: str) -> None:
    """Search prints text or JSON and says by its status whether there is any; verify as well."""
    uri = with_database(mongodb_uri, unique("audit"))
    customer = unique("customer")
    async with serving(uri) as (_, stub):
        assert await ask(stub, customer) == "CUSTOMER_NOT_FOUND"
        bad = (("authorization", f"Bearer {SECRET}"),)
        request = service.GetStatusRequest(customer_id=customer)
        assert (await refusal_of(stub.GetStatus(request, metadata=bad))).reason == "TOKEN_INVALID"

    text = await audit(uri, "search", "--customer", customer, "--reason", "CUSTOMER_NOT_FOUND")
    assert "GetStatus  NOT_FOUND CUSTOMER_NOT_FOUND  caller order-service" in text
    [line] = (await audit(uri, "search", "--outcome", "UNAUTHENTICATED", "--json")).splitlines()
    refused = json.loads(line)
    assert (refused["customer_id"], refused["reason"], refused["caller"]) == (
        customer,
        "TOKEN_INVALID",
        "",
    )
    await audit(uri, "search", "--caller", "nobody", status=1)
    await audit(uri, "search", "--from", "yesterday", status=2)
    assert SECRET not in await audit(uri, "search")
    assert "all as written" in await audit(uri, "verify")

    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(uri)
    logs = client.get_default_database().integration_logs
    await logs.update_one({"reason": "TOKEN_INVALID"}, {"$set": {"customer_id": "another"}})
    client.close()
    told = await audit(uri, "verify", status=1)
    assert ": it was altered" in told
    lines = (await audit(uri, "verify", "--json", status=1)).splitlines()
    assert json.loads(lines[0])["difference"]["problem"] == "it was altered"
    assert json.loads(lines[-1])["report"]["differences"] == 1
    await audit("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100", "verify", status=2)


async def test_a_server_that_is_killed_leaves_a_whole_chain(mongodb_uri: str) -> None:
    """After SIGKILL its segment has no end, what was written holds, and the next one follows."""
    uri = with_database(mongodb_uri, unique("audit"))
    first, second = unique("customer"), unique("customer")
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(uri)
    logs = client.get_default_database().integration_logs
    async with serving(uri) as (process, stub):
        await ask(stub, first)

        async def is_written() -> bool:
            return bool(await logs.count_documents({"customer_id": first}))

        await eventually(is_written)
        process.kill()
        await process.wait()
    async with serving(uri) as (_, stub):
        await ask(stub, second)
    client.close()

    report = json.loads(await audit(uri, "verify", "--json"))["report"]

    assert (report["segments"], report["open_segments"], report["differences"]) == (2, 1, 0)
    assert first in await audit(uri, "search", "--customer", first)
    assert second in await audit(uri, "search", "--customer", second)
