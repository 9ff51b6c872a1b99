"""What Google signs, and how: a root key signs an intermediate key, which signs the message.

Source of the rules: "Verify the signature" in
https://developers.google.com/pay/api/web/guides/resources/payment-data-cryptography. Both protocol
versions of the second generation share them; only the sender's name and the recipient differ.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_adapters.google_pay.errors import (
    Expired,
    KeyUnknown,
    Malformed,
    SignatureInvalid,
    UnsupportedVersion,
)
from gateway_adapters.google_pay.root_keys import RootKey
from gateway_adapters.google_pay.wire import (
    decode_base64,
    decode_public_key,
    member,
    read_object,
    text_of,
    time_ms_of,
)
from gateway_adapters.wire import JsonObject

MAX_RECIPIENTS: Final = 8
"""Names that this service goes by; each is tried on each message."""
MAX_INTERMEDIATE_SIGNATURES: Final = 8
"""Signatures of root keys on one intermediate key; Google sends one for each root key."""

_ECDSA: Final = ec.ECDSA(hashes.SHA256())
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A message that Google has signed for one of the recipients."""

    text: str = field(repr=False)
    """JSON, exactly as it was signed."""
    recipient: str
    """The one of the recipients asked for that it was signed for."""
    replay_key: str
    """`sha256:` and the digest of what was signed: the same for the same message, however its
    envelope is written. The envelope would not do, as it takes white space, and as of each ECDSA
    signature there are two that hold."""


def verify_signed_message(
    body: bytes,
    sender: str,
    protocol_version: str,
    recipients: Sequence[str],
    root_keys: Sequence[RootKey],
    now_ms: int,
) -> SignedMessage:
    """Verify both signatures, and that neither signing key has expired at `now_ms`.

    The intermediate key is signed over lv(sender) lv(version) lv(signedKey), the message over
    lv(sender) lv(recipient) lv(version) lv(signedMessage), with lv(x) the 4-byte little-endian
    length of x and x; both in ECDSA on P-256 with SHA-256.

    Raises:
        Malformed, UnsupportedVersion, KeyUnknown, SignatureInvalid, Expired.
        ValueError: `recipients` has none, a blank one, or too many.
    """
    check_recipients(recipients)
    envelope = read_object(body, "The message")
    _check_version(envelope, protocol_version)
    usable = [key for key in root_keys if key.is_usable(protocol_version, now_ms)]
    intermediate_key = _verify_intermediate_key(envelope, sender, protocol_version, usable, now_ms)
    message = text_of(envelope, "signedMessage")
    signature = decode_base64(envelope.get("signature"), "`signature`")
    for recipient in recipients:
        signed = length_value(sender, recipient, protocol_version, message)
        if _is_signed(intermediate_key, signature, signed):
            replay_key = f"sha256:{hashlib.sha256(signed).hexdigest()}"
            return SignedMessage(message, recipient, replay_key)
    raise SignatureInvalid("The message was changed, or it is meant for another recipient.")


def length_value(*values: str) -> bytes:
    """Write each value's length in bytes, little-endian in four bytes, and the value."""
    encoded = [value.encode("utf-8") for value in values]
    return b"".join(len(value).to_bytes(_LENGTH_BYTES, "little") + value for value in encoded)


def _verify_intermediate_key(
    envelope: JsonObject,
    sender: str,
    protocol_version: str,
    root_keys: Sequence[RootKey],
    now_ms: int,
) -> ec.EllipticCurvePublicKey:
    """Return the intermediate key, once any root key's signature on it holds."""
    intermediate = member(envelope, "intermediateSigningKey")
    signed_key = text_of(intermediate, "signedKey")
    signatures = _signatures(intermediate)
    signed = length_value(sender, protocol_version, signed_key)
    if not any(
        _is_signed(root_key.public_key, signature, signed)
        for root_key in root_keys
        for signature in signatures
    ):
        raise KeyUnknown("No known root key has signed the intermediate key.")
    content = read_object(signed_key, "`signedKey`")
    if now_ms >= time_ms_of(content, "keyExpiration"):
        raise Expired("The intermediate signing key has expired.")
    return decode_public_key(content.get("keyValue"), "The intermediate key's `keyValue`")


def _signatures(intermediate: JsonObject) -> list[bytes]:
    found = intermediate.get("signatures")
    if not isinstance(found, list) or not 0 < len(found) <= MAX_INTERMEDIATE_SIGNATURES:
        raise Malformed(f"`signatures` is not a list of 1 to {MAX_INTERMEDIATE_SIGNATURES}.")
    return [decode_base64(signature, "A signature of a root key") for signature in found]


def _is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, _ECDSA)
    except InvalidSignature:
        return False
    return True


def _check_version(envelope: JsonObject, protocol_version: str) -> None:
    if text_of(envelope, "protocolVersion") != protocol_version:
        raise UnsupportedVersion(f"The message's protocolVersion is not {protocol_version}.")


def check_recipients(recipients: Sequence[str]) -> None:
    """Refuse a configuration under which anybody, or nobody, is the recipient."""
    if isinstance(recipients, str) or not 0 < len(recipients) <= MAX_RECIPIENTS:
        raise ValueError(f"There must be 1 to {MAX_RECIPIENTS} recipients.")
    if not all(recipients):
        raise ValueError("A recipient must not be blank.")
