"""Each alert fires on what a server tells when it should, and none on what a healthy one tells."""

import json
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from bson import Int64
from promtool import Told, firing, run, told

from gateway_adapters.circuit import FAILURES_TO_OPEN
from harness import (
    Harness,
    event_of,
    eventually,
    free_port,
    payment_of,
    refusal_of,
    running_harness,
    unique,
    with_database,
)
from monitoring_files import MONITORING, RULES, alerts
from scraped import Scraped, scraped
from server.metrics import Metrics
from server.standing import Proven, Reconciled, Standing

SLOWNESS: Final = {"WalletSlownessBurnsFast", "WalletSlownessBurnsSlowly"}
"""Not asked for where a real server is measured: a test's machine may be slow."""
DAY_MS: Final = 86_400_000

Story = Callable[[Harness], Awaitable[None]]


async def all_is_well(shop: Harness) -> None:
    """Customers top up and pay, once in vain; a webhook comes twice."""
    customer = await shop.customer(1_000)
    order = unique("order")
    await shop.pay(customer, 300, order)
    await shop.refund(customer, order)
    await refusal_of(shop.pay(customer, 9_000))
    topup = await shop.initiate(customer, 100)
    body = event_of("payment.captured", payment_of(topup))
    for _ in range(2):
        assert (await shop.deliver(body, f"evt-{topup.topup_id}"))[0] == 200


async def money_comes_from_nowhere(shop: Harness) -> None:
    """Somebody alters an entry in the database."""
    await shop.customer(1_000)
    await shop.database.wallet_transactions.update_many(
        {"type": "TOPUP"}, {"$set": {"postings.1.amount": Int64(-600)}}
    )

    async def is_found() -> bool:
        seen = await scraped(shop.http, shop.metrics_url)
        return seen.value("wallet_ledger_imbalance_minor_units") > 0

    await eventually(is_found)


async def money_gets_stuck(shop: Harness) -> None:
    """A payment of another amount waits for a person, and a top-up is never over, for days."""
    topup = await shop.initiate(await shop.customer(), 700)
    body = event_of("payment.captured", payment_of(topup, amount=600))
    assert (await shop.deliver(body))[0] == 200
    await shop.initiate(await shop.customer(), 500)
    long_ago = datetime.now(UTC) - timedelta(days=2)
    await shop.database.gateway_events.update_many({}, {"$set": {"receive_time": long_ago}})
    await shop.database.topups.update_many({}, {"$set": {"create_time": long_ago}})

    async def is_seen() -> bool:
        seen = await scraped(shop.http, shop.metrics_url)
        age_seconds = seen.value("wallet_review_oldest_age_seconds")
        return age_seconds > 86_400 and seen.value("wallet_topups_pending", age="over_1d") > 0

    await eventually(is_seen)


async def webhooks_stay_away(shop: Harness) -> None:
    """Payments are found by asking alone."""
    topup = await shop.initiate(await shop.customer(), 700)
    await shop.pay_at_gateway(topup.gateway_order_id, webhook=False)
    await shop.verify(topup)


async def somebody_forges(shop: Harness) -> None:
    """Webhooks come that their gateway has not signed."""
    topup = await shop.initiate(await shop.customer(), 700)
    body = event_of("payment.captured", payment_of(topup))
    for _ in range(3):
        assert (await shop.deliver(body, X_Razorpay_Signature="0" * 64))[0] == 401


async def webhooks_come_late(shop: Harness) -> None:
    """The gateway tells of what happened ten minutes ago."""
    topup = await shop.initiate(await shop.customer(), 700)
    event: dict[str, Any] = json.loads(event_of("payment.captured", payment_of(topup)))
    body = json.dumps(event | {"created_at": int(time.time()) - 600}).encode()
    assert (await shop.deliver(body))[0] == 200


async def a_gateway_is_down(shop: Harness) -> None:
    """Nothing answers where the gateway is."""
    customer = await shop.customer()
    for _ in range(FAILURES_TO_OPEN + 1):
        assert (await refusal_of(shop.initiate(customer, 700))).reason == "GATEWAY_UNAVAILABLE"


