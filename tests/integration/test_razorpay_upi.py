"""Top-ups by UPI through the Razorpay adapter: intents on orders, and QR codes without one."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import structlog

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    LookupProof,
    ProofInvalid,
    RazorpayProof,
)
from gateway_adapters.razorpay import Razorpay
from gateway_adapters.upi import read_intent_uri
from razorpay_bench import (
    AMOUNT,
    KEY_ID,
    TOPUP_ID,
    Answer,
    Bench,
    make_topup,
    running_bench,
    status,
)
from server.ledger.records import GatewayPaymentStatus, Topup

NOW_SECONDS = int(time.time())
MINUTE = 60
FOREVER_MS = 32_503_680_000_000
"""The year 3000."""

CREATE_INTENT = "/v1/payments/create/upi"
QR_CODES = "/v1/payments/qr_codes"

GOOD_URI = "upi://pay?pa=shop.razorpay@hdfcbank&pn=Shop&tr=RZP1&tn=Top&am=123.45&cu=INR&mc=5411"
"""As Razorpay gives one, for the amount of these top-ups."""

BAD_URIS = [
    GOOD_URI.replace("123.45", "123.44"),
    GOOD_URI.replace("123.45", "12345"),
    GOOD_URI.replace("am=123.45&", ""),
    GOOD_URI.replace("shop.razorpay@hdfcbank", "shop"),
    GOOD_URI.replace("pa=", "xx="),
    GOOD_URI.replace("INR", "USD"),
    GOOD_URI.replace("upi://", "https://"),
    GOOD_URI + "&am=1",
    GOOD_URI + "&x=" + "a" * 1024,
]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as running:
        yield running


def upi_topup(method: str = "upi") -> Topup:
    """Return a top-up by UPI that was recorded just now."""
    return make_topup(method=method, create_time_ms=NOW_SECONDS * 1000)


def qr_topup() -> Topup:
    """Return a top-up by QR code that was recorded just now."""
    return upi_topup("upi_qr")


def intent_requests(bench: Bench) -> list[dict[str, Any]]:
    """Return the requests for an intent that came."""
    return [json.loads(body) for _, path, body in bench.line.seen if path == CREATE_INTENT]


def qr_requests(bench: Bench) -> list[dict[str, Any]]:
    """Return the requests for a QR code that came."""
    return [
        json.loads(body)
        for method, path, body in bench.line.seen
        if (method, path) == ("POST", QR_CODES)
    ]


def qr_answer(**changes: object) -> Answer:
    """Return a fault that answers with a QR code; None leaves a field out."""
    entity: dict[str, object] = {
        "id": "qr_HMsVL8HOpbMcjU",
        "entity": "qr_code",
        "type": "upi_qr",
        "usage": "single_use",
        "fixed_amount": True,
        "payment_amount": 12345,
        "status": "active",
        "image_url": "https://rzp.io/i/BWcUVrLp",
        "image_content": GOOD_URI,
        "notes": {"topup_id": TOPUP_ID},
        "close_by": NOW_SECONDS + 30 * MINUTE,
        "created_at": NOW_SECONDS,
        **changes,
    }
    present = {name: value for name, value in entity.items() if value is not None}
    return status(200, json.dumps(present).encode())


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
        {"action": "intent", "url": GOOD_URI},
    ]
    for answer in ({"link": GOOD_URI}, {"next": steps}):
        body = json.dumps({"razorpay_payment_id": "pay_1", **answer}).encode()
        bench.line.faults["POST"].extend([] if await bench.orders() else ["pass"])
        bench.line.faults["POST"].append(status(200, body))
        assert (await bench.razorpay.open_topup(upi_topup())).upi_intent_uri == GOOD_URI


@pytest.mark.parametrize("uri", BAD_URIS)
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


async def test_a_qr_code_stands_for_the_order(bench: Bench) -> None:
    """One QR code of one payment of the exact amount, that names the top-up; and no order."""
    topup = qr_topup()
    checkout = await bench.razorpay.open_topup(topup)
    [qr_code] = await bench.qr_codes()
    assert await bench.orders() == []
    assert qr_requests(bench) == [
        {
            "type": "upi_qr",
            "name": "Wallet top-up",
            "usage": "single_use",
            "fixed_amount": True,
            "payment_amount": 12345,
            "description": TOPUP_ID,
            "close_by": topup.expire_time_ms // 1000,
            "notes": {"topup_id": TOPUP_ID, "customer_id": "cus_1"},
        }
    ]
    assert checkout.gateway_order_id == qr_code["id"]
    assert checkout.upi_intent_uri == qr_code["image_content"]
    assert (checkout.url, checkout.public_key) == ("", "")
    assert checkout.expire_time_ms == topup.expire_time_ms


@pytest.mark.parametrize(
    ("close_by", "expire_time_ms"),
    [
        (1_800_000_000, 1_800_000_000_000),
        ("1800000000", 1_800_000_000_000),
        (None, None),
        ("", None),
        ("soon", None),
        (0, None),
        (-5, None),
        (True, None),
        (1.5, None),
        ("9" * 5000, None),
        (10**30, None),
    ],
)
async def test_the_time_that_comes_back_counts(
    bench: Bench, close_by: object, expire_time_ms: int | None
) -> None:
    """Razorpay says when it closes, as a number or a text; where it says no time, ours stays."""
    bench.line.faults["POST"].append(qr_answer(close_by=close_by))
    checkout = await bench.razorpay.open_topup(qr_topup())
    assert checkout.expire_time_ms == expire_time_ms


@pytest.mark.parametrize("minutes_later", [16, 29, 40])
async def test_a_qr_code_is_open_long_enough_for_razorpay(bench: Bench, minutes_later: int) -> None:
    """Where the top-up's time is nearly over, the QR code is open for the least that there is."""
    now_seconds = NOW_SECONDS + minutes_later * MINUTE
    adapter = Razorpay(bench.session, bench.settings, now_seconds=lambda: now_seconds)
    bench.line.faults["POST"].append(qr_answer())
    await adapter.open_topup(qr_topup())
    [request] = qr_requests(bench)
    assert request["close_by"] == now_seconds + 16 * MINUTE


