"""The sandbox's Google Pay and Apple Pay, and the settings of a server that trusts them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from gateway_adapters.sandbox import (
    KEYS_PATH,
    ApplePayFiles,
    ApplePaySandbox,
    ApplePaySandboxSettings,
    GooglePaySandboxSettings,
)
from server.listening import address_of, bind, http_server

GOOGLE_RECIPIENT: Final = "merchant:sandbox"
GOOGLE_ISSUER_ID: Final = "3388000000000000000"
APPLE_MERCHANT_ID: Final = "merchant.example.sandbox"
APPLE_DOMAIN: Final = "shop.example"


@dataclass(frozen=True, slots=True)
class SandboxWallets:
    """What the sandbox is composed of, and what a server has to be set to."""

    google_pay: GooglePaySandboxSettings
    apple_pay: ApplePaySandbox
    settings: dict[str, Any]


@asynccontextmanager
async def running_wallets(
    folder: Path, sandbox_url: str, sidecar_url: str
) -> AsyncIterator[SandboxWallets]:
    """Leave keys and certificates in a folder, and serve Apple's sessions over TLS of their own.

    Raises:
        AddressInUse.
    """
    files = ApplePayFiles(folder)
    merchant_key_file = folder / "google-pay-merchant-key.pem"
    google_pay = GooglePaySandboxSettings(
        folder=folder,
        merchant_key_file=merchant_key_file,
        recipient=GOOGLE_RECIPIENT,
        issuer_id=GOOGLE_ISSUER_ID,
        webhook_url=f"{sidecar_url}/webhooks/google-pay",
    )
    bound = bind("127.0.0.1:0", "WALLET_SANDBOX_ADDRESS")
    apple_pay = ApplePaySandboxSettings(
        files=files,
        merchant_identifier=APPLE_MERCHANT_ID,
        domains=(APPLE_DOMAIN,),
        session_address=address_of(bound),
    ).mount()
    settings = {
        "google_pay_recipients": GOOGLE_RECIPIENT,
        "google_pay_private_key": f"@{merchant_key_file}",
        "google_pay_issuer_id": GOOGLE_ISSUER_ID,
        "google_pay_keys_url": f"{sandbox_url}{KEYS_PATH}",
        "apple_pay_root": str(files.root),
        "apple_pay_processing_certificate": f"@{files.processing_certificate}",
        "apple_pay_processing_key": f"@{files.processing_key}",
        "apple_pay_merchant_id": APPLE_MERCHANT_ID,
        "apple_pay_display_name": "Sandbox Shop",
        "apple_pay_domains": APPLE_DOMAIN,
        "apple_pay_identity_certificate": str(files.identity_certificate),
        "apple_pay_identity_key": str(files.identity_key),
        "apple_pay_session_hosts": address_of(bound),
        "apple_pay_session_roots": str(files.root),
    }
    runner = web.AppRunner(apple_pay.session_app(), access_log=None)
    async with http_server(runner, bound, apple_pay.session_tls()):
        yield SandboxWallets(google_pay, apple_pay, settings)
