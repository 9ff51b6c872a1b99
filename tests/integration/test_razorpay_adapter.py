"""The Razorpay adapter over real HTTP, against the sandbox and a line to it that can break."""

import asyncio
import base64
import hashlib
import hmac
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, web

from gateway_adapters.gateway import (
    Fact,
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    InvalidTopup,
    LookupProof,
    Movement,
    NotImplementedHere,
    OtherProof,
    PaypalProof,
    ProofInvalid,
    RazorpayProof,
)
from gateway_adapters.razorpay import Razorpay, RazorpaySettings
from gateway_adapters.sandbox import RazorpaySandboxSettings, SandboxSettings, sandbox_app
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    Idempotency,
    IdempotencyKey,
    Topup,
    TopupState,
)

KEY_ID, KEY_SECRET = "rzp_test_key", "key-secret"
TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"
AMOUNT = Money("INR", 12345)

FOREVER_MS = 32_503_680_000_000
"""The year 3000."""

Answer = Callable[[web.Request], web.Response]


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
class Line:
    """The line to the sandbox: it notes each request, and breaks the next ones as it is told."""

    sandbox_url: str
    session: ClientSession
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    faults: dict[str, deque[Answer | str]] = field(default_factory=lambda: defaultdict(deque))
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, method: str) -> int:
        """Return how many requests of a method came."""
        return sum(1 for seen, _, _ in self.seen if seen == method)

    async def carry(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, unless a fault is due for its method."""
        body = await request.read()
        self.seen.append((request.method, request.path_qs, body))
        due = self.faults[request.method]
        fault = due.popleft() if due else None
        if fault == "hang":
            await self.released.wait()
            return web.Response(status=500)
        if callable(fault):
            return fault(request)
        answer = await self._forward(request, body)
        if fault == "lose the reply":
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {"Authorization": request.headers.get("Authorization", "")}
        url = self.sandbox_url + request.path_qs
        async with self.session.request(
            request.method, url, data=body or None, headers=headers
        ) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type="application/json",
            )


@dataclass(frozen=True)
class Bench:
    """An adapter, the line and the sandbox."""

    razorpay: Razorpay
    line: Line
    settings: RazorpaySettings
    session: ClientSession

    async def control(self, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """Act as the sandbox's customer, on an order or, by its full path, on anything."""
        place = path if path.startswith("/") else f"/sandbox/orders/{path}"
        url = self.line.sandbox_url + place
        async with self.session.post(url, json=content or {}) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def orders(self) -> list[dict[str, Any]]:
        """Return what the sandbox has."""
        async with self.session.get(f"{self.line.sandbox_url}/sandbox/orders") as response:
            items: list[dict[str, Any]] = (await response.json())["items"]
            return items

    def adapter(self, **changes: Any) -> Razorpay:
        """Return another adapter with other settings."""
        return Razorpay(self.session, replace(self.settings, **changes))

    async def opened(self, topup: Topup | None = None) -> Topup:
        """Return a top-up that has its order."""
        topup = topup or make_topup()
        checkout = await self.razorpay.open_topup(topup)
        return replace(topup, gateway_order_id=checkout.gateway_order_id)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give an adapter whose every request goes through the line."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        sandbox = SandboxSettings((RazorpaySandboxSettings(KEY_ID, KEY_SECRET, "webhook-secret"),))
        sandbox_url = await stack.enter_async_context(serving(sandbox_app(sandbox, session)))
        line = Line(sandbox_url, session)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", line.carry)
        url = await stack.enter_async_context(serving(app))
        stack.callback(line.released.set)
        settings = RazorpaySettings(
            url, KEY_ID, KEY_SECRET, ("webhook-secret",), "https://pay.example/checkout"
        )
        yield Bench(Razorpay(session, settings), line, settings, session)


def make_topup(amount: Money = AMOUNT) -> Topup:
    """Return a top-up as it was just recorded."""
    return Topup(
        topup_id=TOPUP_ID,
        customer_id="cus_1",
        amount=amount,
        gateway="razorpay",
        method="card",
        state=TopupState.CREATED,
        gateway_order_id="",
        gateway_payment_id="",
        transaction_id="",
        pay_order=None,
        pay_order_outcome=None,
        failure_reason="",
        checkout=None,
        reversals=(),
        return_url="",
        create_time_ms=1,
        update_time_ms=1,
        expire_time_ms=2,
        report_time_ms=0,
        poll_time_ms=None,
        poll_attempts=0,
        metadata=NO_METADATA,
        idempotency=Idempotency(IdempotencyKey("orders", "InitiateTopup", "k"), "f"),
        version=1,
    )


def status(code: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Answer:
    """Return a fault that answers with a status."""
    return lambda _: web.Response(status=code, body=body, headers=headers)


def reversals(facts: list[Fact]) -> list[GatewayReversal]:
    """Return the facts as the reversals that they all are."""
    found = [fact for fact in facts if isinstance(fact, GatewayReversal)]
    assert len(found) == len(facts)
    return found


def proof_of(topup: Topup, payment_id: str, secret: str = KEY_SECRET) -> RazorpayProof:
    """Return a proof as Razorpay Checkout makes it."""
    message = f"{topup.gateway_order_id}|{payment_id}".encode()
    signature = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return RazorpayProof(payment_id, signature)


def test_it_is_a_gateway(bench: Bench) -> None:
    """The adapter fits the interface under the name that requests use."""
    gateway: Gateway = bench.razorpay
    assert gateway.name == "razorpay"


@pytest.mark.parametrize("method", ["card", "netbanking", "upi"])
def test_offered_methods_pass_from_one_rupee(bench: Bench, method: str) -> None:
    """The smallest amount that Razorpay takes is taken."""
    bench.razorpay.check_topup(Money("INR", 100), method)


def test_less_than_a_rupee_is_refused(bench: Bench) -> None:
    """99 paise are refused before anything is recorded, with the field to change."""
    with pytest.raises(InvalidTopup) as refused:
        bench.razorpay.check_topup(Money("INR", 99), "card")
    assert refused.value.field == "amount"


@pytest.mark.parametrize("method", ["netbanking", "upi"])
def test_indian_methods_take_rupees_alone(bench: Bench, method: str) -> None:
    """Netbanking and UPI are paid in INR; a card takes another currency."""
    with pytest.raises(InvalidTopup) as refused:
        bench.razorpay.check_topup(Money("USD", 12345), method)
    assert refused.value.field == "amount"
    bench.razorpay.check_topup(Money("USD", 12345), "card")


@pytest.mark.parametrize("method", ["google_pay", "apple_pay"])
def test_known_methods_are_not_offered_yet(bench: Bench, method: str) -> None:
    """Google Pay and Apple Pay exist, and are said not to be offered."""
    with pytest.raises(NotImplementedHere):
        bench.razorpay.check_topup(Money("INR", 100), method)


def test_an_unknown_method_is_refused(bench: Bench) -> None:
    """A method that nobody knows is an error of the request."""
    with pytest.raises(InvalidTopup) as refused:
        bench.razorpay.check_topup(Money("INR", 100), "cheque")
    assert refused.value.field == "method"


async def test_opening_makes_one_order_that_names_the_topup(bench: Bench) -> None:
    """The order has the top-up's exact amount, its id as receipt, and both ids in its notes."""
    checkout = await bench.razorpay.open_topup(make_topup())
    (order,) = await bench.orders()
    assert checkout.gateway_order_id == order["id"]
    assert checkout.public_key == KEY_ID
    assert checkout.url == f"https://pay.example/checkout/{order['id']}"
    assert (order["amount"], order["currency"]) == (12345, "INR")
    assert order["receipt"] == TOPUP_ID
    assert order["notes"] == {"topup_id": TOPUP_ID, "customer_id": "cus_1"}


async def test_without_a_checkout_page_there_is_no_url(bench: Bench) -> None:
    """Where no page is configured none is invented."""
    checkout = await bench.adapter(checkout_url="").open_topup(make_topup())
    assert checkout.url == ""


async def test_opening_again_finds_the_same_order(bench: Bench) -> None:
    """A repeat makes no second order."""
    first = await bench.razorpay.open_topup(make_topup())
    assert await bench.razorpay.open_topup(make_topup()) == first
    assert bench.line.count("POST") == 1


async def test_a_lost_reply_leaves_one_order(bench: Bench) -> None:
    """When the reply to the order is lost, the lookup finds the order instead of making another."""
    bench.line.faults["POST"].append("lose the reply")
    checkout = await bench.razorpay.open_topup(make_topup())
    (order,) = await bench.orders()
    assert checkout.gateway_order_id == order["id"]
    assert bench.line.count("POST") == 1


async def test_a_lost_reply_and_a_lost_line_leave_one_order_for_the_repeat(bench: Bench) -> None:
    """When all fails after the order was made, a later repeat of the call finds that order."""
    bench.line.faults["POST"].append("lose the reply")
    bench.line.faults["GET"].extend(["pass", status(503), status(503)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    checkout = await bench.razorpay.open_topup(make_topup())
    (order,) = await bench.orders()
    assert checkout.gateway_order_id == order["id"]
    assert bench.line.count("POST") == 1


async def test_a_failed_order_is_tried_again_after_another_lookup(bench: Bench) -> None:
    """Between two tries to make the order stands a lookup."""
    bench.line.faults["POST"].append(status(502))
    await bench.razorpay.open_topup(make_topup())
    assert [method for method, _, _ in bench.line.seen] == ["GET", "POST", "GET", "POST"]
    assert len(await bench.orders()) == 1


async def test_without_a_lookup_nothing_is_ordered(bench: Bench) -> None:
    """While it cannot be known whether there is an order, none is made."""
    bench.line.faults["GET"].extend([status(500), status(500)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    assert bench.line.count("POST") == 0


async def test_of_two_orders_the_paid_one_counts(bench: Bench) -> None:
    """Where a receipt has two orders, the one that the customer paid is taken up."""
    wanted = {"amount": 12345, "currency": "INR", "receipt": TOPUP_ID}
    credentials = base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
    made = []
    for _ in range(2):
        async with bench.session.post(
            f"{bench.line.sandbox_url}/v1/orders",
            json=wanted,
            headers={"Authorization": f"Basic {credentials}"},
        ) as response:
            made.append((await response.json())["id"])
    await bench.control(f"{made[1]}/pay")
    assert (await bench.razorpay.open_topup(make_topup())).gateway_order_id == made[1]


@pytest.mark.parametrize("amount", [Money("INR", 12344), Money("USD", 12345)])
async def test_an_order_for_another_amount_is_not_used(bench: Bench, amount: Money) -> None:
    """An order under the same receipt with another amount or currency is refused."""
    await bench.razorpay.open_topup(make_topup(amount))
    with pytest.raises(GatewayRefused):
        await bench.razorpay.open_topup(make_topup())


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "order_1", "amount": 12344, "currency": "INR", "receipt": "%b"}',
        b'{"id": "order_1", "amount": 12345, "currency": "USD", "receipt": "%b"}',
        b'{"id": "order_1", "amount": 12345, "currency": "INR", "receipt": "top_another%b"}',
    ],
)
async def test_an_answer_for_another_order_is_refused(bench: Bench, body: bytes) -> None:
    """What comes back has to be what was asked for."""
    bench.line.faults["POST"].append(status(200, body % TOPUP_ID.encode()))
    with pytest.raises(GatewayRefused):
        await bench.razorpay.open_topup(make_topup())


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(503, b"<html>"),
        status(408),
        status(200, b"<html>"),
        status(200, b"[]"),
        status(200, b"\xff"),
        status(200, b"[" * 100_000),
        status(200, b'{"items": [{"id": "../x", "amount": 1, "currency": "INR"}]}'),
        status(200, b'{"items": 7}'),
        status(200, b"{}"),
        status(200, b'{"items": []}' + b" " * 1024 * 1024),
        status(404, b"<html>not Razorpay</html>"),
        status(302, headers={"Location": "/v1/orders?receipt=top_elsewhere"}),
    ],
)
async def test_an_answer_without_sense_means_unavailable(bench: Bench, fault: Answer) -> None:
    """Errors of the server, redirects and unreadable answers are tried again and then given up."""
    bench.line.faults["GET"].extend([fault, fault])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())


