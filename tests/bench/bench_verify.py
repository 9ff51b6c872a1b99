"""How fast the books are proven, and in how much memory: `make bench-verify`."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
from bench_figures import filed

from bulk_books import ENTRIES_OF_A_ROUND, write_bulk_books
from server.store import schema
from server.store.connection import connect
from server.store.embedded import embedded_mongod

_ROUNDS: Final = 2
_HOT_PART: Final = 20
"""One wallet has this part of all entries."""
_KIBIBYTES: Final = 1_024
_PROGRAM: Final = Path(sys.executable).parent / "wallet-payment"


@click.command()
@click.option(
    "--transactions", type=click.IntRange(min=1_000), default=1_000_000, show_default=True
)
@filed("verify.json")
def main(transactions: int, json_file: Path) -> None:
    """Write books of so many transactions, prove them with the command line, tell the figures.

    Exits with 1 if the books do not agree.
    """
    figures = asyncio.run(_measure(transactions))
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    click.echo(
        f"{figures['transactions']:,} transactions, {figures['wallets']:,} wallets, "
        f"{figures['orders']:,} orders and {figures['topups']:,} top-ups proven in "
        f"{figures['seconds']:.1f} s: {figures['transactions_per_second']:,.0f} transactions/s, "
        f"peak memory {figures['peak_mebibytes']:.0f} MiB, written to {json_file}"
    )
    if figures["differences"]:
        sys.exit(1)


async def _measure(transactions: int) -> dict[str, Any]:
    hot_rounds = transactions // _HOT_PART // ENTRIES_OF_A_ROUND
    wallets = (transactions // ENTRIES_OF_A_ROUND - hot_rounds) // _ROUNDS
    with tempfile.TemporaryDirectory(prefix="wallet-payment-verify-") as folder:
        async with embedded_mongod(Path(folder), cache_megabytes=1_024) as uri:
            with connect(uri) as database:
                await schema.migrate(database)
                begun = time.monotonic()
                written = await write_bulk_books(database, wallets, _ROUNDS, hot_rounds=hot_rounds)
            click.echo(f"{written:,} transactions in {time.monotonic() - begun:.0f} s", err=True)
            return await asyncio.to_thread(_prove, uri)


def _prove(uri: str) -> dict[str, Any]:
    """Run `books verify`; return its report with the time and the memory that it took."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [_PROGRAM, "books", "verify", "--json"],
            env={"PATH": os.environ["PATH"], "WALLET_MONGODB_URI": uri},
            stdout=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        report: dict[str, Any] = json.loads(output.readlines()[-1])["report"]
    return report | {
        "seconds": round(seconds, 2),
        "transactions_per_second": round(report["transactions"] / seconds),
        "peak_mebibytes": round(usage.ru_maxrss / _KIBIBYTES),
    }


if __name__ == "__main__":
    main(prog_name="bench-verify")
