"""Many histories, on all processors: until the last seed, or the first rule that is broken."""

import itertools
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

from sim.history import Result, plan_of, simulate
from sim.planted import planted
from sim.world import Fault

_CHUNK: Final = 20
_TOLD_EACH_SECONDS: Final = 10.0


@dataclass(slots=True)
class Tally:
    """What many histories came to."""

    histories: int = 0
    steps: int = 0
    fewest_steps: int | None = None
    faults: Counter[Fault] = field(default_factory=Counter)
    failed: Result | None = None
    """The first in which a rule is broken."""

    def __add__(self, other: "Tally") -> "Tally":
        """Return both together."""
        fewest = [found for found in (self.fewest_steps, other.fewest_steps) if found is not None]
        return Tally(
            self.histories + other.histories,
            self.steps + other.steps,
            min(fewest, default=None),
            self.faults + other.faults,
            self.failed or other.failed,
        )

    def __str__(self) -> str:
        """Write the counts in a line."""
        steps = f"{self.steps:,} steps (at least {self.fewest_steps} each)"
        return f"{self.histories:,} histories, {steps}, {self.faults.total():,} faults"


def run(
    seeds: Iterable[int],
    bug: str | None,
    processes: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Run the history of each seed, with a bug planted or none; `tell` takes progress."""
    tally, told = Tally(), time.monotonic()
    numbers = iter(seeds)
    chunks = iter(lambda: list(itertools.islice(numbers, _CHUNK)), [])
    with multiprocessing.Pool(processes) as pool:
        for chunk in pool.imap(_run_chunk, ((chunk, bug) for chunk in chunks)):
            tally += chunk
            if tally.failed is not None:
                break
            if time.monotonic() - told > _TOLD_EACH_SECONDS:
                told = time.monotonic()
                tell(f"{tally}, none broken so far")
    return tally


def _run_chunk(given: tuple[list[int], str | None]) -> Tally:
    """Run some histories in a process of its own, until a rule is broken."""
    seeds, bug = given
    tally = Tally()
    with planted(bug) if bug else nullcontext():
        for seed in seeds:
            tally += tally_of(simulate(plan_of(seed)))
            if tally.failed is not None:
                break
    return tally


def tally_of(result: Result) -> Tally:
    """Return what one history came to."""
    failed = None if result.violation is None else result
    return Tally(1, result.steps, result.steps, Counter(result.faults), failed)
