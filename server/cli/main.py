"""The commands of `wallet-payment`."""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from gateway_adapters.gateway import GatewayError
from server.access.watched_files import Unusable
from server.app import running_server
from server.cli.answers import print_json
from server.cli.audit import audit
from server.cli.books import BadStateFile, books
from server.cli.calls import pay, refund, topup
from server.cli.demo import DemoFailed, run_demo
from server.cli.development import development_settings
from server.cli.doctor import doctor
from server.cli.encryption import encryption
from server.cli.environment import Environment, running_environment
from server.cli.health import health
from server.cli.import_wallets import import_
from server.cli.keys import BadKeyFile, keys
from server.cli.logs import configure_logs
from server.cli.outgoing import NotTaken, outgoing
from server.cli.reconcile import reconcile
from server.cli.report import report
from server.cli.review import ReviewRefused, review
from server.cli.seal import NotToBeSealed
from server.cli.seal_files import BadSealFile
from server.cli.sidecar import running_sidecar
from server.cli.statement import statement
from server.cli.statement_forms import StatementBroken
from server.cli.status import status
from server.cli.tokens import all_scopes, make_token
from server.cli.wallet_file import BadWalletFile
from server.cli.wallets import WalletRefused, wallet
from server.commit.port import StoreUnavailable
from server.config import Settings, SettingsError, load_settings
from server.ledger.money import Money
from server.listening import AddressInUse
from server.store.connection import BadConnectionString, NotAReplicaSet
from server.store.embedded import EmbeddedMongoError
from server.store.encryption import EncryptionError
from server.store.schema import NewerSchema
from server.store.seals import BooksDiffer, SealedAlready
from server.store.seed import ORDERS
from server.workers.place import Place
from server.workers.supervisor import supervised_workers

_EXPECTED = (
    SettingsError,
    EmbeddedMongoError,
    AddressInUse,
    BadConnectionString,
    NotAReplicaSet,
    NewerSchema,
    EncryptionError,
    DemoFailed,
    NotTaken,
    ReviewRefused,
    BadKeyFile,
    WalletRefused,
    BadStateFile,
    BadWalletFile,
    BadSealFile,
    NotToBeSealed,
    BooksDiffer,
    SealedAlready,
    Unusable,
    StatementBroken,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="wallet-payment")
def cli() -> None:
    """Prepaid wallets over gRPC: top up through a payment gateway, pay orders, refund at once.

    Settings are environment variables: `wallet-payment config` lists them.
    """


cli.add_command(audit)
cli.add_command(books)
cli.add_command(import_)
cli.add_command(keys)
cli.add_command(outgoing)
cli.add_command(review)
cli.add_command(reconcile)
for operators in (health, doctor, status, statement, topup, pay, refund, report):
    cli.add_command(operators)
cli.add_command(encryption)
cli.add_command(wallet)


def main() -> None:
    """Run the command line; what can be expected to go wrong is told in words."""
    try:
        cli()
    except _EXPECTED as error:
        click.echo(f"wallet-payment: {error}", err=True)
        sys.exit(2)
    except StoreUnavailable:
        click.echo("wallet-payment: MongoDB does not answer: check WALLET_MONGODB_URI.", err=True)
        sys.exit(2)
    except GatewayError as error:
        click.echo(f"wallet-payment: nothing was compared. {error}", err=True)
        sys.exit(2)


@cli.command()
def up() -> None:
    """Run everything on this machine, with no set-up: for development.

    Starts an embedded MongoDB (its data is kept in WALLET_DATA_DIR), the sandbox gateway, the
    server and the sidecar, and prints where they listen and how to call them. Ctrl-C stops it.
    """
    settings = load_settings()
    settings.check_development()
    configure_logs(settings)

    async def run() -> None:
        async with running_environment(settings) as environment:
            click.echo(_welcome(environment))
            await asyncio.Event().wait()

    _run_until_stopped(run)


@cli.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Server processes on one port; WALLET_WORKERS by default.",
)
def serve(workers: int | None) -> None:
    """Run the server on the database and the gateways that the settings name."""
    settings = load_settings()
    settings.check_serving()
    configure_logs(settings)
    count = workers or settings.workers
    if count == 1:
        _serve(settings, None)
        return

    async def supervise() -> None:
        async with supervised_workers(settings, count):
            await asyncio.Event().wait()

    _run_until_stopped(supervise)


