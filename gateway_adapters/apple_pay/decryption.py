"""Opening a verified EC_v1 token with the merchant's own private key.

Source of the rules: "Restore the symmetric key", "Decrypt the payment data" and "Payment data keys"
in https://developer.apple.com/documentation/passkit/payment-token-format-reference. Whoever does
this handles card numbers and falls under PCI DSS; with a gateway that decrypts nobody here needs
to.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from gateway_adapters.apple_pay.errors import CannotDecrypt, Malformed
from gateway_adapters.apple_pay.payment_token import MAX_TOKEN_BYTES, VerifiedToken
from gateway_adapters.apple_pay.wire import member, read_object
from gateway_adapters.wire import JsonObject
from server.ledger.money import MAX_AMOUNT_MINOR_UNITS

_KEY_BYTES: Final = 32
_ALGORITHM: Final = b"\x0did-aes256-GCM"
_PARTY: Final = b"Apple"
_ZERO_IV: Final = bytes(16)
_PAN: Final = re.compile(r"[0-9]{12,19}")
_DATE: Final = re.compile(r"[0-9]{2}(?:0[1-9]|1[0-2])[0-9]{2}")
_CURRENCY: Final = re.compile(r"[0-9]{3}")
_MAX_TEXT_LENGTH: Final = 512


@dataclass(frozen=True, slots=True)
class DecryptedCard:
    """A card to charge. Printing it shows neither number nor cryptogram."""

    currency_number: str
    """The ISO 4217 numeric code, three digits: 356 is INR."""
    amount_minor_units: int
    """What the customer agreed to, in the currency's minor units; compare it with what is due."""
    payment_data_type: str
    """`3DSecure`, or `EMV` where the card is a Chinese one."""
    pan: str = field(repr=False)
    """The device's number of the card."""
    expiration_date: str = field(repr=False)
    """YYMMDD."""
    cryptogram: str = field(repr=False)
    """In base64; empty where the type is not `3DSecure`."""
    eci_indicator: str = field(repr=False)
    """Empty where the card's network gives none."""


def decrypt_payment_token(token: VerifiedToken) -> DecryptedCard:
    """Open the token with the private key of the merchant key that it is encrypted to.

    Raises:
        CannotDecrypt, Malformed.
    """
    private_key = token.merchant_key.private_key
    if private_key is None:
        raise CannotDecrypt("The merchant's private key is not configured here.")
    shared_secret = private_key.exchange(ec.ECDH(), token.ephemeral_public_key)
    key = derive_key(shared_secret, token.merchant_key.merchant_id_hash)
    return read_card(open_data(token.data, key))


def derive_key(shared_secret: bytes, merchant_id_hash: bytes) -> bytes:
    """Derive the AES-256 key: the KDF of NIST SP 800-56A, section 5.8.1, with SHA-256.

    One round is enough: SHA-256 of 00000001, the secret, the algorithm's name with its length, the
    party that sends and the one that receives.
    """
    parties = _ALGORITHM + _PARTY + merchant_id_hash
    return ConcatKDFHash(hashes.SHA256(), _KEY_BYTES, parties).derive(shared_secret)


def open_data(data: bytes, key: bytes) -> bytes:
    """Decrypt with AES-256-GCM; the tag is the last 16 bytes, the IV is zero, each key used once.

    Raises:
        CannotDecrypt.
    """
    try:
        return AESGCM(key).decrypt(_ZERO_IV, data, None)
    except InvalidTag:
        raise CannotDecrypt("The merchant's key does not open the token.") from None


def read_card(content: bytes) -> DecryptedCard:
    """Read what was decrypted.

    Raises:
        Malformed.
    """
    card = read_object(content, "The decrypted token", MAX_TOKEN_BYTES)
    payment_data = member(card, "paymentData")
    data_type = _text(card, "paymentDataType")
    cryptogram = _text(payment_data, "onlinePaymentCryptogram")
    if data_type == "3DSecure" and not cryptogram:
        raise Malformed("`onlinePaymentCryptogram` is missing.")
    return DecryptedCard(
        currency_number=_matching(card, "currencyCode", _CURRENCY),
        amount_minor_units=_amount(card),
        payment_data_type=data_type,
        pan=_matching(card, "applicationPrimaryAccountNumber", _PAN),
        expiration_date=_matching(card, "applicationExpirationDate", _DATE),
        cryptogram=cryptogram,
        eci_indicator=_text(payment_data, "eciIndicator"),
    )


def _text(content: JsonObject, name: str) -> str:
    found = content.get(name)
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > _MAX_TEXT_LENGTH or not found.isascii():
        raise Malformed(f"`{name}` is not a text of at most {_MAX_TEXT_LENGTH} characters.")
    return found


def _matching(content: JsonObject, name: str, pattern: re.Pattern[str]) -> str:
    found = _text(content, name)
    if pattern.fullmatch(found) is None:
        raise Malformed(f"`{name}` does not look like one.")
    return found


def _amount(card: JsonObject) -> int:
    found = card.get("transactionAmount")
    # A bool is an int in Python, and not an amount.
    if not isinstance(found, int) or isinstance(found, bool):
        raise Malformed("`transactionAmount` is not a whole number of minor units.")
    if not 0 <= found <= MAX_AMOUNT_MINOR_UNITS:
        raise Malformed("`transactionAmount` is out of bounds.")
    return found
