"""What the tests of the Razorpay adapter share: the adapter, the sandbox, and a line that breaks.

A test module makes a fixture of `running_bench`.
"""

import asyncio
import base64
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import ClientSession, web

from gateway_adapters.razorpay import Razorpay, RazorpaySettings, UpiPayer
from gateway_adapters.sandbox import RazorpaySandboxSettings, SandboxSettings, sandbox_app
from sandbox_bench import serving
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    Idempotency,
    IdempotencyKey,
    Topup,
    TopupState,
)

KEY_ID, KEY_SECRET = "rzp_test_key", "key-secret"
TOPUP_ID = "top_01JD8Z6Q7M0123456789ABCDEF"
AMOUNT = Money("INR", 12345)
NOW_SECONDS = int(time.time())
FOREVER_MS = 32_503_680_000_000
"""The year 3000."""

GOOD_UPI_URI = "upi://pay?pa=shop.razorpay@hdfcbank&pn=Shop&tr=RZP1&tn=Top&am=123.45&cu=INR&mc=5411"
"""As Razorpay gives one, for the amount of these top-ups."""

BAD_UPI_URIS = [
    GOOD_UPI_URI.replace("123.45", "123.44"),
    GOOD_UPI_URI.replace("123.45", "12345"),
    GOOD_UPI_URI.replace("am=123.45&", ""),
    GOOD_UPI_URI.replace("shop.razorpay@hdfcbank", "shop"),
    GOOD_UPI_URI.replace("pa=", "xx="),
    GOOD_UPI_URI.replace("INR", "USD"),
    GOOD_UPI_URI.replace("upi://", "https://"),
    GOOD_UPI_URI + "&am=1",
    GOOD_UPI_URI + "&x=" + "a" * 1024,
]

Answer = Callable[[web.Request], web.Response]


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
        """Return the orders that the sandbox has."""
        return await self._items("orders")

    async def qr_codes(self) -> list[dict[str, Any]]:
        """Return the QR codes that the sandbox has."""
        return await self._items("qr_codes")

    async def by_hand(self, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the sandbox's API past the adapter and the line, as the account's owner."""
        credentials = base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        url = self.line.sandbox_url + path
        async with self.session.post(url, json=content or {}, headers=headers) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    def adapter(self, **changes: Any) -> Razorpay:
        """Return another adapter with other settings."""
        return Razorpay(self.session, replace(self.settings, **changes))

    async def opened(self, topup: Topup | None = None) -> Topup:
        """Return a top-up that has its order."""
        topup = topup or make_topup()
        checkout = await self.razorpay.open_topup(topup)
        return replace(topup, gateway_order_id=checkout.gateway_order_id)

    async def _items(self, kind: str) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.line.sandbox_url}/sandbox/{kind}") as response:
            items: list[dict[str, Any]] = (await response.json())["items"]
            return items


@asynccontextmanager
async def running_bench() -> AsyncIterator[Bench]:
    """Run an adapter whose every request goes through the line."""
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
            url,
            KEY_ID,
            KEY_SECRET,
            ("webhook-secret",),
            "https://pay.example/checkout",
            UpiPayer("shop@example.com", "+919000090000"),
        )
        yield Bench(Razorpay(session, settings), line, settings, session)


def make_topup(amount: Money = AMOUNT, method: str = "card", create_time_ms: int = 1) -> Topup:
    """Return a top-up as it was just recorded."""
    return Topup(
        topup_id=TOPUP_ID,
        customer_id="cus_1",
        amount=amount,
        gateway="razorpay",
        method=method,
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
        create_time_ms=create_time_ms,
        update_time_ms=create_time_ms,
        expire_time_ms=create_time_ms + 30 * 60_000,
        report_time_ms=0,
        poll_time_ms=None,
        poll_attempts=0,
        metadata=NO_METADATA,
        idempotency=Idempotency(IdempotencyKey("orders", "InitiateTopup", "k"), "f"),
        version=1,
    )


def upi_topup(method: str = "upi") -> Topup:
    """Return a top-up by UPI that was recorded just now."""
    return make_topup(method=method, create_time_ms=NOW_SECONDS * 1000)


def status(code: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Answer:
    """Return a fault that answers with a status."""
    return lambda _: web.Response(status=code, body=body, headers=headers)
