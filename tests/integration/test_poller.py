"""The gateway is asked, too: with every webhook lost, what was paid is credited all the same."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from bson.datetime_ms import DatetimeMS

from harness import Harness, eventually, running_harness, with_database
from postbox import Service, Side, running_service
from server.ledger.records import Topup
from server.poller import LATE_MS, MAX_WAIT_MS, next_poll_ms
from server.store.connection import connect
from server.store.queries import MongoPollSchedule
from wallet_payment.v1 import resources_pb2 as resources

CREDITED = resources.TOPUP_STATE_CREDITED
PENDING = resources.TOPUP_STATE_PENDING
EXPIRED = resources.TOPUP_STATE_EXPIRED
FAR_FUTURE_MS = 4_000_000_000_000


@pytest.fixture(scope="module")
async def polling(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service that asks about pending top-ups almost at once, on a database of its own.

    A poller of another service on the same one would ask another sandbox about them. Its webhooks
    end in a postbox, and nobody delivers them.
    """
    folder = tmp_path_factory.mktemp("polling")
    uri = with_database(mongodb_uri, "polling")
    async with running_service(
        uri, folder, poll_first_seconds=0.1, poll_interval_seconds=0.05
    ) as running:
        yield running


@pytest.fixture(params=["razorpay", "paypal"])
def side(request: pytest.FixtureRequest, polling: Service) -> Side:
    """Each gateway in turn."""
    return polling.side(request.param)


