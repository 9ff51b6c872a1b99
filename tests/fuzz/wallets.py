"""Google Pay's and Apple Pay's tokens, and the keys and certificates that vouch for what is signed.

What lies behind a signature or an encryption is signed or read as if it had held.
"""

import base64
import json
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fuzz.target import Target, outcome_of
from gateway_adapters.apple_pay import ApplePayError, ApplePayTokens, key_from_certificate
from gateway_adapters.apple_pay.chain import check_chain
from gateway_adapters.apple_pay.cms import read_cms
from gateway_adapters.apple_pay.decryption import read_card
from gateway_adapters.gateway import ProofInvalid, SignatureInvalid
from gateway_adapters.google_pay import (
    GooglePayError,
    decrypt_payment_token,
    read_root_keys,
    verify_payment_token,
)
from gateway_adapters.paypal.certificates import read_chain
from gateway_adapters.sandbox import apple_pay_signing, google_pay_signing
from gateway_adapters.sandbox.apple_pay_certificates import ApplePayCertificates, make_certificates
from gateway_adapters.sandbox.google_pay_signing import PAYMENTS, GooglePayKeys
from gateway_adapters.sandbox.paypal_signing import make_keys

NOW_MS: Final = int(datetime.now(UTC).timestamp()) * 1_000
"""Certificates are made for now, so that this is the time at which everything is checked."""
RECIPIENT, ISSUER_ID = "merchant:12345678901234567890", "1296031581681466393"
_MERCHANT: Final = "merchant.com.example.wallet"


def _key(number: int) -> ec.EllipticCurvePrivateKey:
    """Return a key that is the same in every run, so that a finding can be replayed."""
    return ec.derive_private_key(number, ec.SECP256R1())


GOOGLE: Final = GooglePayKeys(_key(1_001), _key(1_002), _key(1_003), _key(1_004))
_KEY_LIST: Final = json.dumps(google_pay_signing.root_keys(GOOGLE, NOW_MS)).encode()
GOOGLE_ROOTS: Final = read_root_keys(_KEY_LIST)


def targets() -> list[Target]:
    """Return all targets of wallets' tokens, and of certificates."""
    google, apple = (GooglePayError,), (ApplePayError,)
    return [
        Target("google_token", _google_token, google, lambda: [_token().encode()]),
        Target("google_message", _google_message, google, _google_message_seeds),
        Target("google_card", _google_card, google, lambda: [_card(NOW_MS + 60_000)]),
        Target("google_keys", read_root_keys, google, lambda: [_KEY_LIST]),
        Target("apple_token", _apple_token, (ProofInvalid,), lambda: [_apple_seed()]),
        Target("apple_signature", _apple_signature, apple, _signature_seeds),
        Target("apple_card", read_card, apple, _apple_card_seeds),
        Target("paypal_certificate", _certificate, (SignatureInvalid,), _chain_seeds),
    ]


def _google_token(token: bytes) -> object:
    return verify_payment_token(token, GOOGLE_ROOTS, (RECIPIENT,), NOW_MS)


def _google_message(content: bytes) -> object:
    """Take the encrypted message of a token, once it is signed."""
    text = content.decode("utf-8", "replace")
    token = google_pay_signing.signed_message(
        GOOGLE.payments_root, GOOGLE.intermediate, PAYMENTS, RECIPIENT, text, NOW_MS
    )
    return _opened(token)


def _google_card(content: bytes) -> object:
    """Take what is encrypted in a token."""
    text = json.dumps(google_pay_signing.sealed(GOOGLE.merchant, content))
    return _google_message(text.encode())


def _opened(token: str) -> object:
    verified = verify_payment_token(token.encode(), GOOGLE_ROOTS, (RECIPIENT,), NOW_MS)
    return decrypt_payment_token(verified, [GOOGLE.merchant], NOW_MS)


def _token() -> str:
    content = google_pay_signing.card_message(NOW_MS + 60_000)
    return google_pay_signing.payment_token(GOOGLE, RECIPIENT, content, NOW_MS)


def _google_message_seeds() -> Sequence[bytes]:
    sealed = google_pay_signing.sealed(GOOGLE.merchant, _card(NOW_MS + 60_000))
    return [json.dumps(sealed).encode()]


def _card(expires_ms: int) -> bytes:
    return json.dumps(google_pay_signing.card_message(expires_ms)).encode()


@cache
def _apple() -> ApplePayCertificates:
    return make_certificates(_MERCHANT)


def _anchors() -> Sequence[x509.Certificate]:
    return (_apple().root.certificate,)


def _apple_token(token: bytes) -> object:
    """Take a token as VerifyTopup has it: a text."""
    processing = _apple().processing
    key = key_from_certificate(processing.certificate, processing.key)
    tokens = ApplePayTokens(_anchors(), (key,), lambda: NOW_MS)
    return outcome_of(tokens.verify(token.decode("utf-8", "replace")))


def _apple_signature(content: bytes) -> object:
    signature = read_cms(content)
    check_chain(signature, _anchors())
    return signature


def _apple_seed() -> bytes:
    signed_at = datetime.fromtimestamp(NOW_MS / 1_000, UTC)
    content = apple_pay_signing.card_content()
    return apple_pay_signing.payment_token(_apple(), _MERCHANT, content, signed_at).encode()


def _signature_seeds() -> Sequence[bytes]:
    token: dict[str, Any] = json.loads(_apple_seed())
    return [base64.b64decode(token["signature"])]


def _apple_card_seeds() -> Sequence[bytes]:
    return [json.dumps(apple_pay_signing.card_content()).encode()]


def _certificate(content: bytes) -> object:
    """Take what a certificate's URL gives: a PEM, or the DER to make one of."""
    is_pem = content.startswith(b"-----")
    return read_chain(content if is_pem else ssl.DER_cert_to_PEM_cert(content).encode())


def _chain_seeds() -> Sequence[bytes]:
    keys = make_keys()
    both = keys.chain_pem + keys.root_pem
    return [both.encode(), ssl.PEM_cert_to_DER_cert(keys.chain_pem)]
