"""Calls to a gateway's API: bounded in time and size, never redirected, errors in our terms.

Errors it raises:

    GatewayUnavailable
    |-- NoAnswer             unreachable, late, 408, 5xx or unreadable: counts for the circuit
    |-- CredentialsRefused   401 or 403
    `-- (itself)             429, or the circuit is open
    GatewayRefused           any other 4xx, with its status and content
"""

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import aiohttp
import structlog
from yarl import URL

from gateway_adapters.bounded_body import BodyTooLong, read_bounded
from gateway_adapters.circuit import Circuit, CircuitOpen
from gateway_adapters.gateway import GatewayRefused, GatewayUnavailable
from gateway_adapters.wire import JsonObject, Unreadable, read_object

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""A longer answer is not read to its end."""

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
"""No query, no headers."""

_RETRY_DELAY_SECONDS: Final = (0.05, 0.2)
"""Between these bounds the one retry waits, at random, so that many do not come back at once."""
_RETRIED_HERE_SECONDS: Final = 1.0
"""Whoever asks us to stay away for longer is not asked again at once."""
_RATE_LIMIT_SECONDS: Final = 2
_MAX_RETRY_AFTER_SECONDS: Final = 60
_CREDENTIALS_SECONDS: Final = 60

_log: structlog.stdlib.BoundLogger = structlog.get_logger("outbound")


class NoAnswer(GatewayUnavailable):
    """Nothing came that could be called an answer; a change may or may not have taken effect."""


class CredentialsRefused(GatewayUnavailable):
    """The gateway does not accept who we say we are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, as an object and as it came."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Found by their names in any case."""
    content: JsonObject = field(repr=False)
    """The JSON object; empty for 204, and where none was asked for."""
    body: bytes = field(repr=False)


def _undescribed(_content: JsonObject) -> str:
    return ""


