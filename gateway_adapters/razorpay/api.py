"""Calls to Razorpay's REST API: authenticated, bounded in time and size, errors in our terms."""

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import aiohttp
import structlog

from gateway_adapters.gateway import GatewayRefused, GatewayUnavailable
from gateway_adapters.razorpay.wire import JsonObject, Unreadable, display_text, read_object

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""A longer answer is not read to its end."""

_NO_QUERY: Final[Mapping[str, str]] = MappingProxyType({})
_RETRY_DELAY_SECONDS: Final = (0.05, 0.2)
"""Between these bounds the one retry waits, at random, so that many do not come back at once."""
_RETRIED_HERE_SECONDS: Final = 1.0
"""Whoever asks us to stay away for longer is not asked again at once."""
_RATE_LIMIT_SECONDS: Final = 2
_MAX_RETRY_AFTER_SECONDS: Final = 60
_CREDENTIALS_SECONDS: Final = 60

_log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, as an object and as it came."""

    content: JsonObject
    body: bytes = field(repr=False)


class RazorpayApi:
    """The API as one account sees it. The session stays its owner's, who closes it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        api_url: str,
        key_id: str,
        key_secret: str,
        timeout_seconds: float,
    ) -> None:
        credentials = base64.b64encode(f"{key_id}:{key_secret}".encode()).decode("ascii")
        self._session = session
        self._api_url = api_url.rstrip("/")
        self._headers = {"Authorization": f"Basic {credentials}", "Accept": "application/json"}
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def get(self, path: str, query: Mapping[str, str] = _NO_QUERY) -> Answer:
        """Ask, and once more where that may help; asking changes nothing.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        try:
            return await self._call("GET", path, query=query)
        except GatewayUnavailable as error:
            if not is_worth_a_retry(error):
                raise
        await pause_before_retry()
        return await self._call("GET", path, query=query)

    async def post(self, path: str, content: JsonObject) -> Answer:
        """Send once. After GatewayUnavailable it may or may not have taken effect.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        return await self._call("POST", path, content=content)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = _NO_QUERY,
        content: JsonObject | None = None,
    ) -> Answer:
        headers = self._headers
        data = None
        if content is not None:
            data = json.dumps(content).encode()
            headers = {**headers, "Content-Type": "application/json"}
        try:
            async with self._session.request(
                method,
                self._api_url + path,
                params=query,
                data=data,
                headers=headers,
                # A redirect would carry the credentials to somebody else.
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                body = await _read_bounded(response)
        except TimeoutError:
            raise GatewayUnavailable("Razorpay did not answer in time.") from None
        except aiohttp.ClientError:
            raise GatewayUnavailable("Razorpay cannot be reached.") from None
        return _answer(response, body)


def is_worth_a_retry(error: GatewayUnavailable) -> bool:
    """Tell whether another try at once may help: it does not where the gateway said to wait."""
    return error.retry_after_seconds <= _RETRIED_HERE_SECONDS


async def pause_before_retry() -> None:
    """Wait a short random time."""
    await asyncio.sleep(secrets.SystemRandom().uniform(*_RETRY_DELAY_SECONDS))


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise GatewayUnavailable("Razorpay's answer is too long.")
    return bytes(body)


def _answer(response: aiohttp.ClientResponse, body: bytes) -> Answer:
    """Tell success from the ways to fail."""
    status = response.status
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        _log.error("razorpay_credentials_refused", status=status)
        raise GatewayUnavailable(
            "Razorpay refused this service's credentials; its operator has to set them right.",
            _CREDENTIALS_SECONDS,
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise GatewayUnavailable("Razorpay asks for fewer requests.", _retry_after(response))
    is_success = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
    is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if status == HTTPStatus.REQUEST_TIMEOUT or not (is_success or is_refusal):
        raise GatewayUnavailable(f"Razorpay answered with HTTP status {status}.")
    try:
        content = read_object(body)
    except Unreadable:
        raise GatewayUnavailable("Razorpay's answer cannot be read.") from None
    if is_refusal:
        raise GatewayRefused(_description(content, status))
    return Answer(content, body)


def _retry_after(response: aiohttp.ClientResponse) -> int:
    """Return how long to stay away; long enough that nothing is retried at once."""
    value = response.headers.get("Retry-After", "")
    if not (value.isascii() and value.isdigit()):
        return _RATE_LIMIT_SECONDS
    # More digits than the bound has are over it, however many there are.
    seconds = int(value[: len(str(_MAX_RETRY_AFTER_SECONDS)) + 1])
    return min(max(seconds, _RATE_LIMIT_SECONDS), _MAX_RETRY_AFTER_SECONDS)


def _description(content: JsonObject, status: int) -> str:
    error = content.get("error")
    described = display_text(error.get("description")) if isinstance(error, dict) else ""
    return described or f"Razorpay refused the request with HTTP status {status}."