async def test_opening_again_finds_the_same_qr_code(bench: Bench) -> None:
    """A repeat makes no second QR code, and tells the same."""
    first = await bench.razorpay.open_topup(qr_topup())
    assert await bench.razorpay.open_topup(qr_topup()) == first
    assert len(await bench.qr_codes()) == 1


async def test_a_lost_reply_leaves_one_qr_code(bench: Bench) -> None:
    """When the reply is lost, the lookup finds the QR code instead of making another."""
    bench.line.faults["POST"].append("lose the reply")
    checkout = await bench.razorpay.open_topup(qr_topup())
    [qr_code] = await bench.qr_codes()
    assert checkout.gateway_order_id == qr_code["id"]
    assert len(qr_requests(bench)) == 1


async def test_a_lost_reply_and_a_lost_line_leave_one_qr_code_for_the_repeat(
    bench: Bench,
) -> None:
    """When all fails after the QR code was made, a later repeat of the call finds it."""
    bench.line.faults["POST"].append("lose the reply")
    bench.line.faults["GET"].extend(["pass", status(503), status(503)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(qr_topup())
    checkout = await bench.razorpay.open_topup(qr_topup())
    assert [one["id"] for one in await bench.qr_codes()] == [checkout.gateway_order_id]


async def test_without_a_lookup_no_qr_code_is_made(bench: Bench) -> None:
    """While it cannot be known whether there is one, none is made."""
    bench.line.faults["GET"].extend([status(500), status(500)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(qr_topup())
    assert qr_requests(bench) == []


async def test_another_top_ups_qr_code_is_not_taken(bench: Bench) -> None:
    """Among many QR codes, over more than a page, the notes tell whose it is."""
    topup = qr_topup()
    wanted = await bench.razorpay.open_topup(topup)
    for number in range(101):
        await bench.razorpay.open_topup(replace(topup, topup_id=f"top_{number}"))
    assert await bench.razorpay.open_topup(topup) == wanted
    assert len(await bench.qr_codes()) == 102


async def test_only_qr_codes_of_the_top_ups_time_are_looked_at(bench: Bench) -> None:
    """Older ones cannot be its own; clocks may differ by some seconds."""
    await bench.razorpay.open_topup(qr_topup())
    lookups = [path for method, path, _ in bench.line.seen if method == "GET"]
    assert lookups == [f"{QR_CODES}?from={NOW_SECONDS - 10}&count=100&skip=0"]


async def test_a_dead_qr_code_is_not_shown_again(bench: Bench) -> None:
    """One that was closed unpaid cannot be paid: another is made."""
    first = await bench.opened(qr_topup())
    await bench.by_hand(f"{QR_CODES}/{first.gateway_order_id}/close")
    again = await bench.razorpay.open_topup(qr_topup())
    assert again.gateway_order_id != first.gateway_order_id


async def test_a_qr_code_that_was_paid_meanwhile_is_taken_up(bench: Bench) -> None:
    """It is closed, and yet the one that counts."""
    first = await bench.opened(qr_topup())
    await bench.control(f"{first.gateway_order_id}/pay")
    again = await bench.razorpay.open_topup(qr_topup())
    assert again.gateway_order_id == first.gateway_order_id


async def test_a_qr_code_for_another_amount_is_not_used(bench: Bench) -> None:
    """One that names the top-up and asks for something else is refused, found or made."""
    await bench.razorpay.open_topup(replace(qr_topup(), amount=replace(AMOUNT, minor_units=100)))
    with pytest.raises(GatewayRefused, match="does not fit"):
        await bench.razorpay.open_topup(qr_topup())


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"payment_amount": 12344}, GatewayRefused),
        ({"notes": []}, GatewayRefused),
        ({"notes": {"topup_id": "top_another"}}, GatewayRefused),
        ({"image_content": None, "image_url": None}, GatewayRefused),
        ({"image_content": "", "image_url": "javascript:alert(1)"}, GatewayRefused),
        ({"id": "../x"}, GatewayUnavailable),
        ({"type": "bharat_qr"}, GatewayUnavailable),
        ({"usage": "multiple_use"}, GatewayUnavailable),
        ({"fixed_amount": False}, GatewayUnavailable),
        ({"payment_amount": None}, GatewayUnavailable),
        ({"payment_amount": 123.45}, GatewayUnavailable),
    ],
    ids=str,
)
async def test_a_qr_code_that_is_not_what_was_asked_for_is_refused(
    bench: Bench, changes: dict[str, Any], error: type[Exception]
) -> None:
    """No customer sees a QR code of another amount, another kind or another top-up."""
    bench.line.faults["POST"].extend([qr_answer(**changes)] * 2)
    with pytest.raises(error):
        await bench.razorpay.open_topup(qr_topup())


