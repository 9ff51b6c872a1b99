"""The gateways and wallets that are set up here: settings in, adapters out.

Whatever owns something (keys that are fetched, connections) is entered on the stack that is given.
"""

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from gateway_adapters.apple_pay import (
    PRODUCTION_HOSTS,
    ApplePayMerchant,
    ApplePayTokens,
    MerchantKey,
    MerchantSessions,
    key_from_certificate,
    load_trust_anchors,
)
from gateway_adapters.gateway import Gateway, TokenVerifier, WebhookSource
from gateway_adapters.google_pay import (
    ISSUER_KEYS_URL,
    PRODUCTION_KEYS_URL,
    TEST_KEYS_URL,
    GoogleKeys,
    GooglePayPasses,
    GooglePayTokens,
)
from gateway_adapters.paypal import CERTIFICATE_URL_PREFIXES, Paypal, PaypalSettings
from gateway_adapters.razorpay import Razorpay, RazorpaySettings, UpiPayer
from gateway_adapters.stripe import Stripe, StripeSettings
from server.config import Settings, SettingsError, content_of

_PEM_BLOCK: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wallets:
    """The wallets that are set up here."""

    verifiers: Mapping[str, TokenVerifier]
    """By payment method."""
    callbacks: Mapping[str, WebhookSource]
    """By name."""
    apple_sessions: MerchantSessions | None


def gateways(settings: Settings, session: aiohttp.ClientSession) -> dict[str, Gateway]:
    """Return the gateways that have credentials here, by name.

    Raises:
        SettingsError: a setting of one of them does not fit; it names the variable.
    """
    found: list[Gateway] = []
    if settings.razorpay_key_id:
        found.append(_razorpay(settings, session))
    if settings.paypal_client_id:
        found.append(_paypal(settings, session))
    if settings.stripe_publishable_key:
        found.append(_stripe(settings, session))
    return {gateway.name: gateway for gateway in found}


def outbound_hosts(settings: Settings) -> frozenset[str]:
    """Return the hosts of the gateways, wallets, key server and receiver of these settings."""
    urls = [settings.jwt_keys_url, settings.outgoing_webhook_url]
    if settings.razorpay_key_id:
        urls.append(settings.razorpay_api_url)
    if settings.stripe_publishable_key:
        urls.append(settings.stripe_api_url)
    if settings.paypal_client_id:
        urls += [settings.paypal_api_url, settings.paypal_certificate_url_prefix]
        urls.append(CERTIFICATE_URL_PREFIXES[settings.paypal_environment])
    if settings.google_pay_recipients or settings.google_pay_issuer_id:
        urls += [settings.google_pay_keys_url, PRODUCTION_KEYS_URL, TEST_KEYS_URL, ISSUER_KEYS_URL]
    if settings.apple_pay_merchant_id:
        hosts = settings.apple_pay_session_hosts or PRODUCTION_HOSTS
        urls += [f"https://{host}" for host in hosts]
    return frozenset(filter(None, map(_host, urls)))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # the adapter says what is wrong with it


async def wallets(
    settings: Settings,
    session: aiohttp.ClientSession,
    resources: AsyncExitStack,
    now_ms: Callable[[], int],
) -> Wallets:
    """Return the wallets that are set up here. What they fetch is fetched once it is needed.

    Raises:
        SettingsError: a setting of one of them does not fit; it names the variable.
    """
    verifiers: list[TokenVerifier] = []
    callbacks: list[WebhookSource] = []
    keys_url = settings.google_pay_keys_url
    if settings.google_pay_recipients:
        is_production = settings.google_pay_environment == "PRODUCTION"
        url = keys_url or (PRODUCTION_KEYS_URL if is_production else TEST_KEYS_URL)
        keys = await resources.enter_async_context(_google_keys(session, url, now_ms))
        verifiers.append(_google_pay(settings, keys, now_ms))
    if settings.google_pay_issuer_id:
        url = keys_url or ISSUER_KEYS_URL
        keys = await resources.enter_async_context(_google_keys(session, url, now_ms))
        callbacks.append(GooglePayPasses(keys, settings.google_pay_issuer_id, now_ms))
    if settings.apple_pay_root:
        verifiers.append(_apple_pay(settings, now_ms))
    return Wallets(
        {verifier.method: verifier for verifier in verifiers},
        {source.name: source for source in callbacks},
        _apple_sessions(settings, session, now_ms) if settings.apple_pay_merchant_id else None,
    )


def _razorpay(settings: Settings, session: aiohttp.ClientSession) -> Gateway:
    payer = UpiPayer(settings.razorpay_upi_email, settings.razorpay_upi_contact)
    with _naming("WALLET_RAZORPAY_API_URL"):
        return Razorpay(
            session,
            RazorpaySettings(
                api_url=settings.razorpay_api_url,
                key_id=settings.razorpay_key_id,
                key_secret=settings.razorpay_key_secret.get_secret_value(),
                webhook_secrets=tuple(
                    secret.get_secret_value() for secret in settings.razorpay_webhook_secrets
                ),
                checkout_url=settings.razorpay_checkout_url,
                upi_payer=payer if payer.email else None,
                wallets=frozenset(
                    method
                    for method, setting in (
                        (GooglePayTokens.method, settings.google_pay_recipients),
                        (ApplePayTokens.method, settings.apple_pay_root),
                    )
                    if setting
                ),
            ),
        )


