"""Top-ups by UPI through the Razorpay adapter: intents on orders."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    LookupProof,
    RazorpayProof,
)
from gateway_adapters.upi import read_intent_uri
from razorpay_bench import (
    AMOUNT,
    BAD_UPI_URIS,
    FOREVER_MS,
    GOOD_UPI_URI,
    KEY_ID,
    TOPUP_ID,
    Answer,
    Bench,
    running_bench,
    status,
    upi_topup,
)
from server.ledger.records import GatewayPaymentStatus

CREATE_INTENT = "/v1/payments/create/upi"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as running:
        yield running


def intent_requests(bench: Bench) -> list[dict[str, Any]]:
    """Return the requests for an intent that came."""
    return [json.loads(body) for _, path, body in bench.line.seen if path == CREATE_INTENT]


@pytest.mark.parametrize("method", ["upi", "google_pay"])
async def test_the_order_comes_with_an_intent(bench: Bench, method: str) -> None:
    """The link is Razorpay's, for the exact amount; the order can be paid at Checkout as well."""
    checkout = await bench.razorpay.open_topup(upi_topup(method))
    [order] = await bench.orders()
    assert checkout.gateway_order_id == order["id"]
    assert checkout.public_key == KEY_ID
    assert checkout.url == f"https://pay.example/checkout/{order['id']}"
    assert read_intent_uri(checkout.upi_intent_uri).amount == AMOUNT
    assert checkout.expire_time_ms is None
    assert intent_requests(bench) == [
        {
            "amount": 12345,
            "currency": "INR",
            "order_id": order["id"],
            "email": "shop@example.com",
            "contact": "+919000090000",
            "method": "upi",
            "upi": {"flow": "intent"},
        }
    ]


@pytest.mark.parametrize("method", ["card", "netbanking"])
async def test_other_methods_ask_for_no_intent(bench: Bench, method: str) -> None:
    """Only who pays by UPI needs one."""
    assert (await bench.razorpay.open_topup(upi_topup(method))).upi_intent_uri == ""
    assert intent_requests(bench) == []


async def test_without_a_payer_no_intent_is_asked_for(bench: Bench) -> None:
    """Where the shop gives no email and contact, the order is paid at Checkout alone."""
    checkout = await bench.adapter(upi_payer=None).open_topup(upi_topup())
    assert (checkout.upi_intent_uri, intent_requests(bench)) == ("", [])
    assert checkout.gateway_order_id == (await bench.orders())[0]["id"]


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (
            status(
                400,
                b'{"error": {"code": "BAD_REQUEST_ERROR", "description": '
                b'"The requested URL was not found on the server."}}',
            ),
            "The requested URL was not found on the server.",
        ),
        (
            status(404, b'{"message": "no Route matched with those values"}'),
            "Razorpay refused the request with HTTP status 404.",
        ),
        (
            status(401),
            "Razorpay refused this service's credentials; its operator has to set them right.",
        ),
    ],
    ids=["not enabled", "no such route", "not allowed"],
)
async def test_an_account_without_intents_has_the_order_alone(
    bench: Bench, refusal: Answer, reason: str
) -> None:
    """What Razorpay does not offer is logged with its reason; the order is there all the same."""
    bench.line.faults["POST"].extend(["pass", refusal])
    with structlog.testing.capture_logs() as logs:
        checkout = await bench.razorpay.open_topup(upi_topup())
    assert checkout.upi_intent_uri == ""
    assert checkout.gateway_order_id == (await bench.orders())[0]["id"]
    [warning] = [log for log in logs if log["event"] == "no UPI intent"]
    assert (warning["log_level"], warning["topup_id"]) == ("warning", TOPUP_ID)
    assert warning["reason"] == reason


