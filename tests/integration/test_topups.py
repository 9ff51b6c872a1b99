"""Top-ups from the first request to the credit: in whatever order facts come, money comes once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from harness import (
    KEY_ID,
    Harness,
    Refused,
    event_of,
    eventually,
    inr,
    outcomes_of,
    payment_of,
    refusal_of,
    running_harness,
    unique,
)
from server.listening import address_of, bind, http_server
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CREDITED = resources.TOPUP_STATE_CREDITED
PENDING = resources.TOPUP_STATE_PENDING
FAILED = resources.TOPUP_STATE_FAILED


def proof_of(paid: dict[str, Any]) -> service.RazorpayProof:
    """Return what Checkout gave to the customer's app."""
    return service.RazorpayProof(payment_id=paid["payment_id"], signature=paid["signature"])


async def gateway_orders(harness: Harness, topup_id: str) -> list[dict[str, Any]]:
    """Return the orders that the sandbox has for a top-up."""
    async with harness.http.get(f"{harness.sandbox_url}/sandbox/orders") as answer:
        orders = (await answer.json())["items"]
    return [order for order in orders if order["receipt"] == topup_id]


async def was_credited_once(harness: Harness, topup: resources.Topup) -> bool:
    """Tell whether exactly one entry credits the top-up, and the wallet holds just that."""
    entries = await harness.entries(topup.customer_id)
    credits_ = [entry for entry in entries if entry["type"] == "TOPUP"]
    balance = await harness.balance(topup.customer_id)
    return len(credits_) == 1 and balance == topup.amount.minor_units


async def test_a_webhook_credits_the_wallet_once(harness: Harness) -> None:
    """The sandbox pays, its webhooks arrive through the sidecar, the wallet is credited once."""
    customer = await harness.customer()
    topup = await harness.initiate(customer, 12_345, metadata={"campaign": "diwali"})
    assert topup.state == PENDING
    assert topup.checkout.gateway_order_id == topup.gateway_order_id
    assert topup.checkout.public_key == KEY_ID
    assert topup.checkout.url.endswith(f"/{topup.gateway_order_id}")

    paid = await harness.pay_at_gateway(topup.gateway_order_id)
    credited = await harness.wait_for_topup(topup, CREDITED)

    assert credited.gateway_payment_id == paid["payment_id"]
    assert not credited.HasField("checkout")
    (entry,) = await harness.entries(customer)
    assert entry["_id"] == credited.transaction_id
    assert entry["amount"] == entry["balance_after"] == 12_345
    assert entry["gateway_payment_id"] == paid["payment_id"]
    assert entry["metadata"] == {"campaign": "diwali"}
    assert {posting["account"]: posting["amount"] for posting in entry["postings"]} == {
        f"wallet:{customer}:INR": 12_345,
        "gateway:razorpay:INR": -12_345,
    }

    async def both_events() -> list[str] | None:
        query = {"topup_id": topup.topup_id}
        events = await harness.database.gateway_events.find(query).to_list(None)
        return sorted(event["outcome"] for event in events) if len(events) == 2 else None

    assert await eventually(both_events) == ["APPLIED", "DUPLICATE"]
    assert await harness.balance(customer) == 12_345


async def test_the_same_webhook_50_times_at_once_credits_once(harness: Harness) -> None:
    """One webhook 50 times at the same moment: one credit, and 50 times HTTP 200."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    body, event_id = event_of("payment.captured", payment_of(topup)), unique("evt")

    answers = await asyncio.gather(*(harness.deliver(body, event_id) for _ in range(50)))

    assert [status for status, _ in answers] == [200] * 50
    outcomes = Counter(answer["outcome"] for _, answer in answers)
    assert outcomes == {"APPLIED": 1, "DUPLICATE": 49}
    assert await was_credited_once(harness, topup)


async def test_one_capture_told_by_many_events_credits_once(harness: Harness) -> None:
    """Different events about one capture, all at once and under any ids, credit once."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    payment = payment_of(topup)
    bodies = [event_of("payment.captured", payment), event_of("order.paid", payment)] * 10

    answers = await asyncio.gather(*(harness.deliver(body) for body in bodies))

    outcomes = Counter(answer["outcome"] for _, answer in answers)
    assert outcomes == {"APPLIED": 1, "DUPLICATE": 19}
    assert await was_credited_once(harness, topup)


