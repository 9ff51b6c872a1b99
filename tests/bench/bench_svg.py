"""A line chart as SVG: one or more series over a common horizontal axis."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 720
_HEIGHT: Final = 420
_LEFT: Final = 70
_RIGHT: Final = 130
_TOP: Final = 50
_BOTTOM: Final = 60
_COLOURS: Final = ("#1f77b4", "#d97706", "#b91c1c", "#047857", "#6d28d9", "#475569")
_TICKS: Final = 5

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. The horizontal axis starts at 0; so does the vertical one if it is linear."""

    title: str
    horizontal: str
    vertical: str
    series: Sequence[Series]
    is_logarithmic: bool = False


def svg_of(chart: Chart) -> str:
    """Draw a chart; values must be positive where the axis is logarithmic."""
    points = [point for series in chart.series for point in series.points]
    assert points, "a chart shows something"
    x_ticks = _linear_ticks(max(x for x, _ in points))
    values = [y for _, y in points]
    y_ticks = (
        _logarithmic_ticks(min(values), max(values))
        if chart.is_logarithmic
        else _linear_ticks(max(values))
    )
    x_of = _scale(x_ticks[0], x_ticks[-1], _LEFT, _WIDTH - _RIGHT)
    y_of = _scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP, chart.is_logarithmic)
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 26, chart.title, "start", 'font-size="15" font-weight="bold"'),
    ]
    for tick in y_ticks:
        y = y_of(tick)
        parts.append(_line(_LEFT, y, right, y, "#e5e7eb"))
        parts.append(_text(_LEFT - 8, y + 4, f"{tick:,g}", "end"))
    for tick in x_ticks:
        x = x_of(tick)
        parts.append(_line(x, bottom, x, bottom + 5, "#374151"))
        parts.append(_text(x, bottom + 20, f"{tick:,g}", "middle"))
    parts.append(_line(_LEFT, bottom, right, bottom, "#374151"))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 16, chart.horizontal, "middle"))
    middle = (_TOP + bottom) / 2
    turned = f'transform="rotate(-90 18 {middle:.1f})"'
    parts.append(_text(18, middle, chart.vertical, "middle", turned))
    for number, series in enumerate(chart.series):
        parts += _drawn(series, _COLOURS[number % len(_COLOURS)], number, x_of, y_of)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(
    series: Series,
    colour: str,
    number: int,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
) -> list[str]:
    """Draw a line, its points, and its name in the legend."""
    placed = [(x_of(x), y_of(y)) for x, y in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    legend_x, legend_y = _WIDTH - _RIGHT + 16, _TOP + 10 + 20 * number
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed),
        f'<rect x="{legend_x}" y="{legend_y - 9}" width="12" height="10" fill="{colour}"/>',
        _text(legend_x + 18, legend_y, series.name, "start"),
    ]


def _scale(
    low: float, high: float, start: float, end: float, is_logarithmic: bool = False
) -> Callable[[float], float]:
    """Return what places a value between two coordinates."""
    if is_logarithmic:
        inner = _scale(math.log10(low), math.log10(high), start, end)
        return lambda value: inner(math.log10(value))
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _linear_ticks(highest: float) -> list[float]:
    """Return round values from 0 to at least `highest`."""
    rough = (highest or 1.0) / _TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    return [number * step for number in range(math.ceil((highest or 1.0) / step) + 1)]


def _logarithmic_ticks(lowest: float, highest: float) -> list[float]:
    """Return 1, 2, 5, 10, ... from at most `lowest` to at least `highest`."""
    exponents = range(math.floor(math.log10(lowest)) - 1, math.ceil(math.log10(highest)) + 1)
    steps = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    first = max(step for step in steps if step <= lowest)
    last = min((step for step in steps if step >= highest), default=steps[-1])
    last = last if last > first else min(step for step in steps if step > first)
    return [step for step in steps if first <= step <= last]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place} {more}>{escape(text)}</text>"
