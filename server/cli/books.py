"""`wallet-payment books`: prove the books, and seal them."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from server.cli.answers import one_line
from server.cli.books_progress import Progress
from server.cli.operate import opened_database
from server.cli.seal import seal
from server.cli.seal_files import heads_of_file, read_seal_file
from server.config import Settings, SettingsError, content_of, load_settings
from server.ledger.books import Difference
from server.ledger.money import Money, is_currency
from server.ledger.seals import SignedSeal, seal_hash
from server.seal_keys import is_signed, read_private_key, read_public_key
from server.store.books import books_size, ledger_identity, verify_books
from server.store.books_state import BadState, BooksReport, BooksState, read_state, write_state
from server.store.connection import Database
from server.store.seals import MongoSeals, SealToCheck
from server.told import ToldInWords

_INTERRUPTED: Final = 130


class BadStateFile(ToldInWords):
    """The file of `--resume` cannot be gone on from; the message names it."""


@click.group()
def books() -> None:
    """Prove the books, and seal them."""


books.add_command(seal)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked of a proof."""

    sealed: bool
    files: tuple[Path, ...]
    resume: Path | None
    as_json: bool


@books.command("verify")
@click.option("--sealed", is_flag=True, help="Check the seals too: those of FILES, or all kept.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep in this file how far the proof is; where it is there, go on from it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each difference.")
@click.argument(
    "files", nargs=-1, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
def verify(sealed: bool, files: tuple[Path, ...], resume: Path | None, as_json: bool) -> None:
    """Recompute the ledger, and compare orders, top-ups and seals with it.

    Names whatever differs; exit status 1 says that something does. Payments go on meanwhile.
    """
    if files and not sealed:
        raise click.UsageError("FILES are seals: give --sealed with them.")
    wanted = _Wanted(sealed, files, resume, as_json)
    try:
        report = asyncio.run(_verify(load_settings(), wanted))
    except KeyboardInterrupt:
        how = "the same command goes on from there" if resume else "with --resume it could go on"
        click.echo(f"interrupted: {how}", err=True)
        sys.exit(_INTERRUPTED)
    click.echo(json.dumps({"report": report.figures()}) if as_json else _summary(report))
    if report.differences:
        sys.exit(1)


async def _verify(settings: Settings, wanted: _Wanted) -> BooksReport:
    async with opened_database(settings) as database:
        seals = await _seals(database, settings, wanted) if wanted.sealed else []
        identity = await ledger_identity(database) + _identity_of(seals)
        state = _kept_state(wanted.resume, identity)
        total = await books_size(database)
        with Progress(total, state.passed, is_shown=not wanted.as_json) as progress:

            def went_on(state: BooksState) -> None:
                if wanted.resume is not None:
                    _keep(wanted.resume, write_state(state, identity))
                progress.reach(state.passed)

            report = await verify_books(
                database,
                partial(_say, progress, as_json=wanted.as_json),
                seals=seals,
                are_all_seals=not wanted.files,
                state=state,
                went_on=went_on,
            )
    if wanted.resume is not None:
        wanted.resume.unlink(missing_ok=True)
    return report


async def _seals(database: Database, settings: Settings, wanted: _Wanted) -> list[SealToCheck]:
    """Return the seals to check in the order of their dates."""
    public = settings.seal_public_key
    private = settings.seal_key.get_secret_value()
    if public:
        key = read_public_key(content_of(public))
    elif private:
        key = read_private_key(content_of(private)).public_key()
    else:
        raise SettingsError(
            "WALLET_SEAL_PUBLIC_KEY is not set: give the key that `books seal` printed, which "
            "nobody who can write to the database can change."
        )
    kept = MongoSeals(database)
    found: list[tuple[SignedSeal, Callable[[], Any]]]
    if wanted.files:
        found = [(read_seal_file(file), partial(heads_of_file, file)) for file in wanted.files]
    else:
        found = [(signed, partial(kept.heads, signed.seal)) for signed in await kept.all()]
    found.sort(key=lambda one: one[0].seal.date)
    return [SealToCheck(signed, is_signed(signed, key), heads) for signed, heads in found]


def _identity_of(seals: list[SealToCheck]) -> str:
    names = "".join(seal_hash(to_check.signed.seal) for to_check in seals)
    return hashlib.sha256(names.encode()).hexdigest()


def _kept_state(file: Path | None, identity: str) -> BooksState:
    if file is None or not file.exists():
        return BooksState()
    try:
        return read_state(file.read_text("utf-8"), identity)
    except (BadState, OSError, UnicodeError) as error:
        why = str(error) if isinstance(error, BadState) else "It cannot be read."
        raise BadStateFile(f"{file}: {why} Remove it to begin anew.") from None


def _keep(file: Path, text: str) -> None:
    """Write the file whole or not at all."""
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(text, "utf-8")
    beside.replace(file)


def _say(progress: Progress, difference: Difference, *, as_json: bool) -> None:
    progress.make_room()
    if as_json:
        customer_id, currency_code = difference.wallet
        fields = {
            "customer_id": customer_id,
            "currency_code": currency_code,
            "record": difference.kind.value,
            "record_id": difference.record_id,
            "what": difference.what,
            "minor_units": difference.minor_units,
        }
        click.echo(json.dumps({"difference": fields}))
        return
    where = " ".join(part for part in (*difference.wallet, difference.kind.value) if part)
    how_much = ""
    if difference.minor_units is not None:
        how_much = f"  [{_money(difference.wallet.currency_code, difference.minor_units)}]"
    told = f"{where} {difference.record_id}: {difference.what}{how_much}"
    click.echo(f"DIFFERS  {one_line(told)}")


def _summary(report: BooksReport) -> str:
    accounts = "".join(
        f"{account:<32} {_money(account.rpartition(':')[2], total):>24}\n"
        for account, total in sorted(report.accounts.items())
    )
    held = ", ".join(_money(*one) for one in sorted(report.balances.items())) or "nothing"
    verdict = f"{report.differences} differences" if report.differences else "the books agree"
    return (
        f"{accounts}"
        f"{report.orders} orders, {report.topups} top-ups, {report.seals} seals compared\n"
        f"{report.wallets} wallets, {report.transactions} transactions, {held} held: {verdict}"
    )


def _money(currency_code: str, minor_units: int) -> str:
    """Write an amount, also of what is no currency: the books may hold anything."""
    if is_currency(currency_code):
        return str(Money(currency_code, minor_units))
    return f"{minor_units} {currency_code}".rstrip()
