"""The plots of a run: SVG files beside the JSON file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench_cases import SHARES, open_loop
from bench_figures import Figures
from bench_svg import Chart, Series, svg_of

_QUANTILES: Final = (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"))


def plot(part: Figures, folder: Path) -> list[Path]:
    """Draw what a run's part has figures for; return the files."""
    written = []
    for name, chart in _charts(part):
        file = folder / f"{name}.svg"
        file.write_text(svg_of(chart), "utf-8")
        written.append(file)
    return written


def _charts(part: Figures) -> Iterator[tuple[str, Chart]]:
    open_loops = [
        (100 * share, case)
        for share in SHARES
        if (case := part["cases"].get(open_loop(share))) is not None
    ]
    if open_loops:
        yield (
            "latency_over_load",
            Chart(
                "Payments: latency over load, from when each was due",
                "load, % of the saturation rate",
                "latency, ms",
                [
                    Series(name, [(load, case[field]) for load, case in open_loops])
                    for name, field in _QUANTILES
                ],
                is_logarithmic=True,
            ),
        )
    if memory := part.get("memory"):
        yield (
            "memory_over_time",
            Chart(
                "Memory under steady load",
                "minutes",
                "resident, MiB",
                [
                    Series(name, [(seconds / 60, values[name]) for seconds, values in memory])
                    for name in ("server", "mongod")
                ],
            ),
        )
