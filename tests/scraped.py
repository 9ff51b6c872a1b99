"""What a server tells Prometheus, for tests to look up."""

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Scraped:
    """One scrape: the samples of an exposition."""

    def __init__(self, text: str) -> None:
        self.families = {family.name for family in text_string_to_metric_families(text)}
        self.samples: list[Sample] = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name with these labels, whatever others they have."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> list[str]:
        """Return a label's values, sample by sample; empty texts where one has it not."""
        return [sample.labels.get(label, "") for sample in self.samples if sample.name == name]


async def scraped(http: aiohttp.ClientSession, url: str) -> Scraped:
    """Scrape a server, as Prometheus does."""
    async with http.get(url) as answer:
        assert answer.status == 200
        return Scraped(await answer.text())
