"""A server that takes load, in a process of its own: `bench_server.py <target> <MongoDB URI>`.

It writes its address as a line of JSON, and ends when its standard input does.
"""

import asyncio
import base64
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import grpc
import structlog
from bench_cases import (
    ECHO,
    EMPTY,
    ENCRYPTED,
    GROUP,
    GROWN,
    LIMITED,
    MIXED,
    PER_REQUEST,
    SECURE,
    UNAUDITED,
    UNMETERED,
)
from bench_ledger import funded, paid
from bench_per_request import CommitterPerRequest
from bench_requests import CURRENCY, HOT_CUSTOMER, JWT_ALGORITHM, PAY_WITH_WALLET, key_set
from bench_secure import protected

import server.app
from server.app import running_server
from server.commit.committer import wall_clock_ms
from server.config import Settings, load_settings
from server.encryption_keys import KEY_BYTES
from server.ledger.commands import Command
from server.ledger.decisions import Decision
from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.metrics import MethodMetrics, Metrics
from server.rpc import conversion
from server.rpc.edge import SERVICE
from server.rpc.server import rpc_server
from server.store.connection import Database
from server.store.encryption import Encryption

_KEY: Final = base64.b64encode(b"k" * KEY_BYTES).decode()
_LIMITS: Final = ("daily_spend", "monthly_spend", "hourly_payment_count", "daily_payment_count")
_ANY_PORT: Final = "127.0.0.1:0"


@asynccontextmanager
async def echo(_: str) -> AsyncIterator[str]:
    """Answer payments without any work: the ceiling, on the same kind of server.

    Neither request nor answer is parsed, and both are as large as the service's.
    """
    now_ms = wall_clock_ms()
    wallet = funded(HOT_CUSTOMER, now_ms).wallet
    response = conversion.payment_response(paid(wallet, 0, now_ms).reply).SerializeToString()

    async def answer(_request: bytes, _context: Any) -> bytes:
        return response

    method = PAY_WITH_WALLET.rpartition("/")[2]
    handler: Any = grpc.method_handlers_generic_handler(
        SERVICE.full_name, {method: grpc.unary_unary_rpc_method_handler(answer)}
    )
    async with rpc_server(
        handler, address=_ANY_PORT, has_reflection=False, grace_seconds=1
    ) as running:
        await running.set_serving(True)
        yield running.address


@asynccontextmanager
async def group(uri: str) -> AsyncIterator[str]:
    """Run the service as it is."""
    async with running_server(_settings(uri)) as running:
        yield running.grpc_address


class _NoMethodMetrics(MethodMetrics):
    def call_started(self) -> None:
        pass

    def call_handled(self, code: str, seconds: float) -> None:
        pass


class _NoMetrics(Metrics):
    def method(self, service: str, method: str, *, is_stream: bool = False) -> MethodMetrics:
        return _NoMethodMetrics(self, "server_stream" if is_stream else "unary", service, method)

    def batch_committed(self, decided: Sequence[tuple[Command, Decision]], seconds: float) -> None:
        pass


@asynccontextmanager
async def unmetered(uri: str) -> AsyncIterator[str]:
    """Run the service without counting anything, and without proving the books beside it."""
    settings = _settings(uri).model_copy(update={"proof_interval_seconds": 0.0})
    with patch.object(server.app, "Metrics", _NoMetrics):
        async with running_server(settings) as running:
            yield running.grpc_address


@asynccontextmanager
async def unaudited(uri: str) -> AsyncIterator[str]:
    """Run the service without its audit."""
    async with running_server(_settings(uri, audit="off")) as running:
        yield running.grpc_address


@asynccontextmanager
async def encrypted(uri: str) -> AsyncIterator[str]:
    """Run the service with metadata encrypted."""
    async with running_server(_settings(uri, encryption_keys=f"bench:{_KEY}")) as running:
        yield running.grpc_address


@asynccontextmanager
async def limited(uri: str) -> AsyncIterator[str]:
    """Run the service with every limit on payments set, so high that none is refused."""
    most = dict.fromkeys(_LIMITS, MAX_BALANCE_MINOR_UNITS)
    limits = json.dumps({"default": {CURRENCY: most}})
    async with running_server(_settings(uri, limits=limits)) as running:
        yield running.grpc_address


@asynccontextmanager
async def per_request(uri: str) -> AsyncIterator[str]:
    """Run the service with a transaction per request, and all else as it is."""

    def only_the_database(database: Database, _: Encryption) -> Database:
        return database

    with (
        patch.object(server.app, "LedgerStore", only_the_database),
        patch.object(server.app, "Committer", CommitterPerRequest),
    ):
        async with running_server(_settings(uri)) as running:
            yield running.grpc_address


def _settings(uri: str, **given: Any) -> Settings:
    return load_settings(
        mongodb_uri=uri,
        grpc_address=_ANY_PORT,
        metrics_address=_ANY_PORT,
        jwt_algorithms=JWT_ALGORITHM,
        jwt_keys=key_set(),
        **given,
    )


_TARGETS: Final[dict[str, Callable[[str], AbstractAsyncContextManager[str]]]] = {
    ECHO: echo,
    GROUP: group,
    ENCRYPTED: encrypted,
    LIMITED: limited,
    EMPTY: group,
    GROWN: group,
    MIXED: group,
    UNAUDITED: unaudited,
    UNMETERED: unmetered,
    PER_REQUEST: per_request,
}


async def _serve(target: str, uri: str) -> None:
    async with AsyncExitStack() as resources:
        told = {}
        if target == SECURE:
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            told["access"] = str(folder)
            running = running_server(protected(_settings(uri), folder))
            told["address"] = (await resources.enter_async_context(running)).grpc_address
        else:
            told["address"] = await resources.enter_async_context(_TARGETS[target](uri))
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def _log_warnings_only() -> None:
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    _log_warnings_only()
    asyncio.run(_serve(*sys.argv[1:]))
