"""What the tests of the PayPal adapter share: the adapter, the sandbox, and a line that can break.

A test module makes a fixture of `running_bench`.
"""

import asyncio
import functools
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import ClientSession, web

from gateway_adapters.gateway import (
    LookupProof,
    PaymentReport,
    WebhookEvent,
)
from gateway_adapters.paypal import Paypal, PaypalSettings
from gateway_adapters.sandbox.control import tell_control_errors
from gateway_adapters.sandbox.paypal_mount import PaypalSandbox, PaypalSandboxSettings
from gateway_adapters.sandbox.paypal_signing import PaypalKeys, make_keys
from gateway_adapters.sandbox.webhooks import Webhook
from paypal_authority import serving
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    GatewayPayment,
    GatewayPaymentStatus,
    Idempotency,
    IdempotencyKey,
    ReversalState,
    Topup,
    TopupState,
)

CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID = "client", "client-secret", "4JH86294D6297924G"
TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"
AMOUNT = Money("USD", 12_345)

Json = dict[str, Any]
Answer = Callable[[web.Request], web.Response]

AUTHORIZED, CAPTURED = GatewayPaymentStatus.AUTHORIZED, GatewayPaymentStatus.CAPTURED
PENDING, FAILED = GatewayPaymentStatus.PENDING, GatewayPaymentStatus.FAILED
TAKEN, RETURNED = ReversalState.TAKEN, ReversalState.RETURNED


