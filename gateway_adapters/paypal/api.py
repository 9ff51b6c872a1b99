"""Calls to PayPal's REST API as one client: with a token, in JSON, repeatable by their request id.

Source of the rules: https://developer.paypal.com/api/rest/requests/ and
https://developer.paypal.com/api/rest/reference/idempotency/.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import aiohttp

from gateway_adapters.gateway import GatewayRefused, GatewayUnavailable
from gateway_adapters.outbound import NOTHING, Answer, CredentialsRefused, Outbound
from gateway_adapters.paypal.settings import PaypalSettings
from gateway_adapters.paypal.token import AccessToken
from gateway_adapters.wire import JsonObject, Unreadable, display_text

_Read = TypeVar("_Read")


class PaypalApi:
    """The API as one client sees it. The session stays its owner's, who closes it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: PaypalSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbound = Outbound(
            session,
            settings.api_url,
            gateway="PayPal",
            timeout_seconds=settings.timeout_seconds,
            description=_description,
            clock=clock,
        )
        self._token = AccessToken(self._outbound, settings.client_id, settings.client_secret, clock)

    @property
    def is_cut_off(self) -> bool:
        """Whether the circuit is open: the gateway did not answer lately."""
        return self._outbound.is_cut_off

    async def get(self, path: str, query: Mapping[str, str] = NOTHING) -> Answer:
        """Ask, and once more where that may help.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        return await self._authorized(lambda headers: self._outbound.get(path, query, headers))

    async def post(self, path: str, content: JsonObject, request_id: str) -> Answer:
        """Send, and once more where no answer came: PayPal does it once for each `request_id`.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        body = json.dumps(content).encode()
        extra = {
            "Content-Type": "application/json",
            "Prefer": "return=representation",
            "PayPal-Request-Id": request_id,
        }
        return await self._authorized(
            lambda headers: self._outbound.post(
                path, headers={**headers, **extra}, body=body, is_idempotent=True
            )
        )

    async def _authorized(self, call: Callable[[Mapping[str, str]], Awaitable[Answer]]) -> Answer:
        """Make a call with a token, and once more with a new one where the token was refused."""
        token = await self._token.get()
        try:
            return await call(_headers(token))
        except CredentialsRefused:
            self._token.drop(token)
        return await call(_headers(await self._token.get()))


def read(answer: Answer, reader: Callable[[JsonObject], _Read]) -> _Read:
    """Read an answer; one that cannot be read is as good as none.

    Raises:
        GatewayUnavailable.
    """
    try:
        return reader(answer.content)
    except Unreadable:
        raise unreadable() from None


def unreadable() -> GatewayUnavailable:
    """Say that an answer is not what PayPal documents."""
    return GatewayUnavailable("PayPal's answer cannot be read.")


def issues(refused: GatewayRefused) -> frozenset[str]:
    """Return PayPal's names of what was wrong, such as `ORDER_ALREADY_CAPTURED`."""
    names = [refused.content.get("name"), *(one.get("issue") for one in _details(refused.content))]
    return frozenset(name for name in names if isinstance(name, str))


def _description(content: JsonObject) -> str:
    """Find PayPal's own words for a refusal."""
    told = (display_text(one.get("description")) for one in _details(content))
    return next(filter(None, told), "") or display_text(content.get("message"))


def _details(content: JsonObject) -> list[JsonObject]:
    details = content.get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


def _headers(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept": "application/json"}
