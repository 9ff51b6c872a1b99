"""The simulator, from the folder `tests`: `python -m sim --help`."""

import os
import sys
import time
from contextlib import nullcontext

import click

from sim.history import Result, plan_of, simulate
from sim.planted import BUGS, planted
from sim.runs import Tally, run, tally_of
from sim.shrink import read, shortest, written


@click.command()
@click.argument("seeds", default="1-1000")
@click.option("--plan", help="Replay this plan, as a report prints it, instead of seeds.")
@click.option("--planted", "bug", type=click.Choice(list(BUGS)), help="Plant a bug first.")
@click.option("--all-planted", is_flag=True, help="Plant each bug, and tell how soon it is found.")
@click.option("--trace", is_flag=True, help="Print every step.")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(min=1))
def main(
    *, seeds: str, plan: str | None, bug: str | None, all_planted: bool, trace: bool, processes: int
) -> None:
    """Run the histories of SEEDS (such as 7 or 1-1000) and check them step by step.

    Exits with 1 at the first rule that is broken, after the shortest trace of it that was found.
    """
    if all_planted:
        missed = [name for name in BUGS if not _is_found(name, _range_of(seeds), processes)]
        sys.exit(bool(missed))
    with planted(bug) if bug else nullcontext():
        if plan is not None:
            tally = _traced(simulate(read(plan)))
        elif trace:
            tally = sum((_traced(simulate(plan_of(seed))) for seed in _range_of(seeds)), Tally())
        else:
            tally = run(_range_of(seeds), bug, processes, lambda text: click.echo(text, err=True))
            if tally.failed is not None:
                _report(tally.failed)
    for fault, count in sorted(tally.faults.items()):
        click.echo(f"{count:>12,}  {fault}")
    click.echo(str(tally))
    sys.exit(tally.failed is not None)


def _range_of(seeds: str) -> range:
    first, _, last = seeds.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise click.BadParameter("SEEDS is a number or a range of them, such as 7 or 1-1000.")
    return range(int(first), int(last or first) + 1)


def _traced(result: Result) -> Tally:
    """Print every step of a history."""
    for seconds, who, what in result.trace:
        click.echo(f"{seconds:12.4f}  {who:<10}  {what}")
    click.echo(f"seed {result.plan.seed}, digest {result.digest}")
    return tally_of(result)


def _report(failed: Result) -> None:
    """Print what is broken, the shortest trace of it, and how to replay both."""
    assert failed.violation is not None
    click.echo(f"seed {failed.plan.seed} breaks a rule: {failed.violation.rule}")
    found = shortest(failed)
    _traced(found)
    click.echo(f"\nreplay, {failed.steps} steps:  make sim SEEDS={failed.plan.seed} TRACE=1")
    click.echo(f"shortest, {found.steps} steps:  make sim PLAN='{written(found.plan)}'\n")


def _is_found(name: str, seeds: range, processes: int) -> bool:
    """Tell how many seeds it takes to find a planted bug; return whether it is found at all."""
    started = time.monotonic()
    tally = run(seeds, name, processes)
    seconds = time.monotonic() - started
    if tally.failed is None or tally.failed.violation is None:
        click.echo(f"{name:<26} NOT FOUND in {tally.histories:,} seeds, {seconds:.1f} s")
        return False
    with planted(name):
        steps = shortest(tally.failed).steps
    count = seeds.index(tally.failed.plan.seed) + 1
    rule = tally.failed.violation.rule
    click.echo(f"{name:<26} {count:>5} seeds, {seconds:5.1f} s, {steps:>4} steps: {rule}")
    return True


if __name__ == "__main__":
    main(prog_name="sim")
