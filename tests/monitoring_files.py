"""The dashboard and the rules, as Grafana and Prometheus read them."""

import json
from pathlib import Path
from typing import Any, Final

import promql_parser as promql
import yaml

_FOLDER: Final = Path(__file__).parents[1] / "deploy" / "monitoring"
RULES: Final = _FOLDER / "rules.yaml"
DASHBOARD: Final = _FOLDER / "dashboard.json"
_DOCS: Final = _FOLDER.parents[1] / "docs" / "operation"
RUNBOOKS: Final = _DOCS / "runbooks.md"
MONITORING: Final = _DOCS / "monitoring.md"


def rules() -> list[dict[str, Any]]:
    """Return all rules, alerts and recorded ones."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return the rules that wake somebody or write a ticket."""
    return [rule for rule in rules() if "alert" in rule]


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


def dashboard_queries() -> list[str]:
    """Return the dashboard's queries, with an interval in the place of Grafana's."""
    targets = [target for panel in panels() for target in panel.get("targets", ())]
    return [target["expr"].replace("$__rate_interval", "5m") for target in targets]


def selectors_of(query: str) -> list[promql.VectorSelector]:
    """Return what a query selects; a query that cannot be parsed is a ValueError."""
    found: list[promql.VectorSelector] = []

    def visit(expression: Any) -> bool:
        if isinstance(expression, promql.VectorSelector):
            found.append(expression)
        return True

    promql.walk(promql.parse(query), visit)
    return found
