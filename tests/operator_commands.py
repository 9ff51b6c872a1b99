"""What an operator does to wallets, carried out as the command line does it: beside the server."""

from typing import Any

from harness import Harness
from server.commit.committer import Committer
from server.config.limits import read_limits
from server.ledger.commands import Command
from server.metrics import Metrics
from server.store.connection import connect
from server.store.ledger_store import LedgerStore


async def operate(harness: Harness, *commands: Command) -> list[Any]:
    """Carry out commands, one after the other; return their replies."""
    with connect(harness.settings.mongodb_uri.get_secret_value()) as database:
        limits = read_limits(harness.settings.limits)
        async with Committer(LedgerStore(database), Metrics(), limits=limits) as committer:
            return [await committer.submit(command) for command in commands]
