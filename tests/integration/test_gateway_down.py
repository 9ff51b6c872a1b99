"""A gateway that is down: callers hear it at once, other gateways go on, and no top-up is lost."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from gateway_adapters.circuit import FAILURES_TO_OPEN, FIRST_COOLING_SECONDS
from harness import Refused, eventually, outcomes_of, refusal_of, unique, with_database
from postbox import Service, Side, running_service
from wallet_payment.v1 import resources_pb2 as resources

CREDITED = resources.TOPUP_STATE_CREDITED
PENDING = resources.TOPUP_STATE_PENDING
ORDERS = {"razorpay": "/v1/orders", "paypal": "/v2/checkout/orders"}
"""Where each gateway's API takes orders, and tells of them."""
MOST_REQUESTS = 1_000


@pytest.fixture
async def shop(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that has not met a failure yet."""
    async with running_service(with_database(mongodb_uri, unique("down")), tmp_path) as running:
        yield running


@pytest.fixture(params=["razorpay", "paypal"])
def side(request: pytest.FixtureRequest, shop: Service) -> Side:
    """Each gateway in turn."""
    return shop.side(request.param)


async def go_down(side: Side, mode: str) -> None:
    """Have every request about an order suffer from now on; they are counted from here."""
    await side.break_api(mode, times=MOST_REQUESTS, path=ORDERS[side.name], seconds=60)


async def requests_since(side: Side) -> int:
    """Return how many requests the gateway has let suffer since it went down."""
    async with side.harness.http.get(f"{side.url}/sandbox/faults") as answer:
        left: int = (await answer.json())["api"]["times"]
    return MOST_REQUESTS - left


async def come_back(side: Side) -> None:
    """Let no more requests suffer."""
    await side.act("faults", api=None)


async def test_who_is_down_is_asked_no_more_and_callers_hear_it_at_once(
    shop: Service, side: Side
) -> None:
    """After some failures nothing is sent, so that nobody waits; the other gateway goes on."""
    customer = await side.harness.customer()
    pending = await side.initiate(customer, 1_000)
    await go_down(side, "error500")

    refusals = [await refusal_of(side.initiate(customer, 1_000)) for _ in range(10)]

    assert {refusal.reason for refusal in refusals} == {"GATEWAY_UNAVAILABLE"}
    assert await requests_since(side) == FAILURES_TO_OPEN
    # Whoever asked it now would hear nothing for a minute, and give up after some seconds.
    await go_down(side, "timeout")
    calls = [side.initiate(customer, 1_000), side.harness.verify(pending)] * 10
    for refusal in await outcomes_of(calls):
        assert isinstance(refusal, Refused)
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert refusal.reason == "GATEWAY_UNAVAILABLE"
        assert refusal.retry_after_seconds is not None
        assert 0 < refusal.retry_after_seconds <= FIRST_COOLING_SECONDS
    assert await requests_since(side) == 0

    other = shop.paypal if side is shop.razorpay else shop.razorpay
    credited, _ = await other.credited(500)
    assert credited.state == CREDITED


async def test_a_pending_top_up_survives_and_is_credited_by_its_webhook_meanwhile(
    side: Side,
) -> None:
    """Webhooks are taken while the gateway's API is down: money that came is credited."""
    pending = await side.initiate(await side.harness.customer(), 1_000)
    await side.pay(pending)
    await go_down(side, "refuse_connections")
    while await requests_since(side) < FAILURES_TO_OPEN:
        refused = await refusal_of(side.harness.verify(pending))
        assert refused.reason == "GATEWAY_UNAVAILABLE"
    assert (await side.harness.topup(pending)).state == PENDING

    assert await side.deliver(await side.letter(pending, side.captured)) == "APPLIED"

    assert (await side.harness.topup(pending)).state == CREDITED
    assert await side.balance(pending) == 1_000


async def test_what_was_started_goes_on_when_the_gateway_is_back(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same key takes up the top-up that was refused, once the circuit lets a call through."""
    monkeypatch.setattr("gateway_adapters.circuit.FIRST_COOLING_SECONDS", 0.1)
    customer, key = await side.harness.customer(), unique("key")
    await go_down(side, "error500")
    while await requests_since(side) < FAILURES_TO_OPEN:
        await refusal_of(side.initiate(customer, 1_000, idempotency_key=key))
    [kept] = await side.harness.database.topups.find({"customer_id": customer}).to_list(None)
    assert kept["state"] == "CREATED"
    await come_back(side)

    async def started() -> resources.Topup | None:
        [answer] = await outcomes_of([side.initiate(customer, 1_000, idempotency_key=key)])
        return None if isinstance(answer, Refused) else answer

    topup = await eventually(started)

    assert (topup.topup_id, topup.state) == (kept["_id"], PENDING)
    await side.pay(topup)
    assert (await side.harness.verify(topup)).topup.state == CREDITED
    assert await side.balance(topup) == 1_000
