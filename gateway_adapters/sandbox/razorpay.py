"""The sandbox's Razorpay over HTTP: the API as Razorpay has it, and the control endpoints.

API, with HTTP Basic `key_id:key_secret`:

    POST /v1/orders                     GET /v1/orders?receipt=...
    GET  /v1/orders/{id}                GET /v1/orders/{id}/payments
    GET  /v1/payments/{id}
    POST /v1/payments/{id}/capture      POST /v1/payments/{id}/refund

Control, for whoever reaches it. All fields of the JSON body are optional:

    GET  /sandbox/orders
    POST /sandbox/orders/{id}/pay       {amount, method, duplicate, webhook, wait, authorize_only}
    POST /sandbox/orders/{id}/fail      {amount, method, duplicate, webhook, wait}

`amount` is paid instead of the order's. `duplicate` is how many times each webhook is sent beyond
the first; `webhook: false` sends none; `wait: true` answers once they were taken, or after 5 s.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway_adapters.sandbox.razorpay_account import PaymentAttempt, RazorpayAccount, new_id
from gateway_adapters.sandbox.razorpay_entities import (
    Event,
    Payment,
    collection,
    envelope,
    order_entity,
    payment_entity,
    refund_entity,
)
from gateway_adapters.sandbox.razorpay_fields import RazorpayError, control_field
from gateway_adapters.sandbox.webhooks import Webhook

USER_AGENT: Final = "Razorpay-Webhook/v1"
_METHODS: Final = frozenset({"card", "netbanking", "upi", "wallet"})
_MAX_DUPLICATES: Final = 20
_COUNT: Final = re.compile(r"[0-9]{1,3}")
_MAX_COUNT: Final = 100
_DEFAULT_COUNT: Final = "10"

_LONGEST_WAIT_SECONDS: Final = 5.0

Commit = Callable[[Sequence[Webhook], int], Awaitable[list[asyncio.Task[None]]]]
"""Keeps what changed, then sends the webhooks, each so many times; returns the sendings."""


class RazorpayRoutes:
    """The routes to one account."""

    def __init__(
        self,
        account: RazorpayAccount,
        commit: Commit,
        *,
        key_id: str,
        key_secret: str,
        webhook_secret: str,
    ) -> None:
        """Without a `webhook_secret` no webhooks are sent."""
        credentials = base64.b64encode(f"{key_id}:{key_secret}".encode())
        self._authorization = b"Basic " + credentials
        self._account = account
        self._commit = commit
        self._key_secret = key_secret
        self._webhook_secret = webhook_secret

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        return [
            web.post("/v1/orders", self.create_order),
            web.get("/v1/orders", self.list_orders),
            web.get("/v1/orders/{order_id}", self.get_order),
            web.get("/v1/orders/{order_id}/payments", self.list_payments),
            web.get("/v1/payments/{payment_id}", self.get_payment),
            web.post("/v1/payments/{payment_id}/capture", self.capture),
            web.post("/v1/payments/{payment_id}/refund", self.refund),
            web.get("/sandbox/orders", self.list_all_orders),
            web.post("/sandbox/orders/{order_id}/pay", self.pay),
            web.post("/sandbox/orders/{order_id}/fail", self.fail),
        ]

    @property
    def middleware(self) -> Middleware:
        """What checks the credentials and gives errors Razorpay's shape."""

        @web.middleware
        async def speak_like_razorpay(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                self._check_credentials(request)
                return await handler(request)
            except RazorpayError as error:
                return _error(error)
            except web.HTTPException as error:
                status = HTTPStatus(error.status)
                return _error(
                    RazorpayError("The requested URL was not found on the server.", "", status)
                )

        return speak_like_razorpay

    async def create_order(self, request: web.Request) -> web.Response:
        """Make an order."""
        order = self._account.create_order(await _content(request))
        await self._commit((), 0)
        return web.json_response(order_entity(order))

    async def list_orders(self, request: web.Request) -> web.Response:
        """List the newest orders, or those with a receipt."""
        receipt = request.query.get("receipt")
        count = _count(request.query.get("count", _DEFAULT_COUNT))
        if receipt is None:
            orders = list(reversed(self._account.orders.values()))
        else:
            orders = self._account.orders_with(receipt)
        return web.json_response(collection([order_entity(order) for order in orders[:count]]))

    async def get_order(self, request: web.Request) -> web.Response:
        """Return an order."""
        order = self._account.order(request.match_info["order_id"])
        return web.json_response(order_entity(order))

    async def list_payments(self, request: web.Request) -> web.Response:
        """List an order's payments."""
        payments = self._account.payments_of(request.match_info["order_id"])
        return web.json_response(collection([payment_entity(payment) for payment in payments]))

    async def get_payment(self, request: web.Request) -> web.Response:
        """Return a payment."""
        payment = self._account.payment(request.match_info["payment_id"])
        return web.json_response(payment_entity(payment))

    async def capture(self, request: web.Request) -> web.Response:
        """Capture an authorized payment."""
        content = await _content(request)
        payment, events = self._account.capture(request.match_info["payment_id"], content)
        await self._commit(self._webhooks(events), 1)
        return web.json_response(payment_entity(payment))

    async def refund(self, request: web.Request) -> web.Response:
        """Refund a captured payment."""
        content = await _content(request)
        key = request.headers.get("X-Refund-Idempotency", "")
        refund, events = self._account.refund(request.match_info["payment_id"], content, key)
        await self._commit(self._webhooks(events), 1)
        return web.json_response(refund_entity(refund))

    async def list_all_orders(self, _request: web.Request) -> web.Response:
        """List all orders, newest first."""
        orders = reversed(self._account.orders.values())
        return web.json_response(collection([order_entity(order) for order in orders]))

    async def pay(self, request: web.Request) -> web.Response:
        """Pay an order as its customer."""
        order_id = self._known_order(request)
        content = await _content(request)
        payment, events = self._account.pay(order_id, _attempt(content))
        return await self._tell(payment, events, content)

    async def fail(self, request: web.Request) -> web.Response:
        """Fail to pay an order as its customer."""
        order_id = self._known_order(request)
        content = await _content(request)
        payment, events = self._account.fail(order_id, _attempt(content))
        return await self._tell(payment, events, content)

    def _known_order(self, request: web.Request) -> str:
        order_id = request.match_info["order_id"]
        if order_id not in self._account.orders:
            raise RazorpayError("The id provided does not exist", "", HTTPStatus.NOT_FOUND)
        return order_id

    async def _tell(
        self, payment: Payment, events: Sequence[Event], content: dict[str, Any]
    ) -> web.Response:
        """Keep what happened, send the webhooks, and answer what Checkout gives to an app."""
        webhooks = self._webhooks(events) if control_field(content, "webhook", True) else []
        duplicates: int = control_field(content, "duplicate", 0)
        sendings = await self._commit(webhooks, 1 + duplicates)
        if sendings and control_field(content, "wait", False):
            await asyncio.wait(sendings, timeout=_LONGEST_WAIT_SECONDS)
        answer = {
            "order_id": payment.order_id,
            "payment_id": payment.id,
            "event_ids": [webhook.event_id for webhook in webhooks],
        }
        if payment.status != "failed":
            answer["signature"] = _sign(self._key_secret, f"{payment.order_id}|{payment.id}")
        return web.json_response(answer)

    def _webhooks(self, events: Sequence[Event]) -> list[Webhook]:
        """Write the events down as they will be sent, signed."""
        if not self._webhook_secret:
            return []
        return [self._webhook(event) for event in events]

    def _webhook(self, event: Event) -> Webhook:
        event_id = new_id("evt").removeprefix("evt_")
        body = json.dumps(envelope(event, int(time.time())))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "X-Razorpay-Event-Id": event_id,
            "X-Razorpay-Signature": _sign(self._webhook_secret, body),
        }
        return Webhook(event_id, body, headers)

    def _check_credentials(self, request: web.Request) -> None:
        """Let only the account's owner at the API."""
        if not request.path.startswith("/v1/"):
            return
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._authorization):
            raise RazorpayError("Authentication failed", "", HTTPStatus.UNAUTHORIZED)


