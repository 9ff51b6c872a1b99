"""The documents hang together: every page is on the map, every link leads somewhere."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = ROOT / "docs" / "README.md"
FOLDERS = ("docs", "clients", "tests", "protos")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose_of(page: Path) -> str:
    """Return a page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def links_of(page: Path) -> Iterator[tuple[Path, str]]:
    """Go through the files, and the anchors in them, that a page links to within the project."""
    for target in LINK.findall(prose_of(page)):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    times: Counter[str] = Counter()
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        told = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", told.lower()).replace(" ", "-")
        found.add(f"{anchor}-{times[anchor]}" if times[anchor] else anchor)
        times[anchor] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Each relative link names what is there, and each anchor a heading of its page."""
    for target, anchor in links_of(page):
        assert target.exists(), f"{page}: {target}"
        assert target.is_relative_to(ROOT), f"{page}: {target} is not of the project"
        assert not anchor or anchor in anchors_of(target), f"{page}: {target}#{anchor}"


def test_every_page_is_on_the_map() -> None:
    """Whoever reads the map finds everything that is written."""
    linked = {target for target, _ in links_of(MAP)}
    missing = {page for page in (ROOT / "docs").rglob("*.md") if page not in linked} - {MAP}

    assert not missing, f"docs/README.md does not link to {sorted(missing)}"


def test_no_page_is_on_the_map_twice() -> None:
    """Each has one place, so that the map stays short."""
    times = Counter(target for target, anchor in links_of(MAP) if not anchor)

    assert [str(target) for target, count in times.items() if count > 1] == []
