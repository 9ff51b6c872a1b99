"""A round of chaos: everything is started, suffers, heals, and is held to account."""

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from chaos_callers import Callers
from chaos_checks import Verdict, check
from chaos_faults import Faults, Targets
from chaos_feed import cursor_findings, feed_findings
from motor.motor_asyncio import AsyncIOMotorClient

from event_watch import watching
from gateway_adapters.sandbox import RazorpaySandboxSettings, SandboxSettings, sandbox_app
from harness import (
    IMPATIENT,
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    differences,
    eventually,
    free_port,
    jwt_keys,
    token,
    unique,
)
from replica_set import KeptProcess, ReplicaSet, running_replica_set
from server.listening import address_of, bind, http_server
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

_CUSTOMERS = 24
_CALLERS = 16
_PROGRAM = Path(sys.executable).parent / "wallet-payment"
_CATCH_UP_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Report:
    """What a round came to."""

    seed: int
    faults: int
    operations: int
    reads: int
    longest_unavailability_seconds: float
    streams: int
    """How often the reader of the event feed had to come again, and once more."""
    verdict: Verdict

    @property
    def last_line(self) -> str:
        """Sum the round up."""
        verdict = self.verdict
        return (
            f"seed {self.seed}: {self.faults} faults, {self.operations} operations and "
            f"{self.reads} reads acknowledged, longest unavailability "
            f"{self.longest_unavailability_seconds:.1f} s, {len(verdict.lost)} lost, "
            f"{len(verdict.doubled)} doubled, {len(verdict.other)} otherwise wrong"
        )


async def run_chaos(folder: Path, seed: int, seconds: float) -> Report:
    """Run one round in an empty folder."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        replica_set = await stack.enter_async_context(running_replica_set(folder))
        client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(replica_set.uri)
        stack.callback(client.close)
        database = client.get_default_database()
        customers = [unique("customer") for _ in range(_CUSTOMERS)]
        await database.customers_v2.insert_many([{"_id": customer} for customer in customers])
        targets, addresses = await stack.enter_async_context(_running(replica_set, http))
        stubs = [
            service_grpc.WalletPaymentServiceStub(
                await stack.enter_async_context(grpc.aio.insecure_channel(address, IMPATIENT))
            )
            for address in addresses
        ]
        callers = Callers(stubs, http, targets.sandbox_url, customers, seed)
        watcher = await stack.enter_async_context(watching(*stubs))
        await callers.open()
        await callers.settle()
        start = time.monotonic()
        calling = asyncio.create_task(callers.run(_CALLERS))
        faults = Faults(targets, seed, seconds)
        await faults.run()
        await faults.heal()
        await asyncio.sleep(max(0.0, start + seconds - time.monotonic()))
        end = time.monotonic()
        callers.end()
        await calling
        await callers.settle()
        captured = await _captured(http, targets.sandbox_url)
        await _wait_for_credits(database, captured)
        verdict = await check(callers.record, database, captured)
        found = await differences(replica_set.uri)
        verdict.other += [f"books: {difference}" for difference in found]
        verdict.other += await feed_findings(watcher, database)
        verdict.other += await cursor_findings(watcher, stubs)
        return Report(
            seed,
            len(faults.done),
            len(callers.record.acknowledged_at),
            callers.record.reads,
            callers.record.longest_unavailability(start, end),
            watcher.streams,
            verdict,
        )


@asynccontextmanager
async def _running(
    replica_set: ReplicaSet, http: aiohttp.ClientSession
) -> AsyncIterator[tuple[Targets, list[str]]]:
    """Run the gateway here, two servers and the sidecar in processes; yield the servers' too."""
    async with AsyncExitStack() as stack:
        sandbox_socket = bind("127.0.0.1:0", "sandbox")
        sandbox_url = f"http://{address_of(sandbox_socket)}"
        sidecar_address = f"127.0.0.1:{free_port()}"
        sandbox = sandbox_app(
            SandboxSettings(
                (
                    RazorpaySandboxSettings(
                        *(KEY_ID, KEY_SECRET, WEBHOOK_SECRET),
                        f"http://{sidecar_address}/webhooks/razorpay",
                    ),
                )
            ),
            http,
        )
        await stack.enter_async_context(
            http_server(web.AppRunner(sandbox, access_log=None), sandbox_socket)
        )
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        servers = []
        for number, address in enumerate(addresses):
            environment = _settings(replica_set.uri, sandbox_url, address)
            arguments = (str(_PROGRAM), "serve", "--workers", str(number + 1))
            server = KeptProcess(f"server {number}", arguments, environment)
            servers.append(await stack.enter_async_context(server))
        sidecar = KeptProcess(
            "sidecar",
            (str(_PROGRAM), "sidecar"),
            {
                "PATH": os.environ["PATH"],
                "WALLET_SIDECAR_ADDRESS": sidecar_address,
                "WALLET_SERVER_TARGET": addresses[0],
                "WALLET_SIDECAR_TOKEN": token(sub="sidecar", scope="webhook.forward"),
            },
        )
        await stack.enter_async_context(sidecar)
        yield Targets(replica_set, servers, sidecar, http, sandbox_url), addresses


def _settings(mongodb_uri: str, sandbox_url: str, address: str) -> dict[str, str]:
    return {
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
        "WALLET_RAZORPAY_API_URL": sandbox_url,
        "WALLET_EVENTS_HEARTBEAT_SECONDS": "0.5",
        "WALLET_POLL_FIRST_SECONDS": "0.5",
        "WALLET_POLL_INTERVAL_SECONDS": "0.5",
    }


async def _captured(http: aiohttp.ClientSession, sandbox_url: str) -> dict[str, int]:
    """Return what the gateway has captured, as it tells it itself."""
    async with http.get(f"{sandbox_url}/sandbox/orders") as answer:
        orders = (await answer.json())["items"]
    account = base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
    captured: dict[str, int] = {}
    for order in orders:
        if order["status"] == "paid":
            url = f"{sandbox_url}/v1/orders/{order['id']}/payments"
            async with http.get(url, headers={"Authorization": f"Basic {account}"}) as answer:
                payments = (await answer.json())["items"]
            captured |= {one["id"]: one["amount"] for one in payments if one["captured"]}
    return captured


async def _wait_for_credits(database: Any, captured: dict[str, int]) -> None:
    """Wait until webhooks and pollers have brought all that was captured; not for ever."""
    wanted = list(captured)

    async def are_there() -> bool:
        query = {"type": "TOPUP", "gateway_payment_id": {"$in": wanted}}
        credited = set(await database.wallet_transactions.distinct("gateway_payment_id", query))
        waiting = await database.gateway_events.distinct(
            "gateway_payment_id", {"outcome": "NEEDS_REVIEW"}
        )
        return credited | set(waiting) >= captured.keys()

    try:
        await eventually(are_there, _CATCH_UP_SECONDS)
    except TimeoutError:
        return  # the check names what is missing
