"""The sandbox gateway over real HTTP: Razorpay's API, its webhooks, and the control endpoints."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession

from gateway_adapters.razorpay import Razorpay, RazorpaySettings
from gateway_adapters.sandbox import RazorpaySandboxSettings, SandboxSettings, sandbox_app
from gateway_adapters.sandbox.data_file import DataFileDamaged
from sandbox_bench import (
    BASIC,
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
from server.ledger.records import GatewayPayment, GatewayPaymentStatus


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """Give a client session."""
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Give a sandbox of its own to each test."""
    async with running_sandbox() as running:
        yield running


def sending_to(webhook_url: str, data_file: Path | None = None) -> SandboxSettings:
    """Return settings of a sandbox that is Razorpay alone."""
    razorpay = RazorpaySandboxSettings(KEY_ID, KEY_SECRET, WEBHOOK_SECRET, webhook_url)
    return SandboxSettings((razorpay,), data_file)


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return [path.name for path in folder.iterdir()]


async def test_an_order_is_made_and_found(sandbox: Sandbox) -> None:
    """An order is found by its id and by its receipt, and by no other receipt."""
    order = await sandbox.order(notes={"topup_id": "top_1"})
    assert await sandbox.done("GET", f"/v1/orders/{order['id']}") == order
    assert await sandbox.done("GET", "/v1/orders?receipt=top_1") == {
        "entity": "collection",
        "count": 1,
        "items": [order],
    }
    assert (await sandbox.done("GET", "/v1/orders?receipt=top_2"))["items"] == []
    assert (await sandbox.done("GET", "/v1/orders"))["items"] == [order]
    assert (await sandbox.done("GET", "/sandbox/orders"))["items"] == [order]


async def test_an_order_has_the_documented_shape(sandbox: Sandbox) -> None:
    """The fields of an order are those of the documentation, and notes are `[]` when empty."""
    order = await sandbox.order()
    samples = [case["json"] for case in documented("api_responses")]
    assert order.keys() == next(s.keys() for s in samples if s.get("entity") == "order")
    assert order["notes"] == []
    assert (order["status"], order["amount_paid"], order["amount_due"]) == ("created", 0, 12345)


async def test_webhooks_have_the_documented_shape(sandbox: Sandbox) -> None:
    """Envelope and entities have the fields of the documented samples."""
    order = await sandbox.order()
    await sandbox.done("POST", f"/sandbox/orders/{order['id']}/fail", {"method": "upi"})
    await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", {"method": "upi"})
    for _, body in await sandbox.receiver.wait_for(3):
        sent = json.loads(body)
        samples = [case["payload"] for case in documented("cases")]
        sample = next(sample for sample in samples if sample["event"] == sent["event"])
        assert sent.keys() == sample.keys()
        assert sorted(sent["contains"]) == sorted(sample["contains"])
        for name, entity in sent["payload"].items():
            wanted = sample["payload"][name]["entity"].keys()
            optional = {"base_amount", "amount_transferred", "card", "token_id"}
            assert wanted - optional <= entity["entity"].keys()


@pytest.mark.parametrize(
    "authorization", ["", "Basic", "Bearer x", BASIC + "x", BASIC.replace("Basic", "basic x")]
)
async def test_the_api_wants_its_credentials(sandbox: Sandbox, authorization: str) -> None:
    """Without the account's credentials the API answers 401 as Razorpay does."""
    status, answer = await sandbox.call("GET", "/v1/orders", None, Authorization=authorization)
    assert status == 401
    assert answer == {
        "error": {"code": "BAD_REQUEST_ERROR", "description": "Authentication failed"}
    }


