"""The certificates that sign PayPal's webhooks: where they may come from, and whom they speak for.

A webhook names the URL of its certificate itself, so that the URL is nothing to go by: it has to be
PayPal's, to the letter. What is found there counts only if its chain reaches a trusted root at this
moment, and if it is for the name under which PayPal signs messages.

It is not fetched through Outbound: anybody can send a webhook that makes a fetch fail, and must not
be able to open the circuit that calls to the API depend on.
"""

import asyncio
import re
import ssl
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from yarl import URL

from gateway_adapters.bounded_body import BodyTooLong, read_bounded
from gateway_adapters.gateway import GatewayUnavailable, SignatureInvalid
from gateway_adapters.paypal.settings import PaypalSettings
from gateway_adapters.single_flight import SingleFlight

MAX_BYTES: Final = 64 * 1024
"""Of a chain of certificates; PayPal's have a tenth of it."""
MAX_KEPT: Final = 16
KEPT_SECONDS: Final = 6 * 3_600
"""After that it is fetched again; where that fails the kept one goes on, as long as it is valid."""

_MAX_CERTIFICATES: Final = 8
_MAX_CHAIN_DEPTH: Final = 4
_FETCHED_AT_ONCE: Final = 4
"""Anybody can make us fetch what is not there: this bounds how much of it."""
_CERTIFICATE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""With this shape an id cannot change what a URL means."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("paypal.certificates")

Chain = tuple[x509.Certificate, ...]
"""The one that signs first, then those that vouch for it."""


@dataclass(frozen=True, slots=True)
class _Kept:
    chain: Chain
    fresh_until: float


class Certificates:
    """Owns the certificates that were fetched. The session stays its owner's, who closes it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: PaypalSettings,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        """`now` tells the time that certificates have to be valid at; `clock` only goes forward.

        Raises:
            ValueError: there is no root to trust.
        """
        self._session = session
        self._prefix = settings.allowed_certificate_url_prefix
        self._name = x509.DNSName(settings.certificate_name)
        self._roots = Store(_roots(settings.trust_anchors_pem))
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds)
        self._now = now
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._flight: SingleFlight[str, Chain] = SingleFlight()
        self._slots = asyncio.Semaphore(_FETCHED_AT_ONCE)

    async def key_at(self, url: str) -> RSAPublicKey:
        """Return the key that signs, from the certificate at `url`, which is trusted just now.

        Raises:
            SignatureInvalid: it is not PayPal's; GatewayUnavailable: it cannot be had.
        """
        if not is_allowed(url, self._prefix):
            raise SignatureInvalid("The webhook's certificate URL is not one of PayPal's.")
        kept = self._kept.get(url)
        if kept is not None and self._clock() < kept.fresh_until:
            self._kept.move_to_end(url)
            return self._trusted_key(kept.chain)
        chain = await self._flight.share(url, lambda: self._refresh(url))
        return self._trusted_key(chain)

    async def _refresh(self, url: str) -> Chain:
        """Fetch a chain, and keep it if it is good: nothing else may push out one that is."""
        try:
            chain = read_chain(await self._fetch(url))
        except GatewayUnavailable:
            kept = self._kept.get(url)
            if kept is None:
                raise
            _log.warning("certificate not refreshed", url=url)
            return kept.chain
        self._trusted_key(chain)
        self._kept[url] = _Kept(chain, self._clock() + KEPT_SECONDS)
        self._kept.move_to_end(url)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return chain

    async def _fetch(self, url: str) -> bytes:
        try:
            async with (
                self._slots,
                self._session.get(
                    URL(url, encoded=True), allow_redirects=False, timeout=self._timeout
                ) as response,
            ):
                _check_status(response.status)
                return await read_bounded(response, MAX_BYTES)
        except BodyTooLong:
            raise SignatureInvalid("The webhook's certificate is too long.") from None
        except TimeoutError:
            raise GatewayUnavailable("PayPal's certificate did not come in time.") from None
        except aiohttp.ClientError:
            raise GatewayUnavailable("PayPal's certificate cannot be fetched.") from None

    def _trusted_key(self, chain: Chain) -> RSAPublicKey:
        policy = (
            PolicyBuilder().store(self._roots).time(self._now()).max_chain_depth(_MAX_CHAIN_DEPTH)
        )
        leaf, *intermediates = chain
        try:
            policy.build_server_verifier(self._name).verify(leaf, intermediates)
        except VerificationError:
            raise SignatureInvalid("The webhook's certificate is not to be trusted.") from None
        key = leaf.public_key()
        if not isinstance(key, RSAPublicKey):
            raise SignatureInvalid("The webhook's certificate is not for RSA.")
        return key


def is_allowed(url: str, prefix: str) -> bool:
    """Tell whether a URL is the prefix and an id, letter by letter.

    Nothing is parsed, so that nothing can be understood in two ways: other hosts, ports, user
    names, dots, escapes and queries do not fit.
    """
    has_prefix = url.startswith(prefix)
    return has_prefix and _CERTIFICATE_ID.fullmatch(url[len(prefix) :]) is not None


def read_chain(pem: bytes) -> Chain:
    """Read what came from a certificate URL.

    Raises:
        SignatureInvalid: these are no certificates, or too many.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion):
        raise SignatureInvalid("The webhook's certificate cannot be read.") from None
    if len(chain) > _MAX_CERTIFICATES:
        raise SignatureInvalid("The webhook's certificate comes with too many others.")
    return chain


def _check_status(status: int) -> None:
    """Let pass what is there; tell what is not there from what cannot be had now."""
    if status == HTTPStatus.OK:
        return
    may_come_later = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    if status in may_come_later or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise GatewayUnavailable(f"PayPal answered for its certificate with HTTP status {status}.")
    raise SignatureInvalid("There is no certificate at the webhook's certificate URL.")


def _roots(pem: bytes) -> list[x509.Certificate]:
    """Return the roots of a file, or else those that this system trusts."""
    found = x509.load_pem_x509_certificates(pem) if pem else _roots_of_the_system()
    if not found:
        raise ValueError(
            "This system has no trusted certificates for PayPal's webhooks: install "
            "ca-certificates, or name a file of them."
        )
    return found


def _roots_of_the_system() -> list[x509.Certificate]:
    context = ssl.create_default_context()
    folder = ssl.get_default_verify_paths().capath
    if not context.get_ca_certs() and folder is not None:
        # OpenSSL looks into a folder of roots only when it needs one.
        for file in sorted(Path(folder).glob("*.pem")):
            context.load_verify_locations(file)
    found = (_root(der) for der in context.get_ca_certs(binary_form=True))
    return [root for root in found if root is not None]


def _root(der: bytes) -> x509.Certificate | None:
    """Read a root; None where it breaks the rules for certificates, as a few old ones do."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        try:
            return x509.load_der_x509_certificate(der)
        except (ValueError, CryptographyDeprecationWarning):
            return None
