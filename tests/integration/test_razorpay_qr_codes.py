"""Top-ups by UPI through the Razorpay adapter: QR codes, which have no order."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    LookupProof,
    ProofInvalid,
    RazorpayProof,
)
from gateway_adapters.razorpay import Razorpay
from razorpay_bench import (
    AMOUNT,
    BAD_UPI_URIS,
    FOREVER_MS,
    GOOD_UPI_URI,
    NOW_SECONDS,
    TOPUP_ID,
    Answer,
    Bench,
    running_bench,
    status,
    upi_topup,
)
from server.ledger.records import GatewayPaymentStatus, Topup

MINUTE = 60
QR_CODES = "/v1/payments/qr_codes"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as running:
        yield running


def qr_topup() -> Topup:
    """Return a top-up by QR code that was recorded just now."""
    return upi_topup("upi_qr")


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
        "image_content": GOOD_UPI_URI,
        "notes": {"topup_id": TOPUP_ID},
        "close_by": NOW_SECONDS + 30 * MINUTE,
        "created_at": NOW_SECONDS,
        **changes,
    }
    present = {name: value for name, value in entity.items() if value is not None}
    return status(200, json.dumps(present).encode())


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


@pytest.mark.parametrize("uri", BAD_UPI_URIS)
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