@pytest.mark.parametrize(
    ("fields", "field_name"),
    [
        ({"amount": 99}, "amount"),
        ({"amount": "12345"}, "amount"),
        ({"amount": 123.45}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": 10**30}, "amount"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": None}, "currency"),
        ({"receipt": "x" * 41}, "receipt"),
        ({"receipt": 7}, "receipt"),
        ({"notes": {"a": "x" * 257}}, "notes"),
        ({"notes": {str(n): "x" for n in range(16)}}, "notes"),
        ({"notes": "x"}, "notes"),
        ({"payment": {"capture": "never"}}, "payment"),
    ],
)
async def test_a_wrong_order_is_refused_as_razorpay_does(
    sandbox: Sandbox, fields: Json, field_name: str
) -> None:
    """Limits and types are Razorpay's, and so is the error's body."""
    content = {"amount": 12345, "currency": "INR", **fields}
    status, answer = await sandbox.call("POST", "/v1/orders", content)
    assert status == 400
    assert answer["error"]["code"] == "BAD_REQUEST_ERROR"
    assert answer["error"]["field"] == field_name
    assert answer["error"]["description"]
    samples = [case["json"] for case in documented("api_responses")]
    documented_error = next(sample["error"] for sample in samples if "error" in sample)
    assert answer["error"].keys() == documented_error.keys()


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 60_000])
async def test_a_body_that_is_no_object_is_refused(sandbox: Sandbox, body: bytes) -> None:
    """What is not a JSON object is an error of the request."""
    async with sandbox.session.post(
        f"{sandbox.url}/v1/orders", data=body, headers={"Authorization": BASIC}
    ) as response:
        assert response.status == 400
        assert "error" in await response.json()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/orders/order_none", 400),
        ("GET", "/v1/orders/order_none/payments", 400),
        ("GET", "/v1/payments/qr_codes/qr_none", 400),
        ("GET", "/v1/payments/qr_codes/qr_none/payments", 400),
        ("POST", "/v1/payments/qr_codes/qr_none/close", 400),
        ("GET", "/v1/payments/qr_codes?payment_id=pay_none", 400),
        ("POST", "/sandbox/orders/qr_none/pay", 404),
        ("GET", "/v1/payments/pay_none", 400),
        ("POST", "/sandbox/orders/order_none/pay", 404),
        ("POST", "/sandbox/orders/order_none/fail", 404),
        ("GET", "/v1/payments/pay_none/nothing", 404),
        ("POST", "/sandbox/payments/pay_none/capture", 404),
        ("POST", "/sandbox/payments/pay_none/refund", 404),
        ("POST", "/sandbox/payments/pay_none/dispute", 404),
        ("POST", "/sandbox/payments/pay_none/dispute/disp_none/win", 404),
        ("GET", "/v1/payments/pay_none/refunds", 400),
        ("GET", "/v1/payments?from=1", 400),
        ("GET", "/v1/payments?to=99999999999", 400),
        ("GET", "/v1/refunds?skip=-1", 400),
        ("GET", "/v1/orders?count=0", 400),
        ("GET", "/v1/orders?count=0100000", 400),
    ],
)
async def test_what_is_not_there_is_refused(
    sandbox: Sandbox, method: str, path: str, expected: int
) -> None:
    """The API refuses unknown ids as Razorpay does; a control endpoint does not find them."""
    status, answer = await sandbox.call(method, path)
    assert status == expected
    assert answer["error"]["code"] == "BAD_REQUEST_ERROR"


async def test_paying_captures_and_gives_the_checkouts_proof(sandbox: Sandbox) -> None:
    """Order and payment are paid, and the signature is the one of Razorpay Checkout."""
    order = await sandbox.order()
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay")
    message = f"{order['id']}|{paid['payment_id']}".encode()
    assert paid["signature"] == sign(KEY_SECRET, message)
    payment = await sandbox.done("GET", f"/v1/payments/{paid['payment_id']}")
    assert (payment["status"], payment["captured"], payment["amount"]) == ("captured", True, 12345)
    after = await sandbox.done("GET", f"/v1/orders/{order['id']}")
    assert (after["status"], after["amount_paid"], after["amount_due"]) == ("paid", 12345, 0)
    listed = await sandbox.done("GET", f"/v1/orders/{order['id']}/payments")
    assert listed["items"] == [payment]


async def test_an_order_is_paid_once(sandbox: Sandbox) -> None:
    """Whoever comes second, to pay or to fail, is refused as Razorpay does."""
    order = await sandbox.order()
    path = f"/sandbox/orders/{order['id']}"
    answers = await asyncio.gather(*[sandbox.call("POST", f"{path}/pay") for _ in range(5)])
    assert Counter(status for status, _ in answers) == {200: 1, 400: 4}
    assert (await sandbox.call("POST", f"{path}/fail"))[0] == 400


async def test_webhooks_come_signed_and_each_with_its_own_id(sandbox: Sandbox) -> None:
    """A payment sends two events, which the adapter takes as they come."""
    order = await sandbox.order()
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay")
    deliveries = await sandbox.receiver.wait_for(2)
    assert sandbox.receiver.events() == ["order.paid", "payment.captured"]
    adapter = Razorpay(
        sandbox.session,
        RazorpaySettings(sandbox.url, KEY_ID, KEY_SECRET, (WEBHOOK_SECRET,)),
    )
    for headers, body in deliveries:
        assert headers["user-agent"].startswith("Razorpay-Webhook")
        assert headers["content-type"] == "application/json"
        assert headers["x-razorpay-signature"] == sign(WEBHOOK_SECRET, body)
        event = await adapter.read_webhook(headers, body)
        assert isinstance(event.fact, GatewayPayment)
        assert event.fact.payment_id == paid["payment_id"]
        assert event.fact.gateway_order_id == order["id"]
        assert event.fact.status is GatewayPaymentStatus.CAPTURED
    event_ids = {headers["x-razorpay-event-id"] for headers, _ in deliveries}
    assert event_ids == set(paid["event_ids"])
    assert len(event_ids) == 2


async def test_a_failed_payment_can_be_followed_by_a_good_one(sandbox: Sandbox) -> None:
    """Failing sends one event, gives no proof, and leaves the order to be paid."""
    order = await sandbox.order()
    failed = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/fail")
    assert "signature" not in failed
    await sandbox.receiver.wait_for(1)
    assert sandbox.receiver.events() == ["payment.failed"]
    payment = await sandbox.done("GET", f"/v1/payments/{failed['payment_id']}")
    assert payment["status"] == "failed"
    assert payment["error_description"]
    await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay")