async def test_a_redirect_is_not_followed(bench: Bench) -> None:
    """Nobody can send the credentials somewhere else."""
    elsewhere = status(307, headers={"Location": "/elsewhere"})
    bench.line.faults["GET"].extend([elsewhere, elsewhere])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    assert {path for _, path, _ in bench.line.seen} == {f"/v1/orders?receipt={TOPUP_ID}"}


async def test_one_failure_of_a_lookup_is_survived(bench: Bench) -> None:
    """A single error of the server is not noticed."""
    bench.line.faults["GET"].append(status(500))
    assert (await bench.razorpay.open_topup(make_topup())).gateway_order_id


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, 2), ({"Retry-After": "7"}, 7), ({"Retry-After": "9" * 5000}, 60)],
)
async def test_a_rate_limit_is_passed_on_and_not_pushed(
    bench: Bench, headers: dict[str, str], expected: int
) -> None:
    """After 429 nothing is sent again here; the caller hears how long to wait."""
    bench.line.faults["GET"].append(status(429, headers=headers))
    with pytest.raises(GatewayUnavailable) as unavailable:
        await bench.razorpay.open_topup(make_topup())
    assert unavailable.value.retry_after_seconds == expected
    assert len(bench.line.seen) == 1


async def test_a_rate_limit_on_the_order_is_not_pushed_either(bench: Bench) -> None:
    """After 429 to the order itself there is no second try."""
    bench.line.faults["POST"].append(status(429))
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    assert bench.line.count("POST") == 1


