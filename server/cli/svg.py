"""Plots as SVG within an HTML page: no script, and nothing from elsewhere.

Heights are worked out from whole minor units; only where a line ends on the screen is a float.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 880
_HEIGHT: Final = 260
_LEFT: Final = 120
_RIGHT: Final = 20
_TOP: Final = 16
_BOTTOM: Final = 36
_TICKS: Final = 4
_LABELS: Final = 6
_WIDEST_BAR: Final = 48.0
_CENTRED_LABELS: Final = 10

Write = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Line:
    """Values over time, by a colour of the page: the class `line-<number>`."""

    name: str
    points: Sequence[tuple[float, int]]
    """Where from 0 to 1, and the value."""
    is_stepped: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """Values side by side, each with a name."""

    name: str
    values: Sequence[int]


def line_plot(title: str, lines: Sequence[Line], labels: Sequence[str], write: Write) -> str:
    """Draw lines over a common time; `labels` stand below from its start to its end.

    `write` writes a value of the axis.
    """
    values = [value for line in lines for _, value in line.points] or [0]
    axis = _Axis.of(min([0, *values]), max([0, *values]))
    parts = [_head(title), *_grid(axis, write), *_dates(labels)]
    for number, line in enumerate(lines):
        steps: list[tuple[float, float]] = []
        for place, value in line.points:
            x, y = _x(place), axis.y(value)
            if line.is_stepped and steps:
                steps.append((x, steps[-1][1]))
            steps.append((x, y))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
        parts.append(f'<polyline class="line-{number}" points="{path}" fill="none"/>')
    return "\n".join([*parts, "</svg>", _legend([line.name for line in lines])])


def bar_plot(title: str, groups: Sequence[Bars], labels: Sequence[str], write: Write) -> str:
    """Draw a bar for each value, those of one place side by side."""
    values = [value for bars in groups for value in bars.values] or [0]
    axis = _Axis.of(min([0, *values]), max([0, *values]))
    places = max((len(bars.values) for bars in groups), default=1) or 1
    room = (WIDTH - _LEFT - _RIGHT) / places
    wide = min(room * 0.8 / max(len(groups), 1), _WIDEST_BAR)
    side = (room - wide * len(groups)) / 2
    parts = [_head(title), *_grid(axis, write), *_dates(labels, is_centred=places == len(labels))]
    for number, bars in enumerate(groups):
        for place, value in enumerate(bars.values):
            x = _LEFT + place * room + side + number * wide
            high, low = sorted((axis.y(value), axis.y(0)))
            parts.append(
                f'<rect class="bar-{number}" x="{x:.1f}" y="{high:.1f}" width="{wide:.1f}" '
                f'height="{low - high:.1f}"><title>{escape(write(value))}</title></rect>'
            )
    return "\n".join([*parts, "</svg>", _legend([bars.name for bars in groups])])


@dataclass(frozen=True, slots=True)
class _Axis:
    """The vertical axis: from one round value to another."""

    low: int
    high: int
    step: int

    @classmethod
    def of(cls, lowest: int, highest: int) -> "_Axis":
        """Return an axis with about four round steps."""
        rough = max((highest - lowest) // _TICKS, 1)
        magnitude = 10 ** (len(str(rough)) - 1)
        step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
        high = max(-(-highest // step) * step, lowest // step * step + step)
        return cls(lowest // step * step, high, step)

    def y(self, value: int) -> float:
        """Return where a value stands."""
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _x(place: float) -> float:
    return _LEFT + place * (WIDTH - _LEFT - _RIGHT)


def _head(title: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {_HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'


def _grid(axis: _Axis, write: Write) -> list[str]:
    parts = []
    for value in range(axis.low, axis.high + 1, axis.step):
        y = axis.y(value)
        kind = "zero" if value == 0 else "grid"
        ends = f'x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"'
        parts.append(f'<line class="{kind}" {ends}/>')
        place = f'x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end"'
        parts.append(f"<text {place}>{escape(write(value))}</text>")
    return parts


def _dates(labels: Sequence[str], *, is_centred: bool = False) -> list[str]:
    """Write some of the labels below, evenly spread."""
    every = max(1, -(-len(labels) // (_CENTRED_LABELS if is_centred else _LABELS)))
    parts = []
    for number in range(0, len(labels), every):
        last = max(len(labels) - 1, 1)
        place = (number + 0.5) / len(labels) if is_centred else number / last
        anchor = "middle" if is_centred or number else "start"
        anchor = "end" if not is_centred and number and number == len(labels) - 1 else anchor
        where = f'x="{_x(place):.1f}" y="{_HEIGHT - 12}" text-anchor="{anchor}"'
        parts.append(f"<text {where}>{escape(labels[number])}</text>")
    return parts


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:  # noqa: PLR2004 - one line needs no legend: the title names it
        return ""
    entries = "".join(
        f'<span><i class="key-{number}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<p class="legend">{entries}</p>'
