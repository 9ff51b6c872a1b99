"""EC_v1 payment tokens: verified before they are forwarded.

Source of the rules: "Verify the signature" in
https://developer.apple.com/documentation/passkit/payment-token-format-reference.

Apple signs the parts of a token one behind the other, without their lengths. Whoever has a token
can so move bytes from one part to its neighbour and keep the signature: the transaction id becomes
another one. Here the ids have a fixed length, and `replay_key` is the digest of all parts together,
which such a move does not change.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gateway_adapters.apple_pay.chain import check_chain
from gateway_adapters.apple_pay.cms import read_cms
from gateway_adapters.apple_pay.errors import (
    Expired,
    Malformed,
    SignatureInvalid,
    UnsupportedVersion,
    WrongRecipient,
)
from gateway_adapters.apple_pay.merchant_key import MerchantKey
from gateway_adapters.apple_pay.wire import base64_of, hex_of, member, read_object
from gateway_adapters.wire import JsonObject

VERSION: Final = "EC_v1"

MAX_TOKEN_BYTES: Final = 32 * 1024
"""A token has about 4 KiB."""
DEFAULT_MAX_AGE_MS: Final = 5 * 60 * 1000
"""Apple: a difference of more than a few minutes may be a replay."""
MAX_CLOCK_SKEW_MS: Final = 60 * 1000
"""So far may the signing time lie ahead of this service's clock."""

_HASH_BYTES: Final = 32
_TAG_BYTES: Final = 16
_ECDSA: Final = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that a device of Apple's made for the merchant.

    Whether it was used before is the caller's to check, by `replay_key`.
    """

    transaction_id: str
    """64 hex digits, lower case however they came."""
    replay_key: str
    """`sha256:` and the digest of what was signed: the same for the same token, however its parts
    are cut or written."""
    signing_time_ms: int
    application_data_hash: bytes
    """SHA-256 of the payment request's own data; empty where it had none."""
    merchant_key: MerchantKey
    """The key that it is encrypted to."""
    ephemeral_public_key: ec.EllipticCurvePublicKey = field(repr=False)
    data: bytes = field(repr=False)
    """The payment data, encrypted."""


@dataclass(frozen=True, slots=True)
class _Token:
    signature: bytes
    data: bytes
    ephemeral_public_key: bytes
    public_key_hash: bytes
    transaction_id: bytes
    application_data: bytes


def verify_payment_token(
    token: bytes,
    trust_anchors: Sequence[x509.Certificate],
    merchant_keys: Sequence[MerchantKey],
    now_ms: int,
    max_age_ms: int = DEFAULT_MAX_AGE_MS,
) -> VerifiedToken:
    """Verify that Apple signed the token for one of the merchant's keys, a short time ago.

    `token` is the JSON of `paymentData`, in UTF-8. Without trust anchors, or without keys, no token
    is taken. `now_ms` is in UTC milliseconds.

    Raises:
        Malformed, UnsupportedVersion, ChainInvalid, SignatureInvalid, Expired, WrongRecipient.
    """
    parts = _read_token(token)
    ephemeral_key = _read_public_key(parts.ephemeral_public_key)
    signature = read_cms(parts.signature)
    signer_key = check_chain(signature, trust_anchors)
    digest = hashlib.sha256(
        parts.ephemeral_public_key + parts.data + parts.transaction_id + parts.application_data
    ).digest()
    if not hmac.compare_digest(digest, signature.message_digest):
        raise SignatureInvalid("The token was changed: its digest is not the one that was signed.")
    try:
        signer_key.verify(signature.signature, signature.signed_attributes, _ECDSA)
    except InvalidSignature:
        raise SignatureInvalid("The signature on the signed attributes does not hold.") from None
    _check_age(now_ms - signature.signing_time_ms, max_age_ms)
    return VerifiedToken(
        transaction_id=parts.transaction_id.hex(),
        replay_key=f"sha256:{digest.hex()}",
        signing_time_ms=signature.signing_time_ms,
        application_data_hash=parts.application_data,
        merchant_key=_find_merchant_key(parts.public_key_hash, merchant_keys),
        ephemeral_public_key=ephemeral_key,
        data=parts.data,
    )


def _read_token(token: bytes) -> _Token:
    content = read_object(token, "The token", MAX_TOKEN_BYTES)
    if content.get("version") != VERSION:
        raise UnsupportedVersion(f"The token's version is not {VERSION}.")
    header = member(content, "header")
    parts = _Token(
        signature=base64_of(content, "signature"),
        data=base64_of(content, "data"),
        ephemeral_public_key=base64_of(header, "ephemeralPublicKey"),
        public_key_hash=base64_of(header, "publicKeyHash"),
        transaction_id=hex_of(header, "transactionId", _HASH_BYTES),
        application_data=_application_data(header),
    )
    if len(parts.data) <= _TAG_BYTES:
        raise Malformed("`data` is too short.")
    if len(parts.public_key_hash) != _HASH_BYTES:
        raise Malformed("`publicKeyHash` is not a SHA-256.")
    return parts


def _application_data(header: JsonObject) -> bytes:
    """Return the hash of the request's data; the key is left out where the request had none."""
    if header.get("applicationData") is None:
        return b""
    return hex_of(header, "applicationData", _HASH_BYTES)


def _read_public_key(encoded: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(encoded)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("`ephemeralPublicKey` is not a public key.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed("`ephemeralPublicKey` is not a P-256 key.")
    return key


def _check_age(age_ms: int, max_age_ms: int) -> None:
    if age_ms > max_age_ms:
        raise Expired("The token was signed too long ago.")
    if age_ms < -MAX_CLOCK_SKEW_MS:
        raise Expired("The token's signing time lies in the future.")


def _find_merchant_key(public_key_hash: bytes, merchant_keys: Sequence[MerchantKey]) -> MerchantKey:
    for key in merchant_keys:
        if hmac.compare_digest(key.public_key_hash, public_key_hash):
            return key
    raise WrongRecipient("The token is encrypted to a key that is none of this merchant's.")
