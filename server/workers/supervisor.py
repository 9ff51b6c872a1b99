"""Starts the workers, starts those again that die, tells their metrics, and ends them in order."""

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from server.config import Settings
from server.listening import AddressInUse, address_of, bind, http_server
from server.metrics import metrics_runner
from server.processes import end_with_parent
from server.workers.exposition import merged
from server.workers.place import metrics_socket

_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 10.0
_STEADY_SECONDS: Final = 30.0
"""A worker that ran for so long died of something new."""
_END_MARGIN_SECONDS: Final = 10.0
_SCRAPE_SECONDS: Final = 2.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("workers")


@asynccontextmanager
async def supervised_workers(settings: Settings, count: int) -> AsyncIterator[str]:
    """Run `count` workers on one port as long as the context lasts; yield its host:port.

    Raises:
        AddressInUse.
    """
    async with AsyncExitStack() as resources:
        folder = Path(tempfile.mkdtemp(prefix="wallet-payment-"))
        resources.callback(shutil.rmtree, folder, ignore_errors=True)
        held = resources.enter_context(_hold(settings.grpc_address))
        address = address_of(held)
        bound = bind(settings.metrics_address, "WALLET_METRICS_ADDRESS")
        runner = metrics_runner(lambda: _told(folder, count))
        await resources.enter_async_context(http_server(runner, bound))
        grace_seconds = settings.shutdown_grace_seconds + _END_MARGIN_SECONDS
        workers = [_Worker(index, count, folder, address, grace_seconds) for index in range(count)]
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        _log.info("supervising", workers=count, grpc=address, metrics=address_of(bound))
        try:
            yield address
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Worker:
    """One worker: its process, whichever that is just now."""

    def __init__(
        self, index: int, count: int, folder: Path, address: str, grace_seconds: float
    ) -> None:
        self._arguments = (str(index), str(count), str(folder))
        self._environment = {**os.environ, "WALLET_GRPC_ADDRESS": address}
        self._grace_seconds = grace_seconds
        self._index = index

    async def run(self) -> None:
        """Keep the worker running; being cancelled ends it in order."""
        loop = asyncio.get_running_loop()
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            started = loop.time()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server.cli", "worker", *self._arguments),
                env=self._environment,
                preexec_fn=end_with_parent,
                start_new_session=True,
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                await self._end(process)
                raise
            if loop.time() - started > _STEADY_SECONDS:
                wait_seconds = _FIRST_WAIT_SECONDS
            _log.error("a worker died", worker=self._index, status=status, again_in=wait_seconds)
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Let it finish what it has begun; end it hard when that takes too long."""
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._grace_seconds):
                await process.wait()
        except TimeoutError:
            _log.error("a worker did not end", worker=self._index)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _hold(address: str) -> socket.socket:
    """Hold the port for the workers: it is free, and stays theirs while they start again.

    Raises:
        AddressInUse.
    """
    bound = bind(address, "WALLET_GRPC_ADDRESS")
    host, port = bound.getsockname()[:2]
    family = bound.family
    bound.close()
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((host, port))
    except OSError:
        held.close()
        raise AddressInUse("WALLET_GRPC_ADDRESS", address) from None
    return held


async def _told(folder: Path, count: int) -> bytes:
    texts = await asyncio.gather(*(_scrape(folder, index) for index in range(count)))
    return merged({index: text for index, text in enumerate(texts) if text})


async def _scrape(folder: Path, index: int) -> str:
    """Return a worker's metrics; nothing while it is starting."""
    connector = aiohttp.UnixConnector(str(metrics_socket(folder, index)))
    timeout = aiohttp.ClientTimeout(total=_SCRAPE_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.get("http://worker/metrics") as answer:
                return await answer.text()
    return ""
