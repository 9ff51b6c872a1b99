"""Whether the tests of the ledger notice it when the ledger is changed: `python -m mutation`.

Every mutant is tried in a process of its own, forked from one that has everything loaded: there the
code of one function is exchanged, and the ledger's unit tests run until the first fails. A mutant
that no test notices has to be explained in docs/concepts/mutation.md, or the exit status is 1.
"""

import contextlib
import inspect
import os
import re
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

import click
import pytest
from hypothesis import Phase, settings

from mutation.mutations import ROOT, Mutant, mutants, names_explained

_SLOW: Final = ("decide", "independence", "properties")
_FEW_HISTORIES: Final = "12"
_SURVIVED, _KILLED, _NOT_APPLIED = 0, 1, 2
_BASE_SECONDS: Final = 600


@click.command()
@click.option("--only", default="", help="Mutants whose name this pattern is found in.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True)
def main(only: str, processes: int) -> None:
    """Try all mutants; list those that survive, and whether each is explained."""
    begun = time.monotonic()
    chosen = [mutant for mutant in mutants() if re.search(only, mutant.name)]
    if not chosen:
        raise click.UsageError(f"There is no mutant in whose name {only!r} is found.")
    os.environ["WALLET_PROPERTY_EXAMPLES"] = _FEW_HISTORIES
    settings.register_profile(
        "mutants",
        database=None,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
    )
    settings.load_profile("mutants")
    if _run_tests("--collect-only") != _SURVIVED or _wait(_fork(None, _BASE_SECONDS))[1]:
        raise click.ClickException("The tests fail without any mutant.")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    survivors = _try_all(chosen, processes, 3 * round(used.ru_utime + used.ru_stime) + 10)
    click.echo(f"{len(chosen)} mutants in {time.monotonic() - begun:.0f} s")
    _judge(chosen, survivors, is_whole=not only)


def _judge(tried: Sequence[Mutant], survivors: Sequence[str], *, is_whole: bool) -> None:
    """Tell which survivors are not explained, and which explanations are not needed."""
    explained = names_explained()
    unexplained = [name for name in survivors if name not in explained]
    needless = sorted(explained - set(survivors)) if is_whole else []
    for name in unexplained:
        click.echo(f"SURVIVES  {name}")
    for name in needless:
        click.echo(f"EXPLAINED, but does not survive  {name}")
    click.echo(
        f"{len(tried) - len(survivors)} killed, {len(survivors) - len(unexplained)} explained, "
        f"{len(unexplained)} survive without an explanation"
    )
    if unexplained or needless:
        sys.exit(1)


def _try_all(chosen: Sequence[Mutant], processes: int, cpu_seconds: int) -> list[str]:
    """Try mutants in some processes at once; return the names of those that no test noticed."""
    running: dict[int, Mutant] = {}
    survivors: set[str] = set()
    for tried, mutant in enumerate([*chosen, *[None] * processes]):
        if mutant is None or len(running) >= processes:
            _take_one(running, survivors)
        if mutant is not None:
            running[_fork(mutant, cpu_seconds)] = mutant
        if tried % 20 == 0:
            click.echo(f"{tried} of {len(chosen)} begun, {len(survivors)} survived", err=True)
    return [mutant.name for mutant in chosen if mutant.name in survivors]


def _take_one(running: dict[int, Mutant], survivors: set[str]) -> None:
    """Wait for one of those that run, if there are any, and note whether it survived."""
    if not running:
        return
    process, status = _wait(-1)
    mutant = running.pop(process)
    if status == _NOT_APPLIED:
        raise click.ClickException(f"This mutant cannot be applied: {mutant.name}")
    if status == _SURVIVED:
        survivors.add(mutant.name)
        click.echo(f"survived: {mutant.name}", err=True)


def _wait(process: int) -> tuple[int, int]:
    """Wait for a process; return it with its exit status, negative where a signal ended it."""
    ended, status = os.waitpid(process, 0)
    return ended, os.waitstatus_to_exitcode(status)


def _fork(mutant: Mutant | None, cpu_seconds: int) -> int:
    """Run the tests on a mutant in a process of its own; a loop without end is ended."""
    process = os.fork()
    if process:
        return process
    status = _NOT_APPLIED
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        if mutant is not None:
            _apply(mutant)
        status = _run_tests("--exitfirst")
    finally:
        os._exit(status)


def _run_tests(*options: str) -> int:
    folder = ROOT / "tests" / "unit"
    files = sorted(
        folder.glob("test_ledger_*.py"), key=lambda file: (file.stem.endswith(_SLOW), file.stem)
    )
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        ended = pytest.main(
            [
                *("--quiet", "--noconftest", "-p", "no:cacheprovider", "--capture=no"),
                *("--timeout=0", "--hypothesis-seed=0"),
                *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
                *options,
                *map(str, files),
            ]
        )
    return _SURVIVED if ended == pytest.ExitCode.OK else _KILLED


def _apply(mutant: Mutant) -> None:
    """Exchange the code of the function, or the value of the constant, that the mutant is of."""
    module = sys.modules[f"server.ledger.{mutant.module}"]
    code = compile(mutant.mutated(), str(module.__file__), "exec")
    live: Any = module
    for part in mutant.scope.split("."):
        live = inspect.getattr_static(live, part)
    live = live.fget if isinstance(live, property) else live
    if isinstance(live, FunctionType):
        live.__code__ = next(one for one in _codes(code) if one.co_qualname == mutant.scope)
        return
    values: dict[str, Any] = {"__name__": module.__name__}
    try:
        exec(code, values)  # noqa: S102 - the project's own code
    except Exception:  # noqa: BLE001 - a module that cannot be loaded is noticed by whoever loads it
        os._exit(_KILLED)
    for one in list(sys.modules.values()):
        if getattr(one, "__dict__", {}).get(mutant.scope) is live:
            setattr(one, mutant.scope, values[mutant.scope])


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Go through the code of all functions in a module's code."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes(inner)


if __name__ == "__main__":
    main(prog_name="mutation")
