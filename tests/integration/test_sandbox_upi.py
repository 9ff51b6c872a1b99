"""UPI at the sandbox's Razorpay: intents on orders, and QR codes with all that happens to them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_adapters.razorpay import Razorpay, RazorpaySettings
from gateway_adapters.sandbox import RazorpaySandboxSettings, SandboxSettings, sandbox_app
from gateway_adapters.upi import read_intent_uri
from sandbox_bench import (
    KEY_ID,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Json,
    Sandbox,
    documented,
    running_sandbox,
    serving,
    sign,
)
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayPaymentStatus

QR_CODES = "/v1/payments/qr_codes"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Give a sandbox of its own to each test."""
    async with running_sandbox() as running:
        yield running


def intent_on(order: Json, **fields: object) -> Json:
    """Return a request for an intent, changed as asked."""
    return {
        "amount": order["amount"],
        "currency": "INR",
        "order_id": order["id"],
        "email": "shop@example.com",
        "contact": "+919000090000",
        "method": "upi",
        "upi": {"flow": "intent"},
        **fields,
    }


def qr_code_of(**fields: object) -> Json:
    """Return a request for a QR code, changed as asked."""
    return {
        "type": "upi_qr",
        "name": "Wallet top-up",
        "usage": "single_use",
        "fixed_amount": True,
        "payment_amount": 12345,
        "description": "top_1",
        "close_by": int(time.time()) + 1800,
        "notes": {"topup_id": "top_1"},
        **fields,
    }


async def make_qr_code(sandbox: Sandbox, **fields: object) -> Json:
    """Make a QR code."""
    return await sandbox.done("POST", QR_CODES, qr_code_of(**fields))


async def test_an_intent_is_a_payment_that_waits(sandbox: Sandbox) -> None:
    """The answer has the payment's id and a link for the order's exact amount; nothing is paid."""
    order = await sandbox.order()
    made = await sandbox.done("POST", "/v1/payments/create/upi", intent_on(order))
    assert made.keys() == {"razorpay_payment_id", "link"}
    assert read_intent_uri(made["link"]).amount == Money("INR", 12345)
    [payment] = (await sandbox.done("GET", f"/v1/orders/{order['id']}/payments"))["items"]
    assert payment["id"] == made["razorpay_payment_id"]
    assert (payment["status"], payment["method"]) == ("created", "upi")
    after = await sandbox.done("GET", f"/v1/orders/{order['id']}")
    assert (after["status"], after["attempts"], after["amount_paid"]) == ("attempted", 1, 0)
    assert sandbox.receiver.deliveries == []


@pytest.mark.parametrize(
    ("fields", "field_name"),
    [
        ({"email": None}, "email"),
        ({"email": ""}, "email"),
        ({"contact": 9000090000}, "contact"),
        ({"method": "card"}, "method"),
        ({"upi": {"flow": "collect"}}, "flow"),
        ({"upi": None}, "flow"),
        ({"amount": 12344}, "amount"),
        ({"amount": "12345"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"order_id": "order_none"}, None),
        ({"order_id": None}, None),
    ],
)
async def test_a_wrong_intent_is_refused(
    sandbox: Sandbox, fields: Json, field_name: str | None
) -> None:
    """All that is mandatory has to be there and fit the order; nothing is made otherwise."""
    order = await sandbox.order()
    status, answer = await sandbox.call(
        "POST", "/v1/payments/create/upi", intent_on(order, **fields)
    )
    assert status == 400
    assert answer["error"].get("field") == field_name
    assert (await sandbox.done("GET", f"/v1/orders/{order['id']}/payments"))["items"] == []


async def test_a_payment_by_upi_takes_up_the_intent(sandbox: Sandbox) -> None:
    """The customer's app pays the very payment that waited; its events are about it."""
    order = await sandbox.order()
    made = await sandbox.done("POST", "/v1/payments/create/upi", intent_on(order))
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", {"method": "upi"})
    assert paid["payment_id"] == made["razorpay_payment_id"]
    assert paid["signature"] == sign(KEY_SECRET, f"{order['id']}|{paid['payment_id']}".encode())
    await sandbox.receiver.wait_for(2)
    assert sandbox.receiver.events() == ["order.paid", "payment.captured"]
    status, _ = await sandbox.call("POST", "/v1/payments/create/upi", intent_on(order))
    assert status == 400