@pytest.mark.parametrize("status", [500, 503, 401, 302, 429])
async def test_a_webhook_comes_again_until_it_is_taken(sandbox: Sandbox, status: int) -> None:
    """Anything but 2xx brings the same body under the same id once more."""
    sandbox.receiver.statuses.extend([status, status])
    order = await sandbox.order()
    await sandbox.done("POST", f"/sandbox/orders/{order['id']}/fail")
    deliveries = await sandbox.receiver.wait_for(3)
    assert len({(h["x-razorpay-event-id"], body) for h, body in deliveries}) == 1


async def test_duplicates_come_under_the_same_id(sandbox: Sandbox) -> None:
    """`duplicate: 2` sends each event three times in all."""
    order = await sandbox.order()
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", {"duplicate": 2})
    deliveries = await sandbox.receiver.wait_for(6)
    counts = Counter(headers["x-razorpay-event-id"] for headers, _ in deliveries)
    assert counts == dict.fromkeys(paid["event_ids"], 3)


async def test_webhooks_can_be_left_out(sandbox: Sandbox) -> None:
    """`webhook: false` pays in silence: the next event that comes is another order's."""
    order, other = await sandbox.order(), await sandbox.order()
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", {"webhook": False})
    assert paid["event_ids"] == []
    await sandbox.done("POST", f"/sandbox/orders/{other['id']}/fail")
    await sandbox.receiver.wait_for(1)
    assert sandbox.receiver.events() == ["payment.failed"]


async def test_another_amount_can_be_paid(sandbox: Sandbox) -> None:
    """A wrong amount, to test what becomes of it, is told as it was paid."""
    order = await sandbox.order()
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", {"amount": 1})
    payment = await sandbox.done("GET", f"/v1/payments/{paid['payment_id']}")
    assert payment["amount"] == 1


@pytest.mark.parametrize(
    "content",
    [
        {"amount": "1"},
        {"amount": 0},
        {"method": "cheque"},
        {"method": 7},
        {"duplicate": -1},
        {"duplicate": 21},
        {"duplicate": True},
        {"webhook": "no"},
        {"authorize_only": 1},
    ],
)
async def test_a_wrong_control_request_changes_nothing(sandbox: Sandbox, content: Json) -> None:
    """Fields of the wrong kind are refused before anybody pays."""
    order = await sandbox.order()
    status, _ = await sandbox.call("POST", f"/sandbox/orders/{order['id']}/pay", content)
    assert status == 400
    assert await sandbox.done("GET", f"/v1/orders/{order['id']}") == order


async def test_an_authorized_payment_is_captured_by_the_api(sandbox: Sandbox) -> None:
    """Authorizing sends one event; capturing the exact amount, once, sends the other two."""
    order = await sandbox.order()
    paid = await sandbox.done(
        "POST", f"/sandbox/orders/{order['id']}/pay", {"authorize_only": True}
    )
    await sandbox.receiver.wait_for(1)
    assert sandbox.receiver.events() == ["payment.authorized"]
    path = f"/v1/payments/{paid['payment_id']}/capture"
    assert (await sandbox.call("POST", path, {"amount": 12344, "currency": "INR"}))[0] == 400
    assert (await sandbox.call("POST", path, {"amount": 12345, "currency": "USD"}))[0] == 400
    captured = await sandbox.done("POST", path, {"amount": 12345, "currency": "INR"})
    assert captured["status"] == "captured"
    assert (await sandbox.call("POST", path, {"amount": 12345, "currency": "INR"}))[0] == 400
    await sandbox.receiver.wait_for(3)
    assert sandbox.receiver.events() == ["order.paid", "payment.authorized", "payment.captured"]


async def test_an_order_for_manual_capture_waits_for_it(sandbox: Sandbox) -> None:
    """Paying an order that asked for manual capture only authorizes."""
    order = await sandbox.order(payment={"capture": "manual"})
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay")
    payment = await sandbox.done("GET", f"/v1/payments/{paid['payment_id']}")
    assert payment["status"] == "authorized"


async def test_refunds_stop_at_the_payment(sandbox: Sandbox) -> None:
    """Parts can be refunded until nothing is left, and the order stays paid."""
    order = await sandbox.order()
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay")
    path = f"/v1/payments/{paid['payment_id']}"
    part = await sandbox.done("POST", f"{path}/refund", {"amount": 345})
    assert (part["entity"], part["amount"], part["status"]) == ("refund", 345, "processed")
    payment = await sandbox.done("GET", path)
    assert (payment["amount_refunded"], payment["refund_status"]) == (345, "partial")
    assert (await sandbox.call("POST", f"{path}/refund", {"amount": 12001}))[0] == 400
    rest = await sandbox.done("POST", f"{path}/refund")
    assert rest["amount"] == 12000
    payment = await sandbox.done("GET", path)
    assert (payment["status"], payment["refund_status"]) == ("refunded", "full")
    assert (await sandbox.call("POST", f"{path}/refund", {"amount": 1}))[0] == 400
    assert (await sandbox.done("GET", f"/v1/orders/{order['id']}"))["status"] == "paid"
    await sandbox.receiver.wait_for(6)
    assert Counter(sandbox.receiver.events())["refund.processed"] == 2


