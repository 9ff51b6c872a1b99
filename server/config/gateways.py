"""Settings of the gateways: an account with each, and where it is."""

from typing import Final, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from server.config.values import CommaSeparated, Email, PhoneNumber, SecretList

_ACCOUNTS: Final = (
    ("razorpay_key_id", "razorpay_key_secret", "razorpay_webhook_secrets"),
    ("razorpay_upi_email", "razorpay_upi_contact"),
    ("paypal_client_id", "paypal_client_secret", "paypal_webhook_id"),
    ("apple_pay_root", "apple_pay_processing_certificate"),
    (
        "apple_pay_merchant_id",
        "apple_pay_display_name",
        "apple_pay_domains",
        "apple_pay_identity_certificate",
        "apple_pay_identity_key",
    ),
    ("stripe_secret_key", "stripe_publishable_key", "stripe_webhook_secrets"),
)
"""The settings of a gateway that are of use together alone."""

GATEWAY_SECRETS: Final = (
    "razorpay_key_secret",
    "razorpay_webhook_secrets",
    "paypal_client_secret",
    "stripe_secret_key",
    "stripe_webhook_secrets",
)
"""Those of them that `up` makes for itself, and a production server must not have."""


class GatewaySettings(BaseSettings):
    """The accounts. A gateway whose settings are empty is not used."""

    razorpay_key_id: str = Field(default="", description="Razorpay's API key id. Empty: not used.")
    razorpay_key_secret: SecretStr = Field(
        default=SecretStr(""), description="Razorpay's API key secret."
    )
    razorpay_webhook_secrets: SecretList = Field(
        default=(),
        description="Secrets of Razorpay's webhook, comma-separated, current first; keep the "
        "previous one while it rotates.",
    )
    razorpay_api_url: str = Field(
        default="https://api.razorpay.com", description="Where Razorpay's API is."
    )
    razorpay_checkout_url: str = Field(
        default="",
        description="A page that pays a Razorpay order; its id is appended. The order's notes say "
        "where the customer then goes: `return_url`.",
    )
    razorpay_upi_email: Email = Field(
        default="",
        description="The shop's email, which stands in for the payer's in a UPI intent. Empty: "
        "top-ups by UPI are paid at Razorpay Checkout alone.",
    )
    razorpay_upi_contact: PhoneNumber = Field(
        default="", description="The shop's phone number for the same, such as +919000090000."
    )
    paypal_client_id: str = Field(default="", description="PayPal's client id. Empty: not used.")
    paypal_client_secret: SecretStr = Field(
        default=SecretStr(""), description="PayPal's client secret."
    )
    paypal_webhook_id: str = Field(
        default="", description="PayPal's id of the webhook's subscription; signatures cover it."
    )
    paypal_api_url: str = Field(
        default="https://api-m.paypal.com", description="Where PayPal's API is."
    )
    paypal_environment: Literal["live", "sandbox"] = Field(
        default="live", description="live or sandbox: whose certificates sign webhooks."
    )
    paypal_return_url: str = Field(
        default="", description="Where PayPal sends a customer whose top-up names no other place."
    )
    paypal_trust_anchors: str = Field(
        default="", description="PEM file of roots for webhook certificates. Empty: the system's."
    )
    paypal_certificate_url_prefix: str = Field(
        default="", description="Only for the sandbox of `up`: where certificates come from."
    )
    stripe_secret_key: SecretStr = Field(
        default=SecretStr(""), description="Stripe's secret key. Empty: not used."
    )
    stripe_publishable_key: str = Field(
        default="", description="Stripe's publishable key, pk_...: every customer's app is told it."
    )
    stripe_webhook_secrets: SecretList = Field(
        default=(),
        description="Signing secrets of Stripe's webhook, whsec_..., comma-separated, current "
        "first; keep the previous one while it rotates.",
    )
    stripe_api_url: str = Field(
        default="https://api.stripe.com", description="Where Stripe's API is."
    )
    stripe_checkout_url: str = Field(
        default="", description="A page that pays a Stripe PaymentIntent; its id is appended."
    )
    google_pay_recipients: CommaSeparated = Field(
        default=(),
        description="Whom Google Pay's tokens are made for, comma-separated: merchant:<id> or "
        "gateway:<id>. Empty: not used.",
    )
    google_pay_environment: Literal["PRODUCTION", "TEST"] = Field(
        default="PRODUCTION", description="PRODUCTION or TEST: whose keys sign the tokens."
    )
    google_pay_private_key: SecretStr = Field(
        default=SecretStr(""),
        description="Private keys that open tokens for merchant:<id>, current first: PEM, inline "
        "or as @/path/to/file. Empty: tokens are verified, and opened by the gateway alone.",
    )
    google_pay_issuer_id: str = Field(
        default="",
        description="Google Wallet's issuer id, for callbacks about passes. Empty: not used.",
    )
    google_pay_keys_url: str = Field(
        default="", description="Only for the sandbox of `up`: where Google's keys come from."
    )
    apple_pay_root: str = Field(
        default="",
        description="PEM file of Apple Root CA - G3, which Apple Pay's tokens have to reach: get "
        "it at https://www.apple.com/certificateauthority/. Empty: not used.",
    )
    apple_pay_processing_certificate: str = Field(
        default="",
        description="Payment processing certificates that tokens are made for, current first: PEM, "
        "inline or as @/path/to/file.",
    )
    apple_pay_processing_key: SecretStr = Field(
        default=SecretStr(""),
        description="Their private keys: PEM, inline or as @/path/to/file. Empty: tokens are "
        "verified, and opened by the gateway alone.",
    )
    apple_pay_merchant_id: str = Field(
        default="",
        description="The merchant that asks for payment sessions, merchant.com.example. Empty: "
        "not used.",
    )
    apple_pay_display_name: str = Field(
        default="", description="What the payment sheet calls the merchant."
    )
    apple_pay_domains: CommaSeparated = Field(
        default=(),
        description="Hosts with a payment page, registered with Apple, comma-separated.",
    )
    apple_pay_identity_certificate: str = Field(
        default="", description="PEM file of the merchant identity certificate, for sessions."
    )
    apple_pay_identity_key: str = Field(default="", description="PEM file of its private key.")
    apple_pay_session_hosts: CommaSeparated = Field(
        default=(),
        description="Hosts, with their ports, that may be asked for sessions, comma-separated. "
        "Empty: Apple's for production.",
    )
    apple_pay_session_roots: str = Field(
        default="", description="PEM file of roots for those hosts. Empty: the system's."
    )

    @model_validator(mode="after")
    def _gateways_are_whole(self) -> Self:
        """What belongs together is there as a whole, or not at all."""
        for names in _ACCOUNTS:
            missing = [f"WALLET_{name.upper()}" for name in names if not _is_set(self, name)]
            if missing and len(missing) < len(names):
                raise ValueError(
                    f"{', '.join(missing)}: is needed where another of this gateway's is set"
                )
        return self


def _is_set(settings: GatewaySettings, name: str) -> bool:
    value = getattr(settings, name)
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)
