"""The access token: fetched once for everybody, and again before it expires.

Source of the rules: https://developer.paypal.com/api/rest/authentication/.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway_adapters.gateway import GatewayUnavailable
from gateway_adapters.outbound import Outbound
from gateway_adapters.single_flight import SingleFlight
from gateway_adapters.wire import JsonObject

_GRANT: Final = b"grant_type=client_credentials"
_MAX_LENGTH: Final = 4096
_LONGEST_SECONDS: Final = 366 * 24 * 3_600
_REFRESHED_EARLY_SECONDS: Final = 60
"""A token is not used in its last minute, or in the last tenth of a short life."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    use_until: float
    """By the clock of AccessToken."""


class AccessToken:
    """Owns the token of one client."""

    def __init__(
        self,
        outbound: Outbound,
        client_id: str,
        client_secret: str,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives seconds that only go forward."""
        credentials = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode("ascii")
        self._headers: Mapping[str, str] = {
            "Authorization": f"Basic {credentials}",
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self._outbound = outbound
        self._clock = clock
        self._token: _Token | None = None
        self._flight: SingleFlight[None, str] = SingleFlight()

    async def get(self) -> str:
        """Return a token that is good for a while.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        token = self._token
        if token is not None and self._clock() < token.use_until:
            return token.text
        return await self._flight.share(None, self._fetch)

    def drop(self, text: str) -> None:
        """Forget a token that PayPal refused, unless there is a newer one already."""
        if self._token is not None and self._token.text == text:
            self._token = None

    async def _fetch(self) -> str:
        asked_at = self._clock()
        answer = await self._outbound.post(
            "/v1/oauth2/token", headers=self._headers, body=_GRANT, is_idempotent=True
        )
        self._token = _read_token(answer.content, asked_at)
        return self._token.text


def _read_token(content: JsonObject, asked_at: float) -> _Token:
    text = content.get("access_token")
    expires_in = content.get("expires_in")
    if (
        not isinstance(text, str)
        or not (text.isascii() and text.isprintable() and 0 < len(text) <= _MAX_LENGTH)
        or not isinstance(expires_in, int)
        or isinstance(expires_in, bool)
        or not 0 <= expires_in <= _LONGEST_SECONDS
    ):
        raise GatewayUnavailable("PayPal's answer cannot be read.")
    margin = min(_REFRESHED_EARLY_SECONDS, expires_in / 10)
    return _Token(text, asked_at + expires_in - margin)
