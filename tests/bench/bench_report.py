"""A run's part of the figures for people: tables, and a comparison with an earlier run."""

from collections.abc import Sequence
from typing import Final

from bench_cases import MEASURES, RATIOS
from bench_figures import Figures, over

_COLUMNS: Final = (
    ("calls/s", "per_second", "{:,.0f}"),
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
    ("calls/s", "per_second"),
    ("p50", "p50_ms"),
    ("p99", "p99_ms"),
    ("server CPU", "server_cpu_seconds_per_1000"),
    ("mongod CPU", "mongod_cpu_seconds_per_1000"),
)
_NONE: Final = "-"


def table_of(part: Figures) -> str:
    """Write the figures of all cases, aligned, and the errors that callers saw."""
    rows = [["case", "callers", *(title for title, _, _ in _COLUMNS)]]
    for name, case in part["cases"].items():
        cells = [_cell(pattern, case[field]) for _, field, pattern in _COLUMNS]
        rows.append([name, _load(case), *cells])
    absent = [f"{name}: {why}" for name, why in part["absent"].items()]
    errors = [
        f"  {name}: {count} x {reason}"
        for name, case in part["cases"].items()
        for reason, count in case["errors"].items()
    ]
    return "\n".join([*_aligned(rows), *absent, "", "errors", *(errors or ["  none"])])


def ratios_of(part: Figures) -> str:
    """Write the ratios and measures with their targets."""
    rows = [["ratio", "", "target", ""]]
    for ratio in RATIOS:
        value = part["ratios"].get(ratio.name)
        if value is not None:
            figure = f"{value:.2f}"
            rows.append([ratio.name, figure, *_verdict(value, ratio.target, ratio.is_ceiling)])
    for measure in MEASURES:
        value = part["measures"].get(measure.name)
        if value is not None:
            figure = f"{value:,.2f} {measure.unit}".rstrip()
            rows.append([measure.name, figure, *_verdict(value, measure.at_most, is_ceiling=True)])
    return "\n".join(_aligned(rows))


def comparison_of(new: Figures, old: Figures) -> str:
    """Write each figure of this run over that of an earlier one, for what both have."""
    rows = [["new / old", *(title for title, _ in _COMPARED)]]
    for name, case in new["cases"].items():
        before = old["cases"].get(name)
        if before is not None:
            quotients = [over(case[field], before.get(field)) for _, field in _COMPARED]
            rows.append([name, *(_cell("{:.2f}", quotient) for quotient in quotients)])
    for kind in ("ratios", "measures"):
        for name, value in new[kind].items():
            if name in old[kind]:
                rows.append([name, _cell("{:.2f}", over(value, old[kind][name]))])
    return "\n".join(_aligned(rows))


def _verdict(value: float, target: float | None, is_ceiling: bool) -> tuple[str, str]:
    if target is None:
        return _NONE, "reported"
    is_met = value <= target if is_ceiling else value >= target
    return f"{'<=' if is_ceiling else '>='} {target:g}", "met" if is_met else "MISSED"


def _load(case: Figures) -> str:
    """Say how many callers there were, or at which rate calls were due."""
    return str(case["callers"]) if case["share"] is None else f"{case['due_per_second']:,.0f}/s"


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
