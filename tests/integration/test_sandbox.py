"""The sandbox gateway over real HTTP: Razorpay's API, its webhooks, and the control endpoints."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from gateway_adapters.razorpay import Razorpay, RazorpaySettings
from gateway_adapters.sandbox import SandboxSettings, sandbox_app
from gateway_adapters.sandbox.data_file import DataFileDamaged
from server.ledger.records import GatewayPaymentStatus

KEY_ID, KEY_SECRET, WEBHOOK_SECRET = "rzp_test_key", "key-secret", "webhook-secret"
BASIC = "Basic " + base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"

Json = dict[str, Any]


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on a free port and give its URL."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@dataclass
class Receiver:
    """Takes webhooks; answers the next ones with the given statuses, and then with 200."""

    statuses: list[int] = field(default_factory=list)
    deliveries: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.Response:
        """Note a webhook."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        async with self.arrived:
            self.deliveries.append((headers, body))
            self.arrived.notify_all()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def wait_for(self, count: int) -> list[tuple[dict[str, str], bytes]]:
        """Wait until so many webhooks came."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.deliveries) >= count)
        return self.deliveries

    def events(self) -> list[str]:
        """Return the names of what came, sorted."""
        return sorted(json.loads(body)["event"] for _, body in self.deliveries)


@dataclass
class Sandbox:
    """A running sandbox with its receiver of webhooks."""

    url: str
    session: ClientSession
    receiver: Receiver
    settings: SandboxSettings

    async def call(
        self, method: str, path: str, content: object = None, **headers: str
    ) -> tuple[int, Json]:
        """Call the API, or a control endpoint, and return status and answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, self.url + path, json=content, headers={"Authorization": BASIC, **named}
        ) as response:
            answer: Json = await response.json()
            return response.status, answer

    async def done(self, method: str, path: str, content: object = None) -> Json:
        """Call and expect success."""
        status, answer = await self.call(method, path, content)
        assert status == 200, answer
        return answer

    async def order(self, **fields: object) -> Json:
        """Make an order."""
        content = {"amount": 12345, "currency": "INR", "receipt": "top_1", **fields}
        return await self.done("POST", "/v1/orders", content)


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """Give a client session."""
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def sandbox(session: ClientSession) -> AsyncIterator[Sandbox]:
    """Give a sandbox that keeps its state in memory."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/webhooks/razorpay", receiver.take)
    async with serving(app) as receiver_url:
        settings = SandboxSettings(
            KEY_ID, KEY_SECRET, WEBHOOK_SECRET, f"{receiver_url}/webhooks/razorpay"
        )
        async with serving(sandbox_app(settings, session)) as url:
            yield Sandbox(url, session, receiver, settings)


def sign(secret: str, message: bytes) -> str:
    """Sign as Razorpay does."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def documented(label: str) -> list[Json]:
    """Return the documented samples, or skip where the vectors are not at hand."""
    path = VECTORS / "razorpay_payloads.json"
    if not path.exists():
        pytest.skip(f"The published vectors are not here: {path} is absent.")
    cases: list[Json] = json.loads(path.read_bytes())[label]
    return cases


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
        ("GET", "/v1/payments/pay_none", 400),
        ("POST", "/sandbox/orders/order_none/pay", 404),
        ("POST", "/sandbox/orders/order_none/fail", 404),
        ("GET", "/v1/nothing", 404),
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
        event = adapter.read_webhook(headers, body)
        assert event.payment is not None
        assert event.payment.payment_id == paid["payment_id"]
        assert event.payment.gateway_order_id == order["id"]
        assert event.payment.status is GatewayPaymentStatus.CAPTURED
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
    nowhere = replace(
        sandbox.settings, webhook_url="http://127.0.0.1:1/", data_file=tmp_path / "new" / "s.json"
    )
    async with serving(sandbox_app(nowhere, sandbox.session)) as url:
        before = Sandbox(url, sandbox.session, sandbox.receiver, nowhere)
        order = await before.order(notes={"topup_id": "top_1"})
        paid = await before.done("POST", f"/sandbox/orders/{order['id']}/pay")
        key = "refund-key-1"
        path = f"/v1/payments/{paid['payment_id']}/refund"
        _, refund = await before.call("POST", path, {"amount": 5}, X_Refund_Idempotency=key)
        kept = await before.done("GET", "/sandbox/orders")
    assert sandbox.receiver.deliveries == []
    reachable = replace(nowhere, webhook_url=sandbox.settings.webhook_url)
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
            while json.loads(data_file.read_bytes())["webhooks"]:
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
        sandbox_app(SandboxSettings(KEY_ID, KEY_SECRET, WEBHOOK_SECRET, "", data_file), session)
    assert data_file.read_bytes() == content


async def test_closing_stops_the_retries(sandbox: Sandbox) -> None:
    """An application with webhooks that nobody takes closes at once, and leaves no task behind."""
    nowhere = replace(sandbox.settings, webhook_url="http://127.0.0.1:1/")
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
    shown = repr(SandboxSettings(KEY_ID, KEY_SECRET, WEBHOOK_SECRET, ""))
    assert KEY_SECRET not in shown
    assert WEBHOOK_SECRET not in shown
