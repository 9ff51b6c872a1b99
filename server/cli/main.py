"""The command line: every command with where it stands. One that is called loads no other."""

import sys
from typing import Final

import click

from server.cli.loading import LoadingGroup, Unloaded
from server.told import ToldInWords

_COMMANDS: Final = (
    Unloaded("audit", "audit:audit", "Search the record of all calls, and prove that it is whole."),
    Unloaded("books", "books:books", "Prove the books, and seal them."),
    Unloaded(
        "config",
        "configuration:config",
        "List the settings: variable, value, meaning. Secrets are not shown.",
    ),
    Unloaded(
        "demo",
        "demo:demo",
        "Show the main job in a minute, in an environment of its own that leaves nothing behind.",
    ),
    Unloaded(
        "doctor",
        "doctor:doctor",
        "Check settings, MongoDB, gateways, clock, certificates and disk, and say what to do.",
    ),
    Unloaded(
        "encryption",
        "encryption:encryption",
        "Encrypt metadata and gateways' events at rest: make a key, rotate.",
    ),
    Unloaded(
        "health",
        "health:health",
        "Ask WALLET_SERVER_TARGET by gRPC health whether it serves; exit status 1: it does not.",
    ),
    Unloaded("import", "import_wallets:import_", "Bring in what an earlier system holds."),
    Unloaded("keys", "keys:keys", "Make and retire the keys that tokens are signed with."),
    Unloaded(
        "outgoing",
        "outgoing:outgoing",
        "Look after outgoing webhooks that their receiver did not take: list, replay.",
    ),
    Unloaded(
        "pay", "calls:pay", "Pay ORDER of AMOUNT, such as INR:25000, from the customer's wallet."
    ),
    Unloaded(
        "reconcile",
        "reconcile:reconcile",
        "Compare a gateway's payments and refunds with the ledger; without a time, those of "
        "yesterday.",
    ),
    Unloaded(
        "refund",
        "calls:refund",
        "Refund AMOUNT of ORDER, such as INR:10000, into the wallet; without it, all that remains.",
    ),
    Unloaded(
        "report",
        "report:report",
        "Add up whole days: money in, out and held, what became of top-ups, and how long they "
        "took.",
    ),
    Unloaded(
        "review",
        "review:review",
        "Settle what a gateway reported and could not be applied: list, show, resolve.",
    ),
    Unloaded(
        "serve",
        "serve:serve",
        "Run the server on the database and the gateways that the settings name.",
    ),
    Unloaded(
        "sidecar",
        "sidecar:sidecar",
        "Run the sidecar: it forwards the gateways' webhooks to WALLET_SERVER_TARGET.",
    ),
    Unloaded(
        "statement",
        "statement:statement",
        "Tell what moved in and out of a customer's wallet, such as that in INR.",
    ),
    Unloaded("status", "status:status", "Tell what is known of NAME."),
    Unloaded(
        "token",
        "tokens:token",
        "Print a token, signed with a key of WALLET_JWT_KEYS or, without it, with that of `up`.",
    ),
    Unloaded(
        "topup",
        "calls:topup",
        "Start a top-up of AMOUNT, such as INR:50000, and print how it is paid.",
    ),
    Unloaded("up", "up:up", "Run everything on this machine, with no set-up: for development."),
    Unloaded(
        "wallet",
        "wallets:wallet",
        "Look at a customer's wallets, freeze and unfreeze them, set the tier that limits them.",
    ),
    Unloaded(
        "worker",
        "serve:worker",
        "Run one of the workers of `serve --workers`, which starts them.",
        hidden=True,
    ),
)
"""Their texts are the first paragraphs of the commands' own; a test compares them."""


@click.group(
    cls=LoadingGroup,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="wallet-payment")
def cli() -> None:
    """Prepaid wallets over gRPC: top up through a payment gateway, pay orders, refund at once.

    Settings are environment variables: `wallet-payment config` lists them.
    """


def main() -> None:
    """Run the command line; what can be expected to go wrong is told in words."""
    try:
        cli()
    except ToldInWords as error:
        click.echo(f"wallet-payment: {error.told()}", err=True)
        sys.exit(2)