@cli.command(hidden=True)
@click.argument("index", type=int)
@click.argument("count", type=int)
@click.argument("folder", type=click.Path(path_type=Path))
def worker(index: int, count: int, folder: Path) -> None:
    """Run one of the workers of `serve --workers`, which starts them."""
    settings = load_settings()
    settings.check_serving()
    configure_logs(settings)
    _serve(settings, Place(index, count, folder))


def _serve(settings: Settings, place: Place | None) -> None:
    async def run() -> None:
        try:
            async with running_server(settings, place):
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            # Everything is closed. What may be left are calls of the driver that a hanging MongoDB
            # never answers; neither the loop nor the interpreter is to wait for them.
            logging.shutdown()
            os._exit(0)

    _run_until_stopped(run)


@cli.command()
def sidecar() -> None:
    """Run the sidecar: it forwards the gateways' webhooks to WALLET_SERVER_TARGET."""
    settings = load_settings()
    settings.check_forwarding()
    configure_logs(settings)

    async def run() -> None:
        async with running_sidecar(settings) as url:
            click.echo(f"sidecar listens on {url}", err=True)
            await asyncio.Event().wait()

    _run_until_stopped(run)


@cli.command()
@click.option("--subject", default="developer", show_default=True, help="The calling service.")
@click.option(
    "--scope", "scopes", multiple=True, help="May be repeated; without it, every scope there is."
)
@click.option("--ttl", default=3_600, show_default=True, help="Lifetime in seconds.")
@click.option("--customer", default="", help="Limit the token to this customer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def token(subject: str, scopes: tuple[str, ...], ttl: int, customer: str, as_json: bool) -> None:
    """Print a token, signed with a key of WALLET_JWT_KEYS or, without it, with that of `up`."""
    settings = development_settings(load_settings())
    made = make_token(
        settings,
        subject=subject,
        scopes=scopes or all_scopes(),
        lifetime_seconds=ttl,
        customer_id=customer,
    )
    if as_json:
        print_json({"token": made, "lifetime_seconds": ttl})
        return
    click.echo(made)


@cli.command()
def demo() -> None:
    """Show the main job in a minute, in an environment of its own that leaves nothing behind."""

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="wallet-payment-demo-") as folder:
            any_port = "127.0.0.1:0"
            settings = load_settings(
                data_dir=Path(folder),
                mongodb_uri=SecretStr(""),
                grpc_address=any_port,
                sidecar_address=any_port,
                metrics_address=any_port,
                sandbox_address=any_port,
                log_level="error",
            )
            settings.check_development()
            configure_logs(settings)
            async with running_environment(settings) as environment:
                await run_demo(environment)

    _run_until_stopped(run)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def config(as_json: bool) -> None:
    """List the settings: variable, value, meaning. Secrets are not shown."""
    settings = load_settings()
    listed = [
        {
            "variable": f"WALLET_{name.upper()}",
            "value": _shown(getattr(settings, name)),
            "source": "set" if name in settings.model_fields_set else "default",
            "description": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        print_json(listed)
        return
    for one in listed:
        click.echo(f"{one['variable']}={one['value']}  ({one['source']})")
        click.echo(f"    {one['description']}")


def _shown(value: Any) -> str:  # noqa: ANN401 - the value of any setting
    if isinstance(value, SecretStr):
        return "(secret, set)" if value.get_secret_value() else "(secret, not set)"
    if isinstance(value, tuple):
        return ",".join(_shown(part) for part in value)
    return str(value)


def _run_until_stopped(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run until it ends; Ctrl-C or SIGTERM ends it early, and has it close what it opened."""

    async def stoppable() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(run())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(stoppable())


def _welcome(environment: Environment) -> str:
    order, customer, amount = ORDERS[0]
    grpc_address = environment.grpc_address
    call = 'grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d'
    method = f"{grpc_address} wallet_payment.v1.WalletPaymentService"
    return f"""
wallet-payment is up, for development

  gRPC             {grpc_address}
  webhooks         {environment.sidecar_url}/webhooks/{{razorpay,paypal,stripe}}
  metrics          {environment.metrics_url}
  sandbox gateway  {environment.sandbox_url}
  data             {environment.settings.data_dir}
  seeded           {order} of {customer}, {Money("INR", amount)}, open; customer-2, customer-3

Paste in another shell, here:

  export PATH="$PWD/.venv/bin:$PATH" TOKEN=$(.venv/bin/wallet-payment token)
  {call} '{{"customer_id": "{customer}"}}' \\
    {method}/GetStatus

Ctrl-C stops it."""