def _paypal(settings: Settings, session: aiohttp.ClientSession) -> Gateway:
    trust_anchors = b""
    if settings.paypal_trust_anchors:
        with _naming("WALLET_PAYPAL_TRUST_ANCHORS"):
            trust_anchors = Path(settings.paypal_trust_anchors).read_bytes()
    with _naming("WALLET_PAYPAL_API_URL or WALLET_PAYPAL_CERTIFICATE_URL_PREFIX"):
        return Paypal(
            session,
            PaypalSettings(
                api_url=settings.paypal_api_url,
                client_id=settings.paypal_client_id,
                client_secret=settings.paypal_client_secret.get_secret_value(),
                webhook_id=settings.paypal_webhook_id,
                environment=settings.paypal_environment,
                return_url=settings.paypal_return_url,
                trust_anchors_pem=trust_anchors,
                certificate_url_prefix=settings.paypal_certificate_url_prefix,
            ),
        )


def _google_keys(session: aiohttp.ClientSession, url: str, now_ms: Callable[[], int]) -> GoogleKeys:
    with _naming("WALLET_GOOGLE_PAY_KEYS_URL"):
        return GoogleKeys(session, url, now_ms)


def _google_pay(settings: Settings, keys: GoogleKeys, now_ms: Callable[[], int]) -> TokenVerifier:
    with _naming("WALLET_GOOGLE_PAY_PRIVATE_KEY"):
        private_keys = _private_keys(settings.google_pay_private_key)
    with _naming("WALLET_GOOGLE_PAY_RECIPIENTS or WALLET_GOOGLE_PAY_PRIVATE_KEY"):
        return GooglePayTokens(keys, settings.google_pay_recipients, private_keys, now_ms)


def _apple_pay(settings: Settings, now_ms: Callable[[], int]) -> TokenVerifier:
    with _naming("WALLET_APPLE_PAY_ROOT"):
        anchors = load_trust_anchors(Path(settings.apple_pay_root).read_bytes())
    with _naming("WALLET_APPLE_PAY_PROCESSING_KEY"):
        private_keys = _private_keys(settings.apple_pay_processing_key)
    with _naming("WALLET_APPLE_PAY_PROCESSING_CERTIFICATE or WALLET_APPLE_PAY_PROCESSING_KEY"):
        merchant_keys = _merchant_keys(settings.apple_pay_processing_certificate, private_keys)
        return ApplePayTokens(anchors, merchant_keys, now_ms)


def _apple_sessions(
    settings: Settings, session: aiohttp.ClientSession, now_ms: Callable[[], int]
) -> MerchantSessions:
    with _naming("WALLET_APPLE_PAY_SESSION_ROOTS"):
        tls = ssl.create_default_context(cafile=settings.apple_pay_session_roots or None)
    with _naming("WALLET_APPLE_PAY_IDENTITY_CERTIFICATE or WALLET_APPLE_PAY_IDENTITY_KEY"):
        # With a password given, though none is needed, a key that wants one does not ask for it.
        tls.load_cert_chain(
            settings.apple_pay_identity_certificate, settings.apple_pay_identity_key, password=""
        )
    with _naming("WALLET_APPLE_PAY_MERCHANT_ID, _DISPLAY_NAME or _DOMAINS"):
        merchant = ApplePayMerchant(
            settings.apple_pay_merchant_id,
            settings.apple_pay_display_name,
            frozenset(settings.apple_pay_domains),
            frozenset(settings.apple_pay_session_hosts) or PRODUCTION_HOSTS,
        )
    return MerchantSessions(session, tls, merchant, now_ms)


def _private_keys(pem: SecretStr) -> list[ec.EllipticCurvePrivateKey]:
    """Read private keys, one after the other; the current one first.

    Raises:
        ValueError, OSError.
    """
    keys = []
    for block in _PEM_BLOCK.findall(content_of(pem.get_secret_value()).encode()):
        key = load_pem_private_key(block, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("It is not a P-256 key.")
        keys.append(key)
    if pem.get_secret_value() and not keys:
        raise ValueError("It has no private key.")
    return keys


def _merchant_keys(pem: str, private_keys: list[ec.EllipticCurvePrivateKey]) -> list[MerchantKey]:
    """Read payment processing certificates, each with its private key, where that is here.

    Raises:
        ValueError: a private key belongs to none of them, too; OSError.
    """
    certificates = x509.load_pem_x509_certificates(content_of(pem).encode())
    public_keys = [certificate.public_key() for certificate in certificates]
    if not all(key.public_key() in public_keys for key in private_keys):
        raise ValueError("A private key belongs to none of the certificates.")
    return [
        key_from_certificate(
            certificate,
            next((key for key in private_keys if key.public_key() == public_key), None),
        )
        for certificate, public_key in zip(certificates, public_keys, strict=True)
    ]


def _stripe(settings: Settings, session: aiohttp.ClientSession) -> Gateway:
    with _naming("WALLET_STRIPE_PUBLISHABLE_KEY"):
        account = StripeSettings(
            api_url=settings.stripe_api_url,
            secret_key=settings.stripe_secret_key.get_secret_value(),
            publishable_key=settings.stripe_publishable_key,
            webhook_secrets=tuple(
                secret.get_secret_value() for secret in settings.stripe_webhook_secrets
            ),
            checkout_url=settings.stripe_checkout_url,
        )
    with _naming("WALLET_STRIPE_API_URL"):
        return Stripe(session, account)


@contextmanager
def _naming(variables: str) -> Iterator[None]:
    """Say which setting it was that an adapter cannot use; its value is not shown."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise SettingsError(f"{variables}: {type(error).__name__}: it cannot be used.") from error
