"""`wallet-payment encryption`: make a key, and encrypt what is stored with the current one."""

import asyncio
import base64
import secrets
from datetime import UTC, datetime

import click

from server.cli.answers import print_json
from server.cli.operate import loaded_settings, opened_database, operator_settings
from server.encryption_keys import KEY_BYTES
from server.store.encryption import Encryption
from server.store.encryption_rotation import RotationProgress, rotate


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
    under which nothing is stored any more. All servers have to have the current key first.
    """
    settings = operator_settings(loaded_settings())

    def tell(progress: RotationProgress) -> None:
        click.echo(
            f"{progress.collection}: {progress.read} read, {progress.changed} changed", err=True
        )

    async def run() -> tuple[int, list[str]]:
        async with opened_database(settings) as database:
            return await rotate(database, Encryption(settings.encryption()), tell)

    changed, freed = asyncio.run(run())
    if as_json:
        print_json({"encrypted": changed, "unused_keys": freed})
        return
    click.echo(f"encrypted {changed} records with the current key")
    for key_id in freed:
        click.echo(f"no value is under key {key_id} any more: it may be removed")