async def test_the_orders_event_may_come_before_the_payments(harness: Harness) -> None:
    """`order.paid` credits when it comes first; the `payment.captured` after it changes nothing."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    payment = payment_of(topup)

    _, first = await harness.deliver(event_of("order.paid", payment))
    _, second = await harness.deliver(event_of("payment.captured", payment))
    _, late = await harness.deliver(
        event_of("payment.authorized", payment | {"status": "authorized", "captured": False})
    )

    assert (first["outcome"], second["outcome"]) == ("APPLIED", "DUPLICATE")
    assert late["outcome"] == "IGNORED"
    assert (await harness.topup(topup)).state == CREDITED
    assert await was_credited_once(harness, topup)


async def test_proof_and_webhook_at_the_same_moment_credit_once(harness: Harness) -> None:
    """VerifyTopup with the app's proof races the gateway's webhooks: one credit, both succeed."""
    topups = [await harness.initiate(await harness.customer(), 10_000) for _ in range(12)]

    async def pay_and_prove(topup: resources.Topup) -> None:
        paid = await harness.pay_at_gateway(topup.gateway_order_id, duplicate=2)
        answers = await asyncio.gather(
            *(harness.verify(topup, razorpay=proof_of(paid)) for _ in range(3))
        )
        for answer in answers:
            assert answer.topup.state == CREDITED
            assert answer.topup.gateway_payment_id == paid["payment_id"]
            assert answer.wallet.balance == inr(10_000)

    await asyncio.gather(*(pay_and_prove(topup) for topup in topups))

    for topup in topups:
        assert await was_credited_once(harness, topup)


@pytest.mark.parametrize("has_proof", [True, False])
async def test_a_top_up_whose_webhook_is_lost_is_credited_on_asking(
    harness: Harness, has_proof: bool
) -> None:
    """With no webhook at all, VerifyTopup by proof or lookup credits, and a repeat adds nothing."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    paid = await harness.pay_at_gateway(topup.gateway_order_id, webhook=False)
    proof = {"razorpay": proof_of(paid)} if has_proof else {}

    first = await harness.verify(topup, **proof)
    again = await harness.verify(topup, **proof)

    assert first.topup.state == CREDITED
    assert first == again
    assert await was_credited_once(harness, topup)


async def test_a_lookup_before_the_payment_changes_nothing(harness: Harness) -> None:
    """Asked about a top-up that nobody paid, the answer is PENDING, and there is no wallet."""
    topup = await harness.initiate(await harness.customer(), 10_000)

    answer = await harness.verify(topup)

    assert answer.topup == topup
    assert not answer.HasField("wallet")


async def test_a_proof_that_does_not_hold_is_refused(harness: Harness) -> None:
    """A wrong signature, another order's payment, another kind of proof: refused, no credit."""
    topup, other = [await harness.initiate(await harness.customer(), 10_000) for _ in range(2)]
    paid = await harness.pay_at_gateway(other.gateway_order_id, webhook=False)
    good = proof_of(paid)
    bad = service.RazorpayProof(payment_id=good.payment_id, signature="0" * 64)
    blank = service.RazorpayProof(payment_id=good.payment_id)

    refusals = await outcomes_of(
        [
            harness.verify(topup, razorpay=good),
            harness.verify(other, razorpay=bad),
            harness.verify(other, razorpay=blank),
            harness.verify(topup, paypal=service.PaypalProof(order_id=topup.gateway_order_id)),
            harness.verify(topup, google_pay=service.GooglePayProof(token="{}")),
        ]
    )

    assert [refusal.reason for refusal in refusals] == ["PROOF_INVALID"] * 5
    for one in (topup, other):
        assert await harness.entries(one.customer_id) == []
        assert (await harness.topup(one)).state == PENDING