async def test_an_intent_that_failed_is_not_taken_up_again(sandbox: Sandbox) -> None:
    """After a failure, the next payment by UPI is another one."""
    order = await sandbox.order()
    made = await sandbox.done("POST", "/v1/payments/create/upi", intent_on(order))
    failed = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/fail", {"method": "upi"})
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", {"method": "upi"})
    assert failed["payment_id"] == made["razorpay_payment_id"] != paid["payment_id"]


async def test_an_order_with_an_intent_can_be_paid_otherwise(sandbox: Sandbox) -> None:
    """A card pays the order beside the intent, which then comes to nothing."""
    order = await sandbox.order()
    made = await sandbox.done("POST", "/v1/payments/create/upi", intent_on(order))
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay")
    assert paid["payment_id"] != made["razorpay_payment_id"]
    late = f"/sandbox/payments/{made['razorpay_payment_id']}/capture"
    assert (await sandbox.call("POST", late))[0] == 400


async def test_a_qr_code_has_the_documented_shape(sandbox: Sandbox) -> None:
    """The fields are those of the documented sample; its content asks for the exact amount."""
    qr_code = await make_qr_code(sandbox)
    [sample] = [
        case["payload"]["payload"]["qr_code"]["entity"]
        for case in documented("cases")
        if case["event"] == "qr_code.credited"
    ]
    assert qr_code.keys() == sample.keys() | {"image_content"}
    assert (qr_code["status"], qr_code["close_reason"]) == ("active", None)


async def test_a_qr_code_is_made_and_found(sandbox: Sandbox) -> None:
    """It is found by its id and in every list, and asks for its exact amount."""
    qr_code = await make_qr_code(sandbox)
    assert qr_code["id"].startswith("qr_")
    assert qr_code["image_url"].startswith("https://")
    assert read_intent_uri(qr_code["image_content"]).amount == Money("INR", 12345)
    assert await sandbox.done("GET", f"{QR_CODES}/{qr_code['id']}") == qr_code
    assert (await sandbox.done("GET", QR_CODES))["items"] == [qr_code]
    assert (await sandbox.done("GET", "/sandbox/qr_codes"))["items"] == [qr_code]
    assert (await sandbox.done("GET", f"{QR_CODES}/{qr_code['id']}/payments"))["items"] == []
    made_at = qr_code["created_at"]
    assert (await sandbox.done("GET", f"{QR_CODES}?from={made_at}&to={made_at}"))["count"] == 1
    assert (await sandbox.done("GET", f"{QR_CODES}?from={made_at + 1}"))["count"] == 0


async def test_a_new_qr_code_is_told_with_its_time_as_a_text(sandbox: Sandbox) -> None:
    """The webhook of a new QR code has the trap of the documented sample."""
    qr_code = await make_qr_code(sandbox)
    ((_, body),) = await sandbox.receiver.wait_for(1)
    event = json.loads(body)
    assert (event["event"], event["contains"]) == ("qr_code.created", ["qr_code"])
    told = event["payload"]["qr_code"]["entity"]
    assert told == qr_code | {"close_by": str(qr_code["close_by"])}


@pytest.mark.parametrize(
    ("close_in_seconds", "closes_in_seconds"), [(1800, 1800), (7200, 7200), (86400, 7200)]
)
async def test_a_qr_code_closes_in_two_hours_at_most(
    sandbox: Sandbox, close_in_seconds: int, closes_in_seconds: int
) -> None:
    """What is asked for beyond that is cut, as the answer tells."""
    qr_code = await make_qr_code(sandbox, close_by=int(time.time()) + close_in_seconds)
    assert abs(qr_code["close_by"] - qr_code["created_at"] - closes_in_seconds) <= 1


async def test_without_a_time_a_qr_code_closes_in_two_hours(sandbox: Sandbox) -> None:
    """Where no time is asked for, it is the longest."""
    qr_code = await make_qr_code(sandbox, close_by=None)
    assert qr_code["close_by"] == qr_code["created_at"] + 7200


