"""Chaos on the real thing, from the project's folder: `make chaos`, or with `--help`."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from chaos_run import run_chaos


@click.command()
@click.option("--seconds", type=click.FloatRange(min=10), default=300, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of faults and callers.")
def main(*, seconds: float, seed: int) -> None:
    """Let servers, MongoDB, sidecar and gateway fail under load; prove that no money was lost.

    Exits with 1 if anything was lost, doubled or otherwise wrong.
    """
    with TemporaryDirectory(prefix="wallet-chaos-") as folder:
        report = asyncio.run(run_chaos(Path(folder), seed, seconds))
    for finding in report.verdict.findings:
        click.echo(finding)
    click.echo(report.last_line)
    sys.exit(1 if report.verdict.findings else 0)


if __name__ == "__main__":
    main(prog_name="chaos")