async def test_silence_ends_in_time(bench: Bench) -> None:
    """A gateway that never answers is given up after the timeout of each try."""
    bench.line.faults["GET"].extend(["hang", "hang"])
    with pytest.raises(GatewayUnavailable, match="in time"):
        await bench.adapter(timeout_seconds=0.1).open_topup(make_topup())
    assert bench.line.count("GET") == 2


async def test_nobody_there_means_unavailable(bench: Bench) -> None:
    """A refused connection is no reason to fail for good, and its text stays here."""
    adapter = bench.adapter(api_url="http://127.0.0.1:1")
    with pytest.raises(GatewayUnavailable) as unavailable:
        await adapter.open_topup(make_topup())
    assert str(unavailable.value) == "Razorpay cannot be reached."


async def test_refused_credentials_are_our_fault(bench: Bench) -> None:
    """Wrong credentials are logged as an error and shown to nobody, not even in the log."""
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(GatewayUnavailable, match="credentials") as unavailable,
    ):
        await bench.adapter(key_secret="not-the-secret").open_topup(make_topup())
    assert bench.line.count("GET") == 1
    assert [(log["log_level"], log["event"]) for log in logs] == [
        ("error", "gateway credentials refused")
    ]
    assert "not-the-secret" not in f"{logs}{unavailable.value}"


