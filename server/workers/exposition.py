"""The metrics of all workers as one exposition: each sample says in a label whose it is.

Counters of a worker that was started again begin anew, which Prometheus knows how to read as long
as each worker has series of its own. So they are not added up here: `sum without (worker)` does it.
What describes the database is one worker's to tell, and has no such label: it is nobody's own.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from server.standing_metrics import FAMILIES

WORKER_LABEL = "worker"


def merged(expositions: Mapping[int, str]) -> bytes:
    """Return the expositions of workers, by their indexes, as one."""
    registry = CollectorRegistry()
    registry.register(_Families(expositions))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, expositions: Mapping[int, str]) -> None:
        self._expositions = expositions

    def collect(self) -> Iterator[Metric]:
        """Give each family once, with the samples of all workers."""
        families: dict[str, Metric] = {}
        for worker, exposition in sorted(self._expositions.items()):
            for family in text_string_to_metric_families(exposition):
                merged_family = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                merged_family.samples.extend(_labelled(sample, worker) for sample in family.samples)
        yield from families.values()


_OF_NOBODY: Final = frozenset(family.name for family in FAMILIES)


def _labelled(sample: Sample, worker: int) -> Sample:
    if sample.name in _OF_NOBODY:
        return sample
    return sample._replace(labels={**sample.labels, WORKER_LABEL: str(worker)})
