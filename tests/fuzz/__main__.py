"""The fuzzer, from the folder `tests`: `python -m fuzz --help`."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from fuzz.targets import TARGETS

_FOLDER: Final = Path(__file__).parents[2] / "build" / "fuzz"
_SECONDS_PER_INPUT: Final = 10
_MAX_MEGABYTES: Final = 1_024
_MAX_INPUT_BYTES: Final = 16 * 1024
_EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)|^#(\d+)\s", re.MULTILINE)
_LAST_LINES: Final = 25


@dataclass(frozen=True)
class Round:
    """What became of a target's round."""

    executions: int
    findings: tuple[Path, ...]


@click.command()
@click.option("--seconds", default=60, show_default=True, help="For each target.")
@click.option("--only", default="", help="Targets whose name contains this.")
@click.option("--replay", type=click.Path(path_type=Path, exists=True), help="Run this input.")
def main(seconds: int, only: str, replay: Path | None) -> None:
    """Fuzz every target for some time; exits with 1 if something was found."""
    names = [name for name in TARGETS if only in name]
    if not names:
        raise click.UsageError(f"No target has {only!r} in its name: {', '.join(TARGETS)}.")
    if replay is not None:
        for name in names:
            click.echo(
                f"{name}: {'taken' if TARGETS[name].run(replay.read_bytes()) else 'refused'}"
            )
        return
    rounds = {name: _round(name, seconds) for name in names}
    for name, one in rounds.items():
        for file in one.findings:
            click.echo(f"FOUND  {name}: make fuzz ONLY={name} REPLAY={file}")
    found = sum(len(one.findings) for one in rounds.values())
    counts = ", ".join(f"{name} {one.executions:,}" for name, one in rounds.items())
    total = sum(one.executions for one in rounds.values())
    click.echo(f"{total:,} executions ({counts}), {found} findings")
    sys.exit(found > 0)


def _round(name: str, seconds: int) -> Round:
    """Fuzz one target; the corpus is kept for the next round, and what was found beside it."""
    corpus, found = _FOLDER / "corpus" / name, _FOLDER / "found" / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    before = set(found.iterdir())
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_SECONDS_PER_INPUT}",
        f"-rss_limit_mb={_MAX_MEGABYTES}",
        f"-max_len={_MAX_INPUT_BYTES}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "fuzz.engine", name, str(corpus), *options],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    findings = tuple(sorted(set(found.iterdir()) - before))
    if ended.returncode != 0:
        last = (ended.stdout + ended.stderr).splitlines()[-_LAST_LINES:]
        click.echo(f"{name} ended with status {ended.returncode}:\n" + "\n".join(last), err=True)
        if not findings:
            raise click.ClickException(f"The fuzzer of {name} did not run.")
    counts = [int(first or second) for first, second in _EXECUTIONS.findall(ended.stderr)]
    executions = max(counts, default=0)
    click.echo(f"{name:20} {executions:>12,} executions, {len(findings)} findings")
    return Round(executions, findings)


if __name__ == "__main__":
    main(prog_name="fuzz")
