"""Rate limits: what is let through, how long the others wait, and what a flood of keys does."""

import tracemalloc
from pathlib import Path

import pytest

from gateway_adapters.rate_limit import (
    KEYS,
    Rate,
    RateTable,
    private_table,
    shared_table,
)

RATE = Rate(2, 5)


class Clock:
    """Seconds that only a test moves on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def table(clock: Clock) -> RateTable:
    """An empty table."""
    return private_table(clock)


def let_through(table: RateTable, key: str, tries: int, rate: Rate = RATE) -> int:
    """Return how many of so many tries at one moment are let through."""
    through = 0
    for _ in range(tries):
        if table.wait_seconds(key, rate) == 0:
            table.use(key, rate)
            through += 1
    return through


def test_a_burst_goes_through_and_the_next_one_is_told_when(table: RateTable) -> None:
    """After five at once the sixth waits for as long as one use takes to come back."""
    assert let_through(table, "one", 10) == 5
    assert table.wait_seconds("one", RATE) == pytest.approx(0.5)


def test_whoever_waits_as_told_is_let_through(table: RateTable, clock: Clock) -> None:
    """The time that is told is enough, and only just."""
    let_through(table, "one", 10)
    wait = table.wait_seconds("one", RATE)

    clock.now += wait - 0.01
    assert let_through(table, "one", 1) == 0
    clock.now += 0.01
    assert let_through(table, "one", 2) == 1


def test_over_a_long_time_the_rate_is_what_it_says(table: RateTable, clock: Clock) -> None:
    """In a hundred seconds of trying all the time, the burst and two a second go through."""
    through = 0
    for _ in range(1_000):
        through += let_through(table, "one", 1)
        clock.now += 0.1

    assert through == 5 + 2 * 100 - 1


def test_a_pause_gives_no_more_than_the_burst(table: RateTable, clock: Clock) -> None:
    """Whoever was away for a day has five at once, and not a day's worth."""
    let_through(table, "one", 10)
    clock.now += 86_400

    assert let_through(table, "one", 10) == 5


def test_keys_do_not_wait_for_each_other(table: RateTable) -> None:
    """One at its limit is no reason to make another wait."""
    let_through(table, "one", 10)

    assert let_through(table, "two", 10) == 5


def test_what_is_noted_beyond_the_limit_is_not_owed_for_ever(table: RateTable) -> None:
    """A thousand uses that ended at the same moment are waited for like a burst of five."""
    for _ in range(1_000):
        table.use("one", RATE)

    assert table.wait_seconds("one", RATE) == pytest.approx(0.5)


def test_a_use_that_does_not_count_is_given_back(table: RateTable) -> None:
    """Five that are given back leave room for five more."""
    let_through(table, "one", 5)
    for _ in range(5):
        table.give_back("one", RATE)

    assert let_through(table, "one", 10) == 5


def test_a_flood_of_keys_takes_no_memory(table: RateTable) -> None:
    """Twice as many keys as there is room for leave nothing behind but the table."""
    tracemalloc.start()
    try:
        for number in range(2 * KEYS):
            table.use(f"flood-{number}", RATE)
        grown_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert grown_bytes < 64 * 1024
    assert peak_bytes < 128 * 1024


def test_a_flood_of_keys_does_not_free_whoever_is_at_the_limit(
    table: RateTable, clock: Clock
) -> None:
    """A key that has used up its burst still waits after as many others as there is room for."""
    let_through(table, "one", 5)
    for number in range(KEYS):
        table.use(f"flood-{number}", RATE)
    clock.now += 0.1

    assert table.wait_seconds("one", RATE) == pytest.approx(0.4)


def test_processes_of_one_folder_count_together(tmp_path: Path) -> None:
    """What one of them lets through, the others do not let through once more."""
    slow = Rate(0.01, 5)
    first, second = shared_table(tmp_path), shared_table(tmp_path)

    assert let_through(first, "one", 3, slow) == 3
    assert let_through(second, "one", 10, slow) == 2
    assert first.wait_seconds("one", slow) > 0


def test_a_shared_table_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else on the machine may read who calls, or set somebody back."""
    shared_table(tmp_path)

    assert (tmp_path / "rates").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10", Rate(10, 10)),
        ("0.5", Rate(0.5, 1)),
        ("0.5:20", Rate(0.5, 20)),
        ("1000000:1", Rate(1_000_000, 1)),
    ],
)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    """A number a second, and a burst that is a second's worth unless it is given."""
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text", ["", "fast", "0", "-1", "nan", "inf", "1:0", "1:-5", "1:2:3", "1:1.5", "1e9", "10/s"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    """Neither zero nor what is no number is taken for a rate."""
    with pytest.raises(ValueError, match="takes <per second>"):
        Rate.parse(text)