@pytest.mark.parametrize("uri", BAD_URIS)
async def test_a_qr_code_that_asks_for_anything_else_is_refused(bench: Bench, uri: str) -> None:
    """The content is what the customer pays, whatever the fields beside it say."""
    bench.line.faults["POST"].append(qr_answer(image_content=uri))
    with pytest.raises(GatewayRefused, match="UPI link"):
        await bench.razorpay.open_topup(qr_topup())


async def test_without_its_content_a_qr_code_is_shown_as_a_picture(bench: Bench) -> None:
    """An account that does not get the content gets the address of the drawing."""
    bench.line.faults["POST"].append(qr_answer(image_content=None))
    checkout = await bench.razorpay.open_topup(qr_topup())
    assert (checkout.upi_intent_uri, checkout.url) == ("", "https://rzp.io/i/BWcUVrLp")


async def test_an_account_without_qr_codes_is_told_so(bench: Bench) -> None:
    """What Razorpay refuses is told in its own words, and not tried again."""
    body = b'{"error": {"description": "The requested URL was not found on the server."}}'
    bench.line.faults["POST"].append(status(400, body))
    with pytest.raises(GatewayRefused, match="not found on the server"):
        await bench.razorpay.open_topup(qr_topup())
    assert len(qr_requests(bench)) == 1


async def test_a_lookup_finds_the_qr_codes_payments(bench: Bench) -> None:
    """None before anybody paid, then the best of them, with the QR code in the order's place."""
    topup = await bench.opened(qr_topup())
    assert await bench.razorpay.check_proof(topup, LookupProof()) is None
    for action, content, expected in [
        ("fail", {}, GatewayPaymentStatus.FAILED),
        ("pay", {"authorize_only": True}, GatewayPaymentStatus.AUTHORIZED),
        ("pay", {}, GatewayPaymentStatus.CAPTURED),
    ]:
        paid = await bench.control(f"{topup.gateway_order_id}/{action}", content)
        report = await bench.razorpay.check_proof(topup, LookupProof())
        assert report is not None
        assert report.payment.status is expected
        assert report.payment.payment_id == paid["payment_id"]
        assert report.payment.gateway_order_id == topup.gateway_order_id
        assert report.payment.amount == topup.amount
        assert paid["payment_id"].encode() in report.body


