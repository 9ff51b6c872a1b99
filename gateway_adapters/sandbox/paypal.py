"""The sandbox's PayPal over HTTP, with a token that HTTP Basic `client_id:client_secret` gives.

POST /v1/oauth2/token
POST /v2/checkout/orders            GET /v2/checkout/orders/{id}
POST /v2/checkout/orders/{id}/capture
GET  /v2/payments/captures/{id}     POST /v2/payments/captures/{id}/refund
GET  /v1/reporting/transactions?start_date&end_date&page_size&page
GET  /v1/notifications/certs/{id}
"""

import base64
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway_adapters.sandbox.paypal_account import PaypalAccount
from gateway_adapters.sandbox.paypal_entities import (
    Capture,
    Entity,
    Refund,
    capture_entity,
    refund_entity,
    transaction_entity,
)
from gateway_adapters.sandbox.paypal_events import capture_events, order_content, refund_events
from gateway_adapters.sandbox.paypal_fields import PaypalError, value_field
from gateway_adapters.sandbox.paypal_signing import CERTIFICATE_PATH, PaypalSigner
from gateway_adapters.sandbox.telling import Commit

TOKEN_SECONDS: Final = 32_400
_TOKEN_PATH: Final = "/v1/oauth2/token"  # noqa: S105 - a path
_AUTHORIZED: Final = ("/v2/checkout/", "/v2/payments/", "/v1/reporting/")
_OURS: Final = (*_AUTHORIZED, _TOKEN_PATH, CERTIFICATE_PATH, "/sandbox/paypal/")
_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_MAX_PAGE_SIZE: Final = 500


