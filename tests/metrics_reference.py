"""Every metric that a server tells: `docs/reference/metrics.md` is written here from the code.

.venv/bin/python tests/metrics_reference.py
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from server.metrics import Metrics
from server.standing_metrics import FAMILIES

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"


@dataclass(frozen=True)
class Described:
    """A metric as Prometheus gets it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    what: str


def described() -> list[Described]:
    """Return all metrics of a server but those of its process, by name."""
    found = [*_of(Metrics().registry), *(Described(*family) for family in FAMILIES)]
    return sorted(found, key=lambda one: one.name)


def _of(registry: CollectorRegistry) -> Iterable[Described]:
    """Go through what is registered; labels are told by the client's own attributes alone."""
    collectors: set[Any] = set(registry._collector_to_names)  # noqa: SLF001 - as said above
    for collector in collectors:
        if not hasattr(collector, "_labelnames"):
            continue
        (family,) = collector.describe()
        suffix = "_total" if family.type == "counter" else ""
        labels = tuple(collector._labelnames)  # noqa: SLF001 - as said above
        yield Described(family.name + suffix, family.type, labels, family.documentation)


def sample_names() -> set[str]:
    """Return every name that a query may use: a histogram has three."""
    names: set[str] = set()
    for one in described():
        parts = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
        names |= {one.name + part for part in parts}
    return names


def page() -> str:
    """Return the whole page."""
    lines = ["| metric | type | labels | what it tells |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} "
        f"| {one.what} |"
        for one in described()
    ]
    return _TEXT.format(table="\n".join(lines))


_TEXT: Final = """\
# Every metric

Written by `tests/metrics_reference.py` from the code; a test fails where this page says something
else, and where a server tells a metric that is missing here. How to read them together, and which
alerts there are: [monitoring](../operation/monitoring.md).

* With `serve --workers N` each series has the label `worker` besides: `sum without (worker)` adds
  them up. What describes the database has none, since one worker alone tells it.
* A counter begins anew with its process; `rate` and `increase` know that.
* Amounts are minor units of `currency`: paise, cents, yen. `direction` is the wallet's side: `in`
  or `out`. `gateway` is empty for what moves between a wallet and an order.
* `outcome` is what was done (`paid`, `refunded`, `started`, `credited`, `failed`, `pending`,
  `expired`, `needs_review`, `applied`, `duplicate`, `ignored`), `repeated` for a request that got
  its first answer again, or the reason of the refusal in lower case (`insufficient_funds`). A
  webhook can be `signature_invalid`, `malformed`, or `failed`: its gateway sends it again. An
  outgoing one is `taken`, `refused` (an attempt that is repeated), or `buried` (a dead letter).
* `origin` is who told of a payment: `webhook`, `lookup` (the gateway was asked), `review`
  (a person), `time` (it is over), `request`.
* What was committed is counted after the commit. Where a commit's answer was lost, the next
  attempt finds the work done and counts it as `repeated`; the ledger has it once.
* The process itself is told by `process_*`: processor time, memory, open files, start.

{table}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