async def test_a_lost_answer_makes_one_more_attempt_that_nobody_pays(bench: Bench) -> None:
    """Both attempts are on one order: paying it once leaves nothing to be paid by the other."""
    bench.line.faults["POST"].extend(["pass", "lose the reply"])
    topup = await bench.opened(upi_topup())
    assert [request["order_id"] for request in intent_requests(bench)] == [
        topup.gateway_order_id,
        topup.gateway_order_id,
    ]
    paid = await bench.control(f"{topup.gateway_order_id}/pay", {"method": "upi"})
    report = await bench.razorpay.check_proof(topup, LookupProof())
    assert report is not None
    assert report.payment.payment_id == paid["payment_id"]
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    moved = [one async for one in bench.razorpay.movements(0, FOREVER_MS)]
    assert [one.fact.payment_id for one in moved] == [paid["payment_id"]]
    [order] = await bench.orders()
    assert (order["status"], order["amount_paid"], order["attempts"]) == ("paid", 12345, 2)


async def test_while_no_intent_can_be_had_a_repeat_goes_on(bench: Bench) -> None:
    """Where Razorpay does not answer, the caller hears so; a repeat finds the order."""
    bench.line.faults["POST"].extend(["pass", status(502), status(502)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(upi_topup())
    checkout = await bench.razorpay.open_topup(upi_topup())
    assert checkout.upi_intent_uri
    assert [order["id"] for order in await bench.orders()] == [checkout.gateway_order_id]


async def test_the_link_may_be_the_first_of_the_next_steps(bench: Bench) -> None:
    """Razorpay documents two shapes of the answer; the link is handed on as it came."""
    steps = [
        {"action": "poll", "url": "https://api.razorpay.com/v1/payments/pay_1"},
        {"action": "intent", "url": GOOD_UPI_URI},
    ]
    for answer in ({"link": GOOD_UPI_URI}, {"next": steps}):
        body = json.dumps({"razorpay_payment_id": "pay_1", **answer}).encode()
        bench.line.faults["POST"].extend([] if await bench.orders() else ["pass"])
        bench.line.faults["POST"].append(status(200, body))
        assert (await bench.razorpay.open_topup(upi_topup())).upi_intent_uri == GOOD_UPI_URI


@pytest.mark.parametrize("uri", BAD_UPI_URIS)
async def test_a_link_for_anything_else_is_refused(bench: Bench, uri: str) -> None:
    """Another amount or currency, no payee, another scheme: no customer sees such a link."""
    body = json.dumps({"razorpay_payment_id": "pay_1", "link": uri}).encode()
    bench.line.faults["POST"].extend(["pass", status(200, body)])
    with pytest.raises(GatewayRefused, match="UPI link"):
        await bench.razorpay.open_topup(upi_topup())


@pytest.mark.parametrize(
    "body", [b"{}", b'{"link": null}', b'{"link": 7}', b'{"next": 7}', b'{"next": [7, {}]}']
)
async def test_an_answer_without_a_link_is_as_good_as_none(bench: Bench, body: bytes) -> None:
    """What cannot be read may be had by a repeat."""
    bench.line.faults["POST"].extend(["pass", status(200, body)])
    with pytest.raises(GatewayUnavailable, match="cannot be read"):
        await bench.razorpay.open_topup(upi_topup())


async def test_an_order_with_an_intent_takes_checkouts_proof(bench: Bench) -> None:
    """Whoever pays the order at Razorpay Checkout proves it as ever."""
    topup = await bench.opened(upi_topup())
    paid = await bench.control(f"{topup.gateway_order_id}/pay", {"method": "card"})
    proof = RazorpayProof(paid["payment_id"], paid["signature"])
    report = await bench.razorpay.check_proof(topup, proof)
    assert report is not None
    assert report.payment.status is GatewayPaymentStatus.CAPTURED


async def test_an_open_intent_is_a_started_payment(bench: Bench) -> None:
    """Before the customer pays, a lookup tells that nothing is known yet."""
    report = await bench.razorpay.check_proof(await bench.opened(upi_topup()), LookupProof())
    assert report is not None
    assert report.payment.status is GatewayPaymentStatus.STARTED
