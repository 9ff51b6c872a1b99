"""The gateway is asked, too: with every webhook lost, what was paid is credited all the same."""

from collections.abc import AsyncIterator

import pytest

from harness import Harness, running_harness
from server.poller import LATE_MS, MAX_WAIT_MS, next_poll_ms
from server.store.connection import connect
from server.store.queries import MongoPollSchedule
from wallet_payment.v1 import resources_pb2 as resources


@pytest.fixture(scope="module")
async def polling(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service that asks about pending top-ups almost at once, on a database of its own.

    A poller of another service on the same one would ask another sandbox about them.
    """
    uri = mongodb_uri.replace("/wallet_payment", "/polling")
    async with running_harness(uri, poll_first_seconds=0.1, poll_interval_seconds=0.05) as running:
        yield running


async def test_without_any_webhook_every_paid_top_up_is_credited_once(polling: Harness) -> None:
    """Twenty top-ups are paid with no webhook sent: the poller credits each, and only once."""
    customer_id = await polling.customer()
    topups = [await polling.initiate(customer_id, 100) for _ in range(20)]
    for topup in topups:
        await polling.pay_at_gateway(topup.gateway_order_id, webhook=False)

    for topup in topups:
        await polling.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    assert await polling.balance(customer_id) == 2_000
    assert len(await polling.entries(customer_id)) == 20


async def test_a_payment_on_hold_is_captured_and_credited(polling: Harness) -> None:
    """An authorization that nobody captured is captured when the gateway is asked."""
    customer_id = await polling.customer()
    topup = await polling.initiate(customer_id, 700)
    await polling.pay_at_gateway(topup.gateway_order_id, webhook=False, authorize_only=True)

    await polling.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    assert await polling.balance(customer_id) == 700


async def test_a_dead_top_up_expires_and_money_that_comes_late_is_credited(
    polling: Harness,
) -> None:
    """After its time a top-up that nobody paid is EXPIRED; a payment after that still counts."""
    customer_id = await polling.customer()
    topup = await polling.initiate(customer_id, 300)
    await polling.database.topups.update_one(
        {"_id": topup.topup_id}, [{"$set": {"expire_time": "$create_time"}}]
    )
    await polling.wait_for_topup(topup, resources.TOPUP_STATE_EXPIRED)

    await polling.pay_at_gateway(topup.gateway_order_id)

    await polling.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
    assert await polling.balance(customer_id) == 300


async def test_waits_grow_and_end(harness: Harness) -> None:
    """Each wait is twice the one before, an hour at most, until nothing can come any more."""
    customer_id = await harness.customer()
    topup = await harness.initiate(customer_id, 100)
    with connect(harness.settings.mongodb_uri.get_secret_value()) as database:
        [claimed] = [
            found
            for found in await MongoPollSchedule(database).claim_due(
                4_000_000_000_000, 1_000, lambda _: None
            )
            if found.topup_id == topup.topup_id
        ]

    assert next_poll_ms(claimed, 1_000, 0) == 2_000
    assert next_poll_ms(claimed, MAX_WAIT_MS, 5) == MAX_WAIT_MS + 5
    assert next_poll_ms(claimed, 1_000, claimed.expire_time_ms + LATE_MS + 1) is None