async def test_a_refusal_carries_the_gateways_own_words(bench: Bench) -> None:
    """What Razorpay refuses is told in its own description, and not tried again."""
    with pytest.raises(GatewayRefused, match=r"at least INR 1\.00"):
        await bench.razorpay.open_topup(make_topup(Money("INR", 99)))
    assert bench.line.count("POST") == 1


async def test_a_good_proof_gives_the_payment_as_the_gateway_has_it(bench: Bench) -> None:
    """Proof and lookup together give the captured payment with the raw answer."""
    topup = await bench.opened()
    paid = await bench.control(f"{topup.gateway_order_id}/pay")
    report = await bench.razorpay.check_proof(
        topup, RazorpayProof(paid["payment_id"], paid["signature"])
    )
    assert report is not None
    assert report.payment.payment_id == paid["payment_id"]
    assert report.payment.gateway_order_id == topup.gateway_order_id
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert report.payment.amount == topup.amount
    assert paid["payment_id"].encode() in report.body


async def test_a_proof_does_not_replace_the_gateways_answer(bench: Bench) -> None:
    """A good signature over an authorized payment says authorized, and no more."""
    topup = await bench.opened()
    paid = await bench.control(f"{topup.gateway_order_id}/pay", {"authorize_only": True})
    report = await bench.razorpay.check_proof(topup, proof_of(topup, paid["payment_id"]))
    assert report is not None
    assert report.payment.status is GatewayPaymentStatus.AUTHORIZED


