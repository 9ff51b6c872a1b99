"""The page of every metric says what the code tells, and leaves none out."""

from harness import eventually, running_harness, unique, with_database
from metrics_reference import PAGE, described, page, sample_names
from scraped import Scraped, scraped

_OF_THE_CLIENT = ("process_", "python_")


def test_the_page_is_what_the_code_tells() -> None:
    """It is written from the code. Where this fails, write it anew and look."""
    assert PAGE.read_text("utf-8") == page(), ".venv/bin/python tests/metrics_reference.py"


def test_names_follow_the_conventions() -> None:
    """Counters end in `_total`, units stand in names, and each metric says what it tells."""
    for one in described():
        assert one.name.startswith(("wallet_", "grpc_server_"))
        assert one.name.endswith("_total") == (one.kind == "counter")
        assert not one.name.endswith(("_ms", "_paise", "_milliseconds"))
        assert one.what.endswith(".")


async def test_a_server_tells_nothing_that_the_page_does_not(mongodb_uri: str) -> None:
    """Each metric of a running server stands there, and each of the page is told."""
    uri = with_database(mongodb_uri, unique("reference"))
    async with running_harness(
        uri, watch_interval_seconds=0.05, proof_interval_seconds=0.05
    ) as harness:

        async def seen() -> Scraped | None:
            found = await scraped(harness.http, harness.metrics_url)
            return found if "wallet_ledger_proven_timestamp_seconds" in found.families else None

        await harness.pay(await harness.customer(100), 1)
        told = await eventually(seen)
    families = {name for name in told.families if not name.startswith(_OF_THE_CLIENT)}
    assert families == {one.name.removesuffix("_total") for one in described()}
    names = {sample.name for sample in told.samples if sample.name.startswith("wallet_")}
    assert {name for name in names if not name.endswith("_created")} <= sample_names()