class Outbound:
    """The way to one gateway. The session stays its owner's, who closes it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        *,
        gateway: str,
        timeout_seconds: float = 3.0,
        description: Callable[[JsonObject], str] = _undescribed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`gateway` is its name for people; `timeout_seconds` is for each request, in all.

        `description` finds the gateway's own words in what it refused with, fit to be shown; where
        it gives nothing the status is told. `clock` gives seconds that only go forward.

        Raises:
            ValueError: `base_url` is not https to a host, nor http to this machine.
        """
        _check_base_url(gateway, base_url)
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._gateway = gateway
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._description = description
        self._circuit = Circuit(gateway, clock)

    @property
    def is_cut_off(self) -> bool:
        """Whether the circuit is open: the gateway did not answer lately."""
        return self._circuit.is_open

    async def get(
        self,
        path: str,
        query: Mapping[str, str] = NOTHING,
        headers: Mapping[str, str] = NOTHING,
        *,
        is_json: bool = True,
    ) -> Answer:
        """Ask, and once more where that may help; asking changes nothing.

        With `is_json=False` a successful answer may be anything, and comes as its body alone.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        request = _Request("GET", path, query, headers, None, is_json)
        return await self._call_twice(request)

    async def post(
        self, path: str, *, headers: Mapping[str, str], body: bytes, is_idempotent: bool
    ) -> Answer:
        """Send, and once more only where a repeat does no harm; `headers` name the content's type.

        After NoAnswer it may or may not have taken effect.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        request = _Request("POST", path, NOTHING, headers, body, is_json=True)
        return await (self._call_twice(request) if is_idempotent else self._call(request))

    async def _call_twice(self, request: "_Request") -> Answer:
        try:
            return await self._call(request)
        except GatewayUnavailable as error:
            if self.is_cut_off or not is_worth_a_retry(error):
                raise
        await pause_before_retry()
        return await self._call(request)

    async def _call(self, request: "_Request") -> Answer:
        try:
            with self._circuit.guarding(NoAnswer):
                return await self._send(request)
        except CircuitOpen as error:
            raise GatewayUnavailable(
                f"{self._gateway} did not answer lately and is left alone for a while.",
                error.remaining_seconds,
            ) from None

    async def _send(self, request: "_Request") -> Answer:
        try:
            async with self._session.request(
                request.method,
                self._base_url + request.path,
                params=request.query,
                data=request.body,
                headers=request.headers,
                # A redirect would carry the credentials to somebody else.
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                body = await read_bounded(response, MAX_ANSWER_BYTES)
        except BodyTooLong:
            raise NoAnswer(f"{self._gateway}'s answer is too long.") from None
        except TimeoutError:
            raise NoAnswer(f"{self._gateway} did not answer in time.") from None
        except aiohttp.ClientError:
            raise NoAnswer(f"{self._gateway} cannot be reached.") from None
        self._check_status(response)
        content = self._read_content(request, response, body)
        if response.status >= HTTPStatus.BAD_REQUEST:
            told = self._description(content)
            message = f"{self._gateway} refused the request with HTTP status {response.status}."
            raise GatewayRefused(told or message, response.status, content)
        return Answer(response.status, response.headers, content, body)

    def _check_status(self, response: aiohttp.ClientResponse) -> None:
        """Let pass success, and refusals that say why."""
        status = response.status
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            _log.error("gateway credentials refused", gateway=self._gateway, status=status)
            raise CredentialsRefused(
                f"{self._gateway} refused this service's credentials; its operator has to set "
                "them right.",
                _CREDENTIALS_SECONDS,
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = _retry_after_seconds(response)
            raise GatewayUnavailable(f"{self._gateway} asks for fewer requests.", seconds)
        is_success = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        if status == HTTPStatus.REQUEST_TIMEOUT or not (is_success or is_refusal):
            raise NoAnswer(f"{self._gateway} answered with HTTP status {status}.")

    def _read_content(
        self, request: "_Request", response: aiohttp.ClientResponse, body: bytes
    ) -> JsonObject:
        is_success = response.status < HTTPStatus.BAD_REQUEST
        if response.status == HTTPStatus.NO_CONTENT or (is_success and not request.is_json):
            return {}
        try:
            return read_object(body)
        except Unreadable:
            raise NoAnswer(f"{self._gateway}'s answer cannot be read.") from None


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    is_json: bool
    """Whether a successful answer has to be a JSON object."""


def is_worth_a_retry(error: GatewayUnavailable) -> bool:
    """Tell whether another try at once may help: it does not where we were told to wait."""
    return error.retry_after_seconds <= _RETRIED_HERE_SECONDS


async def pause_before_retry() -> None:
    """Wait a short random time."""
    await asyncio.sleep(secrets.SystemRandom().uniform(*_RETRY_DELAY_SECONDS))


def _check_base_url(gateway: str, base_url: str) -> None:
    """Keep secrets off open lines, and the path of a request what it says."""
    url = URL(base_url)
    if url.host is None or url.user is not None or url.query_string or url.fragment:
        raise ValueError(f"{gateway}'s URL must be no more than scheme, host, port and path.")
    if url.scheme != "https" and not (url.scheme == "http" and is_this_machine(url.host)):
        raise ValueError(f"{gateway}'s URL must start with https://, except on this machine.")


def is_this_machine(host: str) -> bool:
    """Tell whether what is sent to a host stays on this machine."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Whoever listens on all addresses of this machine is reached on the unspecified one.
    return address.is_loopback or address.is_unspecified


def _retry_after_seconds(response: aiohttp.ClientResponse) -> int:
    """Return how long to stay away; long enough that nothing is retried at once."""
    value = response.headers.get("Retry-After", "")
    if not (value.isascii() and value.isdigit()):
        return _RATE_LIMIT_SECONDS
    # More digits than the bound has are over it, however many there are.
    seconds = int(value[: len(str(_MAX_RETRY_AFTER_SECONDS)) + 1])
    return min(max(seconds, _RATE_LIMIT_SECONDS), _MAX_RETRY_AFTER_SECONDS)