async def test_a_top_up_is_its_customers_own(harness: Harness) -> None:
    """Nobody else sees or verifies a top-up: it is TOPUP_NOT_FOUND, like an unknown one."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    stranger = await harness.customer()
    theirs = resources.Topup(customer_id=stranger, topup_id=topup.topup_id)
    unknown = resources.Topup(customer_id=stranger, topup_id="top_unknown")

    for one in (theirs, unknown):
        for call in (harness.topup(one), harness.verify(one)):
            refused = await refusal_of(call)
            assert (refused.code, refused.reason) == (
                grpc.StatusCode.NOT_FOUND,
                "TOPUP_NOT_FOUND",
            )
            assert refused.metadata == {"customer_id": stranger, "topup_id": one.topup_id}


async def test_an_authorized_payment_is_captured_and_only_then_credited(
    harness: Harness,
) -> None:
    """Money on hold is no money yet: the service captures it, and credits what it captured."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    paid = await harness.pay_at_gateway(topup.gateway_order_id, authorize_only=True, webhook=False)
    assert (await harness.topup(topup)).state == PENDING
    assert await harness.entries(topup.customer_id) == []

    await harness.deliver(
        event_of(
            "payment.authorized", payment_of(topup, id=paid["payment_id"], status="authorized")
        )
    )

    await harness.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(harness, topup)


async def test_a_failed_payment_is_not_the_end(harness: Harness) -> None:
    """After a failure the top-up is FAILED with its reason; a later success is credited."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    await harness.pay_at_gateway(topup.gateway_order_id, "fail")
    failed = await harness.wait_for_topup(topup, FAILED)
    assert failed.failure_reason == "Payment failed"
    assert failed.checkout == topup.checkout

    await harness.pay_at_gateway(topup.gateway_order_id)
    credited = await harness.wait_for_topup(topup, CREDITED)

    assert not credited.failure_reason
    assert await was_credited_once(harness, topup)


async def test_a_late_failure_takes_nothing_back(harness: Harness) -> None:
    """`payment.failed` that arrives after the credit, of whichever attempt, is IGNORED."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    payment = payment_of(topup)
    await harness.deliver(event_of("payment.captured", payment))

    for attempt in (payment, payment_of(topup)):
        status, answer = await harness.deliver(
            event_of("payment.failed", attempt | {"status": "failed", "captured": False})
        )
        assert (status, answer["outcome"]) == (200, "IGNORED")
    assert (await harness.topup(topup)).state == CREDITED
    assert await was_credited_once(harness, topup)


async def test_one_key_20_times_at_once_starts_one_top_up(harness: Harness) -> None:
    """InitiateTopup 20 times at once with one key: one top-up, one order at the gateway."""
    customer, key = await harness.customer(), unique("key")

    topups = await asyncio.gather(
        *(harness.initiate(customer, 10_000, idempotency_key=key) for _ in range(20))
    )

    assert len({topup.topup_id for topup in topups}) == 1
    assert len({topup.gateway_order_id for topup in topups}) == 1
    assert all(topup.state == PENDING for topup in topups)
    assert len(await gateway_orders(harness, topups[0].topup_id)) == 1


async def test_a_repeat_returns_the_top_up_as_it_now_is(harness: Harness) -> None:
    """The same InitiateTopup after the credit returns the credited top-up and starts no other."""
    customer, key = await harness.customer(), unique("key")
    topup = await harness.initiate(customer, 10_000, idempotency_key=key)
    await harness.deliver(event_of("payment.captured", payment_of(topup)))

    again = await harness.initiate(customer, 10_000, idempotency_key=key)

    assert again.topup_id == topup.topup_id
    assert again.state == CREDITED


