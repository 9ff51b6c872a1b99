"""The benchmark: `make bench` and its like, or `python tests/bench --help` beside tests/."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import bench_growth
import bench_money
import bench_soak
import click
from bench_books import BooksDiffer
from bench_cases import CALLERS, CASES, SATURATION, SPREAD
from bench_figures import Command, Figures, failures_of, filed, part_of, parts_of, with_part
from bench_plots import plot
from bench_processes import ProgramEnded
from bench_report import comparison_of, ratios_of, table_of
from bench_run import Plan, Sample

from server.store.embedded import EmbeddedMongoError

_NAMES: Final = [case.name for case in CASES]


def _measured(seconds: float, rounds: int, warmup: float) -> Callable[[Command], Command]:
    """Return the options that every run of cases has, with its own defaults."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option(
                "--starts",
                type=click.IntRange(min=1),
                default=5,
                show_default=True,
                help="Starts of the service; the median counts.",
            ),
            click.option(
                "--load-processes",
                type=click.IntRange(min=1, max=40),
                default=2,
                show_default=True,
                help="Processes that the callers are spread over.",
            ),
            click.option(
                "--warmup",
                type=click.FloatRange(min=0),
                default=warmup,
                show_default=True,
                help="Seconds of load before each measurement.",
            ),
            click.option("--rounds", type=click.IntRange(min=1), default=rounds, show_default=True),
            click.option(
                "--seconds",
                type=click.FloatRange(min=0.1),
                default=seconds,
                show_default=True,
                help="How long each case is measured in each round.",
            ),
        ):
            command = option(command)
        return command

    return decorate


def _filed(command: Command) -> Command:
    """Add the options that say where figures are, and where those of an earlier run."""
    compare = click.option(
        "--compare",
        "earlier_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Figures of an earlier run, to compare these with.",
    )
    return filed("latest.json")(compare(command))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def bench() -> None:
    """Measure the service beside its baselines, each kind in one run on one machine.

    Exits with 1 if a call ended with INTERNAL, UNAVAILABLE or UNKNOWN, if a case came to nothing,
    or if the books do not prove everything that was acknowledged.
    """


@bench.command()
@_measured(seconds=3.0, rounds=4, warmup=1.0)
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice(_NAMES),
    help="Run this case only, and those that it is measured by; may be given more than once.",
)
@click.option(
    "--callers",
    type=click.IntRange(min=2),
    default=CALLERS,
    show_default=True,
    help="Callers of a closed loop, at most.",
)
@click.option(
    "--burst",
    type=click.IntRange(min=100),
    default=5_000,
    show_default=True,
    help="Webhooks that come at once.",
)
@_filed
def money(
    *,
    seconds: float,
    rounds: int,
    warmup: float,
    load_processes: int,
    starts: int,
    only: tuple[str, ...],
    callers: int,
    burst: int,
    json_file: Path,
    earlier_file: Path | None,
) -> None:
    """Payments and webhooks, closed and open loop, beside an echo, other designs and medici."""
    wanted = [case for case in CASES if not only or case.name in only]
    needed = {SATURATION} if any(case.share for case in wanted) else set()
    cases = [
        replace(case, callers=min(case.callers, callers))
        for case in CASES
        if case in wanted or case.name in needed
    ]
    plan = Plan(rounds, seconds, warmup, load_processes)
    outcome = _run(bench_money.run(plan, cases, burst, starts, _tell))
    part = part_of(outcome.samples, outcome.measures, outcome.absent)
    _report("money", part, outcome.samples, json_file, earlier_file)


@bench.command()
@_measured(seconds=3.0, rounds=4, warmup=1.0)
@click.option(
    "--wallets",
    type=click.IntRange(min=SPREAD),
    default=100_000,
    show_default=True,
    help="Wallets of the grown database; it has ten times as many entries.",
)
@_filed
def growth(
    *,
    seconds: float,
    rounds: int,
    warmup: float,
    load_processes: int,
    starts: int,
    wallets: int,
    json_file: Path,
    earlier_file: Path | None,
) -> None:
    """Payments and reads with a million entries in the database, beside an empty one."""
    plan = Plan(rounds, seconds, warmup, load_processes)
    outcome = _run(bench_growth.run(plan, wallets, starts, _tell))
    part = part_of(outcome.samples, outcome.measures)
    _report("growth", part, outcome.samples, json_file, earlier_file)


@bench.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="How long; 60 give a first impression.",
)
@_filed
def soak(*, seconds: float, json_file: Path, earlier_file: Path | None) -> None:
    """Half of the saturation rate for ten minutes: the server's memory must not grow."""
    soaked = _run(bench_soak.run(seconds, _tell))
    part = part_of(soaked.samples, soaked.measures) | {"memory": soaked.memory}
    _report("soak", part, soaked.samples, json_file, earlier_file)


def _report(
    kind: str, part: Figures, samples: list[Sample], json_file: Path, earlier_file: Path | None
) -> None:
    """Write the figures down, show them, and exit with 1 if something must not be."""
    # The earlier run may be in the very file that this one is written to.
    earlier = parts_of(earlier_file) if earlier_file else None
    figures = with_part(parts_of(json_file) if json_file.exists() else {}, kind, part)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    click.echo(table_of(part))
    if part["ratios"] or part["measures"]:
        click.echo(f"\n{ratios_of(part)}")
    if earlier is not None:
        if kind in earlier:
            click.echo(f"\n{comparison_of(part, earlier[kind])}")
        else:
            click.echo(f"\n{earlier_file} has no run of this kind to compare with")
    files = ", ".join(str(file) for file in (json_file, *plot(part, json_file.parent)))
    click.echo(f"\nwritten to {files}")
    failures = failures_of(samples)
    for failure in failures:
        click.echo(f"FAILED: {failure}", err=True)
    if failures:
        sys.exit(1)


_Outcome = TypeVar("_Outcome")


def _run(running: Coroutine[Any, Any, _Outcome]) -> _Outcome:
    """Run to the end; what can be expected to go wrong is told in words."""
    try:
        return asyncio.run(running)
    except (BooksDiffer, ProgramEnded, EmbeddedMongoError) as error:
        raise click.ClickException(str(error)) from error


def _tell(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    bench(prog_name="bench")
