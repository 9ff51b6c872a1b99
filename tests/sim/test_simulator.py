"""A short round of the simulator; `make sim` goes on for as long as one likes."""

import pytest

from sim.history import plan_of, simulate
from sim.planted import BUGS, planted
from sim.runs import run

HISTORIES = 120
FEWEST_STEPS = 200
SEEDS_FOR_A_BUG = 40
SOON_FOUND = ("credit-on-authorized", "debited-each-time", "told-before-committed")


def test_no_history_breaks_a_rule() -> None:
    """Many histories, each with its own faults, keep every rule of the oracle."""
    tally = run(range(1, HISTORIES + 1), None, processes=2)

    assert tally.failed is None, tally.failed
    assert tally.histories == HISTORIES
    assert tally.fewest_steps is not None
    assert tally.fewest_steps >= FEWEST_STEPS
    assert tally.faults.total() > HISTORIES


@pytest.mark.parametrize("seed", [1, 7, 99])
def test_a_seed_gives_the_same_history_again(seed: int) -> None:
    """Two runs of one seed take the very same steps."""
    first, again = simulate(plan_of(seed)), simulate(plan_of(seed))

    assert first.digest == again.digest
    assert first.steps == again.steps


@pytest.mark.parametrize("bug", SOON_FOUND)
def test_a_planted_bug_is_found(bug: str) -> None:
    """The oracle sees what a bug does, and the code itself does not."""
    with planted(bug):
        found = [simulate(plan_of(seed)).violation for seed in range(1, SEEDS_FOR_A_BUG + 1)]

    assert any(found)
    assert len(BUGS) >= 5
