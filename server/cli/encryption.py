"""`wallet-payment encryption`: make a key, and encrypt what is stored with the current one."""

import asyncio
import base64
import secrets
import sys
from datetime import UTC, datetime

import click

from server.cli.answers import print_json
from server.cli.operate import loaded_settings, opened_database, operator_settings
from server.encryption_keys import KEY_BYTES
from server.store.encryption import Encryption
from server.store.encryption_rotation import Rotated, RotationProgress, rotate


@click.group()
def encryption() -> None:
    """Encrypt metadata and gateways' events at rest: make a key, rotate."""


@encryption.command()
@click.option("--id", "key_id", help="The key's name; the day and a random part by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def key(key_id: str | None, as_json: bool) -> None:
    """Print a new key for WALLET_ENCRYPTION_KEYS. It is kept nowhere."""
    name = key_id or f"{datetime.now(UTC):%Y-%m-%d}-{secrets.token_hex(2)}"
    made = f"{name}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"
    if as_json:
        print_json({"key": made})
        return
    click.echo(made)


@encryption.command("rotate")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate_command(as_json: bool) -> None:
    """Encrypt everything with the current key while servers go on; what is plain, too.

    It may be ended at any time and run again: it goes on where it was. At its end it names the keys
    under which nothing is stored any more. All servers have to have the current key first. A value
    that does not open is left as it is and named; exit status 1 says that there is one.
    """
    settings = operator_settings(loaded_settings())

    def tell(progress: RotationProgress) -> None:
        click.echo(
            f"{progress.collection}: {progress.read} read, {progress.changed} changed", err=True
        )

    async def run() -> Rotated:
        async with opened_database(settings) as database:
            return await rotate(database, Encryption(settings.encryption()), tell)

    rotated = asyncio.run(run())
    if as_json:
        print_json(
            {
                "encrypted": rotated.changed,
                "unopened": rotated.unopened,
                "problems": rotated.problems,
                "unused_keys": rotated.unused_keys,
            }
        )
    else:
        click.echo(f"encrypted {rotated.changed} records with the current key")
        for key_id in rotated.unused_keys:
            click.echo(f"no value is under key {key_id} any more: it may be removed")
        for problem in rotated.problems:
            click.echo(problem, err=True)
        if rotated.unopened:
            click.echo(
                f"left as they are, since they do not open: {rotated.unopened}. Keep all keys; see "
                "docs/operation/encryption.md",
                err=True,
            )
    if rotated.unopened:
        sys.exit(1)