def _attempt(content: dict[str, Any]) -> PaymentAttempt:
    """Read how the customer pays; whatever is wrong is refused before anything happens."""
    method: str = control_field(content, "method", "card")
    if method not in _METHODS:
        raise RazorpayError(f"method must be one of {', '.join(sorted(_METHODS))}.", "method")
    duplicates: int = control_field(content, "duplicate", 0)
    if not 0 <= duplicates <= _MAX_DUPLICATES:
        raise RazorpayError(f"duplicate must be from 0 to {_MAX_DUPLICATES}.", "duplicate")
    control_field(content, "webhook", True)
    is_authorized_only: bool = control_field(content, "authorize_only", False)
    return PaymentAttempt(method, content.get("amount"), is_authorized_only)


async def _content(request: web.Request) -> dict[str, Any]:
    """Read the body: a JSON object, or nothing."""
    body = await request.read()
    try:
        content = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise RazorpayError("The request body is not a JSON object.")
    return content


def _count(text: str) -> int:
    if _COUNT.fullmatch(text) is None or not 1 <= int(text) <= _MAX_COUNT:
        raise RazorpayError(f"The count must be between 1 and {_MAX_COUNT}.", "count")
    return int(text)


def _sign(secret: str, message: str) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def _error(error: RazorpayError) -> web.Response:
    """Return the error as Razorpay tells it."""
    content: dict[str, Any] = {"code": "BAD_REQUEST_ERROR", "description": error.description}
    if error.status != HTTPStatus.UNAUTHORIZED:
        content |= {
            "source": "business",
            "step": "payment_initiation",
            "reason": "input_validation_failed",
            "metadata": {},
        }
    if error.field:
        content["field"] = error.field
    return web.json_response({"error": content}, status=error.status)
