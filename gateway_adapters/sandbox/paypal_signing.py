"""The certificates and signatures of the sandbox's PayPal, under an authority of its own."""

import base64
import json
import secrets
import string
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway_adapters.sandbox.paypal_account import now
from gateway_adapters.sandbox.paypal_entities import Event
from gateway_adapters.sandbox.webhooks import Webhook

CERTIFICATE_NAME: Final = "messageverificationcerts.sandbox.paypal.com"
CERTIFICATE_PATH: Final = "/v1/notifications/certs/"

_KEY_BITS: Final = 2048
_LIFETIME: Final = timedelta(days=3_650)
_ID_CHARACTERS: Final = string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True)
class PaypalKeys:
    """An authority's certificate, the one that it signed, and the key that signs webhooks.

    They are kept with the sandbox's data, so that its authority stays the same over restarts.
    """

    certificate_id: str
    root_pem: str
    chain_pem: str
    private_key_pem: str = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what is to be kept."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PaypalSigner:
    """Who signs. Without a `webhook_id` no webhooks are sent."""

    keys: PaypalKeys
    webhook_id: str
    base_url: str
    """Where the sandbox is reached."""

    @property
    def certificate_url_prefix(self) -> str:
        """What stands before a certificate's id."""
        return self.base_url + CERTIFICATE_PATH

    def webhooks(self, events: Sequence[Event]) -> list[Webhook]:
        """Write the events down as they will be sent."""
        return [self._webhook(event) for event in events] if self.webhook_id else []

    def headers(self, webhook: Webhook) -> dict[str, str]:
        """Return the headers of a webhook that is sent now."""
        transmission_id, time = str(uuid4()), now()
        checksum = zlib.crc32(webhook.body.encode())
        message = f"{transmission_id}|{time}|{self.webhook_id}|{checksum}".encode()
        key = serialization.load_pem_private_key(self.keys.private_key_pem.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101 - the sandbox made it
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return {
            "Content-Type": "application/json",
            "User-Agent": "PayPal/AUHD-214.0-sandbox",
            "PAYPAL-TRANSMISSION-ID": transmission_id,
            "PAYPAL-TRANSMISSION-TIME": time,
            "PAYPAL-TRANSMISSION-SIG": base64.b64encode(signature).decode(),
            "PAYPAL-CERT-URL": self.certificate_url_prefix + self.keys.certificate_id,
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
            "PAYPAL-AUTH-VERSION": "v2",
        }

    def _webhook(self, event: Event) -> Webhook:
        event_id = f"WH-{_random(17)}-{_random(17)}"
        body = json.dumps(
            {
                "id": event_id,
                "event_version": "1.0",
                "create_time": now(),
                "resource_type": event.resource_type,
                "resource_version": "2.0",
                "event_type": event.name,
                "summary": event.name,
                "resource": event.resource,
                "links": [],
            }
        )
        return Webhook(event_id, body, event.name)


def restored_keys(content: Mapping[str, Any]) -> PaypalKeys:
    """Return the keys that were kept, or new ones."""
    return PaypalKeys(**content) if content else make_keys()


def make_keys() -> PaypalKeys:
    """Make an authority, and a certificate that it signed."""
    root_key = rsa.generate_private_key(65_537, _KEY_BITS)
    key = rsa.generate_private_key(65_537, _KEY_BITS)
    root = _root(root_key)
    leaf = _leaf(key, root, root_key)
    private_key = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return PaypalKeys(
        certificate_id=f"CERT-sandbox-{leaf.fingerprint(hashes.SHA256()).hex()[:16]}",
        root_pem=root.public_bytes(serialization.Encoding.PEM).decode(),
        chain_pem=leaf.public_bytes(serialization.Encoding.PEM).decode(),
        private_key_pem=private_key.decode(),
    )


def _root(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sandbox Root")])
    public_key = key.public_key()
    return (
        _builder(name, name, public_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    key: rsa.RSAPrivateKey, root: x509.Certificate, root_key: rsa.RSAPrivateKey
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CERTIFICATE_NAME)])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    alternative_names = x509.SubjectAlternativeName([x509.DNSName(CERTIFICATE_NAME)])
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _builder(name, root.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(alternative_names, critical=False)
        .add_extension(authority, critical=False)
        .sign(root_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: rsa.RSAPublicKey
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _LIFETIME)
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=not is_authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(length))