async def test_a_refunds_key_refunds_once(sandbox: Sandbox) -> None:
    """The same key and body give the same refund; another body under it is refused."""
    order = await sandbox.order()
    paid = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay")
    path = f"/v1/payments/{paid['payment_id']}/refund"
    key = {"X_Refund_Idempotency": "refund-key-1"}
    _, first = await sandbox.call("POST", path, {"amount": 100}, **key)
    assert await sandbox.call("POST", path, {"amount": 100}, **key) == (200, first)
    assert (await sandbox.call("POST", path, {"amount": 101}, **key))[0] == 400
    status, _ = await sandbox.call("POST", path, {"amount": 1}, X_Refund_Idempotency="short")
    assert status == 400
    payment = await sandbox.done("GET", f"/v1/payments/{paid['payment_id']}")
    assert payment["amount_refunded"] == 100


async def test_a_failed_payment_cannot_be_captured_or_refunded(sandbox: Sandbox) -> None:
    """Money that never came is neither taken nor given back."""
    order = await sandbox.order()
    failed = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/fail")
    path = f"/v1/payments/{failed['payment_id']}"
    assert (await sandbox.call("POST", f"{path}/capture", {"amount": 12345}))[0] == 400
    assert (await sandbox.call("POST", f"{path}/refund"))[0] == 400


async def test_a_restart_goes_on_where_it_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    """Orders, payments, refunds and webhooks that nobody took are there after a restart."""
    nowhere = sending_to("http://127.0.0.1:1/", tmp_path / "new" / "s.json")
    async with serving(sandbox_app(nowhere, sandbox.session)) as url:
        before = Sandbox(url, sandbox.session, sandbox.receiver, nowhere)
        order = await before.order(notes={"topup_id": "top_1"})
        paid = await before.done("POST", f"/sandbox/orders/{order['id']}/pay")
        key = "refund-key-1"
        path = f"/v1/payments/{paid['payment_id']}/refund"
        _, refund = await before.call("POST", path, {"amount": 5}, X_Refund_Idempotency=key)
        kept = await before.done("GET", "/sandbox/orders")
    assert sandbox.receiver.deliveries == []
    reachable = replace(sandbox.settings, data_file=nowhere.data_file)
    async with serving(sandbox_app(reachable, sandbox.session)) as url:
        after = Sandbox(url, sandbox.session, sandbox.receiver, reachable)
        assert await after.done("GET", "/sandbox/orders") == kept
        assert (await after.done("GET", "/v1/orders?receipt=top_1"))["count"] == 1
        assert (await after.done("GET", f"/v1/orders/{order['id']}/payments"))["count"] == 1
        repeat = await after.call("POST", path, {"amount": 5}, X_Refund_Idempotency=key)
        assert repeat == (200, refund)
        deliveries = await sandbox.receiver.wait_for(4)
    assert set(paid["event_ids"]) <= {h["x-razorpay-event-id"] for h, _ in deliveries}
    assert len(deliveries) == 4


