"""Google Pay: payment tokens, callbacks about passes, and the keys that Google signs with."""

from gateway_adapters.google_pay.decryption import (
    AuthMethod,
    DecryptedCard,
    decrypt_payment_token,
)
from gateway_adapters.google_pay.errors import (
    CannotDecrypt,
    Expired,
    GooglePayError,
    KeysUnavailable,
    KeyUnknown,
    Malformed,
    SignatureInvalid,
    UnsupportedVersion,
    WrongRecipient,
)
from gateway_adapters.google_pay.google_keys import (
    ISSUER_KEYS_URL,
    PRODUCTION_KEYS_URL,
    TEST_KEYS_URL,
    GoogleKeys,
)
from gateway_adapters.google_pay.pass_callback import PassCallback, verify_pass_callback
from gateway_adapters.google_pay.passes import GooglePayPasses
from gateway_adapters.google_pay.payment_token import VerifiedToken, verify_payment_token
from gateway_adapters.google_pay.root_keys import RootKey, read_root_keys
from gateway_adapters.google_pay.tokens import GooglePayTokens

__all__ = [
    "ISSUER_KEYS_URL",
    "PRODUCTION_KEYS_URL",
    "TEST_KEYS_URL",
    "AuthMethod",
    "CannotDecrypt",
    "DecryptedCard",
    "Expired",
    "GoogleKeys",
    "GooglePayError",
    "GooglePayPasses",
    "GooglePayTokens",
    "KeyUnknown",
    "KeysUnavailable",
    "Malformed",
    "PassCallback",
    "RootKey",
    "SignatureInvalid",
    "UnsupportedVersion",
    "VerifiedToken",
    "WrongRecipient",
    "decrypt_payment_token",
    "read_root_keys",
    "verify_pass_callback",
    "verify_payment_token",
]
