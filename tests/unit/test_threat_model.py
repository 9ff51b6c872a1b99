"""The threat model: every row has its control, its own test, and tells what stays open."""

import re
from collections import Counter

import pytest
from test_guarantees import ROOT, is_there, names_in

PAGE = (ROOT / "docs" / "concepts" / "threat-model.md").read_text("utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| **")]
ATTACKS = {
    f"tests/integration/{file.name}::{name}"
    for file in (ROOT / "tests" / "integration").glob("test_threats*.py")
    for name in names_in(file)
}


def quoted(cell: str) -> list[str]:
    """Return what a cell quotes."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_threat_has_its_control_and_its_tests(row: list[str]) -> None:
    """Its files and tests are there, and the first test is named after it."""
    threat, attack, control, tests, stays_open = row
    name = "test_threat_" + threat.strip("*").lower().replace(" ", "_")
    files = [file for file in quoted(control) if "/" in file]

    assert all((attack, stays_open))
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert quoted(tests)[0] in ATTACKS
    assert quoted(tests)[0].endswith(f"::{name}")
    assert [test for test in quoted(tests) if not is_there(test)] == []


def test_every_attack_is_the_test_of_one_threat() -> None:
    """An attack that the page does not tell of, or tells of twice, is noticed."""
    assert len(ATTACKS) > 40
    assert Counter(quoted(row[3])[0] for row in ROWS) == Counter(ATTACKS)
