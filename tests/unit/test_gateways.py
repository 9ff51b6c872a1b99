"""Adapters from settings: what cannot be used is named, and nothing of it is shown."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway_adapters.google_pay import GooglePayPasses, GooglePayTokens
from gateway_adapters.sandbox import ApplePayFiles
from gateway_adapters.sandbox.apple_pay_certificates import make_certificates
from gateway_adapters.sandbox.wallet_keys import private_pem
from server.config import Settings, SettingsError, load_settings
from server.gateways import Wallets, gateways, wallets

MERCHANT_ID = "merchant.com.example"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment without settings."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WALLET_{name.upper()}", raising=False)


@pytest.fixture
def files(tmp_path: Path) -> ApplePayFiles:
    """Give what a merchant has from Apple."""
    found = ApplePayFiles(tmp_path)
    make_certificates(MERCHANT_ID).leave(found)
    return found


def apple(files: ApplePayFiles, **changes: str) -> dict[str, Any]:
    """Return the settings of a merchant at Apple, changed as a test asks."""
    return {
        "apple_pay_root": str(files.root),
        "apple_pay_processing_certificate": f"@{files.processing_certificate}",
        "apple_pay_processing_key": f"@{files.processing_key}",
        "apple_pay_merchant_id": MERCHANT_ID,
        "apple_pay_display_name": "Example",
        "apple_pay_domains": "shop.example, pay.shop.example",
        "apple_pay_identity_certificate": str(files.identity_certificate),
        "apple_pay_identity_key": str(files.identity_key),
    } | changes


async def built(**settings: Any) -> Wallets:
    """Return the wallets of these settings."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        return await wallets(load_settings(**settings), session, stack, lambda: 0)


def new_pem() -> str:
    """Return a private key that nobody knows."""
    return private_pem(ec.generate_private_key(ec.SECP256R1())).decode()


def rsa_pem() -> str:
    """Return a private key of the wrong kind."""
    key = rsa.generate_private_key(65_537, 2_048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def test_without_settings_there_are_no_wallets() -> None:
    """Nothing is verified, called back or asked for by default."""
    assert await built() == Wallets({}, {}, None)


async def test_each_part_of_a_wallet_stands_alone(files: ApplePayFiles) -> None:
    """Tokens without sessions, callbacks without tokens: what is set up is what there is."""
    google = await built(google_pay_recipients="merchant:1, gateway:example")
    assert isinstance(google.verifiers["google_pay"], GooglePayTokens)
    assert (google.callbacks, google.apple_sessions) == ({}, None)
    passes = await built(google_pay_issuer_id="3388")
    assert isinstance(passes.callbacks["google-pay"], GooglePayPasses)
    assert passes.verifiers == {}
    both = await built(**apple(files))
    assert set(both.verifiers) == {"apple_pay"}
    assert both.apple_sessions is not None


async def test_several_private_keys_may_be_given(files: ApplePayFiles) -> None:
    """While keys are replaced, the new and the former ones stand in one setting."""
    both = new_pem() + new_pem()
    assert (await built(google_pay_recipients="merchant:1", google_pay_private_key=both)).verifiers
    former = ApplePayFiles(files.folder / "former")
    make_certificates(MERCHANT_ID).leave(former)
    joined = {
        name: getattr(files, name).read_text() + getattr(former, name).read_text()
        for name in ("processing_certificate", "processing_key")
    }
    settings = {f"apple_pay_{name}": text for name, text in joined.items()}
    assert (await built(**apple(files, **settings))).verifiers


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"google_pay_recipients": "a,b,c,d,e,f,g,h,i"}, "WALLET_GOOGLE_PAY_RECIPIENTS"),
        ({"google_pay_private_key": "hidden"}, "WALLET_GOOGLE_PAY_PRIVATE_KEY"),
        ({"google_pay_private_key": "@/hidden/file"}, "WALLET_GOOGLE_PAY_PRIVATE_KEY"),
        ({"google_pay_private_key": rsa_pem()}, "WALLET_GOOGLE_PAY_PRIVATE_KEY"),
        ({"google_pay_keys_url": "http://keys.example"}, "WALLET_GOOGLE_PAY_KEYS_URL"),
        ({"google_pay_environment": "LIVE"}, "WALLET_GOOGLE_PAY_ENVIRONMENT"),
    ],
)
async def test_a_wrong_setting_of_google_pay_is_named(
    settings: dict[str, str], variable: str
) -> None:
    """The start ends with the variable's name, and not with its value."""
    with pytest.raises(SettingsError) as refused:
        await built(**{"google_pay_recipients": "merchant:1"} | settings)
    assert variable in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"apple_pay_root": "/hidden/root"}, "WALLET_APPLE_PAY_ROOT"),
        ({"apple_pay_processing_certificate": "hidden"}, "PROCESSING_CERTIFICATE"),
        ({"apple_pay_processing_key": "hidden"}, "WALLET_APPLE_PAY_PROCESSING_KEY"),
        ({"apple_pay_processing_key": new_pem()}, "WALLET_APPLE_PAY_PROCESSING_KEY"),
        ({"apple_pay_identity_key": "/hidden/key"}, "WALLET_APPLE_PAY_IDENTITY_KEY"),
        ({"apple_pay_session_roots": "/hidden/roots"}, "WALLET_APPLE_PAY_SESSION_ROOTS"),
        ({"apple_pay_domains": "https://hidden.example"}, "_DOMAINS"),
        ({"apple_pay_display_name": "x" * 65}, "_DISPLAY_NAME"),
    ],
)
async def test_a_wrong_setting_of_apple_pay_is_named(
    files: ApplePayFiles, settings: dict[str, str], variable: str
) -> None:
    """The start ends with the variable's name, and not with its value."""
    with pytest.raises(SettingsError) as refused:
        await built(**apple(files, **settings))
    assert variable in str(refused.value)
    assert "hidden" not in str(refused.value)


async def test_a_certificate_that_is_not_for_payments_is_refused(files: ApplePayFiles) -> None:
    """The merchant's identity certificate does not do for payment processing."""
    with pytest.raises(SettingsError, match="WALLET_APPLE_PAY_PROCESSING_CERTIFICATE"):
        await built(
            **apple(
                files,
                apple_pay_processing_certificate=f"@{files.identity_certificate}",
                apple_pay_processing_key="",
            )
        )


async def test_gateways_are_those_with_credentials() -> None:
    """A gateway without its account is not there."""
    async with ClientSession() as session:
        assert gateways(load_settings(), session) == {}
        account = {
            "razorpay_key_id": "rzp",
            "razorpay_key_secret": "key",
            "razorpay_webhook_secrets": "webhook",
        }
        assert set(gateways(load_settings(**account), session)) == {"razorpay"}
