"""Settings: environment variables, all checked at the start, each with its meaning.

A secret is never shown: not in a repr, a log, an error, or by `wallet-payment config`.
"""

import base64
import binascii
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway_adapters.rate_limit import Rate, Rates
from gateway_adapters.sidecar.limits import SidecarRates
from server import seal_keys
from wallet_payment.v1 import wallet_payment_service_pb2 as service

DEVELOPMENT_PREFIX: Final = "development-"
"""Secrets made for development start so; a production server refuses them."""

_ALGORITHMS: Final = frozenset({"ES256", "EdDSA", "RS256", "HS256"})
_METHODS: Final = frozenset(
    service.DESCRIPTOR.services_by_name["WalletPaymentService"].methods_by_name
)
_MIN_SHARED_SECRET: Final = 32
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE_NUMBER: Final = re.compile(r"\+?[0-9]{8,15}")


class SettingsError(Exception):
    """Some settings are wrong; the message names each variable, what is wrong and what to do."""


CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """The settings of one process. The variable is the field in upper case, after `WALLET_`."""

    model_config = SettingsConfigDict(env_prefix="WALLET_", frozen=True, extra="ignore")

    development: bool = Field(
        default=False,
        description="Allow what only a development machine may have: development secrets.",
    )
    mongodb_uri: SecretStr = Field(
        default=SecretStr(""),
        description="MongoDB replica set, with the database (default wallet_payment). Empty: `up` "
        "starts an embedded one, `serve` refuses to start.",
    )
    data_dir: Path = Field(
        default=Path(".wallet-payment"),
        description="Folder in which `up` keeps the embedded database and its development keys.",
    )
    grpc_address: str = Field(default="127.0.0.1:50051", description="Where gRPC listens.")
    sidecar_address: str = Field(
        default="127.0.0.1:8080", description="Where the sidecar takes webhooks."
    )
    metrics_address: str = Field(
        default="127.0.0.1:9464", description="Where Prometheus gets /metrics."
    )
    sandbox_address: str = Field(
        default="127.0.0.1:8090", description="Where the sandbox gateway of `up` listens."
    )
    server_target: str = Field(
        default="127.0.0.1:50051", description="The gRPC server that the sidecar forwards to."
    )
    sidecar_token: SecretStr = Field(
        default=SecretStr(""),
        description="The sidecar's own token, with the scope webhook.forward.",
    )
    reflection: bool = Field(
        default=False, description="Serve gRPC reflection, for grpcurl; on in `up`."
    )
    log_level: str = Field(
        default="info",
        description="debug, info, warning or error.",
        pattern="(?i)^(debug|info|warning|error)$",
    )
    log_format: str = Field(
        default="auto",
        description="json, console, or auto: console in a terminal.",
        pattern="^(auto|json|console)$",
    )
    jwt_issuer: str = Field(default="wallet-payment", description="`iss` that tokens must carry.")
    jwt_audience: str = Field(default="wallet-payment", description="`aud` that tokens must carry.")
    jwt_algorithms: CommaSeparated = Field(
        default=("ES256", "EdDSA", "RS256"),
        description="Algorithms that tokens may be signed with, comma-separated: ES256, EdDSA, "
        "RS256, HS256.",
    )
    jwt_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys that tokens are verified with: a JSON Web Key Set, inline or as "
        "@/path/to/file. Each key has `kid` and `alg`.",
    )
    seal_key: SecretStr = Field(
        default=SecretStr(""),
        description="Ed25519 private key in PEM that `books seal` signs with, inline or as "
        "@/path/to/file. Only the sealing process needs it.",
    )
    seal_public_key: str = Field(
        default="",
        description="Public key that `books verify --sealed` trusts: base64 or PEM, inline or as "
        "@/path/to/file. Empty: that of WALLET_SEAL_KEY.",
    )
    razorpay_key_id: str = Field(default="", description="Razorpay's API key id. Empty: not used.")
    razorpay_key_secret: SecretStr = Field(
        default=SecretStr(""), description="Razorpay's API key secret."
    )
    razorpay_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
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
    razorpay_upi_email: str = Field(
        default="",
        description="The shop's email, which stands in for the payer's in a UPI intent. Empty: "
        "top-ups by UPI are paid at Razorpay Checkout alone.",
    )
    razorpay_upi_contact: str = Field(
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
    stripe_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
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
    rate_limit_callers: CommaSeparated = Field(
        default=(),
        description="Calls that each calling service may make, for each method: <per second>:"
        "<burst> for all methods, <method>=<per second>:<burst> for one, comma-separated. Empty: "
        "no limit. ForwardWebhook is limited only where it is named.",
    )
    rate_limit_customers: CommaSeparated = Field(
        default=(), description="The same for each customer, whoever calls."
    )
    sidecar_rate_limit_addresses: str = Field(
        default="1:50",
        description="Refused webhooks that the sidecar bears from one address, <per second>:"
        "<burst>, before it turns the address away for a while. Empty: no limit.",
    )
    sidecar_rate_limit_gateways: str = Field(
        default="10:500",
        description="The same for one gateway, from all addresses that sent none with a good "
        "signature within a day.",
    )
    topup_lifetime_seconds: int = Field(
        default=1_800, ge=60, le=604_800, description="How long a customer has to pay a top-up."
    )
    poll_first_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=86_400,
        description="After how long the gateway is asked about a top-up that stays pending; each "
        "further time it waits twice as long, an hour at most.",
    )
    poll_interval_seconds: float = Field(
        default=5.0, ge=0.05, le=3_600, description="How often is looked for top-ups to ask about."
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Server processes on one port; `serve --workers`."
    )
    commit_lanes: int = Field(default=1, ge=1, le=64, description="Lanes of the commit path.")
    commit_max_batch: int = Field(
        default=256, ge=1, le=1_000, description="Commands in one transaction at most."
    )
    commit_max_queue: int = Field(
        default=4_096, ge=1, le=1_000_000, description="Commands that may wait at most."
    )
    shutdown_grace_seconds: float = Field(
        default=5.0, ge=0, le=300, description="How long a stopping server lets calls finish."
    )

    @field_validator(
        "jwt_algorithms",
        "rate_limit_callers",
        "rate_limit_customers",
        "razorpay_webhook_secrets",
        "stripe_webhook_secrets",
        "google_pay_recipients",
        "apple_pay_domains",
        "apple_pay_session_hosts",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:  # noqa: ANN401 - whatever pydantic hands over
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _known_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(value) - _ALGORITHMS
        if unknown or not value:
            raise ValueError(f"takes {', '.join(sorted(_ALGORITHMS))}, comma-separated")
        return value

    @field_validator(
        "grpc_address", "sidecar_address", "metrics_address", "sandbox_address", "server_target"
    )
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not host or not colon or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004
            raise ValueError("takes host:port, with port 0 for any free one")
        return value

    @field_validator("rate_limit_callers", "rate_limit_customers")
    @classmethod
    def _rates_of_methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Rates.parse(value, _METHODS)
        return value

    @field_validator("sidecar_rate_limit_addresses", "sidecar_rate_limit_gateways")
    @classmethod
    def _rate(cls, value: str) -> str:
        if value:
            Rate.parse(value)
        return value

    @property
    def caller_rates(self) -> Rates:
        """How many calls each caller may make."""
        return Rates.parse(self.rate_limit_callers, _METHODS)

    @property
    def customer_rates(self) -> Rates:
        """How many calls may be made for each customer."""
        return Rates.parse(self.rate_limit_customers, _METHODS)

    @property
    def sidecar_rates(self) -> SidecarRates:
        """How many refused webhooks the sidecar bears."""
        addresses, gateways = self.sidecar_rate_limit_addresses, self.sidecar_rate_limit_gateways
        return SidecarRates(
            address=Rate.parse(addresses) if addresses else None,
            gateway=Rate.parse(gateways) if gateways else None,
        )

    @field_validator("razorpay_upi_email")
    @classmethod
    def _email(cls, value: str) -> str:
        if value and _EMAIL.fullmatch(value) is None:
            raise ValueError("takes an email address, such as shop@example.com")
        return value

    @field_validator("razorpay_upi_contact")
    @classmethod
    def _phone_number(cls, value: str) -> str:
        if value and _PHONE_NUMBER.fullmatch(value) is None:
            raise ValueError("takes a phone number, such as +919000090000")
        return value

    @field_validator("jwt_keys")
    @classmethod
    def _readable_keys(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            read_key_set(value)
        return value

    @field_validator("seal_key")
    @classmethod
    def _readable_seal_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            seal_keys.read_private_key(content_of(value.get_secret_value()))
        return value

    @field_validator("seal_public_key")
    @classmethod
    def _readable_public_key(cls, value: str) -> str:
        if value:
            seal_keys.read_public_key(content_of(value))
        return value

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

    def check_serving(self) -> None:
        """Refuse to serve without what serving needs, or with what only development may have.

        Raises:
            SettingsError: it names the variables.
        """
        problems = []
        if not self.mongodb_uri.get_secret_value():
            problems.append(
                "WALLET_MONGODB_URI is not set: name a MongoDB replica set, or use "
                "`wallet-payment up` for an embedded one."
            )
        if not self.jwt_keys.get_secret_value():
            problems.append(
                "WALLET_JWT_KEYS is not set: give the JSON Web Key Set that tokens are verified "
                "with, inline or as @/path/to/file."
            )
        elif not {key["alg"] for key in read_key_set(self.jwt_keys)} & set(self.jwt_algorithms):
            problems.append(
                "WALLET_JWT_KEYS has no key for an algorithm of WALLET_JWT_ALGORITHMS: no token "
                "would ever be accepted."
            )
        if not self.development:
            problems += [
                f"{variable} holds a development secret: set a real one, or "
                "WALLET_DEVELOPMENT=true if this is a development machine."
                for variable in self._development_secrets()
            ]
        if problems:
            raise SettingsError("\n".join(problems))

    def _development_secrets(self) -> list[str]:
        found = []
        if any(secret.startswith(DEVELOPMENT_PREFIX) for secret in _shared_secrets(self.jwt_keys)):
            found.append("WALLET_JWT_KEYS")
        found += [
            f"WALLET_{name.upper()}"
            for name in _GATEWAY_SECRETS
            if any(secret.startswith(DEVELOPMENT_PREFIX) for secret in _secrets_in(self, name))
        ]
        return found


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

_GATEWAY_SECRETS: Final = (
    "razorpay_key_secret",
    "razorpay_webhook_secrets",
    "paypal_client_secret",
    "stripe_secret_key",
    "stripe_webhook_secrets",
)
"""Those of them that `up` makes for itself, and a production server must not have."""


def _is_set(settings: Settings, name: str) -> bool:
    value = getattr(settings, name)
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


def _secrets_in(settings: Settings, name: str) -> list[str]:
    value = getattr(settings, name)
    secrets = value if isinstance(value, tuple) else (value,)
    return [secret.get_secret_value() for secret in secrets]


def load_settings(**given: Any) -> Settings:  # noqa: ANN401 - any field of Settings
    """Read the settings from the environment; `given` ones come before it.

    Raises:
        SettingsError: each wrong variable is named, with what is wrong; values are not shown.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False, include_url=False):
            variable = "_".join(str(part) for part in problem["loc"][:1]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"WALLET_{variable}: {message}" if variable else message)
        raise SettingsError("\n".join(problems)) from None


def read_key_set(value: SecretStr) -> list[dict[str, Any]]:
    """Read a JSON Web Key Set (RFC 7517), inline or from the file named after `@`.

    Raises:
        ValueError: it cannot be read, or a key lacks `kid` or an `alg` that is known.
    """
    text = content_of(value.get_secret_value())
    try:
        keys = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError):
        raise ValueError('takes a JSON Web Key Set, {"keys": [...]}, or @ and its file') from None
    for key in keys:
        if not isinstance(key, dict) or not key.get("kid") or key.get("alg") not in _ALGORITHMS:
            raise ValueError(
                f"each key needs `kid`, and `alg` from {', '.join(sorted(_ALGORITHMS))}"
            )
        if key["alg"] == "HS256" and len(_decoded(key.get("k", ""))) < _MIN_SHARED_SECRET:
            raise ValueError(f"the secret of an HS256 key has {_MIN_SHARED_SECRET} bytes or more")
    return list(keys)


def content_of(value: str) -> str:
    """Return a setting that is given inline or in the file named after `@`.

    Raises:
        ValueError: the file cannot be read.
    """
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8")
    except (OSError, UnicodeError):
        raise ValueError("the file after @ cannot be read") from None


def _shared_secrets(key_set: SecretStr) -> list[str]:
    if not key_set.get_secret_value():
        return []
    return [_decoded(key["k"]).decode("latin-1") for key in read_key_set(key_set) if "k" in key]


def _decoded(base64url: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(base64url + "=" * (-len(base64url) % 4))
    except (binascii.Error, ValueError):
        return b""
