"""Gauges of how the records stand. They describe the database: one process alone tells them.

They are absent until the records were read once, and what is not there any more is not told.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.standing import AGES_MS, OLDEST, Standing


class Family(NamedTuple):
    """A metric: its name, type, labels and meaning."""

    name: str
    kind: str
    labels: tuple[str, ...]
    what: str


def _gauge(name: str, what: str, *labels: str) -> Family:
    return Family(name, "gauge", labels, what)


_READ: Final = _gauge(
    "wallet_standing_read_timestamp_seconds", "When it was read how the records stand."
)
_PENDING: Final = _gauge(
    "wallet_topups_pending", "Top-ups that are on their way, by age.", "gateway", "age"
)
_QUEUE: Final = _gauge(
    "wallet_review_queue", "Events of a gateway that wait for a person's review.", "gateway"
)
_OLDEST: Final = _gauge(
    "wallet_review_oldest_age_seconds",
    "How long the oldest of these events has waited; 0 where none waits.",
)
_DEAD_LETTERS: Final = _gauge(
    "wallet_outgoing_dead_letters", "Outgoing webhooks that wait, as dead letters, to be replayed."
)
_RECONCILED: Final = _gauge(
    "wallet_reconciliation_timestamp_seconds",
    "When the ledger was last compared with a gateway's records.",
    "gateway",
)
_DISCREPANCIES: Final = _gauge(
    "wallet_reconciliation_differences",
    "What the last comparison with a gateway's records found; must be 0.",
    "gateway",
)
_IMBALANCE: Final = _gauge(
    "wallet_ledger_imbalance_minor_units",
    "Money that came from nowhere, by the last whole proof of the books; must be 0.",
    "currency",
)
_HELD: Final = _gauge(
    "wallet_ledger_held_minor_units",
    "Money in all wallets together, by the last whole proof of the books.",
    "currency",
)
_DIFFERENCES: Final = _gauge(
    "wallet_ledger_differences",
    "What the proof of the books found, the last whole one or the one that goes on; must be 0.",
)
_PROVEN: Final = _gauge(
    "wallet_ledger_proven_timestamp_seconds",
    "When the last whole proof of the books began: what was written before is proven.",
)

FAMILIES: Final = (
    *(_READ, _PENDING, _QUEUE, _OLDEST, _DEAD_LETTERS, _RECONCILED, _DISCREPANCIES),
    *(_IMBALANCE, _HELD, _DIFFERENCES, _PROVEN),
)


class StandingMetrics(Collector):
    """Tells the standing that was read last."""

    def __init__(self, gateways: Sequence[str]) -> None:
        """`gateways` are told also where nothing of them waits."""
        self._gateways = gateways
        self._standing: Standing | None = None

    def stands(self, standing: Standing) -> None:
        """Take how the records stand."""
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        """Give all gauges, as of the last reading."""
        standing = self._standing
        if standing is None:
            return
        yield _told(_READ, [((), standing.time_ms / 1_000)])
        ages = (*AGES_MS, OLDEST)
        pending = {(gateway, age): 0 for gateway in self._gateways for age in ages}
        yield _told(_PENDING, list((pending | dict(standing.pending)).items()))
        waiting = dict.fromkeys(self._gateways, 0) | dict(standing.waiting)
        yield _told(_QUEUE, [((gateway,), count) for gateway, count in waiting.items()])
        since_ms = standing.waiting_since_ms
        age_ms = 0 if since_ms is None else max(0, standing.time_ms - since_ms)
        yield _told(_OLDEST, [((), age_ms / 1_000)])
        yield _told(_DEAD_LETTERS, [((), standing.dead_letters)])
        times = [((one.gateway,), one.time_ms / 1_000) for one in standing.reconciled]
        yield _told(_RECONCILED, times)
        found = [((one.gateway,), one.differences) for one in standing.reconciled]
        yield _told(_DISCREPANCIES, found)
        yield from _of_the_proof(standing)


def _of_the_proof(standing: Standing) -> Iterator[Metric]:
    proven = standing.proven
    found = max(standing.differences_so_far, proven.differences if proven else 0)
    if found or proven:
        yield _told(_DIFFERENCES, [((), found)])
    if proven:
        for family, amounts in ((_IMBALANCE, proven.imbalance), (_HELD, proven.held)):
            yield _told(family, [((currency,), amount) for currency, amount in amounts.items()])
        yield _told(_PROVEN, [((), proven.begin_time_ms / 1_000)])


def _told(family: Family, values: Sequence[tuple[tuple[str, ...], float]]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.what, labels=family.labels)
    for labels, value in values:
        metric.add_metric(labels, value)
    return metric