class PaypalRoutes:
    """The API of one account."""

    def __init__(
        self,
        account: PaypalAccount,
        commit: Commit,
        signer: PaypalSigner,
        *,
        client_id: str,
        client_secret: str,
    ) -> None:
        self._credentials = b"Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode())
        self._account = account
        self._commit = commit
        self._signer = signer
        self.tokens: set[str] = set()
        """The tokens that are good; whoever tests takes them away."""
        self.token_seconds = TOKEN_SECONDS

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        capture = "/v2/payments/captures/{capture_id}"
        return [
            web.post(_TOKEN_PATH, self.give_token),
            web.post("/v2/checkout/orders", self.create_order),
            web.get("/v2/checkout/orders/{order_id}", self.get_order),
            web.post("/v2/checkout/orders/{order_id}/capture", self.capture),
            web.get(capture, self.get_capture),
            web.post(f"{capture}/refund", self.refund),
            web.get("/v1/reporting/transactions", self.list_transactions),
            web.get(f"{CERTIFICATE_PATH}{{certificate_id}}", self.get_certificate),
        ]

    @property
    def middleware(self) -> Middleware:
        """What checks tokens and gives errors PayPal's shape, on its own paths."""

        @web.middleware
        async def speak_like_paypal(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.startswith(_OURS):
                return await handler(request)
            try:
                self._check_token(request)
                return await handler(request)
            except PaypalError as error:
                return _error(error)
            except web.HTTPException as error:
                return _error(PaypalError("RESOURCE_NOT_FOUND", HTTPStatus(error.status)))

        return speak_like_paypal

    async def give_token(self, request: web.Request) -> web.Response:
        """Give a token to who knows the client's secret."""
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._credentials):
            raise PaypalError("invalid_client", HTTPStatus.UNAUTHORIZED)
        if (await request.post()).get("grant_type") != "client_credentials":
            raise PaypalError("unsupported_grant_type", HTTPStatus.BAD_REQUEST)
        token = f"A21AA{secrets.token_urlsafe(32)}"
        self.tokens.add(token)
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.token_seconds}
        )

    async def create_order(self, request: web.Request) -> web.Response:
        """Make an order."""
        order = self._account.create_order(await _content(request), _request_id(request))
        await self._commit((), 0)
        return self._order(order.id, HTTPStatus.CREATED)

    async def get_order(self, request: web.Request) -> web.Response:
        """Return an order."""
        return self._order(request.match_info["order_id"], HTTPStatus.OK)

    async def capture(self, request: web.Request) -> web.Response:
        """Capture an approved order."""
        await _content(request)
        order_id = request.match_info["order_id"]
        order, capture = self._account.capture(order_id, _request_id(request))
        events = [] if capture is None else capture_events(capture, self._signer.base_url)
        await self._commit(self._signer.webhooks(events), 1)
        return self._order(order.id, HTTPStatus.CREATED)

    async def get_capture(self, request: web.Request) -> web.Response:
        """Return a capture."""
        return web.json_response(self._capture(request.match_info["capture_id"]))

    async def refund(self, request: web.Request) -> web.Response:
        """Refund a capture."""
        capture_id = request.match_info["capture_id"]
        content = await _content(request)
        self._capture(capture_id)
        currency = self._account.captures[capture_id].currency
        amount = content.get("amount")
        value = value_field(amount.get("value"), currency) if isinstance(amount, dict) else None
        refund, is_new = self._account.refund(capture_id, value, _request_id(request))
        events = refund_events(refund, self._signer.base_url) if is_new else []
        await self._commit(self._signer.webhooks(events), 1)
        entity = refund_entity(refund, self._signer.base_url)
        return web.json_response(entity, status=HTTPStatus.CREATED)

    async def list_transactions(self, request: web.Request) -> web.Response:
        """List what moved money in a time, page by page."""
        query = request.query
        start, end = query.get("start_date", ""), query.get("end_date", "")
        if not start or not end:
            raise PaypalError("INVALID_REQUEST", HTTPStatus.BAD_REQUEST)
        records: Sequence[Capture | Refund] = [
            *self._account.captures.values(),
            *self._account.refunds.values(),
        ]
        # Times are written alike and in UTC, so that they sort as texts do.
        entries = [transaction_entity(one) for one in records if start <= one.create_time <= end]
        size, page = _number(query.get("page_size", "100")), _number(query.get("page", "1"))
        return web.json_response(_page(entries, size, page))

    async def get_certificate(self, request: web.Request) -> web.Response:
        """Return the certificate that signs webhooks."""
        keys = self._signer.keys
        if request.match_info["certificate_id"] != keys.certificate_id:
            raise PaypalError("RESOURCE_NOT_FOUND", HTTPStatus.NOT_FOUND)
        return web.Response(text=keys.chain_pem, content_type="application/x-pem-file")

    def _order(self, order_id: str, status: HTTPStatus) -> web.Response:
        content = order_content(self._account, order_id, self._signer.base_url)
        return web.json_response(content, status=status)

    def _capture(self, capture_id: str) -> Entity:
        capture = self._account.captures.get(capture_id)
        if capture is None:
            raise PaypalError("RESOURCE_NOT_FOUND", HTTPStatus.NOT_FOUND)
        return capture_entity(capture, self._signer.base_url)

    def _check_token(self, request: web.Request) -> None:
        if not request.path.startswith(_AUTHORIZED):
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise PaypalError("AUTHENTICATION_FAILURE", HTTPStatus.UNAUTHORIZED)


async def _content(request: web.Request) -> dict[str, Any]:
    """Read the body: a JSON object, or nothing."""
    body = await request.read()
    try:
        content = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise PaypalError("MALFORMED_REQUEST_JSON", HTTPStatus.BAD_REQUEST)
    return content


def _request_id(request: web.Request) -> str:
    return request.headers.get("PayPal-Request-Id", "")


def _page(entries: Sequence[Entity], size: int, page: int) -> Entity:
    size = min(size, _MAX_PAGE_SIZE)
    return {
        "transaction_details": list(entries[(page - 1) * size : page * size]),
        "total_items": len(entries),
        "total_pages": max(1, -(-len(entries) // size)),
        "page": page,
    }


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) == 0:
        raise PaypalError("INVALID_REQUEST", HTTPStatus.BAD_REQUEST)
    return int(text)


def _error(error: PaypalError) -> web.Response:
    """Return the error as PayPal tells it."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        content: Entity = {
            "error": error.issue,
            "error_description": "Client Authentication failed",
        }
        return web.json_response(content, status=error.status)
    is_semantic = error.status == HTTPStatus.UNPROCESSABLE_ENTITY
    name = "UNPROCESSABLE_ENTITY" if is_semantic else error.issue
    description = error.issue.replace("_", " ").capitalize() + "."
    content = {
        "name": name,
        "message": "The requested action could not be performed.",
        "debug_id": secrets.token_hex(7),
        "details": [{"issue": error.issue, "description": description}],
    }
    return web.json_response(content, status=error.status)
