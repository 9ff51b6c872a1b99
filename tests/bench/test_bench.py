"""Short rounds of what `make bench` and its like do; how fast it is, no test says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_cases import CASES, SPREAD, growth_cases

FOLDER = Path(__file__).parent
SHORT = ("--seconds", "0.3", "--rounds", "1", "--warmup", "0.1", "--starts", "1")
TARGETS_OF_MONEY = {
    "pay_over_echo",
    "hot_over_spread",
    "group_over_per_request_spread",
    "group_over_per_request_hot",
    "one_caller_over_driver_p50",
    "open_loop_p99_over_p50",
    "two_workers_hot_over_one",
}
TARGETS_OF_MEDICI = {"pay_over_medici_spread", "pay_over_medici_hot"}
EMPTY = {"measured_at": "", "cases": {}, "ratios": {}, "measures": {}, "absent": {}}
OLD = EMPTY | {"cases": {"echo": {"per_second": 100.0}, "gone": {}}}
"""As an earlier release wrote it: it did not know each figure, and had a case more."""

pytestmark = pytest.mark.timeout(300)


def run(*arguments: str, program: Path = FOLDER) -> str:
    """Run a benchmark to its good end as `make` does; return what it prints."""
    environment = os.environ | {
        "PYTHONPATH": str(FOLDER.parent),
        "npm_config_fetch_retries": "0",  # without a network, medici is soon absent
    }
    command = (sys.executable, str(program), *arguments)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def figures_in(file: Path) -> dict[str, Any]:
    """Read the figures that a run has left."""
    figures: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return figures


def test_money_is_measured_in_every_case(tmp_path: Path) -> None:
    """Each case has figures or a reason, each target its ratio; an old file is compared with."""
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({"money": OLD, "growth": EMPTY, "soak": {"cases": {}}}), "utf-8")

    printed = run(
        *("money", *SHORT, "--callers", "8", "--burst", "100"),
        *("--json", str(file), "--compare", str(file)),
    )

    figures = figures_in(file)
    cases, absent = figures["money"]["cases"], figures["money"]["absent"]
    assert cases.keys() | absent.keys() == {case.name for case in CASES}
    assert min(case["payments"] for case in cases.values()) > 0
    assert absent.keys() in (set(), {"medici_spread", "medici_hot"})
    assert all("medici" in why or why == "node is not present" for why in absent.values())
    targets = TARGETS_OF_MONEY | (set() if absent else TARGETS_OF_MEDICI)
    assert targets <= figures["ratios"].keys()
    assert min(figures["ratios"].values()) > 0
    assert figures["measures"].keys() >= {"startup_seconds", "webhook_burst_seconds"}
    assert (tmp_path / "latency_over_load.svg").read_text("utf-8").startswith("<svg")
    # What still fits is carried on, and what does not is left out.
    assert figures["growth"] == EMPTY
    assert "soak" not in figures
    _, _, compared = printed.partition("new / old")
    (echo,) = [line.split() for line in compared.splitlines() if line.startswith("echo")]
    assert echo[1:] == [f"{cases['echo']['per_second'] / 100:.2f}", "-", "-", "-", "-"]
    assert "gone" not in compared


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
    assert figures["soak"]["cases"].keys() == {"soak_payments", "soak_reads"}
    assert figures["measures"]["soak_memory_end_over_start"] > 0
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
