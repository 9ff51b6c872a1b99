"""The sandbox's Razorpay over HTTP, with HTTP Basic `key_id:key_secret`.

POST /v1/orders                     GET /v1/orders?receipt&count
GET  /v1/orders/{id}                GET /v1/orders/{id}/payments
POST /v1/payments/create/upi        GET /v1/payments?from&to&count&skip
POST /v1/payments/qr_codes          GET /v1/payments/qr_codes?payment_id&from&to&count&skip
GET  /v1/payments/qr_codes/{id}     GET /v1/payments/qr_codes/{id}/payments?from&to&count&skip
POST /v1/payments/qr_codes/{id}/close
GET  /v1/payments/{id}              GET /v1/payments/{id}/refunds?count&skip
POST /v1/payments/{id}/capture      POST /v1/payments/{id}/refund
GET  /v1/refunds?from&to&count&skip
GET  /v1/disputes?count&skip

`razorpay_tokens` adds POST /v1/payments/create/json.
"""

import base64
import hmac
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway_adapters.sandbox.control import ControlError, content_of
from gateway_adapters.sandbox.razorpay_account import RazorpayAccount
from gateway_adapters.sandbox.razorpay_entities import (
    Entity,
    collection,
    dispute_entity,
    order_entity,
    payment_entity,
    qr_code_entity,
    refund_entity,
)
from gateway_adapters.sandbox.razorpay_fields import (
    RazorpayError,
    count_field,
    from_field,
    skip_field,
    to_field,
)
from gateway_adapters.sandbox.razorpay_reversals import refund
from gateway_adapters.sandbox.razorpay_signing import RazorpaySigner
from gateway_adapters.sandbox.razorpay_upi import close_qr_code, create_intent, create_qr_code
from gateway_adapters.sandbox.telling import Commit

_API: Final = ("/v1/orders", "/v1/payments", "/v1/refunds", "/v1/disputes")
_CONTROL: Final = ("/sandbox/orders", "/sandbox/qr_codes", "/sandbox/payments")


class _Dated(Protocol):
    @property
    def created_at(self) -> int: ...


_Record = TypeVar("_Record", bound=_Dated)


