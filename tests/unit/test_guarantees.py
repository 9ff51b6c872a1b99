"""The page of guarantees: every test that it names is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "concepts" / "guarantees.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


def names_in(file: Path) -> set[str]:
    """Return the names of a module's tests."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    defined = ast.parse(file.read_text("utf-8")).body
    return {one.name for one in defined if isinstance(one, functions) and "test_" in one.name[:5]}


def is_there(named: str) -> bool:
    """Tell whether a test, or a module of tests, is there and is collected."""
    path, _, test = named.partition("::")
    file = ROOT / path
    if not file.is_file() or not file.name.startswith("test_"):
        return False
    return test in names_in(file) if test else bool(names_in(file))


def test_every_test_that_a_guarantee_names_is_there() -> None:
    """A promise whose test is gone, or was renamed, is noticed."""
    assert len(NAMED) > 40
    assert not is_there("tests/unit/test_guarantees.py::test_that_is_not_there")
    assert [named for named in NAMED if not is_there(named)] == []


def test_every_guarantee_says_what_it_rests_on_and_names_a_test() -> None:
    """Each promise is one sentence, its reason, and at least one test."""
    promises = PAGE.partition("## What is not promised")[0].split("\n**")[1:]
    assert len(promises) > 20
    for promise in promises:
        sentence, _, rest = promise.partition("**")
        assert sentence.endswith("."), sentence
        assert rest.startswith("\nRests on: "), sentence
        assert re.search(r"^\* `tests/", rest, re.MULTILINE), sentence
