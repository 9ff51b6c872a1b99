"""What the tests of the sandbox gateway share: a running sandbox, and who takes its webhooks.

A test module makes a fixture of `running_sandbox`.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from gateway_adapters.sandbox import RazorpaySandboxSettings, SandboxSettings, sandbox_app

KEY_ID, KEY_SECRET, WEBHOOK_SECRET = "rzp_test_key", "key-secret", "webhook-secret"
BASIC = "Basic " + base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
VECTORS = Path(__file__).parents[1].parent / "shared" / "vectors"

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


@asynccontextmanager
async def running_sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox that keeps its state in memory."""
    async with ClientSession() as session:
        receiver = Receiver()
        app = web.Application()
        app.router.add_post("/webhooks/razorpay", receiver.take)
        async with serving(app) as receiver_url:
            razorpay = RazorpaySandboxSettings(
                KEY_ID, KEY_SECRET, WEBHOOK_SECRET, f"{receiver_url}/webhooks/razorpay"
            )
            settings = SandboxSettings((razorpay,))
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