async def test_a_lookup_tells_what_was_refunded_of_a_qr_codes_payment(bench: Bench) -> None:
    """Refunds whose webhooks were lost come with the payment."""
    topup = await bench.opened(qr_topup())
    paid = await bench.control(f"{topup.gateway_order_id}/pay")
    await bench.control(f"/sandbox/payments/{paid['payment_id']}/refund", {"amount": 345})
    report = await bench.razorpay.check_proof(topup, LookupProof())
    assert report is not None
    [reversal] = report.reversals
    assert (reversal.amount.minor_units, reversal.payment_id) == (345, paid["payment_id"])


async def test_a_held_payment_of_a_qr_code_is_captured(bench: Bench) -> None:
    """A payment by QR code that nobody captured can be captured as any other."""
    topup = await bench.opened(qr_topup())
    await bench.control(f"{topup.gateway_order_id}/pay", {"authorize_only": True})
    held = await bench.razorpay.check_proof(topup, LookupProof())
    assert held is not None
    report = await bench.razorpay.capture(topup, held.payment)
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert report.payment.payment_id == held.payment.payment_id


async def test_checkouts_proof_does_not_fit_a_qr_code(bench: Bench) -> None:
    """Razorpay gives none for it: the caller is told to ask for a lookup, and nothing is asked."""
    topup = await bench.opened(qr_topup())
    bench.line.seen.clear()
    with pytest.raises(ProofInvalid, match="Ask for a lookup"):
        await bench.razorpay.check_proof(topup, RazorpayProof("pay_1", "0" * 64))
    assert bench.line.seen == []


async def test_the_qr_code_of_a_payment_is_found(bench: Bench) -> None:
    """A payment without an order leads to its QR code."""
    topup = await bench.opened(qr_topup())
    paid = await bench.control(f"{topup.gateway_order_id}/pay")
    assert await bench.razorpay.order_of(paid["payment_id"]) == topup.gateway_order_id


async def paid_qr_code(bench: Bench) -> str:
    """Return the payment of a QR code."""
    topup = await bench.opened(qr_topup())
    payment_id: str = (await bench.control(f"{topup.gateway_order_id}/pay"))["payment_id"]
    return payment_id


@pytest.mark.parametrize(
    "answer",
    [
        status(400, b'{"error": {"description": "payment_id is/are not required"}}'),
        status(200, b'{"items": []}'),
        status(200, b'{"items": [{"id": "qr_1"}, {"id": "qr_2"}]}'),
        status(200, b'{"items": [{"id": "qr_Another"}]}'),
    ],
    ids=["refused", "none", "all there are", "another"],
)
async def test_no_qr_code_is_guessed(bench: Bench, answer: Answer) -> None:
    """An API that does not know the question could name any QR code: its payments decide."""
    payment_id = await paid_qr_code(bench)
    bench.line.faults["GET"].extend(["pass", answer])
    assert await bench.razorpay.order_of(payment_id) == ""


async def test_another_qr_code_than_the_payments_is_not_believed(bench: Bench) -> None:
    """Where the question is not understood and there is one QR code alone, it is not the one."""
    payment_id = await paid_qr_code(bench)
    other = await bench.opened(replace(qr_topup(), topup_id="top_other"))
    body = json.dumps({"items": [{"id": other.gateway_order_id}]}).encode()
    bench.line.faults["GET"].extend(["pass", status(200, body)])
    assert await bench.razorpay.order_of(payment_id) == ""


async def test_while_razorpay_cannot_be_asked_there_is_no_answer(bench: Bench) -> None:
    """Whose payment it is stays open, and is not said to be nobody's."""
    payment_id = await paid_qr_code(bench)
    bench.line.faults["GET"].extend(["pass", status(503), status(503)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.order_of(payment_id)


async def test_the_books_have_payments_by_qr_code(bench: Bench) -> None:
    """What came without an order is in the gateway's books as well."""
    topup = await bench.opened(qr_topup())
    paid = await bench.control(f"{topup.gateway_order_id}/pay")
    [moved] = [one async for one in bench.razorpay.movements(0, FOREVER_MS)]
    assert moved.fact.payment_id == paid["payment_id"]
    assert moved.fact.amount == topup.amount
    assert moved.fact.gateway_order_id == ""
