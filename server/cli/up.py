"""`wallet-payment up`: everything on one machine, for development."""

import asyncio
import sys
from pathlib import Path

import click

from server.cli.environment import Environment, running_environment
from server.cli.logs import configure_logs
from server.cli.stopping import run_until_stopped
from server.config import load_settings
from server.ledger.money import Money
from server.store.seed import ORDERS


@click.command()
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

    run_until_stopped(run)


def _welcome(environment: Environment) -> str:
    order, customer, amount = ORDERS[0]
    grpc_address = environment.grpc_address
    commands = Path(sys.executable).parent
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

  export PATH="{commands}:$PATH"
  export TOKEN=$(wallet-payment token)
  {call} '{{"customer_id": "{customer}"}}' \\
    {method}/GetStatus

Ctrl-C stops it."""