STORIES: Final[dict[Story, set[str]]] = {
    all_is_well: set(),
    money_comes_from_nowhere: {"WalletLedgerImbalance", "WalletBooksDiffer"},
    money_gets_stuck: {"WalletReviewWaits", "WalletTopupsPendingLong"},
    webhooks_stay_away: {"WalletWebhooksSilent"},
    somebody_forges: {"WalletWebhooksRefused"},
    webhooks_come_late: {"WalletCreditsLate"},
    a_gateway_is_down: {"WalletGatewayDown", "WalletErrorsBurnFast", "WalletErrorsBurnSlowly"},
}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_what_a_server_tells_wakes_whom_it_should(
    mongodb_uri: str, tmp_path: Path, story: Story
) -> None:
    """A story is told by a real server, goes on for hours, and has its alerts and no others."""
    settings: dict[str, Any] = {"watch_interval_seconds": 0.05, "proof_interval_seconds": 0.05}
    if story is a_gateway_is_down:
        settings["razorpay_api_url"] = f"http://127.0.0.1:{free_port()}"
    uri = with_database(mongodb_uri, unique("alerts"))
    async with running_harness(uri, books_agree=False, **settings) as shop:

        async def proven() -> Scraped | None:
            seen = await scraped(shop.http, shop.metrics_url)
            return seen if "wallet_ledger_proven_timestamp_seconds" in seen.families else None

        before = await eventually(proven)
        await story(shop)
        minute = told(before, await scraped(shop.http, shop.metrics_url))

    assert await firing(minute, tmp_path) - SLOWNESS == STORIES[story]


def of_metrics(metrics: Metrics, act: Callable[[Metrics], None]) -> Told:
    """Return what metrics tell before and after something happens, without a server around."""
    metrics.watch_standing(("razorpay",)).stands(Standing(round(time.time() * 1_000)))
    before = Scraped(metrics.exposition().decode())
    act(metrics)
    return told(before, Scraped(metrics.exposition().decode()))


def calls_are_slow(metrics: Metrics) -> None:
    """One call in five takes half a second."""
    method = metrics.method("wallet_payment.v1.WalletPaymentService", "PayWithWallet")
    for seconds in (0.01, 0.01, 0.01, 0.01, 0.5):
        method.call_started()
        method.call_handled("OK", seconds)


def more_comes_than_is_committed(metrics: Metrics) -> None:
    """Commands wait in both lanes."""
    metrics.watch_queues([lambda: 1_500, lambda: 1_500], 4_096)


def a_short_queue_fills(metrics: Metrics) -> None:
    """Few commands wait, and few may."""
    metrics.watch_queues([lambda: 40, lambda: 40], 100)


def a_long_queue_does_not_fill(metrics: Metrics) -> None:
    """Many commands wait, where many more may."""
    metrics.watch_queues([lambda: 1_500, lambda: 1_500], 100_000)


def a_certificate_runs_out(metrics: Metrics) -> None:
    """It ends tomorrow."""
    metrics.certificate_expires("grpc", datetime.now(UTC) + timedelta(days=1))


def a_certificate_will_run_out(metrics: Metrics) -> None:
    """It ends next week, after hours of this story."""
    metrics.certificate_expires("grpc", datetime.now(UTC) + timedelta(days=10))


def a_key_file_is_broken(metrics: Metrics) -> None:
    """What stands in it now is no key set."""
    metrics.renewal_failed("jwt_keys")


def the_audit_cannot_be_written(metrics: Metrics) -> None:
    """Entries wait, and MongoDB takes none."""
    metrics.watch_audit(lambda: 10, lambda: True)


def a_receiver_takes_nothing(metrics: Metrics) -> None:
    """Each attempt to post an outgoing webhook is refused."""
    metrics.webhook_refused()


def a_receiver_is_slow(metrics: Metrics) -> None:
    """Outgoing webhooks are taken, ten minutes after their events."""
    metrics.webhook_taken(600)
    metrics.webhook_refused()


