"""A short round of what `make bench` does."""

import json
from pathlib import Path

import pytest
from bench_cases import CASES
from bench_short import SHORT, figures_in, run

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


@pytest.mark.timeout(300)
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
