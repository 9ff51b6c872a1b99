"""`wallet-payment books seal`: a signed digest of all wallets' heads at the end of a day."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.cli.answers import print_json
from server.cli.operate import opened_database
from server.cli.seal_files import first_line, read_heads
from server.config import SettingsError, content_of, load_settings
from server.ledger import chain
from server.ledger.seals import Head, HeadsDigest, Seal, SignedSeal, head_line, seal_hash
from server.seal_keys import is_signed, public_key_text, read_private_key, sign
from server.store import schema
from server.store.seals import MongoSeals
from server.told import ToldInWords


class NotToBeSealed(ToldInWords):
    """The day cannot be sealed; the message says why."""


@click.command()
@click.option(
    "--date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="A day that is over, UTC.  [default: yesterday]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the seal is written.  [default: book-seal-DATE.jsonl]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def seal(date: datetime | None, output: Path | None, as_json: bool) -> None:
    """Sign all wallets' heads as they were at the end of a day, after the seal before.

    The seal is kept beside the books and written to a file, which belongs somewhere else. A day
    that is sealed already is written to the file again.
    """
    text = load_settings().seal_key.get_secret_value()
    if not text:
        raise SettingsError(
            "WALLET_SEAL_KEY is not set: make a key with `openssl genpkey -algorithm ed25519 -out "
            "seal-key.pem`, and set WALLET_SEAL_KEY=@seal-key.pem."
        )
    now = datetime.now(UTC)
    day = (date.replace(tzinfo=UTC) if date else now - timedelta(days=1)).strftime("%Y-%m-%d")
    if day >= now.strftime("%Y-%m-%d"):
        raise NotToBeSealed(f"{day} is not over yet (UTC): seal a day before.")
    file = output or Path(f"book-seal-{day}.jsonl")
    key = read_private_key(content_of(text))
    signed = asyncio.run(_seal(day, file, key))
    if as_json:
        print_json(
            {
                "date": day,
                "previous_date": signed.seal.previous_date,
                "heads": signed.seal.heads,
                "seal_hash": seal_hash(signed.seal),
                "public_key": public_key_text(key.public_key()),
                "file": str(file),
            }
        )
        return
    before = signed.seal.previous_date or "none"
    click.echo(f"sealed      {day}: {signed.seal.heads} heads, after the seal of {before}")
    click.echo(f"seal        {seal_hash(signed.seal)}")
    click.echo(f"public key  {public_key_text(key.public_key())}")
    click.echo(f"file        {file}")


async def _seal(day: str, file: Path, key: Ed25519PrivateKey) -> SignedSeal:
    async with opened_database(load_settings()) as database:
        await schema.migrate(database)
        kept = MongoSeals(database)
        seals = {signed.seal.date: signed for signed in await kept.all()}
        signed = seals.get(day)
        if signed is None:
            last = max(seals, default="")
            if last > day:
                raise NotToBeSealed(f"{day} comes before {last}, which is sealed: days go forward.")
            signed = await _make(kept, day, seals.get(last), key)
        elif not is_signed(signed, key.public_key()):
            raise NotToBeSealed(f"{day} was sealed with another key than WALLET_SEAL_KEY.")
        await _write(file, signed, kept.heads(signed.seal))
    return signed


async def _make(
    kept: MongoSeals, day: str, last: SignedSeal | None, key: Ed25519PrivateKey
) -> SignedSeal:
    """Make the seal of a day and keep it; its heads wait in a file meanwhile, not in memory."""
    with tempfile.TemporaryFile() as waiting:
        digest = HeadsDigest()
        since_ms = _end_ms(last.seal.date) if last else 0
        async for heads in kept.heads_to_seal(since_ms, _end_ms(day)):
            for head in heads:
                digest.add(head)
                waiting.write(head_line(head))
        seal = Seal(
            date=day,
            previous_date=last.seal.date if last else "",
            previous_hash=seal_hash(last.seal) if last else chain.GENESIS_HASH,
            heads=digest.heads,
            heads_digest=digest.hex(),
            make_time_ms=time.time_ns() // 1_000_000,
        )
        signed = sign(seal, key)
        waiting.seek(0)
        await kept.store(signed, read_heads("the heads to seal", waiting))
    return signed


async def _write(file: Path, signed: SignedSeal, heads: AsyncIterator[list[Head]]) -> None:
    """Write a seal's file, whole or not at all."""
    beside = file.with_name(f"{file.name}.new")
    with beside.open("wb") as opened:
        opened.write(first_line(signed))
        async for batch in heads:
            opened.writelines(head_line(head) for head in batch)
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)


def _end_ms(day: str) -> int:
    """Return when a day ends, UTC."""
    start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    return round((start + timedelta(days=1)).timestamp()) * 1_000
