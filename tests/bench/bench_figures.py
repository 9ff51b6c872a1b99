"""What a run came to, as in the JSON file.

The file has a part for each kind of run (`money`, `growth`, `soak`) with its cases, ratios and
measures, and `ratios` and `measures` with those of all parts. A run replaces its own part.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from bench_cases import RATIOS, Ratio
from bench_latency import quantile_ms
from bench_run import Sample

Figures = dict[str, Any]
Command = Callable[..., None]

_FOLDER: Final = Path(__file__).parents[2] / "build" / "bench"

_FAILURES: Final = frozenset({"INTERNAL", "UNAVAILABLE", "UNKNOWN"})
_OF_A_PART: Final = frozenset({"measured_at", "cases", "ratios", "measures", "absent"})


def filed(name: str) -> Callable[[Command], Command]:
    """Return the option that says where the figures go: to a file of this name by default."""
    return click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, path_type=Path),
        default=_FOLDER / name,
        show_default=f"build/bench/{name}",
        help="Where the figures are written; plots, where there are any, go beside it.",
    )


def part_of(
    samples: Iterable[Sample],
    measures: Mapping[str, float] | None = None,
    absent: Mapping[str, str] | None = None,
) -> Figures:
    """Work out a run's part; a ratio is left out where one of its cases was not run."""
    cases = {sample.case.name: _case_figures(sample) for sample in samples}
    ratios = {ratio.name: value for ratio in RATIOS if (value := _ratio(cases, ratio)) is not None}
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cases": cases,
        "ratios": ratios,
        "measures": dict(measures or {}),
        "absent": dict(absent or {}),
    }


def parts_of(file: Path) -> dict[str, Figures]:
    """Read the parts of a file; what has another form, as another release's, is left out."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError:
        return {}
    parts = found.items() if isinstance(found, dict) else ()
    return {
        kind: part for kind, part in parts if isinstance(part, dict) and part.keys() >= _OF_A_PART
    }


def with_part(earlier: Mapping[str, Figures], kind: str, part: Figures) -> Figures:
    """Return the whole file with one part replaced."""
    parts = {**earlier, kind: part}
    return {
        "ratios": {k: v for found in parts.values() for k, v in found["ratios"].items()},
        "measures": {k: v for found in parts.values() for k, v in found["measures"].items()},
        **parts,
    }


def failures_of(samples: Iterable[Sample]) -> list[str]:
    """Name what must not happen under load, and did."""
    found = list(samples)
    return [
        f"{sample.case.name}: {count} calls ended with {reason}"
        for sample in found
        for reason, count in sorted(sample.errors.items())
        if reason.split()[0] in _FAILURES
    ] + [f"{sample.case.name}: no call came through" for sample in found if not sample.payments]


def over(value: float | None, base: float | None) -> float | None:
    """Return a quotient; None where there is none."""
    return None if value is None or not base else value / base


def _case_figures(sample: Sample) -> Figures:
    def per_1000(seconds: float) -> float | None:
        return over(seconds * 1_000, sample.payments)

    is_served = sample.server_peak_mebibytes > 0
    return {
        "callers": sample.case.callers,
        "share": sample.case.share,
        "due_per_second": sample.due / sample.seconds or None,
        "seconds": sample.seconds,
        "payments": sample.payments,
        "per_second": sample.payments / sample.seconds,
        "p50_ms": quantile_ms(sample.latencies, 0.5),
        "p99_ms": quantile_ms(sample.latencies, 0.99),
        "p999_ms": quantile_ms(sample.latencies, 0.999),
        "server_cpu_seconds_per_1000": per_1000(sample.server_cpu_seconds) if is_served else None,
        "mongod_cpu_seconds_per_1000": per_1000(sample.mongod_cpu_seconds),
        "load_cpu_seconds_per_1000": per_1000(sample.load_cpu_seconds),
        "server_peak_mebibytes": sample.server_peak_mebibytes if is_served else None,
        "mongod_peak_mebibytes": sample.mongod_peak_mebibytes,
        "errors": dict(sorted(sample.errors.items())),
    }


def _ratio(cases: Mapping[str, Figures], ratio: Ratio) -> float | None:
    if ratio.over not in cases or ratio.under not in cases:
        return None
    return over(cases[ratio.over][ratio.over_figure], cases[ratio.under][ratio.under_figure])
