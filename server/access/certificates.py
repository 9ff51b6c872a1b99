"""Certificates in PEM: read, and checked before they are used, so that a bad one is never shown."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from server.access.watched_files import Contents, Unusable

_MIN_RSA_BITS: Final = 2_048
_END: Final = re.compile(rb"-----END [A-Z0-9 ]+-----")


class ExpiryObserver(Protocol):
    """Takes note of how long a certificate is good, for an alarm before it is not."""

    def certificate_expires(self, what: str, time: datetime) -> None:
        """Note when the certificate that is in use expires."""


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
        public_key = leaf.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable(
            "the private key is none in PEM without a password, or of a kind that is not known"
        ) from None
    if private_key.public_key() != public_key:
        raise Unusable("the private key is not that of the certificate")
    if not _is_offered_by_grpc(public_key):
        raise Unusable("the certificate's key is neither RSA of 2048 bits or more nor P-256, P-384")
    if now >= leaf.not_valid_after_utc:
        raise Unusable(f"the certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < leaf.not_valid_before_utc:
        raise Unusable(f"the certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} on")
    return CertificatePair(chain, key, leaf.not_valid_after_utc)


def _is_offered_by_grpc(key: object) -> bool:
    """Tell whether connections can be made with it: gRPC takes others as well, and fails then."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _MIN_RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return False


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Read certificates: a chain, or roots.

    Raises:
        Unusable: there are none, or one of them is not whole.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise Unusable("there is no certificate in PEM") from None
    if pem.count(b"-----BEGIN") != len(_END.findall(pem)):
        # What is cut off would be passed over, and a root or the chain's rest be missing.
        raise Unusable("a certificate is cut off: the file is not written to its end")
    return found


@dataclass(frozen=True, slots=True)
class Certificates:
    """What one end of a connection shows, and what others' certificates must reach."""

    pair: CertificatePair | None
    roots: bytes | None
    """None: none are asked for, or the system's."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate, its key, and the roots that others' certificates must reach are."""

    certificate: Path | None
    key: Path | None
    roots: Path | None

    @classmethod
    def named(cls, certificate: str, key: str, roots: str = "") -> Self:
        """Take the files that settings name, empty where there is none."""
        return cls(*(Path(name) if name else None for name in (certificate, key, roots)))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that there are."""
        return tuple(path for path in (self.certificate, self.key, self.roots) if path is not None)

    def parse(self, contents: Contents) -> Certificates:
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
