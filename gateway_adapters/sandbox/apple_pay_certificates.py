"""The certificates of the sandbox's Apple: for tokens, for the merchant, and for its TLS.

Source of the marks: "Verify the signature" in
https://developer.apple.com/documentation/passkit/payment-token-format-reference.
"""

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway_adapters.sandbox.wallet_keys import private_pem, write_private

_LEAF_MARK: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.29")
_INTERMEDIATE_MARK: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.2.14")
_MERCHANT_ID_HASH: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.32")
_ASN1_NULL: Final = b"\x05\x00"
_UTF8_STRING: Final = b"\x0c\x40"
"""The tag of a UTF8String, and the length of a SHA-256 in hex."""
_LIFETIME: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def pem(self) -> bytes:
        """Write the certificate."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class ApplePayFiles:
    """Where the merchant's side of the certificates is left: what an operator has from Apple."""

    folder: Path

    @property
    def root(self) -> Path:
        """The root of everything."""
        return self.folder / "apple-pay-root.pem"

    @property
    def processing_certificate(self) -> Path:
        """The payment processing certificate."""
        return self.folder / "apple-pay-processing.pem"

    @property
    def processing_key(self) -> Path:
        """Its private key."""
        return self.folder / "apple-pay-processing-key.pem"

    @property
    def identity_certificate(self) -> Path:
        """The merchant identity certificate."""
        return self.folder / "apple-pay-identity.pem"

    @property
    def identity_key(self) -> Path:
        """Its private key."""
        return self.folder / "apple-pay-identity-key.pem"


@dataclass(frozen=True, slots=True)
class ApplePayCertificates:
    """An authority in Apple's place, and what it has issued."""

    root: Issued
    intermediate: Issued
    leaf: Issued
    """Signs tokens."""
    processing: Issued
    """The merchant's: tokens are encrypted to it."""
    identity: Issued
    """The merchant's, for TLS."""
    server: Issued
    """Apple's, for TLS."""

    def leave(self, files: ApplePayFiles) -> None:
        """Leave what the merchant needs."""
        write_private(files.root, self.root.pem())
        write_private(files.processing_certificate, self.processing.pem())
        write_private(files.processing_key, private_pem(self.processing.key))
        write_private(files.identity_certificate, self.identity.pem())
        write_private(files.identity_key, private_pem(self.identity.key))

    def server_tls(self, folder: Path) -> ssl.SSLContext:
        """Return the TLS of a server that takes clients with a certificate of this authority."""
        file = folder / "apple-pay-server.pem"
        write_private(file, self.server.pem() + private_pem(self.server.key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=self.root.pem().decode())
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_certificates(merchant_identifier: str) -> ApplePayCertificates:
    """Make an authority with everything that it issues."""
    root = _issue("Sandbox Apple Root", None, is_authority=True)
    intermediate = _issue(
        "Sandbox Apple Integration CA", root, [_mark(_INTERMEDIATE_MARK)], is_authority=True
    )
    merchant_hash = hashlib.sha256(merchant_identifier.encode()).hexdigest().encode()
    merchant_mark = x509.UnrecognizedExtension(_MERCHANT_ID_HASH, _UTF8_STRING + merchant_hash)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    )
    return ApplePayCertificates(
        root=root,
        intermediate=intermediate,
        leaf=_issue("Sandbox Apple Pay Signing", intermediate, [_mark(_LEAF_MARK)]),
        processing=_issue(merchant_identifier, root, [merchant_mark]),
        identity=_issue(merchant_identifier, root),
        server=_issue("localhost", root, [names]),
    )


def _issue(
    name: str,
    issuer: Issued | None,
    extensions: Sequence[x509.ExtensionType] = (),
    *,
    is_authority: bool = False,
) -> Issued:
    """Return a certificate that the issuer, or else its own key, has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.now(UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _LIFETIME)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _mark(oid: x509.ObjectIdentifier) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(oid, _ASN1_NULL)