@dataclass
class Line:
    """The line to the sandbox: it notes each request, and breaks the next ones as it is told."""

    session: ClientSession
    sandbox_url: str = ""
    seen: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)
    faults: dict[str, deque[Answer | str]] = field(default_factory=lambda: defaultdict(deque))
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def requests(self, method: str, end: str) -> list[dict[str, str]]:
        """Return the headers of the requests of a method to paths of an end."""
        return [
            headers
            for seen, path, _, headers in self.seen
            if seen == method and path.partition("?")[0].endswith(end)
        ]

    def due(self, end: str, *faults: Answer | str) -> None:
        """Let the next requests to paths of an end suffer."""
        self.faults[end].extend(faults)

    async def carry(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, unless a fault is due for its path."""
        body = await request.read()
        self.seen.append((request.method, request.path_qs, body, dict(request.headers)))
        fault = self._next_fault(request.path)
        if fault == "hang":
            await self.released.wait()
            return web.Response(status=500)
        if callable(fault):
            return fault(request)
        answer = await self._forward(request, body)
        if fault == "lose the answer":
            assert request.transport is not None
            request.transport.abort()
        return answer

    def _next_fault(self, path: str) -> Answer | str | None:
        for end, due in self.faults.items():
            if due and path.endswith(end):
                return due.popleft()
        return None

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        names = ("Authorization", "Content-Type", "PayPal-Request-Id", "Prefer")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        url = self.sandbox_url + request.path_qs
        async with self.session.request(
            request.method, url, data=body or None, headers=headers
        ) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type="application/json",
            )


@dataclass
class Bench:
    """An adapter, the line, the sandbox, and the webhooks that the sandbox sent."""

    paypal: Paypal
    line: Line
    sandbox: PaypalSandbox
    settings: PaypalSettings
    session: ClientSession
    webhooks: list[Webhook]
    seconds: float = 0.0

    async def control(self, path: str, **content: Any) -> Json:
        """Act as the sandbox's customer, bank or merchant."""
        url = f"{self.line.sandbox_url}/sandbox/paypal/{path}"
        async with self.session.post(url, json=content) as response:
            assert response.status == 200, await response.text()
            answer: Json = await response.json()
            return answer

    async def opened(self, topup: Topup | None = None) -> Topup:
        """Return a top-up that has its order."""
        topup = topup or make_topup()
        checkout = await self.paypal.open_topup(topup)
        return replace(topup, gateway_order_id=checkout.gateway_order_id)

    async def approved(self, topup: Topup | None = None, **content: Any) -> Topup:
        """Return a top-up whose order the customer approved."""
        topup = await self.opened(topup)
        await self.control(f"orders/{topup.gateway_order_id}/approve", **content)
        return topup

    async def captured(self) -> tuple[Topup, GatewayPayment]:
        """Return a top-up whose order was captured, and the payment."""
        topup = await self.approved()
        report = await self.paypal.capture(topup, on_hold(topup))
        assert report.payment.status is CAPTURED
        return topup, report.payment

    async def look_up(self, topup: Topup) -> PaymentReport | None:
        """Ask what PayPal has of a top-up."""
        return await self.paypal.check_proof(topup, LookupProof())

    async def read(self, webhook: Webhook) -> WebhookEvent:
        """Have the adapter read a webhook of the sandbox."""
        headers = {name.lower(): value for name, value in self.sandbox.sign(webhook).items()}
        return await self.paypal.read_webhook(headers, webhook.body.encode())

    async def events(self) -> list[WebhookEvent]:
        """Have the adapter read all webhooks that were sent since the last time."""
        webhooks = list(self.webhooks)
        self.webhooks.clear()
        return [await self.read(webhook) for webhook in webhooks]


@functools.cache
def _keys() -> PaypalKeys:
    """Return the keys of the sandbox, which take a while to make."""
    return make_keys()


@asynccontextmanager
async def running_bench() -> AsyncIterator[Bench]:
    """Give an adapter whose every request to the API goes through the line."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        line = Line(session)
        line_app = web.Application()
        line_app.router.add_route("*", "/{path:.*}", line.carry)
        url = await stack.enter_async_context(serving(line_app))
        stack.callback(line.released.set)
        webhooks: list[Webhook] = []

        async def commit(made: Sequence[Webhook], copies: int) -> list[asyncio.Task[None]]:
            webhooks.extend(one for one in made for _ in range(copies))
            return []

        sandbox = PaypalSandbox(
            PaypalSandboxSettings(CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID, url),
            commit,
            {"keys": _keys().to_json()},
        )
        app = web.Application(middlewares=[tell_control_errors, sandbox.middleware])
        app.add_routes(sandbox.table())
        line.sandbox_url = await stack.enter_async_context(serving(app))
        settings = PaypalSettings(
            url,
            CLIENT_ID,
            CLIENT_SECRET,
            WEBHOOK_ID,
            "sandbox",
            return_url="https://shop.example/paid",
            cancel_url="https://shop.example/cart",
            trust_anchors_pem=sandbox.trust_anchors_pem,
            certificate_url_prefix=sandbox.certificate_url_prefix,
        )
        bench = Bench(Paypal(session, settings), line, sandbox, settings, session, webhooks)
        bench.paypal = Paypal(session, settings, clock=lambda: bench.seconds)
        yield bench


def make_topup(amount: Money = AMOUNT, **changes: Any) -> Topup:
    """Return a top-up as it was just recorded."""
    fields: Json = {
        "topup_id": TOPUP_ID,
        "customer_id": "cus_1",
        "amount": amount,
        "gateway": "paypal",
        "method": "paypal",
        "state": TopupState.CREATED,
        "gateway_order_id": "",
        "gateway_payment_id": "",
        "transaction_id": "",
        "pay_order": None,
        "pay_order_outcome": None,
        "failure_reason": "",
        "checkout": None,
        "reversals": (),
        "return_url": "",
        "create_time_ms": 1,
        "update_time_ms": 1,
        "expire_time_ms": 2,
        "report_time_ms": 0,
        "metadata": NO_METADATA,
        "idempotency": Idempotency(IdempotencyKey("orders", "InitiateTopup", "k"), "f"),
        "version": 1,
    }
    known = Topup.__dataclass_fields__
    fields |= {name: 0 for name in known if name not in fields}
    return Topup(**(fields | changes))


def on_hold(topup: Topup) -> GatewayPayment:
    """Return the approved payment of a top-up."""
    return GatewayPayment("", topup.gateway_order_id, AUTHORIZED, topup.amount)


def status(code: int, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Answer:
    """Return a fault that answers with a status."""
    return lambda _: web.Response(status=code, body=body, headers=headers)


def refusal(issue: str, code: int = 422) -> Answer:
    """Return a fault that refuses as PayPal does."""
    content = {"name": "UNPROCESSABLE_ENTITY", "message": "No.", "details": [{"issue": issue}]}
    return status(code, json.dumps(content).encode())