@pytest.mark.parametrize(
    "signature", ["", "0" * 64, "\u00e9" * 64, "\udcff"], ids=["none", "zeros", "foreign", "half"]
)
async def test_a_bad_signature_is_refused_without_asking(bench: Bench, signature: str) -> None:
    """A signature that does not fit costs the gateway no request."""
    topup = replace(make_topup(), gateway_order_id="order_1")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(topup, RazorpayProof("pay_1", signature))
    assert bench.line.seen == []


@pytest.mark.parametrize(
    "payment_id",
    [
        "",
        "pay_",
        "pay_1/../../orders",
        "pay_1?x",
        "pay_1\n",
        "order_1",
        "pay_" + "a" * 33,
        "p\u00e9",
    ],
)
async def test_a_payment_id_cannot_lead_elsewhere(bench: Bench, payment_id: str) -> None:
    """An id of another shape is refused even where it is signed, before it comes into a path."""
    topup = replace(make_topup(), gateway_order_id="order_1")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(topup, proof_of(topup, payment_id))
    assert bench.line.seen == []


async def test_the_signature_counts_over_the_stored_order_only(bench: Bench) -> None:
    """The proof of one paid order does not pay another top-up's order."""
    paid_topup = await bench.opened()
    paid = await bench.control(f"{paid_topup.gateway_order_id}/pay")
    other = replace(paid_topup, gateway_order_id="order_Another")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(
            other, RazorpayProof(paid["payment_id"], paid["signature"])
        )


async def test_a_payment_of_another_order_is_refused_by_the_gateways_answer(bench: Bench) -> None:
    """Even a signature that fits does not help where the payment belongs to another order."""
    paid_topup = await bench.opened()
    paid = await bench.control(f"{paid_topup.gateway_order_id}/pay")
    other = replace(paid_topup, gateway_order_id="order_Another")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(other, proof_of(other, paid["payment_id"]))


async def test_a_proof_before_there_is_an_order_is_refused(bench: Bench) -> None:
    """Nothing can be proven for a top-up that the gateway has no order for."""
    for proof in (proof_of(make_topup(), "pay_1"), LookupProof()):
        with pytest.raises(ProofInvalid):
            await bench.razorpay.check_proof(make_topup(), proof)


@pytest.mark.parametrize("kind", ["google_pay", "apple_pay"])
async def test_proofs_of_known_methods_are_not_offered_yet(bench: Bench, kind: str) -> None:
    """Tokens of Google Pay and Apple Pay are said not to be taken yet."""
    with pytest.raises(NotImplementedHere):
        await bench.razorpay.check_proof(make_topup(), OtherProof(kind))


async def test_another_gateways_proof_does_not_hold(bench: Bench) -> None:
    """PayPal's proof says nothing about a top-up through Razorpay."""
    for proof in (PaypalProof("5O190127TN364715T"), OtherProof("stripe")):
        with pytest.raises(ProofInvalid, match="does not fit"):
            await bench.razorpay.check_proof(make_topup(), proof)


async def test_a_lookup_finds_nothing_before_the_customer_pays(bench: Bench) -> None:
    """An order without payments gives no report."""
    assert await bench.razorpay.check_proof(await bench.opened(), LookupProof()) is None


async def test_of_several_payments_the_captured_one_is_reported(bench: Bench) -> None:
    """Failed and authorized attempts stand behind the one that was captured."""
    topup = await bench.opened()
    expected = [
        ("fail", {}, GatewayPaymentStatus.FAILED),
        ("pay", {"authorize_only": True}, GatewayPaymentStatus.AUTHORIZED),
        ("fail", {}, GatewayPaymentStatus.AUTHORIZED),
        ("pay", {}, GatewayPaymentStatus.CAPTURED),
    ]
    for action, content, status_then in expected:
        await bench.control(f"{topup.gateway_order_id}/{action}", content)
        report = await bench.razorpay.check_proof(topup, LookupProof())
        assert report is not None
        assert report.payment.status is status_then


