"""`wallet-payment statement`: a wallet's entries in a time, as a table, CSV, JSON or a page."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from server.cli.answers import DATE, new_file, time_ms_of
from server.cli.operate import encryption_of, loaded_settings, opened_database
from server.cli.statement_forms import Csv, JsonLines, Page, Statement, Table, Writer
from server.config import Settings
from server.ledger.records import Transaction, WalletKey
from server.store.inquiries import MongoInquiries
from server.store.queries import MongoQueries

_DEFAULT_DAYS: Final = 30


@click.command()
@click.argument("customer")
@click.argument("currency")
@click.option("--from", "start", type=DATE, help="From this time on, UTC.  [default: 30 days ago]")
@click.option("--to", "end", type=DATE, help="Before this time, UTC.  [default: now]")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each entry.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=new_file,
    help="Write a page with a plot of the balance to this file.",
)
def statement(
    customer: str,
    currency: str,
    start: datetime | None,
    end: datetime | None,
    as_csv: bool,
    as_json: bool,
    page: Path | None,
) -> None:
    """Tell what moved in and out of a customer's wallet, such as that in INR."""
    if as_csv + as_json + (page is not None) > 1:
        raise click.UsageError("Give one of --csv, --json and --html.")
    now = datetime.now(UTC)
    start_ms = time_ms_of(start or now - timedelta(days=_DEFAULT_DAYS))
    end_ms = time_ms_of(end or now + timedelta(seconds=1))
    if start_ms >= end_ms:
        raise click.UsageError("--from must be before --to.")
    wallet, time = WalletKey(customer, currency.upper()), (start_ms, end_ms)
    with ExitStack() as resources:
        writer: Writer = Table()
        if as_csv:
            writer = Csv()
        elif as_json:
            writer = JsonLines()
        elif page is not None:
            rows = resources.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            writer = Page(page, rows)
        asyncio.run(_write(loaded_settings(), wallet, time, writer))


async def _write(
    settings: Settings, wallet: WalletKey, time: tuple[int, int], writer: Writer
) -> None:
    customer, currency = wallet
    async with opened_database(settings) as database:
        inquiries = MongoInquiries(database, encryption_of(settings))
        opening = await inquiries.balance_before(wallet, time[0])
        statement = Statement(wallet, *time, opening=opening, closing=opening)
        writer.begin(statement)
        async for entry in _entries(inquiries, wallet, time):
            statement.add(entry)
            writer.entry(statement, entry)
        writer.end(statement)
        if not statement.sums:
            known = [one.currency_code for one in await MongoQueries(database).wallets(customer)]
            if currency not in known:
                others = f", but in {', '.join(known)}" if known else ", nor in any other currency"
                click.echo(f"{customer} has no wallet in {currency}{others}.", err=True)


async def _entries(
    inquiries: MongoInquiries, wallet: WalletKey, time: tuple[int, int]
) -> AsyncIterator[Transaction]:
    async for page in inquiries.entries(wallet, *time):
        for entry in page:
            yield entry
