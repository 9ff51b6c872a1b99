"""Certificates in PEM: read, and checked before they are used, so that a bad one is never shown."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from server.access.watched_files import Contents, Unusable

SYSTEM_ROOTS: Final = "system"
"""Stands for the roots that the system trusts, in place of a file."""


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """A certificate with its chain, and its private key, in PEM; they belong together."""

    chain: bytes
    key: bytes = field(repr=False)
    expires: datetime


def read_pair(chain: bytes, key: bytes, now: datetime) -> CertificatePair:
    """Check a certificate and its key.

    Raises:
        Unusable: one cannot be read, they do not belong together, or it is not the time for them.
    """
    leaf = read_certificates(chain)[0]
    try:
        private_key = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("the private key is not one in PEM, without a password") from None
    if private_key.public_key() != leaf.public_key():
        raise Unusable("the private key is not that of the certificate")
    if now >= leaf.not_valid_after_utc:
        raise Unusable(f"the certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < leaf.not_valid_before_utc:
        raise Unusable(f"the certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} on")
    return CertificatePair(chain, key, leaf.not_valid_after_utc)


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Read certificates: a chain, or roots.

    Raises:
        Unusable: there are none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise Unusable("there is no certificate in PEM") from None


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate, its key, and the roots that others' certificates must reach are."""

    certificate: Path | None
    key: Path | None
    roots: Path | None
    """None: none are asked for, or the system's."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that there are."""
        return tuple(path for path in (self.certificate, self.key, self.roots) if path is not None)

    def parse(self, contents: Contents) -> "Certificates":
        """Check what the files hold.

        Raises:
            Unusable.
        """
        held = dict(zip(self.paths, contents, strict=True))
        pair = None
        if self.certificate is not None and self.key is not None:
            pair = read_pair(held[self.certificate], held[self.key], datetime.now(UTC))
        roots = None if self.roots is None else held[self.roots]
        if roots is not None:
            read_certificates(roots)
        return Certificates(pair, roots)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What one end of a connection shows, and what it wants to see."""

    pair: CertificatePair | None
    roots: bytes | None


class RenewedTls:
    """The TLS of an HTTP server, whose certificate changes for connections that come after that.

    The context that the server was started with hands each connection on to the one in force.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self.context = _server_context()
        self._current = self.context
        # Called for each connection, also for one that names no host.
        self.context.sni_callback = self._hand_on

    def parse(self, contents: Contents) -> ssl.SSLContext:
        """Make a context of what the files hold.

        Raises:
            Unusable.
        """
        self._files.parse(contents)
        context = _server_context()
        self._load(context)
        return context

    def accept(self, context: ssl.SSLContext) -> None:
        """Show the certificate of `context` from now on."""
        if self._current is self.context:
            # OpenSSL wants a certificate where a connection begins, before it is handed on.
            self._load(self.context)
        self._current = context

    def _hand_on(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self, context: ssl.SSLContext) -> None:
        assert self._files.certificate is not None  # noqa: S101 - whoever has TLS has both
        try:
            context.load_cert_chain(self._files.certificate, self._files.key)
        except (OSError, ssl.SSLError):
            raise Unusable("the certificate and its key cannot be loaded") from None


def _server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
