"""Opening a verified payment token with the merchant's own private key.

Source of the rules: "Decrypt the encrypted message" in
https://developers.google.com/pay/api/web/guides/resources/payment-data-cryptography. Whoever does
this handles card numbers and falls under PCI DSS; with a gateway's tokens nobody here needs to.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway_adapters.google_pay.errors import CannotDecrypt, Expired, Malformed, WrongRecipient
from gateway_adapters.google_pay.payment_token import EncryptedMessage, VerifiedToken
from gateway_adapters.google_pay.wire import (
    member,
    read_object,
    text_of,
    time_ms_of,
)
from gateway_adapters.wire import JsonObject

MAX_PRIVATE_KEYS: Final = 8
"""The current key and those that it replaces; each is tried."""

_KEY_BYTES: Final = 32
_SALT: Final = bytes(32)
_INFO: Final = b"Google"
_ZERO_IV: Final = bytes(16)
_PAN: Final = re.compile(r"[0-9]{12,19}")
_MAX_TEXT_LENGTH: Final = 512
_MONTHS: Final = range(1, 13)
_YEARS: Final = range(2000, 2200)


class AuthMethod(StrEnum):
    """What stands behind the card number."""

    PAN_ONLY = "PAN_ONLY"
    """A card on file with Google; the number is the card's own."""
    CRYPTOGRAM_3DS = "CRYPTOGRAM_3DS"
    """A device's number with a cryptogram for this one payment."""


@dataclass(frozen=True, slots=True)
class DecryptedCard:
    """A card to charge. Printing it shows neither number nor cryptogram."""

    message_id: str
    """Google's id of the message."""
    message_expires_ms: int
    gateway_merchant_id: str
    """Which of a gateway's merchants it is for; empty for a merchant's own token."""
    auth_method: AuthMethod
    pan: str = field(repr=False)
    expiration_month: int = field(repr=False)
    expiration_year: int = field(repr=False)
    cryptogram: str = field(repr=False)
    """In base64; empty where the method is PAN_ONLY."""
    eci_indicator: str = field(repr=False)
    """Empty where the card's network gives none."""


def decrypt_payment_token(
    token: VerifiedToken,
    private_keys: Sequence[ec.EllipticCurvePrivateKey],
    now_ms: int,
    gateway_merchant_id: str | None = None,
) -> DecryptedCard:
    """Open the token with any of the keys, then check that it has not expired at `now_ms`.

    `gateway_merchant_id` is the merchant that a gateway expects. Where it is given, a token for
    another merchant of the same gateway is refused.

    Raises:
        CannotDecrypt, Expired, WrongRecipient, Malformed.
    """
    if len(private_keys) > MAX_PRIVATE_KEYS:
        raise ValueError(f"There must be at most {MAX_PRIVATE_KEYS} private keys.")
    content = read_object(_open(token.message, private_keys), "The decrypted message")
    expires_ms = time_ms_of(content, "messageExpiration")
    if now_ms >= expires_ms:
        raise Expired("The message has expired.")
    found_merchant_id = _optional_text(content, "gatewayMerchantId")
    if gateway_merchant_id is not None and found_merchant_id != gateway_merchant_id:
        raise WrongRecipient("The message is meant for another merchant of the gateway.")
    return _read_card(content, expires_ms, found_merchant_id)


def _open(message: EncryptedMessage, private_keys: Sequence[ec.EllipticCurvePrivateKey]) -> bytes:
    try:
        ephemeral_key = ec.EllipticCurvePublicKey.from_encoded_point(
            ec.SECP256R1(), message.ephemeral_public_key
        )
    except ValueError:
        raise CannotDecrypt("The ephemeral key is not a point of P-256.") from None
    for private_key in private_keys:
        cipher_key, tag_key = _derive_keys(message, ephemeral_key, private_key)
        expected = hmac.digest(tag_key, message.ciphertext, "sha256")
        if hmac.compare_digest(expected, message.tag):
            decryptor = Cipher(algorithms.AES(cipher_key), modes.CTR(_ZERO_IV)).decryptor()
            return decryptor.update(message.ciphertext) + decryptor.finalize()
    raise CannotDecrypt("None of the merchant's keys opens the message.")


def _derive_keys(
    message: EncryptedMessage,
    ephemeral_key: ec.EllipticCurvePublicKey,
    private_key: ec.EllipticCurvePrivateKey,
) -> tuple[bytes, bytes]:
    """Derive the AES-256-CTR key and the HMAC-SHA256 key.

    HKDF with SHA-256 over the ephemeral key and the shared secret, salt 32 zero bytes, info
    "Google", 64 bytes long. The IV may be zero because each message has keys of its own.
    """
    shared_secret = private_key.exchange(ec.ECDH(), ephemeral_key)
    derived = HKDF(hashes.SHA256(), 2 * _KEY_BYTES, _SALT, _INFO).derive(
        message.ephemeral_public_key + shared_secret
    )
    return derived[:_KEY_BYTES], derived[_KEY_BYTES:]


def _read_card(content: JsonObject, expires_ms: int, gateway_merchant_id: str) -> DecryptedCard:
    if text_of(content, "paymentMethod") != "CARD":
        raise Malformed("`paymentMethod` is not CARD.")
    details = member(content, "paymentMethodDetails")
    pan = text_of(details, "pan")
    if _PAN.fullmatch(pan) is None:
        raise Malformed("`pan` is not a card number.")
    try:
        auth_method = AuthMethod(text_of(details, "authMethod"))
    except ValueError:
        raise Malformed("`authMethod` is not a known one.") from None
    cryptogram = _optional_text(details, "cryptogram")
    if auth_method is AuthMethod.CRYPTOGRAM_3DS and not cryptogram:
        raise Malformed("`cryptogram` is missing.")
    return DecryptedCard(
        message_id=_optional_text(content, "messageId"),
        message_expires_ms=expires_ms,
        gateway_merchant_id=gateway_merchant_id,
        auth_method=auth_method,
        pan=pan,
        expiration_month=_whole(details, "expirationMonth", _MONTHS),
        expiration_year=_whole(details, "expirationYear", _YEARS),
        cryptogram=cryptogram,
        eci_indicator=_optional_text(details, "eciIndicator"),
    )


def _optional_text(content: JsonObject, name: str) -> str:
    if content.get(name) is None or content.get(name) == "":
        return ""
    found = text_of(content, name)
    if len(found) > _MAX_TEXT_LENGTH:
        raise Malformed(f"`{name}` is too long.")
    return found


def _whole(content: JsonObject, name: str, bounds: range) -> int:
    found = content.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found not in bounds:
        raise Malformed(f"`{name}` is not a whole number in its bounds.")
    return found