ALONE: Final[dict[Callable[[Metrics], None], set[str]]] = {
    calls_are_slow: SLOWNESS,
    more_comes_than_is_committed: {"WalletQueueIsLong"},
    a_short_queue_fills: {"WalletQueueIsLong"},
    a_long_queue_does_not_fill: set(),
    a_certificate_runs_out: {"WalletCertificateExpires", "WalletCertificateExpiresSoon"},
    a_certificate_will_run_out: {"WalletCertificateExpiresSoon"},
    a_key_file_is_broken: {"WalletRenewalFails"},
    the_audit_cannot_be_written: {"WalletAuditFails"},
    a_receiver_takes_nothing: {"WalletOutgoingRefused"},
    a_receiver_is_slow: {"WalletOutgoingLate"},
}


@pytest.mark.parametrize("act", ALONE, ids=lambda act: act.__name__)
async def test_what_cannot_be_brought_about_is_told_by_the_same_code(
    tmp_path: Path, act: Callable[[Metrics], None]
) -> None:
    """Where no test's machine can be made slow or old, the metrics are told so themselves."""
    fired = await firing(of_metrics(Metrics(), act), tmp_path)

    assert fired == ALONE[act]


async def test_old_knowledge_is_an_alert(tmp_path: Path) -> None:
    """Last week's proof, yesterday's standing, old differences, and dead letters are told."""
    now_ms = round(time.time() * 1_000)
    proven = Proven(now_ms - 7 * DAY_MS, now_ms - 6 * DAY_MS, 0, {}, {})
    metrics = Metrics()
    standing = metrics.watch_standing(("razorpay",))
    reconciled = (Reconciled("razorpay", now_ms - 3 * DAY_MS, 2),)
    standing.stands(Standing(now_ms - DAY_MS, dead_letters=1, reconciled=reconciled, proven=proven))
    seen = Scraped(metrics.exposition().decode())

    assert await firing(told(seen, seen), tmp_path) == OLD


OLD: Final = {
    "WalletProofIsOld",
    "WalletStandingUnread",
    "WalletReconciliationDiffers",
    "WalletReconciliationIsOld",
    "WalletDeadLetters",
}
DOWN: Final = {"WalletServerDown", "WalletStandingUnread"}


async def test_a_server_that_says_nothing_is_an_alert(tmp_path: Path) -> None:
    """Prometheus itself tells that nobody answers."""
    nothing = Scraped("")

    assert await firing(told(nothing, nothing), tmp_path, is_up=False) == DOWN


async def test_prometheus_takes_the_rules() -> None:
    """The file is valid to Prometheus itself."""
    assert "SUCCESS" in await run("check", "rules", str(RULES))


async def test_prometheus_takes_the_configuration_of_the_docs(tmp_path: Path) -> None:
    """What an operator pastes beside the rules is a whole configuration."""
    (example,) = re.findall(r"```yaml\n(.*?)```", MONITORING.read_text("utf-8"), re.DOTALL)
    (tmp_path / "prometheus.yaml").write_text(example, "utf-8")
    (tmp_path / RULES.name).write_bytes(RULES.read_bytes())

    output = await run("check", "config", str(tmp_path / "prometheus.yaml"))
    assert "FAILED" not in output
    assert "1 rule files found" in output


@pytest.mark.parametrize("name", ["prometheus.yaml", "prometheus-kubernetes.yaml"])
async def test_prometheus_takes_the_configurations_of_the_deployments(
    tmp_path: Path, name: str
) -> None:
    """What compose and Kubernetes give to Prometheus finds the rules beside it."""
    content = yaml.safe_load(RULES.with_name(name).read_text("utf-8"))
    for job in content["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)  # Debian's promtool is built without it
    (tmp_path / name).write_text(yaml.safe_dump(content), "utf-8")
    (tmp_path / RULES.name).write_bytes(RULES.read_bytes())

    output = await run("check", "config", str(tmp_path / name))
    assert "FAILED" not in output
    assert "1 rule files found" in output


def test_each_alert_fires_in_a_story() -> None:
    """An alert that no story here brings about may never fire at all."""
    fired = set().union(*STORIES.values(), *ALONE.values(), OLD, DOWN)

    assert fired == {alert["alert"] for alert in alerts()}
