"""What the sandbox's Google signs: payment tokens and callbacks about passes, in ECv2.

Source of the rules:
https://developers.google.com/pay/api/web/guides/resources/payment-data-cryptography.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway_adapters.sandbox.wallet_keys import kept_key, public_der

PAYMENTS, PASSES = ("Google", "ECv2"), ("GooglePayPasses", "ECv2SigningOnly")
"""Who signs in which version."""

PAN, CRYPTOGRAM = "4111111111111111", "AgAAAAAABk4DWZ4C28yUQAAAAAA="
CARD_YEAR: Final = 2099

_DAY_MS: Final = 24 * 3_600 * 1_000
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class GooglePayKeys:
    """Google's root keys and intermediate key, and the merchant's, for which tokens are made."""

    payments_root: ec.EllipticCurvePrivateKey = field(repr=False)
    passes_root: ec.EllipticCurvePrivateKey = field(repr=False)
    intermediate: ec.EllipticCurvePrivateKey = field(repr=False)
    merchant: ec.EllipticCurvePrivateKey = field(repr=False)


def kept_keys(folder: Path, merchant_key_file: Path) -> GooglePayKeys:
    """Return the keys of a folder; those that are missing are made."""
    return GooglePayKeys(
        payments_root=kept_key(folder / "google-pay-payments-root.pem"),
        passes_root=kept_key(folder / "google-pay-passes-root.pem"),
        intermediate=kept_key(folder / "google-pay-intermediate.pem"),
        merchant=kept_key(merchant_key_file),
    )


def root_keys(keys: GooglePayKeys, now_ms: int) -> dict[str, Any]:
    """Return the list of root keys as Google publishes it."""
    return {
        "keys": [
            {
                "keyValue": _base64(public_der(root)),
                "protocolVersion": version,
                "keyExpiration": str(now_ms + 30 * _DAY_MS),
            }
            for root, (_, version) in ((keys.payments_root, PAYMENTS), (keys.passes_root, PASSES))
        ]
    }


def card_message(expires_ms: int, card_year: int = CARD_YEAR) -> dict[str, Any]:
    """Return what a token of the customer's card has inside."""
    return {
        "gatewayMerchantId": "sandbox",
        "messageExpiration": str(expires_ms),
        "messageId": secrets.token_urlsafe(16),
        "paymentMethod": "CARD",
        "paymentMethodDetails": {
            "pan": PAN,
            "expirationMonth": 12,
            "expirationYear": card_year,
            "authMethod": "CRYPTOGRAM_3DS",
            "cryptogram": CRYPTOGRAM,
            "eciIndicator": "05",
        },
    }


def payment_token(
    keys: GooglePayKeys, recipient: str, content: Mapping[str, Any], now_ms: int
) -> str:
    """Encrypt `content` to the merchant, and sign it for the recipient."""
    text = json.dumps(sealed(keys.merchant, json.dumps(content).encode()))
    return signed_message(keys.payments_root, keys.intermediate, PAYMENTS, recipient, text, now_ms)


def pass_callback(
    keys: GooglePayKeys, issuer_id: str, content: Mapping[str, Any], now_ms: int
) -> str:
    """Sign what a callback says, for the issuer."""
    text = json.dumps(content)
    return signed_message(keys.passes_root, keys.intermediate, PASSES, issuer_id, text, now_ms)


def signed_message(
    root: ec.EllipticCurvePrivateKey,
    intermediate: ec.EllipticCurvePrivateKey,
    sender_and_version: tuple[str, str],
    recipient: str,
    text: str,
    now_ms: int,
) -> str:
    """Return a message whose intermediate key a root key has signed."""
    sender, version = sender_and_version
    key_content = {
        "keyValue": _base64(public_der(intermediate)),
        "keyExpiration": str(now_ms + _DAY_MS),
    }
    signed_key = json.dumps(key_content)
    return json.dumps(
        {
            "protocolVersion": version,
            "signature": _signature(intermediate, sender, recipient, version, text),
            "intermediateSigningKey": {
                "signedKey": signed_key,
                "signatures": [_signature(root, sender, version, signed_key)],
            },
            "signedMessage": text,
        }
    )


def sealed(recipient: ec.EllipticCurvePrivateKey, plaintext: bytes) -> dict[str, str]:
    """Encrypt with AES-256-CTR under keys of this one message, and tag with HMAC-SHA256."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = ephemeral.exchange(ec.ECDH(), recipient.public_key())
    derived = HKDF(hashes.SHA256(), 2 * _KEY_BYTES, bytes(_KEY_BYTES), b"Google").derive(
        point + secret
    )
    encryptor = Cipher(algorithms.AES(derived[:_KEY_BYTES]), modes.CTR(bytes(16))).encryptor()
    ciphertext = encryptor.update(plaintext) + encryptor.finalize()
    return {
        "encryptedMessage": _base64(ciphertext),
        "ephemeralPublicKey": _base64(point),
        "tag": _base64(hmac.digest(derived[_KEY_BYTES:], ciphertext, "sha256")),
    }


def _signature(key: ec.EllipticCurvePrivateKey, *values: str) -> str:
    encoded = [value.encode() for value in values]
    signed = b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
    return _base64(key.sign(signed, ec.ECDSA(hashes.SHA256())))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
