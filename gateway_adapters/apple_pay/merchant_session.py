"""Merchant sessions: Apple is asked, in the merchant's name, for leave to show the payment sheet.

Source of the rules:
https://developer.apple.com/documentation/applepayontheweb/requesting-an-apple-pay-payment-session
and, for the hosts,
https://developer.apple.com/documentation/applepayontheweb/setting-up-your-server. A client may send
the URL that Safari gave it. It is compared with the hosts as a whole; nothing else of it is used,
so that the merchant's certificate goes to nobody else.
"""

import json
import re
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from gateway_adapters.apple_pay.errors import (
    Malformed,
    SessionRefused,
    SessionUnavailable,
    ValidationUrlRefused,
)
from gateway_adapters.apple_pay.wire import read_object
from gateway_adapters.bounded_body import BodyTooLong, read_bounded

PRODUCTION_HOSTS: Final = frozenset(
    {
        "apple-pay-gateway.apple.com",
        "cn-apple-pay-gateway.apple.com",
        *(f"apple-pay-gateway-nc-pod{pod}.apple.com" for pod in range(1, 6)),
        *(f"apple-pay-gateway-pr-pod{pod}.apple.com" for pod in range(1, 6)),
        *(f"cn-apple-pay-gateway-sh-pod{pod}.apple.com" for pod in range(1, 4)),
        *(f"cn-apple-pay-gateway-tj-pod{pod}.apple.com" for pod in range(1, 4)),
    }
)
"""Apple names the first two today. The others are those of its earlier lists, which Safari may
still give to a page."""
SANDBOX_HOSTS: Final = frozenset(
    {"apple-pay-gateway-cert.apple.com", "cn-apple-pay-gateway-cert.apple.com"}
)
PRODUCTION_VALIDATION_URL: Final = "https://apple-pay-gateway.apple.com/paymentservices"
SANDBOX_VALIDATION_URL: Final = "https://apple-pay-gateway-cert.apple.com/paymentservices"

SESSION_VALID_MS: Final = 5 * 60 * 1000
"""How long after its making Apple takes a session."""
MAX_SESSION_BYTES: Final = 64 * 1024
"""A session has about 5 KiB."""

_VALIDATION_URL: Final = re.compile(
    r"https://(?P<host>[a-z0-9.-]{1,253}(?::[0-9]{1,5})?)"
    r"(?:/paymentservices(?:/startSession|/paymentSession)?)?"
)
_PATH: Final = "/paymentservices/paymentSession"
_MERCHANT_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
_DOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")
_MAX_DISPLAY_NAME_BYTES: Final = 64
_MAX_REASON_LENGTH: Final = 300

_log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Merchant:
    """Who asks for a session."""

    merchant_identifier: str
    """As in the merchant identity certificate, such as `merchant.com.example`."""
    display_name: str
    """At most 64 bytes in UTF-8."""
    domain: str
    """The fully qualified name of the page's host, registered with Apple, in lower case."""

    def __post_init__(self) -> None:
        """Refuse what Apple would refuse; a domain that a client sends does not get far."""
        if _MERCHANT_IDENTIFIER.fullmatch(self.merchant_identifier) is None:
            raise ValueError("The merchant's identifier does not look like one.")
        name = self.display_name
        if not name.isprintable() or not 0 < len(name.encode()) <= _MAX_DISPLAY_NAME_BYTES:
            raise ValueError(f"The display name must have 1 to {_MAX_DISPLAY_NAME_BYTES} bytes.")
        if _DOMAIN.fullmatch(self.domain) is None:
            raise ValueError("The domain is not a fully qualified name in lower case.")


@dataclass(frozen=True, slots=True)
class MerchantSession:
    """A session, for one payment sheet."""

    content: bytes = field(repr=False)
    """A JSON object, opaque: pass it to the client as it is, and to nobody else."""
    expires_ms: int
    """From then on Apple does not take it."""


async def request_merchant_session(
    session: aiohttp.ClientSession,
    tls: ssl.SSLContext,
    merchant: Merchant,
    validation_url: str,
    now_ms: int,
    allowed_hosts: Collection[str] = PRODUCTION_HOSTS,
    timeout_seconds: float = 5.0,
) -> MerchantSession:
    """Ask Apple for a session, authenticated by the merchant identity certificate in `tls`.

    Each call makes a new session, good once and for five minutes.

    Raises:
        ValidationUrlRefused, SessionRefused, SessionUnavailable.
        ValueError: `tls` does not verify the server.
    """
    if tls.verify_mode is not ssl.CERT_REQUIRED or not tls.check_hostname:
        raise ValueError("The TLS context must verify the server and its name.")
    url = session_url(validation_url, allowed_hosts)
    try:
        async with session.post(
            url,
            json={
                "merchantIdentifier": merchant.merchant_identifier,
                "displayName": merchant.display_name,
                "initiative": "web",
                "initiativeContext": merchant.domain,
            },
            # Compressed, a short answer could be a long one.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ssl=tls,
            # A redirect would show the merchant's certificate to somebody else.
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        ) as response:
            body = await read_bounded(response, MAX_SESSION_BYTES)
    except BodyTooLong:
        raise SessionUnavailable("Apple's answer is too long.") from None
    except TimeoutError:
        raise SessionUnavailable("Apple did not answer in time.") from None
    except aiohttp.ClientError:
        raise SessionUnavailable("Apple cannot be reached.") from None
    return _session(response.status, body, now_ms)


def session_url(validation_url: str, allowed_hosts: Collection[str] = PRODUCTION_HOSTS) -> str:
    """Return where to post to: the allowed host that the URL names, and Apple's path.

    A host may come with a port, which is then part of its name in `allowed_hosts`.

    Raises:
        ValidationUrlRefused.
    """
    found = _VALIDATION_URL.fullmatch(validation_url)
    if found is None or found["host"] not in allowed_hosts:
        raise ValidationUrlRefused("The validation URL is not one of Apple's.")
    return f"https://{found['host']}{_PATH}"


def _session(status: int, body: bytes, now_ms: int) -> MerchantSession:
    """Tell success from the ways to fail."""
    is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if is_refusal and status not in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}:
        _log.error("apple_pay_session_refused", status=status, reason=_reason(body))
        raise SessionRefused(f"Apple refused the merchant session with HTTP status {status}.")
    if status != HTTPStatus.OK:
        raise SessionUnavailable(f"Apple answered with HTTP status {status}.")
    try:
        read_object(body, "The session", MAX_SESSION_BYTES)
    except Malformed:
        raise SessionUnavailable("Apple's answer cannot be read.") from None
    return MerchantSession(body, now_ms + SESSION_VALID_MS)


def _reason(body: bytes) -> str:
    """Return what Apple says, on one line and cut, for the log."""
    try:
        told = read_object(body, "The answer", MAX_SESSION_BYTES).get("statusMessage")
    except Malformed:
        return ""
    return json.dumps(told)[:_MAX_REASON_LENGTH] if isinstance(told, str) else ""
