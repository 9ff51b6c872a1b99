"""The sandbox's Stripe over HTTP, under `/stripe`, with the secret key as bearer token.

POST /stripe/v1/payment_intents     GET /stripe/v1/payment_intents/{id}?expand[]
POST /stripe/v1/payment_intents/{id}/capture
GET  /stripe/v1/charges/{id}        GET /stripe/v1/charges
POST /stripe/v1/refunds             GET /stripe/v1/refunds
GET  /stripe/v1/disputes

Lists take `created[gte]`, `created[lt]`, `payment_intent`, `limit` and `starting_after`.
"""

import hmac
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final, Protocol, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway_adapters.sandbox.stripe_account import StripeAccount
from gateway_adapters.sandbox.stripe_entities import (
    Entity,
    Intent,
    charge_entity,
    dispute_entity,
    intent_entity,
    page,
    refund_entity,
)
from gateway_adapters.sandbox.stripe_fields import (
    Form,
    StripeError,
    amount_field,
    limit_field,
    missing,
    time_field,
)
from gateway_adapters.sandbox.stripe_reversals import refund
from gateway_adapters.sandbox.stripe_signing import StripeSigner
from gateway_adapters.sandbox.telling import Commit

PREFIX: Final = "/stripe"
"""Stripe's own paths clash with another gateway's: this stands before them."""
_CONTROL: Final = "/sandbox/stripe/"
_END_OF_TIME: Final = 253_402_300_799


class _Listed(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def created(self) -> int: ...
    @property
    def intent_id(self) -> str: ...


_Record = TypeVar("_Record", bound=_Listed)


class StripeRoutes:
    """The API of one account."""

    def __init__(
        self, account: StripeAccount, commit: Commit, signer: StripeSigner, *, secret_key: str
    ) -> None:
        self._authorization = f"Bearer {secret_key}".encode()
        self._account = account
        self._commit = commit
        self._signer = signer

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        intents = f"{PREFIX}/v1/payment_intents"
        return [
            web.post(intents, self.create_intent),
            web.get(f"{intents}/{{intent_id}}", self.get_intent),
            web.post(f"{intents}/{{intent_id}}/capture", self.capture),
            web.get(f"{PREFIX}/v1/charges", self.list_charges),
            web.get(f"{PREFIX}/v1/charges/{{charge_id}}", self.get_charge),
            web.post(f"{PREFIX}/v1/refunds", self.refund),
            web.get(f"{PREFIX}/v1/refunds", self.list_refunds),
            web.get(f"{PREFIX}/v1/disputes", self.list_disputes),
        ]

    @property
    def middleware(self) -> Middleware:
        """What checks the key and gives errors Stripe's shape, on its own paths."""

        @web.middleware
        async def speak_like_stripe(request: web.Request, handler: Handler) -> web.StreamResponse:
            is_api = request.path.startswith(f"{PREFIX}/")
            if not is_api and not request.path.startswith(_CONTROL):
                return await handler(request)
            try:
                if is_api:
                    self._check_key(request)
                return await handler(request)
            except StripeError as error:
                return _error(error)
            except web.HTTPException as error:
                status = HTTPStatus(error.status)
                return _error(StripeError("Unrecognized request URL", status=status))

        return speak_like_stripe

    async def create_intent(self, request: web.Request) -> web.Response:
        """Make an intent."""
        key = request.headers.get("Idempotency-Key", "")
        intent = self._account.create_intent(await _form(request), key)
        await self._commit((), 0)
        return web.json_response(intent_entity(intent))

    async def get_intent(self, request: web.Request) -> web.Response:
        """Return an intent."""
        intent = self._account.intent(request.match_info["intent_id"])
        return self._intent(intent, request.query)

    async def capture(self, request: web.Request) -> web.Response:
        """Capture what is on hold."""
        form = await _form(request)
        intent, events = self._account.capture(request.match_info["intent_id"], form)
        await self._commit(self._signer.webhooks(events), 1)
        return self._intent(intent, form)

    async def get_charge(self, request: web.Request) -> web.Response:
        """Return a charge."""
        charge = self._account.charge(request.match_info["charge_id"])
        return web.json_response(charge_entity(charge))

    async def refund(self, request: web.Request) -> web.Response:
        """Refund an intent's charge."""
        form = await _form(request)
        intent = self._account.intent(form.get("payment_intent", ""))
        amount = amount_field(form) if "amount" in form else None
        made, events = refund(self._account, intent.charge_id, amount)
        await self._commit(self._signer.webhooks(events), 1)
        return web.json_response(refund_entity(made))

    async def list_charges(self, request: web.Request) -> web.Response:
        """List charges."""
        return _page(request, self._account.charges.values(), charge_entity)

    async def list_refunds(self, request: web.Request) -> web.Response:
        """List refunds."""
        return _page(request, self._account.refunds.values(), refund_entity)

    async def list_disputes(self, request: web.Request) -> web.Response:
        """List disputes."""
        return _page(request, self._account.disputes.values(), dispute_entity)

    def _intent(self, intent: Intent, asked: Form) -> web.Response:
        has_charge = asked.get("expand[]") == "latest_charge"
        charge = self._account.charges.get(intent.charge_id) if has_charge else None
        return web.json_response(intent_entity(intent, charge))

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._authorization):
            raise StripeError("Invalid API Key provided", status=HTTPStatus.UNAUTHORIZED)


async def _form(request: web.Request) -> Form:
    """Read a form; JSON is none."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise StripeError("Invalid request: the content type is not a form's.")
    try:
        return dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
    except ValueError:
        raise StripeError("Invalid request: the form cannot be read.") from None


def _page(
    request: web.Request, oldest_first: Iterable[_Record], entity: Callable[[_Record], Entity]
) -> web.Response:
    """Return the part of a list that the request asks for, newest first."""
    query = request.query
    start, end = (
        time_field(query, "created[gte]", 0),
        time_field(query, "created[lt]", _END_OF_TIME),
    )
    found = [
        record
        for record in oldest_first
        if start <= record.created < end
        and query.get("payment_intent", record.intent_id) == record.intent_id
    ]
    found.reverse()
    after, limit = query.get("starting_after"), limit_field(query)
    if after is not None:
        ids = [record.id for record in found]
        if after not in ids:
            raise missing(after)
        found = found[ids.index(after) + 1 :]
    entities = [entity(record) for record in found[:limit]]
    return web.json_response(page(entities, url=request.path, has_more=len(found) > limit))


def _error(error: StripeError) -> web.Response:
    """Return the error as Stripe tells it."""
    content = {"type": error.kind, "message": error.message}
    if error.code:
        content["code"] = error.code
    return web.json_response({"error": content}, status=error.status)
