"""Everything on one machine: embedded MongoDB, sandbox gateway, server and sidecar."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import grpc
from aiohttp import web
from pydantic import SecretStr

from gateway_adapters.sandbox import (
    PaypalSandboxSettings,
    RazorpaySandboxSettings,
    SandboxSettings,
    StripeSandboxSettings,
    sandbox_app,
)
from gateway_adapters.sidecar import sidecar_app, sidecar_runner
from server.app import running_server
from server.cli.development import (
    development_settings,
    note_running,
    sandbox_api_urls,
    sandbox_certificates,
    sandbox_root_file,
)
from server.cli.sandbox_wallets import SandboxWallets, running_wallets
from server.cli.tokens import all_scopes, make_token
from server.config import Settings
from server.listening import address_of, bind, http_server
from server.store.connection import connect
from server.store.embedded import embedded_mongod
from server.store.seed import seed_development

TOKEN_SECONDS: Final = 30 * 24 * 3_600


@dataclass(frozen=True, slots=True)
class Environment:
    """Where everything listens, and a token to call it."""

    settings: Settings
    grpc_address: str
    sidecar_url: str
    metrics_url: str
    sandbox_url: str
    token: str
    wallets: SandboxWallets
    """The sandbox's Google Pay and Apple Pay."""


@asynccontextmanager
async def running_environment(settings: Settings) -> AsyncIterator[Environment]:
    """Run everything as long as the context lasts; what the settings name is used instead.

    Raises:
        SettingsError, EmbeddedMongoError, AddressInUse, NotAReplicaSet, NewerSchema.
    """
    async with AsyncExitStack() as resources:
        uri = settings.mongodb_uri.get_secret_value()
        if not uri:
            uri = await resources.enter_async_context(embedded_mongod(settings.data_dir))
            note = note_running(settings.data_dir, uri)
            resources.callback(note.unlink, missing_ok=True)
        sandbox_socket = bind(settings.sandbox_address, "WALLET_SANDBOX_ADDRESS")
        sidecar_socket = bind(settings.sidecar_address, "WALLET_SIDECAR_ADDRESS")
        sandbox_url = f"http://{address_of(sandbox_socket)}"
        sidecar_url = f"http://{address_of(sidecar_socket)}"
        wallets = await resources.enter_async_context(
            running_wallets(settings.data_dir / "sandbox-wallets", sandbox_url, sidecar_url)
        )
        settings = development_settings(
            settings,
            **wallets.settings,
            **sandbox_api_urls(sandbox_url),
            **sandbox_certificates(settings.data_dir, sandbox_url),
            razorpay_checkout_url=f"{sandbox_url}/checkout",
            stripe_checkout_url=f"{sandbox_url}/checkout",
        )
        settings = settings.model_copy(update={"mongodb_uri": SecretStr(uri)})
        session = await resources.enter_async_context(aiohttp.ClientSession())
        sandbox = sandbox_app(
            sandbox_settings(settings, sandbox_url, sidecar_url, wallets), session
        )
        await resources.enter_async_context(
            http_server(web.AppRunner(sandbox, access_log=None), sandbox_socket)
        )
        server = await resources.enter_async_context(running_server(settings))
        database = resources.enter_context(connect(uri))
        await seed_development(database)
        channel = await resources.enter_async_context(
            grpc.aio.insecure_channel(server.grpc_address)
        )
        sidecar_token = make_token(
            settings,
            subject="sidecar",
            scopes=("webhook.forward",),
            lifetime_seconds=TOKEN_SECONDS,
        )
        sidecar = sidecar_app(
            lambda: channel,
            lambda: sidecar_token,
            rates=settings.sidecar_rates,
            connection_limits=settings.connection_limits,
        )
        await resources.enter_async_context(http_server(sidecar_runner(sidecar), sidecar_socket))
        token = make_token(
            settings, subject="developer", scopes=all_scopes(), lifetime_seconds=TOKEN_SECONDS
        )
        yield Environment(
            settings,
            server.grpc_address,
            sidecar_url,
            f"http://{server.metrics_address}/metrics",
            sandbox_url,
            token,
            wallets,
        )


def sandbox_settings(
    settings: Settings, sandbox_url: str, sidecar_url: str, wallets: SandboxWallets
) -> SandboxSettings:
    """Return a sandbox of every gateway, with the accounts that the server uses."""
    return SandboxSettings(
        gateways=(
            RazorpaySandboxSettings(
                key_id=settings.razorpay_key_id,
                key_secret=settings.razorpay_key_secret.get_secret_value(),
                webhook_secret=settings.razorpay_webhook_secrets[0].get_secret_value(),
                webhook_url=f"{sidecar_url}/webhooks/razorpay",
            ),
            PaypalSandboxSettings(
                client_id=settings.paypal_client_id,
                client_secret=settings.paypal_client_secret.get_secret_value(),
                webhook_id=settings.paypal_webhook_id,
                base_url=sandbox_url,
                webhook_url=f"{sidecar_url}/webhooks/paypal",
                trust_anchors_file=sandbox_root_file(settings.data_dir),
            ),
            StripeSandboxSettings(
                secret_key=settings.stripe_secret_key.get_secret_value(),
                webhook_secret=settings.stripe_webhook_secrets[0].get_secret_value(),
                webhook_url=f"{sidecar_url}/webhooks/stripe",
            ),
            wallets.google_pay,
            wallets.apple_pay,
        ),
        data_file=settings.data_dir / "sandbox.json",
    )
