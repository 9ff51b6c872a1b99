"""What the sidecar takes from a gateway: one request, within limits, read but not understood."""

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NoReturn

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway_adapters.sidecar.answers import Refusal

MAX_BODY_BYTES: Final = 256 * 1024
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 16 * 1024
"""Names and values of all forwarded headers together."""

_GATEWAY: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NOT_FORWARDED: Final = frozenset(
    {
        # Somebody else's credentials are none of the server's business.
        "authorization",
        "cookie",
        # These speak of one connection (RFC 9110, section 7.6.1).
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request that is within all limits; the body is what came, byte for byte."""

    gateway: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    receive_time_ns: int


class Refused(Exception):
    """The request is refused here, before the server hears of it."""

    def __init__(self, status: HTTPStatus, reason: str, message: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(status, reason, message)


async def read_webhook_request(request: web.Request, deadline_seconds: float) -> Webhook:
    """Take the request apart, cheap checks first; the body has to be here in `deadline_seconds`.

    Raises:
        Refused: it is out of bounds.
    """
    receive_time_ns = time.time_ns()
    gateway = request.match_info["gateway"]
    if _GATEWAY.fullmatch(gateway) is None:
        raise Refused(HTTPStatus.NOT_FOUND, "UNKNOWN_GATEWAY", "There is no gateway of this name.")
    headers = _forwarded_headers(request)
    if "Content-Encoding" in request.headers:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "ENCODED_BODY",
            "The body has to come as it is, without a Content-Encoding.",
        )
    if request.content_type != "application/json":
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "NOT_JSON",
            "The Content-Type has to be application/json.",
        )
    body = await _read_body(request, deadline_seconds)
    _check_json(body)
    return Webhook(gateway, headers, body, receive_time_ns)


def _forwarded_headers(request: web.Request) -> tuple[tuple[str, str], ...]:
    """Return the headers for the server, as they came."""
    of_connection = {
        name.strip().lower()
        for value in request.headers.getall("Connection", [])
        for name in value.split(",")
    }
    dropped = _NOT_FORWARDED | of_connection
    headers = tuple(
        (name, value) for name, value in request.headers.items() if name.lower() not in dropped
    )
    try:
        size_bytes = sum(len(name.encode()) + len(value.encode()) for name, value in headers)
    except UnicodeEncodeError:
        raise Refused(
            HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", "The headers have to be UTF-8."
        ) from None
    if len(headers) > MAX_HEADERS or size_bytes > MAX_HEADER_BYTES:
        raise Refused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "HEADERS_TOO_LARGE",
            f"At most {MAX_HEADERS} headers with {MAX_HEADER_BYTES} bytes in all are taken.",
        )
    return headers


async def _read_body(request: web.Request, deadline_seconds: float) -> bytes:
    """Read all of it, and never more than the limit."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(deadline_seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        raise Refused(
            HTTPStatus.REQUEST_TIMEOUT, "BODY_TOO_SLOW", "The body did not arrive in time."
        ) from None
    except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
        raise Refused(
            HTTPStatus.BAD_REQUEST, "BODY_INCOMPLETE", "The body did not arrive whole."
        ) from None


def _check_json(body: bytes) -> None:
    """Refuse what cannot be an event; whether it is one, the server says."""
    try:
        json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "NOT_JSON", "The body is not JSON."
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _too_large() -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "BODY_TOO_LARGE",
        f"At most {MAX_BODY_BYTES} bytes are taken.",
    )
