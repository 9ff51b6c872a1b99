"""A flood at the sidecar while a caller pays: `make flood`, or with `--help`."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from flood_run import Report, run_flood

from server.store.embedded import embedded_mongod

RATIO = 0.7
"""A caller keeps at least so much of its throughput."""


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=10, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def main(*, seconds: float, rounds: int) -> None:
    """Pay with and without an attack at the sidecar; tell the ratio of the throughputs.

    Bad signatures, slow and large bodies, slow heads, and held connections come from 24 addresses
    while a real gateway sends its webhooks. Exits with 1 if the ratio is below 0.7.
    """

    async def run() -> Report:
        with TemporaryDirectory(prefix="wallet-flood-") as folder:
            async with embedded_mongod(Path(folder) / "data") as uri:
                return await run_flood(uri, Path(folder), seconds, rounds, niceness=10)

    report = asyncio.run(run())
    for answer, count in sorted(report.answers.items()):
        click.echo(f"attacker: {answer:<28} {count:>8}")
    click.echo(
        f"gateway: {report.webhooks} webhooks taken, {report.webhooks_sent_again} sent again\n"
        f"sidecar's peak {report.sidecar_peak_mebibytes:.0f} MiB, "
        f"server's growth {report.server_grown_mebibytes:.0f} MiB\n"
        f"payments a second: quiet {_rates(report.quiet_per_second)}, "
        f"under attack {_rates(report.attacked_per_second)}\n"
        f"ratio {report.ratio:.2f}, at least {RATIO}; the books agree"
    )
    sys.exit(0 if report.ratio >= RATIO else 1)


def _rates(rates: list[float]) -> str:
    return " ".join(f"{rate:.0f}" for rate in rates)


if __name__ == "__main__":
    main(prog_name="flood")
