"""An authority for tests of PayPal's webhooks: certificates of any kind, and what they sign."""

import base64
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "messageverificationcerts.sandbox.paypal.com"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """The certificate, as it is served."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def headers(
        self, body: bytes, certificate_url: str, webhook_id: str, **changes: str
    ) -> dict[str, str]:
        """Sign a body as PayPal does; return the headers, with changes after the signing."""
        assert isinstance(self.key, rsa.RSAPrivateKey)
        transmission_id, time = "dfb3be50-fd74-11e4-8bf3-77339302725b", "2026-03-01T11:59:58Z"
        message = f"{transmission_id}|{time}|{webhook_id}|{zlib.crc32(body)}".encode()
        signature = self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return {
            "paypal-transmission-id": transmission_id,
            "paypal-transmission-time": time,
            "paypal-transmission-sig": base64.b64encode(signature).decode(),
            "paypal-cert-url": certificate_url,
            "paypal-auth-algo": "SHA256withRSA",
        } | {name.replace("_", "-"): value for name, value in changes.items()}


class Authority:
    """A root, and the certificates that it signs."""

    def __init__(self, name: str = "Test Root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        self.certificate = _signed(
            subject,
            subject,
            self._key,
            self._key,
            [
                (x509.BasicConstraints(ca=True, path_length=None), True),
                (_usage(is_authority=True), True),
                (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
            ],
            NOW - timedelta(days=3_650),
            NOW + timedelta(days=3_650),
        )

    @property
    def pem(self) -> bytes:
        """The root."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str = NAME,
        *,
        key: Key | None = None,
        begin: datetime = NOW - timedelta(days=30),
        end: datetime = NOW + timedelta(days=30),
    ) -> Issued:
        """Sign a certificate for a DNS name, and for this machine's address."""
        key = key or rsa.generate_private_key(65_537, 2_048)
        names = [x509.DNSName(name), x509.IPAddress(IPv4Address("127.0.0.1"))]
        issuer_key = self._key.public_key()
        certificate = _signed(
            _name(name),
            self.certificate.subject,
            key,
            self._key,
            [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (_usage(is_authority=False), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
                (x509.SubjectAlternativeName(names), False),
                (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False),
            ],
            begin,
            end,
        )
        return Issued(certificate, key)

    def client_context(self) -> ssl.SSLContext:
        """Return what lets a client trust this root."""
        return ssl.create_default_context(cadata=self.pem.decode())

    def server_context(self, folder: Path) -> ssl.SSLContext:
        """Return what a server on this machine needs; its files go into a folder."""
        now = datetime.now(UTC)
        issued = self.issue(
            "localhost",
            key=ec.generate_private_key(ec.SECP256R1()),
            begin=now - timedelta(days=1),
            end=now + timedelta(days=1),
        )
        file = folder / "server.pem"
        private_key = issued.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(private_key + issued.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@asynccontextmanager
async def serving(
    app: web.Application, context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve an application on a free port and give its URL."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{'https' if context else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: Key,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: list[tuple[x509.ExtensionType, bool]],
    begin: datetime,
    end: datetime,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
