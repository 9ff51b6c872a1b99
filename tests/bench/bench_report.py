"""What a run came to: figures, ratios, a table for people, and a comparison with an earlier run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bench_cases import RATIOS, Ratio
from bench_latency import quantile_ms
from bench_run import Sample

Figures = dict[str, Any]
"""As in the JSON file: `cases` with the figures of each, and `ratios`."""

_FAILURES: Final = frozenset({"INTERNAL", "UNAVAILABLE", "UNKNOWN"})
_COLUMNS: Final = (
    ("payments/s", "per_second", "{:,.0f}"),
    ("p50 ms", "p50_ms", "{:.2f}"),
    ("p99 ms", "p99_ms", "{:.2f}"),
    ("p99.9 ms", "p999_ms", "{:.2f}"),
    ("server s/1000", "server_cpu_seconds_per_1000", "{:.3f}"),
    ("mongod s/1000", "mongod_cpu_seconds_per_1000", "{:.3f}"),
    ("load s/1000", "load_cpu_seconds_per_1000", "{:.3f}"),
    ("server MiB", "server_peak_mebibytes", "{:.0f}"),
    ("mongod MiB", "mongod_peak_mebibytes", "{:.0f}"),
)
_COMPARED: Final = (
    ("payments/s", "per_second"),
    ("p50", "p50_ms"),
    ("p99", "p99_ms"),
    ("server CPU", "server_cpu_seconds_per_1000"),
    ("mongod CPU", "mongod_cpu_seconds_per_1000"),
)
_NONE: Final = "-"


def figures_of(samples: Iterable[Sample]) -> Figures:
    """Work out the figures of a run; a ratio is left out where one of its cases was not run."""
    cases = {sample.case.name: _case_figures(sample) for sample in samples}
    ratios = {ratio.name: value for ratio in RATIOS if (value := _ratio(cases, ratio)) is not None}
    return {"cases": cases, "ratios": ratios}


def failures_of(samples: Iterable[Sample]) -> list[str]:
    """Name what must not happen under load, and did."""
    return [
        f"{sample.case.name}: {count} calls ended with {reason}"
        for sample in samples
        for reason, count in sorted(sample.errors.items())
        if reason.split()[0] in _FAILURES
    ] + [
        f"{sample.case.name}: no payment came through" for sample in samples if not sample.payments
    ]


def table_of(figures: Figures) -> str:
    """Write the figures of all cases, aligned."""
    rows = [["case", "callers", *(title for title, _, _ in _COLUMNS)]]
    for name, case in figures["cases"].items():
        cells = [_cell(pattern, case[field]) for _, field, pattern in _COLUMNS]
        rows.append([name, str(case["callers"]), *cells])
    errors = [
        f"{name}: {count} x {reason}"
        for name, case in figures["cases"].items()
        for reason, count in case["errors"].items()
    ]
    return "\n".join([*_aligned(rows), "", "errors", *(f"  {one}" for one in errors or ["none"])])


def ratios_of(figures: Figures) -> str:
    """Write the ratios with their targets."""
    rows = [["ratio", "", "target", ""]]
    for ratio in RATIOS:
        value = figures["ratios"].get(ratio.name)
        if value is None:
            continue
        if ratio.at_least is None:
            rows.append([ratio.name, f"{value:.2f}", _NONE, "reported"])
        else:
            verdict = "met" if value >= ratio.at_least else "MISSED"
            rows.append([ratio.name, f"{value:.2f}", f">= {ratio.at_least:g}", verdict])
    return "\n".join(_aligned(rows))


def comparison_of(new: Figures, old: Figures) -> str:
    """Write each figure of this run over that of an earlier one, for what both have."""
    rows = [["new / old", *(title for title, _ in _COMPARED)]]
    for name, case in new["cases"].items():
        before = old["cases"].get(name)
        if before is not None:
            cells = [_cell("{:.2f}", _over(case[field], before[field])) for _, field in _COMPARED]
            rows.append([name, *cells])
    for name, value in new["ratios"].items():
        if name in old["ratios"]:
            rows.append([name, _cell("{:.2f}", _over(value, old["ratios"][name]))])
    return "\n".join(_aligned(rows))


def _case_figures(sample: Sample) -> Figures:
    def per_1000(seconds: float) -> float | None:
        return _over(seconds * 1_000, sample.payments)

    return {
        "callers": sample.case.callers,
        "seconds": sample.seconds,
        "payments": sample.payments,
        "per_second": sample.payments / sample.seconds,
        "p50_ms": quantile_ms(sample.latencies, 0.5),
        "p99_ms": quantile_ms(sample.latencies, 0.99),
        "p999_ms": quantile_ms(sample.latencies, 0.999),
        "server_cpu_seconds_per_1000": per_1000(sample.server_cpu_seconds),
        "mongod_cpu_seconds_per_1000": per_1000(sample.mongod_cpu_seconds),
        "load_cpu_seconds_per_1000": per_1000(sample.load_cpu_seconds),
        "server_peak_mebibytes": sample.server_peak_mebibytes,
        "mongod_peak_mebibytes": sample.mongod_peak_mebibytes,
        "errors": dict(sorted(sample.errors.items())),
    }


def _ratio(cases: Mapping[str, Figures], ratio: Ratio) -> float | None:
    if ratio.over not in cases or ratio.under not in cases:
        return None
    return _over(cases[ratio.over]["per_second"], cases[ratio.under]["per_second"])


def _over(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def _cell(pattern: str, value: float | None) -> str:
    return _NONE if value is None else pattern.format(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align a table: names to the left, figures to the right."""
    columns = max(len(row) for row in rows)
    padded = [[*row, *[""] * (columns - len(row))] for row in rows]
    widths = [max(len(row[column]) for row in padded) for column in range(columns)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in padded
    ]
