"""`wallet-payment serve`: the server, in one process or in several."""

import asyncio
import logging
import os
from pathlib import Path

import click

from server.cli.logs import configure_logs
from server.cli.stopping import run_until_stopped
from server.config import Settings, load_settings
from server.workers.place import Place
from server.workers.supervisor import supervised_workers


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Server processes on one port; WALLET_WORKERS by default.",
)
def serve(workers: int | None) -> None:
    """Run the server on the database and the gateways that the settings name."""
    settings = load_settings()
    settings.check_serving()
    configure_logs(settings)
    count = workers or settings.workers
    if count == 1:
        _serve(settings, None)
        return

    async def supervise() -> None:
        async with supervised_workers(settings, count):
            await asyncio.Event().wait()

    run_until_stopped(supervise)


@click.command(hidden=True)
@click.argument("index", type=int)
@click.argument("count", type=int)
@click.argument("folder", type=click.Path(path_type=Path))
def worker(index: int, count: int, folder: Path) -> None:
    """Run one of the workers of `serve --workers`, which starts them."""
    settings = load_settings()
    settings.check_serving()
    configure_logs(settings)
    _serve(settings, Place(index, count, folder))


def _serve(settings: Settings, place: Place | None) -> None:
    from server.app import running_server  # noqa: PLC0415 - not for the supervisor of workers

    async def run() -> None:
        try:
            async with running_server(settings, place):
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            # Everything is closed. What may be left are calls of the driver that a hanging MongoDB
            # never answers; neither the loop nor the interpreter is to wait for them.
            logging.shutdown()
            os._exit(0)

    run_until_stopped(run)