class RazorpayRoutes:
    """The routes to one account."""

    def __init__(
        self,
        account: RazorpayAccount,
        commit: Commit,
        signer: RazorpaySigner,
        *,
        key_id: str,
    ) -> None:
        credentials = base64.b64encode(f"{key_id}:{signer.key_secret}".encode())
        self._authorization = b"Basic " + credentials
        self._account = account
        self._commit = commit
        self._signer = signer

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        return [
            web.post("/v1/orders", self.create_order),
            web.get("/v1/orders", self.list_orders),
            web.get("/v1/orders/{order_id}", self.get_order),
            web.get("/v1/orders/{order_id}/payments", self.list_payments_of_order),
            web.post("/v1/payments/create/upi", self.create_intent),
            web.post("/v1/payments/qr_codes", self.create_qr_code),
            web.get("/v1/payments/qr_codes", self.list_qr_codes),
            web.get("/v1/payments/qr_codes/{qr_code_id}", self.get_qr_code),
            web.get("/v1/payments/qr_codes/{qr_code_id}/payments", self.list_payments_of_qr_code),
            web.post("/v1/payments/qr_codes/{qr_code_id}/close", self.close_qr_code),
            web.get("/v1/payments", self.list_payments),
            web.get("/v1/payments/{payment_id}", self.get_payment),
            web.get("/v1/payments/{payment_id}/refunds", self.list_refunds_of_payment),
            web.post("/v1/payments/{payment_id}/capture", self.capture),
            web.post("/v1/payments/{payment_id}/refund", self.refund),
            web.get("/v1/refunds", self.list_refunds),
            web.get("/v1/disputes", self.list_disputes),
        ]

    @property
    def middleware(self) -> Middleware:
        """What checks the credentials and gives errors Razorpay's shape, on its own paths."""

        @web.middleware
        async def speak_like_razorpay(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.startswith(_API + _CONTROL):
                return await handler(request)
            try:
                self._check_credentials(request)
                return await handler(request)
            except ControlError as error:
                return _error(error)
            except web.HTTPException as error:
                status = HTTPStatus(error.status)
                return _error(
                    RazorpayError("The requested URL was not found on the server.", "", status)
                )

        return speak_like_razorpay

    async def create_order(self, request: web.Request) -> web.Response:
        """Make an order."""
        order = self._account.create_order(await content_of(request))
        await self._commit((), 0)
        return web.json_response(order_entity(order))

    async def list_orders(self, request: web.Request) -> web.Response:
        """List the newest orders, or those with a receipt."""
        receipt = request.query.get("receipt")
        if receipt is None:
            return _page(request, self._account.orders.values(), order_entity)
        # These come newest first, and a page wants the oldest first.
        return _page(request, reversed(self._account.orders_with(receipt)), order_entity)

    async def get_order(self, request: web.Request) -> web.Response:
        """Return an order."""
        order = self._account.order(request.match_info["order_id"])
        return web.json_response(order_entity(order))

    async def list_payments_of_order(self, request: web.Request) -> web.Response:
        """List an order's payments."""
        order = self._account.order(request.match_info["order_id"])
        payments = self._account.payments_of(order)
        return web.json_response(collection([payment_entity(payment) for payment in payments]))

    async def create_intent(self, request: web.Request) -> web.Response:
        """Start a payment by UPI."""
        payment, link = create_intent(self._account, await content_of(request))
        await self._commit((), 0)
        return web.json_response({"razorpay_payment_id": payment.id, "link": link})

    async def create_qr_code(self, request: web.Request) -> web.Response:
        """Make a QR code."""
        qr_code, events = create_qr_code(self._account, await content_of(request))
        await self._commit(self._signer.webhooks(events), 1)
        return web.json_response(qr_code_entity(qr_code))

    async def list_qr_codes(self, request: web.Request) -> web.Response:
        """List the QR codes of a time, or that of a payment."""
        qr_codes = self._account.qr_codes.values()
        payment_id = request.query.get("payment_id")
        if payment_id is None:
            return _page(request, qr_codes, qr_code_entity)
        payment = self._account.payment(payment_id)
        return _page(request, [q for q in qr_codes if q.id == payment.qr_code_id], qr_code_entity)

    async def get_qr_code(self, request: web.Request) -> web.Response:
        """Return a QR code."""
        qr_code = self._account.qr_code(request.match_info["qr_code_id"])
        return web.json_response(qr_code_entity(qr_code))

    async def list_payments_of_qr_code(self, request: web.Request) -> web.Response:
        """List a QR code's payments."""
        qr_code = self._account.qr_code(request.match_info["qr_code_id"])
        # These come newest first, and a page wants the oldest first.
        return _page(request, reversed(self._account.payments_of(qr_code)), payment_entity)

    async def close_qr_code(self, request: web.Request) -> web.Response:
        """Close a QR code."""
        closed, events = close_qr_code(self._account, request.match_info["qr_code_id"])
        await self._commit(self._signer.webhooks(events), 1)
        return web.json_response(qr_code_entity(closed))

    async def list_payments(self, request: web.Request) -> web.Response:
        """List the payments of a time."""
        return _page(request, self._account.payments.values(), payment_entity)

    async def get_payment(self, request: web.Request) -> web.Response:
        """Return a payment."""
        payment = self._account.payment(request.match_info["payment_id"])
        return web.json_response(payment_entity(payment))

    async def list_refunds_of_payment(self, request: web.Request) -> web.Response:
        """List a payment's refunds."""
        payment = self._account.payment(request.match_info["payment_id"])
        refunds = self._account.refunds.values()
        return _page(request, [r for r in refunds if r.payment_id == payment.id], refund_entity)

    async def capture(self, request: web.Request) -> web.Response:
        """Capture an authorized payment."""
        content = await content_of(request)
        payment, events = self._account.capture(request.match_info["payment_id"], content)
        await self._commit(self._signer.webhooks(events), 1)
        return web.json_response(payment_entity(payment))

    async def refund(self, request: web.Request) -> web.Response:
        """Refund a captured payment."""
        content = await content_of(request)
        key = request.headers.get("X-Refund-Idempotency", "")
        made, events = refund(self._account, request.match_info["payment_id"], content, key)
        await self._commit(self._signer.webhooks(events), 1)
        return web.json_response(refund_entity(made))

    async def list_refunds(self, request: web.Request) -> web.Response:
        """List the refunds of a time."""
        return _page(request, self._account.refunds.values(), refund_entity)

    async def list_disputes(self, request: web.Request) -> web.Response:
        """List the disputes."""
        return _page(request, self._account.disputes.values(), dispute_entity)

    def _check_credentials(self, request: web.Request) -> None:
        """Let only the account's owner at the API."""
        if not request.path.startswith(_API):
            return
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._authorization):
            raise RazorpayError("Authentication failed", "", HTTPStatus.UNAUTHORIZED)


def _page(
    request: web.Request, oldest_first: Iterable[_Record], entity: Callable[[_Record], Entity]
) -> web.Response:
    """Return the part of a list that the request asks for, newest first."""
    start, end = from_field(request.query.get("from")), to_field(request.query.get("to"))
    count, skip = count_field(request.query.get("count")), skip_field(request.query.get("skip"))
    found = [record for record in oldest_first if start <= record.created_at <= end]
    found.reverse()
    page = found[skip : skip + count]
    return web.json_response(collection([entity(record) for record in page]))


def _error(error: ControlError) -> web.Response:
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