@pytest.mark.parametrize(
    ("fields", "field_name"),
    [
        ({"type": "bharat_qr"}, "type"),
        ({"usage": "multiple_use"}, "usage"),
        ({"fixed_amount": False}, "fixed_amount"),
        ({"payment_amount": 0}, "payment_amount"),
        ({"payment_amount": 1.5}, "payment_amount"),
        ({"payment_amount": None}, "payment_amount"),
        ({"name": 7}, "name"),
        ({"description": "x" * 256}, "description"),
        ({"close_by": "soon"}, "close_by"),
        ({"close_by": 1681615838}, "close_by"),
        ({"notes": {"a": "x" * 257}}, "notes"),
        ({"amount": 12345}, "amount"),
    ],
)
async def test_a_wrong_qr_code_is_refused(sandbox: Sandbox, fields: Json, field_name: str) -> None:
    """Another kind of QR code, a time too near and fields that there are not make none."""
    status, answer = await sandbox.call("POST", QR_CODES, qr_code_of(**fields))
    assert (status, answer["error"]["field"]) == (400, field_name)
    assert (await sandbox.done("GET", QR_CODES))["items"] == []


async def test_a_qr_code_is_paid_without_an_order(sandbox: Sandbox) -> None:
    """The payment names no order, the QR code closes, and two events tell of it."""
    qr_code = await make_qr_code(sandbox)
    paid = await sandbox.done("POST", f"/sandbox/orders/{qr_code['id']}/pay", {"wait": True})
    assert paid.keys() == {"qr_code_id", "payment_id", "event_ids"}
    [payment] = (await sandbox.done("GET", f"{QR_CODES}/{qr_code['id']}/payments"))["items"]
    assert payment["id"] == paid["payment_id"]
    assert (payment["order_id"], payment["method"], payment["amount"]) == (None, "upi", 12345)
    [found] = (await sandbox.done("GET", f"{QR_CODES}?payment_id={payment['id']}"))["items"]
    assert (found["id"], found["status"], found["close_reason"]) == (
        qr_code["id"],
        "closed",
        "paid",
    )
    assert (found["payments_count_received"], found["payments_amount_received"]) == (1, 12345)
    deliveries = await sandbox.receiver.wait_for(3)
    assert sandbox.receiver.events() == [
        "payment.captured",
        "qr_code.created",
        "qr_code.credited",
    ]
    adapter = Razorpay(
        sandbox.session, RazorpaySettings(sandbox.url, KEY_ID, KEY_SECRET, (WEBHOOK_SECRET,))
    )
    told = {}
    for headers, body in deliveries:
        event = await adapter.read_webhook(headers, body)
        told[event.event_type] = (event.topup_id, event.fact)
    captured = GatewayPayment(payment["id"], "", GatewayPaymentStatus.CAPTURED, Money("INR", 12345))
    assert told == {
        "qr_code.created": ("", None),
        "payment.captured": ("", captured),
        "qr_code.credited": ("top_1", replace(captured, gateway_order_id=qr_code["id"])),
    }


async def test_a_qr_codes_webhook_has_the_documented_shape(sandbox: Sandbox) -> None:
    """Payment and QR code have the fields of the documented sample."""
    qr_code = await make_qr_code(sandbox)
    await sandbox.done("POST", f"/sandbox/orders/{qr_code['id']}/pay")
    await sandbox.receiver.wait_for(3)
    [sample] = [c["payload"] for c in documented("cases") if c["event"] == "qr_code.credited"]
    events = [json.loads(body) for _, body in sandbox.receiver.deliveries]
    [sent] = [event for event in events if event["event"] == "qr_code.credited"]
    assert sent.keys() == sample.keys()
    assert sent["contains"] == sample["contains"]
    for name, entity in sent["payload"].items():
        wanted = sample["payload"][name]["entity"].keys() - {"customer_id"}
        assert wanted <= entity["entity"].keys()


async def test_a_qr_code_is_paid_once(sandbox: Sandbox) -> None:
    """Whoever comes second, to pay, to fail or to close, is refused."""
    qr_code = await make_qr_code(sandbox)
    path = f"/sandbox/orders/{qr_code['id']}"
    answers = await asyncio.gather(*[sandbox.call("POST", f"{path}/pay") for _ in range(5)])
    assert Counter(status for status, _ in answers) == {200: 1, 400: 4}
    assert (await sandbox.call("POST", f"{path}/fail"))[0] == 400
    assert (await sandbox.call("POST", f"{QR_CODES}/{qr_code['id']}/close"))[0] == 400


