"""Commands that run until they are stopped."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def run_until_stopped(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run until it ends; Ctrl-C or SIGTERM ends it early, and has it close what it opened."""

    async def stoppable() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(run())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(stoppable())