async def test_a_pending_payment_stands_before_a_failed_one(bench: Bench) -> None:
    """An attempt that was just created may still succeed; a refunded one had been captured."""
    topup = replace(make_topup(), gateway_order_id="order_1")
    found = '{"id": "pay_%s", "order_id": "%s", "amount": 1, "currency": "INR", "status": "%s"}'
    orders = [("1", "order_1", "failed"), ("2", "order_1", "created")]
    for extra, expected in [
        ((), GatewayPaymentStatus.PENDING),
        ((("3", "order_2", "captured"),), GatewayPaymentStatus.PENDING),
        ((("3", "order_1", "refunded"),), GatewayPaymentStatus.CAPTURED),
    ]:
        items = ",".join(found % entry for entry in (*orders, *extra))
        bench.line.faults["GET"].append(status(200, f'{{"items": [{items}]}}'.encode()))
        report = await bench.razorpay.check_proof(topup, LookupProof())
        assert report is not None
        assert report.payment.status is expected


def test_credentials_go_over_no_open_line(bench: Bench) -> None:
    """An API that is reached without TLS, and is not on this machine, is refused at start."""
    with pytest.raises(ValueError, match="https"):
        bench.adapter(api_url="http://api.razorpay.com")
    assert bench.adapter(api_url="https://api.razorpay.com").name == "razorpay"


async def test_a_gateway_that_is_down_is_left_alone(bench: Bench) -> None:
    """After five failures in a row nothing is asked any more, until a probe shows it is back."""
    now = [0.0]
    razorpay = Razorpay(bench.session, bench.settings, clock=lambda: now[0])
    bench.line.faults["GET"].extend([status(503)] * 5)
    for _ in range(3):
        with pytest.raises(GatewayUnavailable):
            await razorpay.open_topup(make_topup())
    assert len(bench.line.seen) == 5
    with pytest.raises(GatewayUnavailable, match="left alone") as unavailable:
        await razorpay.open_topup(make_topup())
    assert unavailable.value.retry_after_seconds == 10
    assert len(bench.line.seen) == 5
    now[0] = 10.0
    assert (await razorpay.open_topup(make_topup())).gateway_order_id


@dataclass(frozen=True)
class Held:
    """A top-up with a payment that waits to be captured."""

    topup: Topup
    payment: GatewayPayment

    @property
    def path(self) -> str:
        """Where the sandbox controls the payment."""
        return f"/sandbox/payments/{self.payment.payment_id}"


async def hold(bench: Bench, **how: object) -> Held:
    """Let the customer pay without capture."""
    topup = await bench.opened()
    await bench.control(f"{topup.gateway_order_id}/pay", {"authorize_only": True, **how})
    report = await bench.razorpay.check_proof(topup, LookupProof())
    assert report is not None
    bench.line.seen.clear()
    return Held(topup, report.payment)


async def test_an_authorized_payment_is_captured_whole(bench: Bench) -> None:
    """Capturing sends the authorized amount, and gives the payment as it then is."""
    held = await hold(bench)
    report = await bench.razorpay.capture(held.topup, held.payment)
    assert report.payment == replace(held.payment, status=GatewayPaymentStatus.CAPTURED)
    assert held.payment.payment_id.encode() in report.body
    ((method, path, body),) = bench.line.seen
    assert (method, path) == ("POST", f"/v1/payments/{held.payment.payment_id}/capture")
    assert body == b'{"amount": 12345, "currency": "INR"}'