async def test_taken_webhooks_are_not_sent_again_after_a_restart(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Only what nobody took is kept, and the file is replaced as a whole."""
    data_file = tmp_path / "sandbox.json"
    settings = replace(sandbox.settings, data_file=data_file)
    async with serving(sandbox_app(settings, sandbox.session)) as url:
        running = Sandbox(url, sandbox.session, sandbox.receiver, settings)
        orders = await asyncio.gather(*[running.order() for _ in range(20)])
        await running.done("POST", f"/sandbox/orders/{orders[0]['id']}/pay")
        await sandbox.receiver.wait_for(2)
        async with asyncio.timeout(20):
            while json.loads(data_file.read_bytes())["razorpay_webhooks"]:
                await running.done("GET", "/sandbox/orders")
    content = json.loads(data_file.read_bytes())
    assert len(content["razorpay"]["orders"]) == 20
    assert names_in(tmp_path) == ["sandbox.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"razorpay": {"orders": [{"id": 1}]}}'])
async def test_a_damaged_data_file_is_not_overwritten(
    session: ClientSession, tmp_path: Path, content: bytes
) -> None:
    """What the sandbox did not write it does not take for its own."""
    data_file = tmp_path / "sandbox.json"
    data_file.write_bytes(content)
    with pytest.raises(DataFileDamaged, match=r"sandbox\.json"):
        sandbox_app(sending_to("", data_file), session)
    assert data_file.read_bytes() == content


async def test_closing_stops_the_retries(sandbox: Sandbox) -> None:
    """An application with webhooks that nobody takes closes at once, and leaves no task behind."""
    nowhere = sending_to("http://127.0.0.1:1/")
    before = asyncio.all_tasks()
    async with serving(sandbox_app(nowhere, sandbox.session)) as url:
        running = Sandbox(url, sandbox.session, sandbox.receiver, nowhere)
        order = await running.order()
        await running.done("POST", f"/sandbox/orders/{order['id']}/pay", {"duplicate": 20})
        assert len(asyncio.all_tasks() - before) > 40
    left = [t for t in asyncio.all_tasks() - before if "deliver" in repr(t.get_coro())]
    assert left == []


def test_secrets_show_in_no_representation() -> None:
    """Settings can be printed without giving a secret away."""
    shown = repr(sending_to(""))
    assert KEY_SECRET not in shown
    assert WEBHOOK_SECRET not in shown


async def paid(sandbox: Sandbox, **how: object) -> Json:
    """Let a customer pay a new order in silence."""
    order = await sandbox.order()
    content = {"webhook": False, **how}
    return await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", content)


async def status_of(sandbox: Sandbox, payment_id: str) -> str:
    """Return what state a payment is in."""
    payment = await sandbox.done("GET", f"/v1/payments/{payment_id}")
    return str(payment["status"])


async def test_a_payment_fails_first_and_is_captured_then(sandbox: Sandbox) -> None:
    """`fail_first` tells of one payment that it failed, and then that it was captured."""
    order = await sandbox.order()
    path = f"/sandbox/orders/{order['id']}/pay"
    done = await sandbox.done("POST", path, {"fail_first": True})
    deliveries = await sandbox.receiver.wait_for(3)
    assert sandbox.receiver.events() == ["order.paid", "payment.captured", "payment.failed"]
    sent = [json.loads(body)["payload"]["payment"]["entity"] for _, body in deliveries]
    assert {payment["id"] for payment in sent} == {done["payment_id"]}
    assert await status_of(sandbox, done["payment_id"]) == "captured"


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ({"late": True}, "authorized", ["payment.authorized"]),
        ({"authorize_only": True}, "authorized", ["payment.authorized"]),
        ({"pending": True}, "created", []),
        (
            {"fail_first": True, "late": True},
            "authorized",
            ["payment.authorized", "payment.failed"],
        ),
        ({"fail_first": True, "pending": True}, "created", ["payment.failed"]),
    ],
)
async def test_what_was_not_captured_is_captured_late(
    sandbox: Sandbox, how: Json, status: str, told: list[str]
) -> None:
    """Authorized or pending, it is captured once, when the bank and Razorpay get to it."""
    order = await sandbox.order()
    done = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", how)
    assert len(done["event_ids"]) == len(told)
    assert ("signature" in done) is (status != "created")
    assert await status_of(sandbox, done["payment_id"]) == status
    path = f"/sandbox/payments/{done['payment_id']}/capture"
    captured = await sandbox.done("POST", path)
    assert captured["signature"]
    assert (await sandbox.call("POST", path))[0] == 400
    await sandbox.receiver.wait_for(len(told) + 2)
    assert sandbox.receiver.events() == sorted([*told, "order.paid", "payment.captured"])


async def test_a_failed_payment_is_captured_late(sandbox: Sandbox) -> None:
    """Failed is not the end: the bank may say yes afterwards, unless the order was paid."""
    order = await sandbox.order()
    path = f"/sandbox/orders/{order['id']}"
    first, second = [(await sandbox.done("POST", f"{path}/fail"))["payment_id"] for _ in range(2)]
    await sandbox.done("POST", f"/sandbox/payments/{first}/capture")
    assert await status_of(sandbox, first) == "captured"
    assert (await sandbox.call("POST", f"/sandbox/payments/{second}/capture"))[0] == 400
    assert await status_of(sandbox, second) == "failed"


async def test_a_refund_comes_from_the_dashboard(sandbox: Sandbox) -> None:
    """Without the API, in parts: the same entities and events as through the API."""
    payment_id = (await paid(sandbox))["payment_id"]
    path = f"/sandbox/payments/{payment_id}/refund"
    part = await sandbox.done("POST", path, {"amount": 345})
    assert (part["refund"]["amount"], part["refund"]["status"]) == (345, "processed")
    assert (await sandbox.call("POST", path, {"amount": 12001}))[0] == 400
    rest = await sandbox.done("POST", path)
    assert rest["refund"]["amount"] == 12000
    assert await status_of(sandbox, payment_id) == "refunded"
    await sandbox.receiver.wait_for(4)
    assert Counter(sandbox.receiver.events()) == {"refund.created": 2, "refund.processed": 2}
    listed = await sandbox.done("GET", f"/v1/payments/{payment_id}/refunds")
    assert listed["items"] == [rest["refund"], part["refund"]]


async def test_a_refund_fails_after_it_began(sandbox: Sandbox) -> None:
    """`fail: true` tells that it is pending and then that it failed; the payment is whole again."""
    payment_id = (await paid(sandbox))["payment_id"]
    path = f"/sandbox/payments/{payment_id}/refund"
    failed = await sandbox.done("POST", path, {"fail": True})
    assert (failed["refund"]["amount"], failed["refund"]["status"]) == (12345, "failed")
    deliveries = await sandbox.receiver.wait_for(2)
    sent = {}
    for _, body in deliveries:
        event = json.loads(body)
        sent[event["event"]] = event["payload"]["refund"]["entity"]["status"]
    assert sent == {"refund.created": "pending", "refund.failed": "failed"}
    payment = await sandbox.done("GET", f"/v1/payments/{payment_id}")
    assert (payment["status"], payment["amount_refunded"]) == ("captured", 0)


@pytest.mark.parametrize(
    ("step", "status", "event", "deducted"),
    [
        ("win", "won", "payment.dispute.won", 0),
        ("lose", "lost", "payment.dispute.lost", 678),
        ("close", "closed", "payment.dispute.closed", 0),
    ],
)
async def test_a_dispute_is_opened_and_settled(
    sandbox: Sandbox, step: str, status: str, event: str, deducted: int
) -> None:
    """It goes back and forth while it is open, and is settled once."""
    payment_id = (await paid(sandbox))["payment_id"]
    path = f"/sandbox/payments/{payment_id}/dispute"
    made = (await sandbox.done("POST", path, {"amount": 678, "phase": "arbitration"}))["dispute"]
    assert (made["status"], made["phase"], made["amount_deducted"]) == ("open", "arbitration", 0)
    for way in ("contest", "query", "contest"):
        await sandbox.done("POST", f"{path}/{made['id']}/{way}")
    settled = (await sandbox.done("POST", f"{path}/{made['id']}/{step}"))["dispute"]
    assert (settled["status"], settled["amount_deducted"]) == (status, deducted)
    for again in ("win", "lose", "contest"):
        assert (await sandbox.call("POST", f"{path}/{made['id']}/{again}"))[0] == 400
    assert (await sandbox.done("GET", "/v1/disputes"))["items"] == [settled]
    await sandbox.receiver.wait_for(5)
    assert Counter(sandbox.receiver.events()) == {
        "payment.dispute.created": 1,
        "payment.dispute.under_review": 2,
        "payment.dispute.action_required": 1,
        event: 1,
    }


async def test_reversals_have_the_documented_shape(sandbox: Sandbox) -> None:
    """Refunds and disputes are told with the fields of the documented samples."""
    payment_id = (await paid(sandbox))["payment_id"]
    path = f"/sandbox/payments/{payment_id}"
    await sandbox.done("POST", f"{path}/refund", {"amount": 345})
    dispute_id = (await sandbox.done("POST", f"{path}/dispute"))["dispute"]["id"]
    await sandbox.done("POST", f"{path}/dispute/{dispute_id}/lose")
    samples = {case["event"]: case["payload"] for case in documented("cases")}
    for _, body in await sandbox.receiver.wait_for(4):
        sent = json.loads(body)
        sample = samples[sent["event"]]
        assert sorted(sent["contains"]) == sorted(sample["contains"])
        for name in {"refund", "dispute"} & sample["payload"].keys():
            entity = sent["payload"][name]["entity"]
            assert entity.keys() == sample["payload"][name]["entity"].keys()


@pytest.mark.parametrize(
    ("action", "content"),
    [
        ("refund", {"amount": 0}),
        ("refund", {"amount": 12346}),
        ("refund", {"amount": 1.5}),
        ("refund", {"fail": 1}),
        ("refund", {"duplicate": 21}),
        ("refund", {"wait": "yes"}),
        ("dispute", {"amount": 12346}),
        ("dispute", {"amount": -1}),
        ("dispute", {"phase": "anger"}),
        ("dispute", {"phase": 7}),
        ("dispute", {"webhook": None}),
        ("dispute/disp_none/win", {}),
        ("dispute/disp_none/surrender", {}),
    ],
)
async def test_a_wrong_reversal_changes_nothing(
    sandbox: Sandbox, action: str, content: Json
) -> None:
    """What is refused takes back nothing."""
    payment_id = (await paid(sandbox))["payment_id"]
    before = await sandbox.done("GET", f"/v1/payments/{payment_id}")
    status, _ = await sandbox.call("POST", f"/sandbox/payments/{payment_id}/{action}", content)
    assert status == 400
    assert await sandbox.done("GET", f"/v1/payments/{payment_id}") == before
    for listed in ("refunds", "disputes"):
        assert (await sandbox.done("GET", f"/v1/{listed}"))["items"] == []


@pytest.mark.parametrize("how", [{"late": True}, {"pending": True}])
async def test_money_that_was_not_captured_is_not_taken_back(sandbox: Sandbox, how: Json) -> None:
    """Neither the dashboard nor a dispute reaches what is only on hold."""
    payment_id = (await paid(sandbox, **how))["payment_id"]
    for action in ("refund", "dispute"):
        assert (await sandbox.call("POST", f"/sandbox/payments/{payment_id}/{action}"))[0] == 400


async def test_a_dispute_belongs_to_its_payment(sandbox: Sandbox) -> None:
    """A dispute is not settled through another payment."""
    one, other = [(await paid(sandbox))["payment_id"] for _ in range(2)]
    made = (await sandbox.done("POST", f"/sandbox/payments/{one}/dispute"))["dispute"]["id"]
    assert (await sandbox.call("POST", f"/sandbox/payments/{other}/dispute/{made}/win"))[0] == 400


async def test_lists_come_newest_first_and_page_by_page(sandbox: Sandbox) -> None:
    """`count` and `skip` cut a list, `from` and `to` bound it by the second."""
    made = [(await paid(sandbox))["payment_id"] for _ in range(5)]
    for payment_id in made:
        await sandbox.done("POST", f"/v1/payments/{payment_id}/refund")
    for path, key in (("/v1/payments", "id"), ("/v1/refunds", "payment_id")):
        whole = (await sandbox.done("GET", path))["items"]
        assert [item[key] for item in whole] == made[::-1]
        for skip, count in ((0, 2), (2, 2), (4, 2), (6, 2)):
            page = await sandbox.done("GET", f"{path}?skip={skip}&count={count}")
            assert page["items"] == whole[skip : skip + count]
        first, last = whole[-1]["created_at"], whole[0]["created_at"]
        inside = await sandbox.done("GET", f"{path}?from={first}&to={last}")
        assert inside["items"] == whole
        assert (await sandbox.done("GET", f"{path}?from={last + 1}"))["items"] == []
        assert (await sandbox.done("GET", f"{path}?to={first - 1}"))["items"] == []


async def test_reversals_are_there_after_a_restart(sandbox: Sandbox, tmp_path: Path) -> None:
    """Refunds with their state and disputes with their history are kept."""
    settings = sending_to("", tmp_path / "s.json")
    lists = ("/v1/payments", "/v1/refunds", "/v1/disputes")
    async with serving(sandbox_app(settings, sandbox.session)) as url:
        before = Sandbox(url, sandbox.session, sandbox.receiver, settings)
        path = f"/sandbox/payments/{(await paid(before))['payment_id']}"
        await before.done("POST", f"{path}/refund", {"amount": 1, "fail": True})
        await before.done("POST", f"{path}/refund", {"amount": 2})
        made = (await before.done("POST", f"{path}/dispute"))["dispute"]["id"]
        await before.done("POST", f"{path}/dispute/{made}/lose")
        kept = [await before.done("GET", listed) for listed in lists]
    async with serving(sandbox_app(settings, sandbox.session)) as url:
        after = Sandbox(url, sandbox.session, sandbox.receiver, settings)
        assert [await after.done("GET", listed) for listed in lists] == kept


async def set_faults(sandbox: Sandbox, **faults: object) -> Json:
    """Say what the next requests and webhooks are to suffer."""
    return await sandbox.done("POST", "/sandbox/faults", faults)


@pytest.mark.parametrize(("mode", "status"), [("error500", 500), ("rate_limit", 429)])
async def test_an_api_can_answer_with_errors(sandbox: Sandbox, mode: str, status: int) -> None:
    """So many requests as asked for fail and have no effect; the next one succeeds."""
    await set_faults(sandbox, api={"mode": mode, "times": 2})
    content = {"amount": 12345, "currency": "INR"}
    answers = [(await sandbox.call("POST", "/v1/orders", content))[0] for _ in range(3)]
    assert answers == [status, status, 200]
    assert (await sandbox.done("GET", "/sandbox/orders"))["count"] == 1
    assert (await sandbox.done("GET", "/sandbox/faults"))["api"] is None


@pytest.mark.parametrize(("mode", "made"), [("refuse_connections", 0), ("lose_answer", 1)])
async def test_an_api_can_break_the_connection(sandbox: Sandbox, mode: str, made: int) -> None:
    """Before anything happened, or after all of it."""
    await set_faults(sandbox, api={"mode": mode})
    # Another session: a client tries an idle connection that broke once more by itself.
    async with ClientSession() as fresh:
        with pytest.raises(ClientError):
            await replace(sandbox, session=fresh).order()
    assert (await sandbox.done("GET", "/sandbox/orders"))["count"] == made


async def test_an_api_can_keep_silent(sandbox: Sandbox) -> None:
    """The request hangs until the caller has enough, and had no effect."""
    await set_faults(sandbox, api={"mode": "timeout", "seconds": 60})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await sandbox.order()
    assert (await sandbox.done("GET", "/sandbox/orders"))["count"] == 0


async def test_silence_does_not_keep_the_sandbox_open(sandbox: Sandbox) -> None:
    """Closing lets go of whoever still waits."""
    async with serving(sandbox_app(sandbox.settings, sandbox.session)) as url:
        other = replace(sandbox, url=url)
        await set_faults(other, api={"mode": "timeout", "seconds": 60})
        hanging = asyncio.create_task(other.order())
        async with asyncio.timeout(20):
            while (await other.done("GET", "/sandbox/faults"))["api"] is not None:
                pass
    with pytest.raises(ClientError):
        await hanging


async def test_a_fault_is_bound_to_a_path(sandbox: Sandbox) -> None:
    """Other requests, and those that control the sandbox, go through and use nothing up."""
    await set_faults(sandbox, api={"mode": "error500", "times": 1, "path": "/v1/payments"})
    order = await sandbox.order()
    done = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/pay", {"webhook": False})
    path = f"/v1/payments/{done['payment_id']}"
    assert [(await sandbox.call("GET", path))[0] for _ in range(2)] == [500, 200]


async def fail_orders(sandbox: Sandbox, count: int) -> list[str]:
    """Make so many orders and fail each; return the events' ids in turn."""
    ids = []
    for _ in range(count):
        order = await sandbox.order()
        done = await sandbox.done("POST", f"/sandbox/orders/{order['id']}/fail")
        ids.extend(done["event_ids"])
    return ids


def arrived(sandbox: Sandbox) -> list[str]:
    """Return the ids of the events that came, in turn."""
    return [headers["x-razorpay-event-id"] for headers, _ in sandbox.receiver.deliveries]


async def test_webhooks_can_be_lost(sandbox: Sandbox) -> None:
    """What is lost never comes, and what follows does."""
    await set_faults(sandbox, webhooks={"mode": "lose", "times": 2})
    ids = await fail_orders(sandbox, 3)
    await sandbox.receiver.wait_for(1)
    assert arrived(sandbox) == ids[2:]
    assert (await sandbox.done("GET", "/sandbox/faults"))["webhooks"] is None


async def test_a_lost_webhook_is_not_kept(sandbox: Sandbox, tmp_path: Path) -> None:
    """A restart does not bring back what was lost."""
    data_file = tmp_path / "sandbox.json"
    settings = replace(sandbox.settings, data_file=data_file)
    async with serving(sandbox_app(settings, sandbox.session)) as url:
        running = Sandbox(url, sandbox.session, sandbox.receiver, settings)
        await set_faults(running, webhooks={"mode": "lose"})
        order = await running.order()
        await running.done("POST", f"/sandbox/orders/{order['id']}/fail", {"wait": True})
    assert json.loads(data_file.read_bytes())["razorpay_webhooks"] == []
    assert sandbox.receiver.deliveries == []


async def test_webhooks_can_come_twice(sandbox: Sandbox) -> None:
    """So many copies more come under the same id."""
    await set_faults(sandbox, webhooks={"mode": "duplicate", "times": 1, "copies": 2})
    ids = await fail_orders(sandbox, 2)
    await sandbox.receiver.wait_for(4)
    assert Counter(arrived(sandbox)) == {ids[0]: 3, ids[1]: 1}


async def test_webhooks_can_come_last_first(sandbox: Sandbox) -> None:
    """So many are kept until all are there, and are then sent in the other order."""
    await set_faults(sandbox, webhooks={"mode": "reorder", "times": 3, "seconds": 60})
    ids = await fail_orders(sandbox, 2)
    assert arrived(sandbox) == []
    ids += await fail_orders(sandbox, 1)
    await sandbox.receiver.wait_for(3)
    assert arrived(sandbox) == ids[::-1]


async def test_a_batch_that_does_not_fill_up_is_sent_in_time(sandbox: Sandbox) -> None:
    """What is kept for others is sent after a while, also without them."""
    await set_faults(sandbox, webhooks={"mode": "reorder", "times": 3, "seconds": 1})
    ids = await fail_orders(sandbox, 2)
    await sandbox.receiver.wait_for(2)
    assert arrived(sandbox) == ids[::-1]


async def test_webhooks_can_be_late(sandbox: Sandbox) -> None:
    """A delayed one comes after one that was sent later."""
    await set_faults(sandbox, webhooks={"mode": "delay", "times": 1, "seconds": 1})
    ids = await fail_orders(sandbox, 2)
    await sandbox.receiver.wait_for(2)
    assert arrived(sandbox) == ids[::-1]


async def test_faults_can_be_seen_and_ended(sandbox: Sandbox) -> None:
    """What is left out stays as it is, and null ends it."""
    api = {"mode": "timeout", "times": 3, "path": "/v2/", "seconds": 7}
    webhooks = {"mode": "duplicate", "times": 1, "seconds": 5, "copies": 1}
    assert await set_faults(sandbox, api=api) == {"api": api, "webhooks": None}
    both = {"api": api, "webhooks": webhooks}
    assert await set_faults(sandbox, webhooks={"mode": "duplicate"}) == both
    assert await sandbox.done("GET", "/sandbox/faults") == both
    assert await set_faults(sandbox, api=None) == {"api": None, "webhooks": webhooks}


@pytest.mark.parametrize(
    "faults",
    [
        {"api": {"mode": "explode"}},
        {"api": {}},
        {"api": []},
        {"api": {"mode": "error500", "times": 0}},
        {"api": {"mode": "error500", "times": 1001}},
        {"api": {"mode": "error500", "times": True}},
        {"api": {"mode": "error500", "path": 7}},
        {"api": {"mode": "timeout", "seconds": 61}},
        {"api": {"mode": "error500", "copies": 1}},
        {"webhooks": {"mode": "timeout"}},
        {"webhooks": {"mode": "reorder", "times": 21}},
        {"webhooks": {"mode": "delay", "seconds": 0}},
        {"webhooks": {"mode": "duplicate", "copies": 21}},
        {"api": {"mode": "error500"}, "webhooks": {"mode": "x"}},
    ],
)
async def test_a_wrong_fault_changes_nothing(sandbox: Sandbox, faults: Json) -> None:
    """All of it is good, or nothing of it counts; every figure has its bound."""
    status, answer = await sandbox.call("POST", "/sandbox/faults", faults)
    assert status == 400
    assert answer["error"]["description"]
    assert await sandbox.done("GET", "/sandbox/faults") == {"api": None, "webhooks": None}
