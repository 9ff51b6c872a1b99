"""Short rounds of what `make bench-growth`, `bench-soak`, `bench-feed` and `bench-verify` do."""

from pathlib import Path

import pytest
from bench_cases import SPREAD, growth_cases
from bench_processes import FOLDER
from bench_short import SHORT, figures_in, run

pytestmark = pytest.mark.timeout(300)


def test_growth_is_measured_in_every_case(tmp_path: Path) -> None:
    """Payments and reads on the grown database have figures, and so has their ratio."""
    file = tmp_path / "figures.json"

    run("growth", *SHORT, "--wallets", str(SPREAD), "--json", str(file))

    figures = figures_in(file)
    cases = figures["growth"]["cases"]
    assert cases.keys() == {case.name for case in growth_cases(SPREAD)}
    assert min(case["payments"] for case in cases.values()) > 0
    assert figures["ratios"]["million_over_empty"] > 0
    assert figures["measures"]["startup_million_seconds"] > 0


def test_a_soak_watches_the_memory(tmp_path: Path) -> None:
    """The memory is measured and drawn; files that have no figures do no harm."""
    file, foreign = tmp_path / "figures.json", tmp_path / "foreign.json"
    file.write_text("[1, 2]", "utf-8")
    foreign.write_text("no JSON", "utf-8")

    printed = run("soak", "--seconds", "1", "--json", str(file), "--compare", str(foreign))

    figures = figures_in(file)
    assert figures["soak"]["cases"].keys() == {"soak_burst", "soak_payments", "soak_reads"}
    assert figures["measures"]["soak_memory_end_over_start"] > 0
    assert figures["measures"]["soak_most_at_once"] > 0
    assert (tmp_path / "memory_over_time.svg").read_text("utf-8").startswith("<svg")
    assert "has no run of this kind to compare with" in printed


def test_the_feed_is_measured(tmp_path: Path) -> None:
    """Payments with a reader of the event feed come out beside payments without."""
    file = tmp_path / "feed.json"

    run(
        *("measure", "--pairs", "1", "--seconds", "0.5", "--json", str(file)),
        program=FOLDER / "bench_feed.py",
    )

    figures = figures_in(file)
    assert min(figures["alone_per_second"], figures["watched_per_second"]) > 0
    assert figures["cpu_ratio"] > 0


def test_the_proof_is_measured(tmp_path: Path) -> None:
    """Books that were written in bulk are proven, and it is told in how much memory."""
    file = tmp_path / "verify.json"

    run(
        *("--transactions", "1000", "--json", str(file)),
        program=FOLDER / "bench_verify.py",
    )

    figures = figures_in(file)
    assert figures["transactions"] >= 900
    assert figures["differences"] == 0
    assert figures["peak_mebibytes"] > 0