async def test_a_top_ups_key_with_another_request_is_refused(harness: Harness) -> None:
    """A key that started a top-up is refused for another amount, method, order, URL or note."""
    customer, key = await harness.customer(), unique("key")
    topup = await harness.initiate(customer, 10_000, idempotency_key=key)

    order = resources.PayOrder(order_id=unique("order"), amount=inr(100))
    others: list[dict[str, Any]] = [
        {"amount": 10_001},
        {"method": "netbanking"},
        {"pay_order": order},
        {"return_url": "https://shop.example/back"},
        {"metadata": {"note": "a"}},
    ]
    for other in others:
        amount = other.pop("amount", 10_000)
        refused = await refusal_of(harness.initiate(customer, amount, idempotency_key=key, **other))
        assert refused.reason == "IDEMPOTENCY_KEY_REUSED"
    assert await harness.topup(topup) == topup


async def test_an_order_is_paid_in_the_commit_that_credits(harness: Harness) -> None:
    """A top-up with an order credits and pays at once: two entries, one moment, order PAID."""
    customer = await harness.customer()
    order = await harness.order(customer, 9_000)
    topup = await harness.initiate(
        customer, 10_000, pay_order=resources.PayOrder(order_id=order, amount=inr(9_000))
    )
    body = event_of("payment.captured", payment_of(topup))

    answers = await asyncio.gather(*(harness.deliver(body, "evt-order") for _ in range(10)))

    assert Counter(answer["outcome"] for _, answer in answers) == {"APPLIED": 1, "DUPLICATE": 9}
    credited = await harness.topup(topup)
    credit, payment = await harness.entries(customer)
    assert (credit["type"], credit["amount"], credit["sequence"]) == ("TOPUP", 10_000, 1)
    assert (payment["type"], payment["amount"], payment["sequence"]) == ("PAYMENT", -9_000, 2)
    assert credit["create_time"] == payment["create_time"]
    assert payment["topup_id"] == topup.topup_id
    assert credited.pay_order_outcome.transaction_id == payment["_id"]
    assert not credited.pay_order_outcome.failure_reason
    stored = await harness.database.orders.find_one({"_id": order})
    assert stored["payment_status"] == "PAID"
    assert stored["wallet_transaction_id"] == payment["_id"]
    assert await harness.balance(customer) == 1_000


async def test_a_top_up_may_pay_an_order_with_the_earlier_balance(harness: Harness) -> None:
    """An order that costs more than the top-up takes the rest from what the wallet held."""
    customer = await harness.customer(500)
    order = unique("order")
    topup = await harness.initiate(
        customer, 1_000, pay_order=resources.PayOrder(order_id=order, amount=inr(1_400))
    )

    await harness.deliver(event_of("payment.captured", payment_of(topup)))

    assert (await harness.topup(topup)).pay_order_outcome.transaction_id
    assert await harness.balance(customer) == 100


