"""The service as operators run it: its own command line, each in processes of its own."""

import asyncio
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import aiohttp
import grpc
from bench_processes import Program, running_program, with_children
from bench_requests import JWT_ALGORITHM, key_set, token
from bench_webhook_bodies import WEBHOOK_SECRET
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc as health_grpc

_START_SECONDS: Final = 30.0
_ASK_AGAIN_SECONDS: Final = 0.005
_CONNECT_AT_ONCE: Final = (
    ("grpc.initial_reconnect_backoff_ms", 10),
    ("grpc.min_reconnect_backoff_ms", 10),
    ("grpc.max_reconnect_backoff_ms", 20),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Service:
    """A running `wallet-payment serve`."""

    address: str
    pids: tuple[int, ...]
    ready_seconds: float
    """From the start of the process to health SERVING."""


@asynccontextmanager
async def running_service(uri: str, *, workers: int = 1) -> AsyncIterator[Service]:
    """Run `wallet-payment serve`; it is entered once every worker serves."""
    address, metrics_address = _free_address(), _free_address()
    environment = {
        "WALLET_MONGODB_URI": uri,
        "WALLET_GRPC_ADDRESS": address,
        "WALLET_METRICS_ADDRESS": metrics_address,
        "WALLET_JWT_ALGORITHMS": JWT_ALGORITHM,
        "WALLET_JWT_KEYS": key_set(),
        "WALLET_RAZORPAY_KEY_ID": "rzp_test_bench",
        "WALLET_RAZORPAY_KEY_SECRET": "bench-key-secret",
        "WALLET_RAZORPAY_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "WALLET_RAZORPAY_API_URL": f"http://{_free_address()}",  # It is never asked.
        "WALLET_LOG_LEVEL": "error",
    }
    arguments = ("serve", "--workers", str(workers)) if workers > 1 else ("serve",)
    started = time.monotonic()
    async with running_program("bench_command.py", *arguments, environment=environment) as program:
        async with asyncio.timeout(_START_SECONDS):
            await _serving(address)
            ready_seconds = time.monotonic() - started
            if workers > 1:
                await _all_tell(f"http://{metrics_address}/metrics", workers)
        yield Service(address, with_children(program.pid), ready_seconds)


@asynccontextmanager
async def running_sidecar(service: Service) -> AsyncIterator[tuple[str, Program]]:
    """Run `wallet-payment sidecar` before a service; yield its URL and its process."""
    address = _free_address()
    environment = {
        "WALLET_SIDECAR_ADDRESS": address,
        "WALLET_SERVER_TARGET": service.address,
        "WALLET_SIDECAR_TOKEN": token(),
        "WALLET_LOG_LEVEL": "error",
    }
    async with running_program("bench_command.py", "sidecar", environment=environment) as program:
        async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession() as session:
            while not await _is_ready(session, f"http://{address}/readyz"):
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
        yield f"http://{address}", program


async def startup_seconds(uri: str, starts: int) -> float:
    """Return how long the service takes until it serves an existing database: the starts' median.

    Raises:
        TimeoutError.
    """
    seconds = []
    for _ in range(starts):
        async with running_service(uri) as service:
            seconds.append(service.ready_seconds)
    return statistics.median(seconds)


async def _serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address, options=_CONNECT_AT_ONCE) as channel:
        health = health_grpc.HealthStub(channel)
        while True:
            with suppress(grpc.aio.AioRpcError):
                answer = await health.Check(health_pb2.HealthCheckRequest())
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(_ASK_AGAIN_SECONDS)


async def _all_tell(metrics_url: str, workers: int) -> None:
    """Wait until each worker tells metrics of its own."""
    labels = [f'worker="{index}"' for index in range(workers)]
    async with aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(metrics_url) as answer:
                    text = await answer.text()
                    if all(label in text for label in labels):
                        break
            await asyncio.sleep(_ASK_AGAIN_SECONDS)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError):
        async with session.get(url) as answer:
            return answer.ok
    return False


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
