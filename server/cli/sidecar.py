"""`wallet-payment sidecar`: takes webhooks, over TLS or behind a proxy, and hands them on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import click

from gateway_adapters.addresses import read_network
from gateway_adapters.sidecar import TrustedProxies, sidecar_app, sidecar_runner
from server.access.http_tls import HttpTls
from server.access.watched_files import Contents, Unusable, WatchedFiles
from server.cli.logs import configure_logs
from server.cli.server_link import ServerLink
from server.cli.stopping import run_until_stopped
from server.config import Settings, load_settings
from server.listening import address_of, bind, http_server
from server.metrics import Metrics, metrics_runner
from server.traces import tracing_of

_LONGEST_TOKEN: Final = 8_192


@click.command()
def sidecar() -> None:
    """Run the sidecar: it forwards the gateways' webhooks to WALLET_SERVER_TARGET."""
    settings = load_settings()
    settings.check_forwarding()
    configure_logs(settings)

    async def run() -> None:
        async with running_sidecar(settings) as url:
            click.echo(f"sidecar listens on {url}", err=True)
            await asyncio.Event().wait()

    run_until_stopped(run)


@asynccontextmanager
async def running_sidecar(settings: Settings) -> AsyncIterator[str]:
    """Run the sidecar as long as the context lasts; yield the URL that it listens on.

    Raises:
        AddressInUse.
        Unusable: a certificate, or the file of the token.
    """
    metrics = Metrics()
    async with AsyncExitStack() as resources:
        files = await resources.enter_async_context(WatchedFiles(settings.reload_seconds, metrics))
        link = await resources.enter_async_context(ServerLink(settings, files))
        token = _Token(settings.sidecar_token.get_secret_value(), files)
        tls = None
        if settings.sidecar_certificate:
            names = (settings.sidecar_certificate, settings.sidecar_key)
            tls = HttpTls("sidecar_certificate", *names, metrics)
            tls.watch(files)
        if settings.sidecar_metrics_address:
            bound = bind(settings.sidecar_metrics_address, "WALLET_SIDECAR_METRICS_ADDRESS")
            await resources.enter_async_context(http_server(metrics_runner(metrics.told), bound))
        networks = tuple(map(read_network, settings.sidecar_trusted_proxies))
        proxies = TrustedProxies(networks, settings.sidecar_forwarded_header)
        app = sidecar_app(
            link.channel,
            token,
            rates=settings.sidecar_rates,
            connection_limits=settings.connection_limits,
            proxies=proxies,
            tracing=resources.enter_context(tracing_of(settings, "wallet-payment-sidecar")),
        )
        bound = bind(settings.sidecar_address, "WALLET_SIDECAR_ADDRESS")
        await resources.enter_async_context(
            http_server(sidecar_runner(app), bound, tls.context if tls else None)
        )
        yield f"{'https' if tls else 'http'}://{address_of(bound)}"


class _Token:
    """The sidecar's own token: one for always, or that of a file as it is now."""

    def __init__(self, given: str, files: WatchedFiles) -> None:
        self._token = given
        if given.startswith("@"):
            files.watch("sidecar_token", [Path(given[1:])], _token_of, self._accept)

    def __call__(self) -> str:
        return self._token

    def _accept(self, token: str) -> None:
        self._token = token


def _token_of(contents: Contents) -> str:
    try:
        token = contents[0].decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or " " in token or not 0 < len(token) <= _LONGEST_TOKEN:
        raise Unusable("the file holds no token")
    return token
