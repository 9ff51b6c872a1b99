"""A server that is told to stop, or just dies, under load: what it acknowledged is in the books."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from harness import Harness, differences, eventually, running_harness
from payment_load import OPENING, Load, proven, serving
from server.store.embedded import embedded_mongod

END_SECONDS = 10
END_SECONDS_WITHOUT_DATABASE = 15


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