async def test_a_capture_that_came_meanwhile_is_a_success(bench: Bench) -> None:
    """Whoever captured it, the payment is returned as captured."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    report = await bench.razorpay.capture(held.topup, held.payment)
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert [method for method, _, _ in bench.line.seen] == ["POST", "GET"]


async def test_a_lost_answer_to_a_capture_is_made_good(bench: Bench) -> None:
    """The repeat is refused as captured already, and the payment then fetched."""
    held = await hold(bench)
    bench.line.faults["POST"].append("lose the reply")
    report = await bench.razorpay.capture(held.topup, held.payment)
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert [method for method, _, _ in bench.line.seen] == ["POST", "POST", "GET"]


async def test_capture_called_twice_at_once(bench: Bench) -> None:
    """Mistake 8: of several captures at one moment one takes the money, and all succeed."""
    held = await hold(bench)
    captures = [bench.razorpay.capture(held.topup, held.payment) for _ in range(5)]
    reports = await asyncio.gather(*captures)
    assert {report.payment.status for report in reports} == {GatewayPaymentStatus.CAPTURED}
    listed = [movement async for movement in bench.razorpay.movements(0, FOREVER_MS)]
    assert [movement.fact.payment_id for movement in listed] == [held.payment.payment_id]


async def test_a_capture_that_is_refused_stays_refused(bench: Bench) -> None:
    """What Razorpay does not capture is told with its words, status and error code."""
    held = await hold(bench)
    wrong = replace(held.payment, amount=Money("INR", 12344))
    with pytest.raises(GatewayRefused, match="equal to the amount authorized") as refused:
        await bench.razorpay.capture(held.topup, wrong)
    assert refused.value.status == 400
    error = refused.value.content["error"]
    assert isinstance(error, dict)
    assert error["code"] == "BAD_REQUEST_ERROR"


async def test_a_payment_that_failed_meanwhile_is_returned_as_failed(bench: Bench) -> None:
    """A capture that comes too late tells what became of the payment instead."""
    topup = await bench.opened()
    failed = await bench.control(f"{topup.gateway_order_id}/fail")
    seen_before = GatewayPayment(
        failed["payment_id"], topup.gateway_order_id, GatewayPaymentStatus.AUTHORIZED, AMOUNT
    )
    report = await bench.razorpay.capture(topup, seen_before)
    assert report.payment.status is GatewayPaymentStatus.FAILED


async def test_a_strange_payment_is_not_captured(bench: Bench) -> None:
    """Nothing is asked for another order's payment, or with an id that leads elsewhere."""
    held = await hold(bench)
    for strange in (
        replace(held.payment, gateway_order_id="order_Another"),
        replace(held.payment, payment_id="pay_1/../../orders"),
    ):
        with pytest.raises(GatewayRefused):
            await bench.razorpay.capture(held.topup, strange)
    assert bench.line.seen == []


async def test_an_answer_about_another_payment_captures_nothing(bench: Bench) -> None:
    """What comes back from a capture has to be the payment that was sent."""
    held = await hold(bench)
    other = (
        b'{"id": "pay_Another", "amount": 12345, "currency": "INR", "status": "captured",'
        b' "order_id": null}'
    )
    bench.line.faults["POST"].append(status(200, other))
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.capture(held.topup, held.payment)


async def test_the_order_of_a_payment_is_found(bench: Bench) -> None:
    """A report that names only the payment leads to the order, and to none where there is none."""
    held = await hold(bench)
    order_id = await bench.razorpay.order_of(held.payment.payment_id)
    assert order_id == held.topup.gateway_order_id
    assert await bench.razorpay.order_of("pay_Unknown") == ""
    asked = len(bench.line.seen)
    assert await bench.razorpay.order_of("pay_1/../../orders") == ""
    assert len(bench.line.seen) == asked


