"""The signature of PayPal's webhooks, checked offline over the raw body.

Source of the rules: https://developer.paypal.com/api/rest/webhooks/rest/#verify-webhook-messages.
What is signed is `id|time|webhook id|CRC32 of the body`, with RSA (PKCS1v15) and SHA-256. The CRC
alone would not hold against whoever wants to forge a body of the same CRC; that is PayPal's scheme,
and why deliveries come over TLS. The time is signed, too, and not limited here: a delivery may come
for the first time after three days of retries. What comes twice is told by the event's id.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from gateway_adapters.gateway import SignatureInvalid
from gateway_adapters.paypal.certificates import Certificates

ID_HEADER: Final = "paypal-transmission-id"
TIME_HEADER: Final = "paypal-transmission-time"
SIGNATURE_HEADER: Final = "paypal-transmission-sig"
CERTIFICATE_HEADER: Final = "paypal-cert-url"
ALGORITHM_HEADER: Final = "paypal-auth-algo"
ALGORITHM: Final = "SHA256withRSA"

_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_TIME: Final = re.compile(r"[0-9T:.Z+-]{1,40}")
"""Neither can hold the `|` that separates what is signed."""
_MAX_SIGNATURE_LENGTH: Final = 2_048


@dataclass(frozen=True, slots=True)
class Transmission:
    """What the headers of a webhook say of its delivery."""

    transmission_id: str
    time: str
    certificate_url: str
    signature: bytes


async def verify(
    headers: Mapping[str, str], body: bytes, webhook_id: str, certificates: Certificates
) -> None:
    """Make sure that PayPal signed this body for this webhook; `headers` have lower-case names.

    Raises:
        SignatureInvalid; GatewayUnavailable where the certificate cannot be had.
    """
    transmission = read_transmission(headers)
    key = await certificates.key_at(transmission.certificate_url)
    check_signature(transmission, body, webhook_id, key)


def read_transmission(headers: Mapping[str, str]) -> Transmission:
    """Read the headers, before anything is fetched for them.

    Raises:
        SignatureInvalid: one is missing or has another shape, or names another algorithm.
    """
    if headers.get(ALGORITHM_HEADER) != ALGORITHM:
        raise SignatureInvalid(f"The webhook's PAYPAL-AUTH-ALGO is not {ALGORITHM}.")
    return Transmission(
        transmission_id=_header(headers, ID_HEADER, _ID),
        time=_header(headers, TIME_HEADER, _TIME),
        certificate_url=headers.get(CERTIFICATE_HEADER, ""),
        signature=_signature(headers.get(SIGNATURE_HEADER, "")),
    )


def signed_message(transmission: Transmission, body: bytes, webhook_id: str) -> bytes:
    """Return what is signed for a body, as it came, byte by byte."""
    checksum = zlib.crc32(body)
    parts = (transmission.transmission_id, transmission.time, webhook_id, str(checksum))
    return "|".join(parts).encode("ascii", "replace")


def check_signature(
    transmission: Transmission, body: bytes, webhook_id: str, key: RSAPublicKey
) -> None:
    """Check the signature with a key that is trusted.

    Raises:
        SignatureInvalid.
    """
    message = signed_message(transmission, body, webhook_id)
    try:
        key.verify(transmission.signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        raise SignatureInvalid("The webhook's signature does not fit its body.") from None


def _header(headers: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = headers.get(name, "")
    if pattern.fullmatch(value) is None:
        raise SignatureInvalid(f"The webhook carries no {name.upper()} header, or a broken one.")
    return value


def _signature(text: str) -> bytes:
    if not 0 < len(text) <= _MAX_SIGNATURE_LENGTH:
        raise SignatureInvalid("The webhook carries no PAYPAL-TRANSMISSION-SIG header.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureInvalid("The webhook's signature is not in base64.") from None