@pytest.mark.parametrize(
    ("amount", "fields", "reason"),
    [
        (900, {"payment_status": "PAID", "payment_method": "CARD"}, "ORDER_ALREADY_PAID"),
        (1_001, {}, "INSUFFICIENT_FUNDS"),
        (900, {"amount": 901}, "ORDER_MISMATCH"),
        (900, {"customer_id": "somebody-else"}, "ORDER_MISMATCH"),
        (900, {"currency": "USD"}, "CURRENCY_MISMATCH"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_order_that_cannot_be_paid_leaves_the_credit(
    harness: Harness, amount: int, fields: dict[str, Any], reason: str
) -> None:
    """Where the order cannot be paid any more, the credit stays and the outcome tells why."""
    customer = await harness.customer()
    order = await harness.order(customer, amount)
    topup = await harness.initiate(
        customer, 1_000, pay_order=resources.PayOrder(order_id=order, amount=inr(amount))
    )
    await harness.database.orders.update_one({"_id": order}, {"$set": {"touched": 1} | fields})
    before = await harness.database.orders.find_one({"_id": order})

    await harness.deliver(event_of("payment.captured", payment_of(topup)))

    credited = await harness.topup(topup)
    assert credited.state == CREDITED
    assert credited.pay_order_outcome.failure_reason == reason
    assert not credited.pay_order_outcome.transaction_id
    assert await harness.database.orders.find_one({"_id": order}) == before
    assert await was_credited_once(harness, topup)


async def test_a_top_ups_order_and_a_payment_of_it_at_once_pay_once(harness: Harness) -> None:
    """PayWithWallet races the top-up that is to pay the same order: the order is paid once."""
    for _ in range(5):
        customer = await harness.customer(500)
        order = unique("order")
        topup = await harness.initiate(
            customer, 500, pay_order=resources.PayOrder(order_id=order, amount=inr(400))
        )

        outcomes = await outcomes_of(
            [
                harness.deliver(event_of("payment.captured", payment_of(topup))),
                *(harness.pay(customer, 400, order) for _ in range(4)),
            ]
        )

        by_wallet = [one for one in outcomes[1:] if not isinstance(one, Refused)]
        by_topup = (await harness.topup(topup)).pay_order_outcome.transaction_id
        assert len(by_wallet) + bool(by_topup) == 1
        assert await harness.balance(customer) == 600


async def test_what_this_server_does_not_offer_is_said_clearly(harness: Harness) -> None:
    """Unknown gateways, known and unknown method, small amounts: each its own."""
    customer = await harness.customer()

    refusals = await outcomes_of(
        [
            harness.initiate(customer, 10_000, gateway="acme"),
            harness.initiate(customer, 10_000, gateway="google-pay"),
            harness.initiate(customer, 10_000, method="apple_pay"),
            harness.initiate(customer, 10_000, method="cheque"),
            harness.initiate(customer, 99),
            harness.initiate(unique("stranger"), 10_000),
            harness.initiate(
                customer,
                10_000,
                pay_order=resources.PayOrder(
                    order_id="o-1", amount=resources.Money(currency_code="USD", minor_units=1)
                ),
            ),
        ]
    )

    assert [(refusal.code.name, refusal.reason) for refusal in refusals] == [
        ("NOT_FOUND", "UNKNOWN_GATEWAY"),
        ("NOT_FOUND", "UNKNOWN_GATEWAY"),
        ("UNIMPLEMENTED", "NOT_IMPLEMENTED"),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("NOT_FOUND", "CUSTOMER_NOT_FOUND"),
        ("FAILED_PRECONDITION", "CURRENCY_MISMATCH"),
    ]
    assert refusals[0].metadata == {"gateway": "acme"}
    assert refusals[3].fields == ("method",)
    assert refusals[4].fields == ("amount",)
    assert await harness.database.topups.count_documents({"customer_id": customer}) == 0


class Trouble(Enum):
    """What goes wrong between the server and its gateway."""

    NONE = auto()
    DOWN = auto()
    """Every request is answered 503."""
    HELD = auto()
    """To make an order takes until it is released."""
    ORDER_ANSWER_LOST = auto()
    """An order is made, the connection breaks before the answer, and then all is down."""


class Wire:
    """What lies between the server and the sandbox gateway."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.trouble = Trouble.NONE
        self.released = asyncio.Event()
        self.sandbox_url = ""

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """Hand a request to the sandbox and its answer back, or have trouble."""
        if self.trouble is Trouble.DOWN:
            return web.Response(status=503)
        if self.trouble is Trouble.HELD and request.method == "POST":
            await self.released.wait()
        body = await request.read()
        headers = {"Authorization": request.headers["Authorization"]}
        url = f"{self.sandbox_url}{request.rel_url}"
        async with self._http.request(request.method, url, data=body, headers=headers) as answer:
            content = await answer.read()
        if self.trouble is Trouble.ORDER_ANSWER_LOST and request.method == "POST":
            self.trouble = Trouble.DOWN
            assert request.transport is not None
            request.transport.close()
        return web.Response(body=content, status=answer.status, content_type="application/json")


@pytest.fixture(scope="module")
async def wired(mongodb_uri: str) -> AsyncIterator[tuple[Harness, Wire]]:
    """A service whose way to the gateway can be broken."""
    async with aiohttp.ClientSession() as http:
        wire = Wire(http)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", wire.pass_on)
        bound = bind("127.0.0.1:0", "wire")
        url = f"http://{address_of(bound)}"
        async with (
            http_server(web.AppRunner(app, access_log=None), bound),
            running_harness(mongodb_uri, razorpay_api_url=url) as harness,
        ):
            wire.sandbox_url = harness.sandbox_url
            yield harness, wire


async def test_a_gateway_that_is_down_delays_a_top_up_and_loses_nothing(
    wired: tuple[Harness, Wire],
) -> None:
    """With the gateway down the answer is GATEWAY_UNAVAILABLE with a wait; a repeat goes on."""
    harness, wire = wired
    customer, key = await harness.customer(), unique("key")
    wire.trouble = Trouble.DOWN

    refused = await refusal_of(harness.initiate(customer, 10_000, idempotency_key=key))

    assert (refused.code, refused.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "GATEWAY_UNAVAILABLE",
    )
    assert refused.retry_after_seconds
    kept = await harness.database.topups.find_one({"customer_id": customer})
    assert kept["state"] == "CREATED"
    unopened = resources.Topup(customer_id=customer, topup_id=kept["_id"])
    assert not (await harness.topup(unopened)).HasField("checkout")
    assert (await refusal_of(harness.verify(unopened))).reason == "TOPUP_STATE"

    wire.trouble = Trouble.NONE
    topup = await harness.initiate(customer, 10_000, idempotency_key=key)
    assert topup.topup_id == kept["_id"]
    assert topup.state == PENDING
    assert len(await gateway_orders(harness, topup.topup_id)) == 1


async def started_topups(harness: Harness) -> float:
    """Return how many InitiateTopup the server has begun, by its metrics."""
    async with harness.http.get(harness.metrics_url) as answer:
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "grpc_server_started_total"
        and sample.labels["grpc_method"] == "InitiateTopup"
    )


async def test_one_key_many_times_while_the_gateway_is_slow_makes_one_order(
    wired: tuple[Harness, Wire],
) -> None:
    """Repeats that come while the gateway still makes the order wait for it and make no other."""
    harness, wire = wired
    customer, key = await harness.customer(), unique("key")
    wire.trouble = Trouble.HELD
    before = await started_topups(harness)

    asked = asyncio.gather(
        *(harness.initiate(customer, 10_000, idempotency_key=key) for _ in range(20))
    )

    async def all_wait() -> bool:
        return await started_topups(harness) == before + 20

    await eventually(all_wait)
    wire.released.set()
    topups = await asked

    wire.trouble = Trouble.NONE
    (order,) = await gateway_orders(harness, topups[0].topup_id)
    assert {topup.gateway_order_id for topup in topups} == {order["id"]}


async def test_a_lookup_while_the_gateway_is_down_is_told_to_wait(
    wired: tuple[Harness, Wire],
) -> None:
    """VerifyTopup without an answer from the gateway credits nothing and can be repeated."""
    harness, wire = wired
    topup = await harness.initiate(await harness.customer(), 10_000)
    paid = await harness.pay_at_gateway(topup.gateway_order_id, webhook=False)
    wire.trouble = Trouble.DOWN

    for proof in ({}, {"razorpay": proof_of(paid)}):
        refused = await refusal_of(harness.verify(topup, **proof))
        assert refused.reason == "GATEWAY_UNAVAILABLE"
        assert refused.retry_after_seconds
    assert await harness.entries(topup.customer_id) == []

    wire.trouble = Trouble.NONE
    assert (await harness.verify(topup)).topup.state == CREDITED


async def test_an_order_whose_answer_is_lost_is_found_again(wired: tuple[Harness, Wire]) -> None:
    """When the gateway's answer is lost, a repeat takes up the order that was made."""
    harness, wire = wired
    customer, key = await harness.customer(), unique("key")
    wire.trouble = Trouble.ORDER_ANSWER_LOST
    refused = await refusal_of(harness.initiate(customer, 10_000, idempotency_key=key))
    assert refused.reason == "GATEWAY_UNAVAILABLE"
    wire.trouble = Trouble.NONE

    topups = await asyncio.gather(
        *(harness.initiate(customer, 10_000, idempotency_key=key) for _ in range(5))
    )

    (order,) = await gateway_orders(harness, topups[0].topup_id)
    assert {topup.gateway_order_id for topup in topups} == {order["id"]}


async def test_money_for_an_order_that_we_never_heard_of_is_credited(
    wired: tuple[Harness, Wire],
) -> None:
    """Paid before we know the gateway's order: the receipt finds the top-up, which is credited."""
    harness, wire = wired
    customer, key = await harness.customer(), unique("key")
    wire.trouble = Trouble.ORDER_ANSWER_LOST
    await refusal_of(harness.initiate(customer, 10_000, idempotency_key=key))
    kept = await harness.database.topups.find_one({"customer_id": customer})
    (order,) = await gateway_orders(harness, kept["_id"])

    paid = await harness.pay_at_gateway(order["id"])

    topup = resources.Topup(customer_id=customer, topup_id=kept["_id"], amount=inr(10_000))
    credited = await harness.wait_for_topup(topup, CREDITED)
    assert credited.gateway_order_id == order["id"]
    assert credited.gateway_payment_id == paid["payment_id"]
    wire.trouble = Trouble.NONE
    again = await harness.initiate(customer, 10_000, idempotency_key=key)
    assert again.state == CREDITED
    assert await was_credited_once(harness, topup)


async def test_an_event_that_waited_for_its_top_up_takes_effect_when_it_comes_again(
    wired: tuple[Harness, Wire],
) -> None:
    """Kept for review because nobody knew its order, an event is applied once the order is."""
    harness, wire = wired
    customer, key = await harness.customer(), unique("key")
    wire.trouble = Trouble.ORDER_ANSWER_LOST
    await refusal_of(harness.initiate(customer, 10_000, idempotency_key=key))
    kept = await harness.database.topups.find_one({"customer_id": customer})
    (order,) = await gateway_orders(harness, kept["_id"])
    topup = resources.Topup(
        customer_id=customer,
        topup_id=kept["_id"],
        amount=inr(10_000),
        gateway_order_id=order["id"],
    )
    body, event_id = event_of("payment.captured", payment_of(topup)), unique("evt")

    first = await harness.deliver(body, event_id)
    again = await harness.deliver(body, event_id)
    assert (first[1]["outcome"], again[1]["outcome"]) == ("NEEDS_REVIEW", "DUPLICATE")
    assert await harness.entries(customer) == []

    wire.trouble = Trouble.NONE
    await harness.initiate(customer, 10_000, idempotency_key=key)
    answers = await asyncio.gather(*(harness.deliver(body, event_id) for _ in range(10)))
    assert Counter(answer["outcome"] for _, answer in answers) == {"APPLIED": 1, "DUPLICATE": 9}
    (event,) = await harness.database.gateway_events.find({"event_id": event_id}).to_list(None)
    assert event["outcome"] == "APPLIED"
    assert await was_credited_once(harness, topup)