async def test_a_lookup_tells_what_was_refunded_already(bench: Bench) -> None:
    """Refunds whose webhooks were lost come with the payment, each with its amount and state."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    report = await bench.razorpay.check_proof(held.topup, LookupProof())
    assert report is not None
    assert report.reversals == ()
    made = [
        (await bench.control(f"{held.path}/refund", content))["refund"]
        for content in ({"amount": 345}, {"amount": 1000, "fail": True}, {})
    ]
    report = await bench.razorpay.check_proof(held.topup, LookupProof())
    assert report is not None
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    told = {one.reversal_id: one for one in report.reversals}
    states = ["TAKEN", "RETURNED", "TAKEN"]
    assert [told[one["id"]].state for one in made] == states
    assert [told[one["id"]].amount.minor_units for one in made] == [345, 1000, 12000]
    assert {one.gateway_order_id for one in report.reversals} == {held.topup.gateway_order_id}
    assert all(one.is_final for one in report.reversals)


async def test_while_refunds_cannot_be_asked_for_nothing_is_told(bench: Bench) -> None:
    """A payment that was partly taken back is not credited as if it were all there."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    await bench.control(f"{held.path}/refund", {"amount": 345})
    bench.line.faults["GET"].extend(["pass", status(500), status(500)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.check_proof(held.topup, LookupProof())


async def moved(bench: Bench, start_ms: int = 0, end_ms: int = FOREVER_MS) -> dict[str, Movement]:
    """Return what Razorpay moved in a time, by its id."""
    found: dict[str, Movement] = {}
    async for movement in bench.razorpay.movements(start_ms, end_ms):
        fact = movement.fact
        name = fact.reversal_id if isinstance(fact, GatewayReversal) else fact.payment_id
        assert name not in found
        found[name] = movement
    return found


async def test_the_books_have_captures_refunds_and_disputes(bench: Bench) -> None:
    """What failed or only waits moved no money; all else is told with its exact amount."""
    held = await hold(bench)
    order = held.topup.gateway_order_id
    await bench.control(f"{order}/fail")
    assert await moved(bench) == {}
    await bench.control(f"{held.path}/capture")
    refunds = [
        (await bench.control(f"{held.path}/refund", content))["refund"]["id"]
        for content in ({"amount": 345}, {"amount": 1000, "fail": True})
    ]
    disputes = []
    for step in ("", "win", "lose", "contest", "close"):
        made = (await bench.control(f"{held.path}/dispute", {"amount": 678}))["dispute"]["id"]
        disputes.append(made)
        if step:
            await bench.control(f"{held.path}/dispute/{made}/{step}")
    found = await moved(bench)
    assert set(found) == {held.payment.payment_id, *refunds, *disputes}
    captured = found[held.payment.payment_id].fact
    assert captured == replace(held.payment, status=GatewayPaymentStatus.CAPTURED)
    told = [found[name].fact for name in (*refunds, *disputes)]
    assert [(one.amount.minor_units, one.state, one.is_final) for one in reversals(told)] == [
        (345, "TAKEN", True),
        (1000, "RETURNED", True),
        (678, "TAKEN", False),
        (678, "RETURNED", True),
        (678, "TAKEN", True),
        (678, "TAKEN", False),
        (678, "RETURNED", True),
    ]


async def test_the_books_are_read_from_a_moment_to_before_another(bench: Bench) -> None:
    """The start belongs to the time and the end does not, to the millisecond."""
    held = await hold(bench)
    await bench.control(f"{held.path}/capture")
    name = held.payment.payment_id
    (movement,) = (await moved(bench)).values()
    time_ms = movement.time_ms
    for start_ms, end_ms, is_there in [
        (time_ms, time_ms + 1, True),
        (time_ms + 1, FOREVER_MS, False),
        (0, time_ms, False),
        (time_ms, time_ms, False),
        (-FOREVER_MS, FOREVER_MS, True),
    ]:
        assert (name in await moved(bench, start_ms, end_ms)) is is_there


async def test_the_books_are_read_to_their_last_page(bench: Bench) -> None:
    """More than Razorpay gives at once is read page by page, nothing missing and nothing twice."""
    names = []
    for number in range(101):
        topup = replace(make_topup(), topup_id=f"top_{number}")
        order_id = (await bench.razorpay.open_topup(topup)).gateway_order_id
        names.append((await bench.control(f"{order_id}/pay"))["payment_id"])
    bench.line.seen.clear()
    assert set(await moved(bench)) == set(names)
    assert len(bench.line.seen) == 4


async def test_an_entry_that_comes_again_counts_once(bench: Bench) -> None:
    """A page that moved on while it was read brings an entry twice, and it is told once."""
    entry = '{"id": "pay_1", "amount": 1, "currency": "INR", "status": "captured", "created_at": 1}'
    page = f'{{"items": [{",".join([entry] * 100)}]}}'.encode()
    bench.line.faults["GET"].extend([status(200, page), status(200, page)])
    assert set(await moved(bench)) == {"pay_1"}


async def test_books_that_cannot_be_read_are_not_guessed(bench: Bench) -> None:
    """One unreadable entry stops the reading: a comparison with half the books would mislead."""
    entry = b'{"items": [{"id": "pay_1", "amount": 1.5, "currency": "INR", "status": "captured"}]}'
    bench.line.faults["GET"].append(status(200, entry))
    with pytest.raises(GatewayUnavailable):
        await moved(bench)