@pytest.fixture(scope="module")
async def idle(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service whose poller is never due, so that a test can claim as pollers do."""
    async with running_harness(with_database(mongodb_uri, "idle")) as running:
        yield running


async def end_time_to_pay(side: Side, topup: resources.Topup) -> None:
    """Let the time to pay be over, and the gateway be asked."""
    await side.harness.database.topups.update_one(
        {"_id": topup.topup_id},
        [
            {
                "$set": {
                    "expire_time": "$create_time",
                    "poll_time": "$create_time",
                    # Or who has just read the record would write it back as it was.
                    "version": {"$add": ["$version", 1]},
                }
            }
        ],
    )


async def asked_again(side: Side, topup: resources.Topup) -> None:
    """Wait until the gateway was asked about a top-up two times more."""
    topups = side.harness.database.topups
    before = await topups.find_one({"_id": topup.topup_id})
    for attempt in (1, 2):
        await topups.update_one({"_id": topup.topup_id}, [{"$set": {"poll_time": "$create_time"}}])

        async def is_asked(attempts: int = before["poll_attempts"] + attempt) -> bool:
            found = await topups.find_one({"_id": topup.topup_id})
            return bool(found["poll_attempts"] >= attempts)

        await eventually(is_asked)


async def test_without_any_webhook_every_paid_top_up_is_credited_once(side: Side) -> None:
    """Captured, only on hold, or failed first: whatever was paid is credited, and only once."""
    customer_id = await side.harness.customer()
    topups = [await side.initiate(customer_id, 100) for _ in range(12)]
    unpaid = await side.initiate(customer_id, 100)
    for number, topup in enumerate(topups):
        if number % 2:
            await side.hold(topup)
        else:
            await side.pay(topup)

    for topup in topups:
        await side.harness.wait_for_topup(topup, CREDITED)

    entries = await side.harness.entries(customer_id)
    assert [entry["amount"] for entry in entries] == [100] * 12
    assert len({entry["gateway_payment_id"] for entry in entries}) == 12
    assert (await side.harness.topup(unpaid)).state == PENDING
    events = side.harness.database.gateway_events
    assert await events.count_documents({"customer_id": customer_id}) == 0


async def test_without_any_webhook_what_failed_and_was_paid_then_is_credited(
    polling: Service,
) -> None:
    """The gateway is asked again after a failure, since that is not the end."""
    razorpay = polling.razorpay
    topup = await razorpay.initiate(await razorpay.harness.customer(), 700)
    await razorpay.act(f"orders/{topup.gateway_order_id}/fail")
    await razorpay.harness.wait_for_topup(topup, resources.TOPUP_STATE_FAILED)

    await razorpay.pay(topup)

    await razorpay.harness.wait_for_topup(topup, CREDITED)
    assert await razorpay.balance(topup) == 700


async def test_without_any_webhook_an_order_is_paid_with_its_top_up(side: Side) -> None:
    """What the poller credits pays the top-up's order in the same commit."""
    customer_id = await side.harness.customer()
    money = resources.Money(currency_code=side.currency, minor_units=400)
    order = resources.PayOrder(order_id=f"order-of-{customer_id}", amount=money)
    topup = await side.initiate(customer_id, 500, pay_order=order)
    await side.pay(topup)

    credited = await side.harness.wait_for_topup(topup, CREDITED)

    assert credited.pay_order_outcome.transaction_id
    amounts = [entry["amount"] for entry in await side.harness.entries(customer_id)]
    assert amounts == [500, -400]


async def test_a_dead_top_up_expires_and_money_that_comes_late_is_credited(side: Side) -> None:
    """After its time a top-up that nobody paid is EXPIRED; a payment after that still counts."""
    topup = await side.initiate(await side.harness.customer(), 300)
    await end_time_to_pay(side, topup)
    await side.harness.wait_for_topup(topup, EXPIRED)

    await side.pay(topup)

    await side.harness.wait_for_topup(topup, CREDITED)
    assert await side.balance(topup) == 300


async def test_a_payment_that_is_under_way_does_not_expire(polling: Service) -> None:
    """While PayPal reviews a capture its top-up is PENDING, however late; its end still counts."""
    paypal = polling.paypal
    topup = await paypal.initiate(await paypal.harness.customer(), 300)
    await paypal.approve(topup, capture="PENDING")
    pending = (await paypal.harness.verify(topup)).topup
    await end_time_to_pay(paypal, topup)

    await asked_again(paypal, topup)

    assert (await paypal.harness.topup(topup)).state == PENDING
    await paypal.act(f"paypal/captures/{pending.gateway_payment_id}/settle")
    await paypal.harness.wait_for_topup(topup, CREDITED)
    assert await paypal.balance(topup) == 300


async def test_while_the_gateway_is_away_nothing_expires(polling: Service) -> None:
    """A top-up past its time may have been paid: it waits for an answer, and is then credited."""
    razorpay = polling.razorpay
    topup = await razorpay.initiate(await razorpay.harness.customer(), 300)
    await razorpay.break_api("error500", times=2, path=f"/v1/orders/{topup.gateway_order_id}")
    await razorpay.pay(topup)
    await end_time_to_pay(razorpay, topup)

    states: set[int] = set()
    async with asyncio.timeout(20):
        while CREDITED not in states:
            states.add((await razorpay.harness.topup(topup)).state)

    assert EXPIRED not in states
    assert await razorpay.balance(topup) == 300


async def test_a_top_up_is_asked_about_after_the_setting_and_not_before(idle: Harness) -> None:
    """Until WALLET_POLL_FIRST_SECONDS are over a top-up is nobody's to claim."""
    topup = await idle.initiate(await idle.customer(), 100)
    created_ms = topup.create_time.ToMilliseconds()
    due_ms = created_ms + round(idle.settings.poll_first_seconds * 1_000)

    with connect(idle.settings.mongodb_uri.get_secret_value()) as database:
        schedule = MongoPollSchedule(database)
        early = await schedule.claim_due(due_ms - 1, 1_000, lambda _: None)
        due = await schedule.claim_due(due_ms, 1_000, lambda _: None)

    assert topup.topup_id not in {claimed.topup_id for claimed in early}
    assert topup.topup_id in {claimed.topup_id for claimed in due}


async def test_two_servers_never_claim_the_same_top_up(idle: Harness) -> None:
    """Of several that look at the same moment, each top-up is claimed by one."""
    customer_id = await idle.customer()
    topups = {(await idle.initiate(customer_id, 100)).topup_id for _ in range(20)}

    def never_again(_: Topup) -> int | None:
        return None

    with connect(idle.settings.mongodb_uri.get_secret_value()) as database:
        claims = await asyncio.gather(
            *(
                MongoPollSchedule(database).claim_due(FAR_FUTURE_MS, 1_000, never_again)
                for _ in range(4)
            )
        )

    claimed = [topup.topup_id for claim in claims for topup in claim]
    assert sorted(one for one in claimed if one in topups) == sorted(topups)


async def test_each_time_it_waits_twice_as_long(idle: Harness) -> None:
    """What is claimed again and again is due later and later, as it is recorded."""
    topup = await idle.initiate(await idle.customer(), 100)
    first_ms, now_ms = 1_000, FAR_FUTURE_MS
    waits = []
    with connect(idle.settings.mongodb_uri.get_secret_value()) as database:
        await database.topups.update_one(
            {"_id": topup.topup_id}, {"$set": {"expire_time": DatetimeMS(FAR_FUTURE_MS)}}
        )
        schedule = MongoPollSchedule(database)
        for _ in range(4):
            next_time_ms = partial(next_poll_ms, first_ms=first_ms, now_ms=now_ms)
            await schedule.claim_due(now_ms, 1_000, next_time_ms)
            [found] = await database.topups.find({"_id": topup.topup_id}).to_list(None)
            waits.append(int(found["poll_time"]) - now_ms)
            now_ms += waits[-1]

    assert waits == [2_000, 4_000, 8_000, 16_000]
    assert found["poll_attempts"] == 4


async def test_waits_end(idle: Harness) -> None:
    """A wait is an hour at most, and nobody is asked any more once nothing can come."""
    await idle.initiate(await idle.customer(), 100)
    with connect(idle.settings.mongodb_uri.get_secret_value()) as database:
        [claimed, *_] = await MongoPollSchedule(database).claim_due(
            FAR_FUTURE_MS, 1_000, lambda _: None
        )

    assert next_poll_ms(claimed, MAX_WAIT_MS, 5) == MAX_WAIT_MS + 5
    assert next_poll_ms(claimed, 1_000, claimed.expire_time_ms + LATE_MS) is not None
    assert next_poll_ms(claimed, 1_000, claimed.expire_time_ms + LATE_MS + 1) is None
