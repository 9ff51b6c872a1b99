"""The benchmark, from the project's folder: `.venv/bin/python tests/bench --help`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import click
from bench_books import BooksDiffer
from bench_cases import CASES
from bench_processes import ProgramEnded
from bench_report import comparison_of, failures_of, figures_of, ratios_of, table_of
from bench_run import Plan, run

from server.store.embedded import EmbeddedMongoError

_LATEST: Final = Path(__file__).parents[2] / "build" / "bench" / "latest.json"
_NAMES: Final = [case.name for case in CASES]


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=8.0,
    show_default=True,
    help="How long each case is measured in each round.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--warmup",
    type=click.FloatRange(min=0),
    default=1.5,
    show_default=True,
    help="Seconds of load before each measurement.",
)
@click.option(
    "--load-processes",
    type=click.IntRange(min=1, max=40),
    default=2,
    show_default=True,
    help="Processes that the callers are spread over.",
)
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice(_NAMES),
    help="Run this case only; may be given more than once.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=_LATEST,
    show_default="build/bench/latest.json",
    help="Where the figures are written.",
)
@click.option(
    "--compare",
    "earlier_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Figures of an earlier run, to compare these with.",
)
def main(
    *,
    seconds: float,
    rounds: int,
    warmup: float,
    load_processes: int,
    only: tuple[str, ...],
    json_file: Path,
    earlier_file: Path | None,
) -> None:
    """Measure payments, beside an echo and beside a transaction per request, in one run.

    Exits with 1 if a call ended with INTERNAL, UNAVAILABLE or UNKNOWN, if a case took no payment,
    or if the books do not prove every payment that was acknowledged.
    """
    # The earlier run may be in the very file that this one is written to.
    earlier = json.loads(earlier_file.read_text("utf-8")) if earlier_file else None
    plan = Plan(
        cases=[case for case in CASES if not only or case.name in only],
        rounds=rounds,
        seconds=seconds,
        warmup_seconds=warmup,
        load_processes=load_processes,
    )
    try:
        samples = asyncio.run(run(plan, lambda text: click.echo(text, err=True)))
    except (BooksDiffer, ProgramEnded, EmbeddedMongoError) as error:
        raise click.ClickException(str(error)) from error
    figures = figures_of(samples)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    click.echo(table_of(figures))
    if figures["ratios"]:
        click.echo(f"\n{ratios_of(figures)}")
    if earlier is not None:
        click.echo(f"\n{comparison_of(figures, earlier)}")
    click.echo(f"\nwritten to {json_file}")
    failures = failures_of(samples)
    for failure in failures:
        click.echo(f"FAILED: {failure}", err=True)
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="bench")
