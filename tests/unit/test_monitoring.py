"""Dashboard and alerts speak of what the service tells, and each alert says what to do."""

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from metrics_reference import described, sample_names
from monitoring_files import (
    RUNBOOKS,
    alerts,
    dashboard_queries,
    panels,
    rules,
    selectors_of,
)
from server.metrics import SECONDS

OF_PROMETHEUS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
ADDED = {"instance", "job", "worker", "le"}
"""Labels that a series has besides its own."""
QUERIES = [*(rule["expr"] for rule in rules()), *dashboard_queries()]
SECTION_PARTS = ("**What it means.**", "**What to do.**")


def runbook_of(alert: str) -> str:
    """Return an alert's section; empty where there is none."""
    sections = re.split(r"^## ", RUNBOOKS.read_text("utf-8"), flags=re.MULTILINE)
    found = [section for section in sections if section.splitlines()[0] == alert]
    return found[0] if found else ""


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_is_told(query: str) -> None:
    """Each metric and each label of a query exists, in the code or in a rule before it."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    labels = {name: one.labels for one in described() for name in _names(one.name, one.kind)}
    selectors = selectors_of(query)

    assert selectors
    for selector in selectors:
        assert selector.name in sample_names() | recorded | OF_PROMETHEUS
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= {*labels.get(str(selector.name), ()), *ADDED}


def _names(name: str, kind: str) -> list[str]:
    parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
    return [name + part for part in parts]


def test_a_query_of_what_nobody_tells_would_be_found() -> None:
    """A selector inside a range, a function or an aggregation is found: the above can fail."""
    query = 'sum by (a) (rate(wallet_nothing_total{b="c"}[5m])) > 0 unless max(wallet_no)'

    assert {one.name for one in selectors_of(query)} == {"wallet_nothing_total", "wallet_no"}
    with pytest.raises(ValueError, match=r".+"):
        selectors_of("sum by (rate(")


def test_every_metric_is_looked_at() -> None:
    """What the service tells is on the dashboard or in a rule; else nobody would see it."""
    asked = {selector.name for query in QUERIES for selector in selectors_of(query)}

    unseen = {one.name for one in described() if not asked & set(_names(one.name, one.kind))}
    assert unseen == set()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_each_alert_has_a_runbook(alert: dict[str, Any]) -> None:
    """It leads to a section of its own that says what it means and what to do."""
    name = alert["alert"]

    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"docs/operation/runbooks.md#{name.lower()}"
    section = runbook_of(name)
    assert all(part in section for part in SECTION_PARTS), section


def test_each_runbook_has_an_alert() -> None:
    """A section about an alert that is gone would mislead."""
    titles = re.findall(r"^## (Wallet\w+)$", RUNBOOKS.read_text("utf-8"), flags=re.MULTILINE)

    assert titles == [alert["alert"] for alert in alerts()]
    assert runbook_of("WalletNothing") == ""


def test_bounds_of_the_latency_promise_are_bounds_of_the_histogram() -> None:
    """A bucket that the histogram does not have would make the rule say nothing, for ever."""
    bounds = {str(float(bound)) for bound in SECONDS}
    asked = {
        matcher.value
        for query in QUERIES
        for selector in selectors_of(query)
        for matcher in selector.matchers.matchers
        if matcher.name == "le"
    }
    assert asked
    assert asked <= bounds


def test_panels_have_places_of_their_own() -> None:
    """No two panels share an id or lie over each other, and each says what it shows."""
    assert set(Counter(panel["id"] for panel in panels()).values()) == {1}
    rows = sorted(
        (panel["gridPos"]["y"], panel["gridPos"]["x"], panel["gridPos"]["w"]) for panel in panels()
    )
    for (y, x, width), (next_y, next_x, _) in pairwise(rows):
        assert next_y > y or next_x >= x + width
    assert all(panel["title"] for panel in panels())
