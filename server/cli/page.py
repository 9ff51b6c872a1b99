"""The look of a page that an operator's command writes: one file, no script, nothing fetched."""

from html import escape
from typing import Final

_COLOURS: Final = ("#2457a6", "#c2570c", "#1f7a4d", "#8a3ffc", "#a5243d")
_STYLE: Final = (
    """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; margin: 2rem auto; max-width: 920px;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.about { color: #55606e; margin: 0 0 1rem; overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; }
dt { color: #55606e; font-size: .85rem; }
dd { font-size: 1.1rem; margin: 0; }
svg { width: 100%; height: auto; }
svg text { font-size: 11px; fill: #55606e; }
.grid { stroke: #e3e7ec; } .zero { stroke: #8b95a1; }
polyline { stroke-width: 2; stroke-linejoin: round; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #e3e7ec; text-align: left;
  white-space: nowrap; }
th { font-weight: 600; color: #55606e; font-size: .85rem; }
td.number, th.number { text-align: right; }
.legend span { margin-right: 1rem; color: #55606e; font-size: .85rem; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
.scroll { overflow-x: auto; }
@media print { body { max-width: none; } tr { break-inside: avoid; } }
"""
    + "\n".join(
        f".line-{number} {{ stroke: {colour}; }} "
        f".bar-{number} {{ fill: {colour}; }} .key-{number} {{ background: {colour}; }}"
        for number, colour in enumerate(_COLOURS)
    )
    + "\n"
)


def page_start(title: str, about: str) -> str:
    """Return the beginning of a page."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="about">{escape(about)}</p>\n'
    )


def page_end() -> str:
    """Return the end of a page."""
    return "</body></html>\n"


def facts(pairs: dict[str, str]) -> str:
    """Write a few figures with their names."""
    written = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in pairs.items()
    )
    return f"<dl>{written}</dl>\n"


def table_start(columns: tuple[str, ...]) -> str:
    """Return the beginning of a table; a column whose name ends in `#` holds numbers."""
    cells = "".join(
        f'<th class="number">{escape(name[:-1])}</th>'
        if name.endswith("#")
        else f"<th>{escape(name)}</th>"
        for name in columns
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>\n'


def table_row(columns: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return a row of a table with these columns."""
    cells = "".join(
        f'<td class="number">{escape(value)}</td>'
        if name.endswith("#")
        else f"<td>{escape(value)}</td>"
        for name, value in zip(columns, values, strict=True)
    )
    return f"<tr>{cells}</tr>\n"


def table_end() -> str:
    """Return the end of a table."""
    return "</tbody></table></div>\n"


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a table."""
    written = "".join(table_row(columns, row) for row in rows)
    return table_start(columns) + written + table_end()