async def test_a_closed_qr_code_is_not_paid(sandbox: Sandbox) -> None:
    """Closing tells one event, and leaves nothing to be paid."""
    qr_code = await make_qr_code(sandbox)
    closed = await sandbox.done("POST", f"{QR_CODES}/{qr_code['id']}/close")
    assert (closed["status"], closed["close_reason"]) == ("closed", "on_demand")
    assert closed["closed_at"] >= qr_code["created_at"]
    assert (await sandbox.call("POST", f"/sandbox/orders/{qr_code['id']}/pay"))[0] == 400
    await sandbox.receiver.wait_for(2)
    assert sandbox.receiver.events() == ["qr_code.closed", "qr_code.created"]


@pytest.mark.parametrize(
    ("how", "status", "events"),
    [
        ({"authorize_only": True}, "authorized", ["payment.authorized"]),
        ({"late": True}, "authorized", ["payment.authorized"]),
        ({"pending": True}, "created", []),
        ({"amount": 1}, "captured", ["payment.captured", "qr_code.credited"]),
        (
            {"fail_first": True},
            "captured",
            ["payment.captured", "payment.failed", "qr_code.credited"],
        ),
        ({"webhook": False}, "captured", []),
        (
            {"duplicate": 1},
            "captured",
            ["payment.captured", "payment.captured", "qr_code.credited", "qr_code.credited"],
        ),
    ],
)
async def test_a_qr_code_is_paid_in_every_way(
    sandbox: Sandbox, how: Json, status: str, events: list[str]
) -> None:
    """The ways in which an order is paid are there for a QR code too."""
    qr_code = await make_qr_code(sandbox)
    await sandbox.receiver.wait_for(1)
    paid = await sandbox.done("POST", f"/sandbox/orders/{qr_code['id']}/pay", {"wait": True, **how})
    payment = await sandbox.done("GET", f"/v1/payments/{paid['payment_id']}")
    assert payment["status"] == status
    assert payment["amount"] == how.get("amount", 12345)
    assert sandbox.receiver.events() == sorted([*events, "qr_code.created"])


async def test_a_held_payment_of_a_qr_code_is_captured_once(sandbox: Sandbox) -> None:
    """Of two payments on hold, the one that is captured first pays the QR code."""
    qr_code = await make_qr_code(sandbox)
    path = f"/sandbox/orders/{qr_code['id']}/pay"
    held = [
        (await sandbox.done("POST", path, {"authorize_only": True}))["payment_id"] for _ in range(2)
    ]
    content = {"amount": 12345, "currency": "INR"}
    statuses = [
        (await sandbox.call("POST", f"/v1/payments/{payment_id}/capture", content))[0]
        for payment_id in held
    ]
    assert statuses == [200, 400]


async def test_a_qr_code_is_not_paid_by_card(sandbox: Sandbox) -> None:
    """Only UPI pays it."""
    qr_code = await make_qr_code(sandbox)
    path = f"/sandbox/orders/{qr_code['id']}/pay"
    assert (await sandbox.call("POST", path, {"method": "card"}))[0] == 400
    await sandbox.done("POST", path, {"method": "upi"})


async def test_qr_codes_and_intents_are_there_after_a_restart(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """QR codes, their payments and open intents are kept, and can still be paid."""
    razorpay = RazorpaySandboxSettings(KEY_ID, KEY_SECRET, WEBHOOK_SECRET)
    settings = SandboxSettings((razorpay,), tmp_path / "s.json")
    async with serving(sandbox_app(settings, sandbox.session)) as url:
        before = replace(sandbox, url=url)
        paid, waiting = [await make_qr_code(before) for _ in range(2)]
        await before.done("POST", f"/sandbox/orders/{paid['id']}/pay")
        order = await before.order()
        intent = await before.done("POST", "/v1/payments/create/upi", intent_on(order))
        kept = await before.done("GET", QR_CODES)
    async with serving(sandbox_app(settings, sandbox.session)) as url:
        after = replace(sandbox, url=url)
        assert await after.done("GET", QR_CODES) == kept
        assert (await after.done("GET", f"{QR_CODES}/{paid['id']}/payments"))["count"] == 1
        await after.done("POST", f"/sandbox/orders/{waiting['id']}/pay")
        taken = await after.done("POST", f"/sandbox/orders/{order['id']}/pay", {"method": "upi"})
        assert taken["payment_id"] == intent["razorpay_payment_id"]
