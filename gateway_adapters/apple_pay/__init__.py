"""Apple Pay: payment tokens, verified and opened, and merchant sessions."""

from gateway_adapters.apple_pay.chain import load_trust_anchors
from gateway_adapters.apple_pay.decryption import DecryptedCard, decrypt_payment_token
from gateway_adapters.apple_pay.errors import (
    ApplePayError,
    CannotDecrypt,
    ChainInvalid,
    Expired,
    Malformed,
    SessionRefused,
    SessionUnavailable,
    SignatureInvalid,
    UnsupportedVersion,
    ValidationUrlRefused,
    WrongRecipient,
)
from gateway_adapters.apple_pay.merchant_key import (
    MerchantKey,
    key_from_certificate,
    key_from_identifier,
)
from gateway_adapters.apple_pay.merchant_session import (
    PRODUCTION_HOSTS,
    PRODUCTION_VALIDATION_URL,
    SANDBOX_HOSTS,
    SANDBOX_VALIDATION_URL,
    Merchant,
    MerchantSession,
    request_merchant_session,
    session_url,
)
from gateway_adapters.apple_pay.payment_token import VerifiedToken, verify_payment_token
from gateway_adapters.apple_pay.sessions import ApplePayMerchant, MerchantSessions
from gateway_adapters.apple_pay.tokens import ApplePayTokens

__all__ = [
    "PRODUCTION_HOSTS",
    "PRODUCTION_VALIDATION_URL",
    "SANDBOX_HOSTS",
    "SANDBOX_VALIDATION_URL",
    "ApplePayError",
    "ApplePayMerchant",
    "ApplePayTokens",
    "CannotDecrypt",
    "ChainInvalid",
    "DecryptedCard",
    "Expired",
    "Malformed",
    "Merchant",
    "MerchantKey",
    "MerchantSession",
    "MerchantSessions",
    "SessionRefused",
    "SessionUnavailable",
    "SignatureInvalid",
    "UnsupportedVersion",
    "ValidationUrlRefused",
    "VerifiedToken",
    "WrongRecipient",
    "decrypt_payment_token",
    "key_from_certificate",
    "key_from_identifier",
    "load_trust_anchors",
    "request_merchant_session",
    "session_url",
    "verify_payment_token",
]
