"""`wallet-payment report`: what came in, went out and was held, by day, gateway and method."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from server.cli.answers import money_text, new_file, print_json, time_ms_of
from server.cli.books_progress import Progress
from server.cli.operate import encryption_of, loaded_settings, opened_database
from server.cli.report_page import bound_name, page_of
from server.config import Settings
from server.ledger.records import TransactionType
from server.reports import DAY_MS, Report, success_rate
from server.store.inquiries import MongoInquiries

_DEFAULT_DAYS: Final = 30
_MOST_DAYS: Final = 400
_DAY: Final = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--from", "start", type=_DAY, help="The first day, UTC.  [default: 30 days ago]")
@click.option("--to", "end", type=_DAY, help="The last day, UTC.  [default: today]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=new_file,
    help="Write a page with plots to this file.",
)
def report(start: datetime | None, end: datetime | None, as_json: bool, page: Path | None) -> None:
    """Add up whole days: money in, out and held, what became of top-ups, and how long they took.

    Every entry that was ever written is read once, page by page: what was held is worked out from
    the ledger, not taken from the wallets.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = end or today
    first = start or last - timedelta(days=_DEFAULT_DAYS - 1)
    start_ms, end_ms = time_ms_of(first), time_ms_of(last) + DAY_MS
    if start_ms >= end_ms:
        raise click.UsageError("--from must not be after --to.")
    if end_ms - start_ms > _MOST_DAYS * DAY_MS:
        raise click.UsageError(f"A report is over {_MOST_DAYS} days at most.")
    figures = asyncio.run(_figures(loaded_settings(), start_ms, end_ms, is_shown=not as_json))
    if page is not None:
        beside = page.with_name(f"{page.name}.new")
        beside.write_text(page_of(figures), "utf-8")
        beside.replace(page)
    if as_json:
        print_json(report_json(figures))
        return
    _print(figures)
    if page is not None:
        click.echo(f"page       {page}")


async def _figures(settings: Settings, start_ms: int, end_ms: int, *, is_shown: bool) -> Report:
    figures = Report(start_ms, end_ms)
    async with opened_database(settings) as database:
        inquiries = MongoInquiries(database, encryption_of(settings))
        total, passed = await inquiries.ledger_size(), 0
        with Progress(total, 0, is_shown=is_shown, label="adding up") as progress:
            async for amounts in inquiries.moved_before(start_ms):
                figures.add_before(amounts)
                passed += len(amounts)
                progress.reach(passed)
            async for entries in inquiries.moved(start_ms, end_ms):
                figures.add_moved(entries)
                passed += len(entries)
                progress.reach(passed)
            async for topups in inquiries.made_topups(start_ms, end_ms):
                figures.add_topups(topups)
    figures.close()
    return figures


def report_json(figures: Report) -> dict[str, Any]:
    """Return all figures, for programs."""
    return {
        "opening": dict(figures.opening),
        "days": {
            currency: {
                day: {
                    "held_minor_units": one.held,
                    "moved": {
                        kind.value: {"count": sum_.count, "minor_units": sum_.minor_units}
                        for kind, sum_ in sorted(one.sums.items())
                    },
                }
                for day, one in days.items()
            }
            for currency, days in figures.days.items()
        },
        "topups_credited": [
            {
                "gateway": gateway,
                "method": method,
                "currency_code": currency,
                "count": one.count,
                "minor_units": one.minor_units,
            }
            for (gateway, method, currency), one in sorted(figures.ways.items())
        ],
        "topups_started": [
            {
                "gateway": gateway,
                "method": method,
                "states": {state.value: count for state, count in sorted(states.items())},
                "credited": success_rate(states)[0],
                "ended": success_rate(states)[1],
            }
            for (gateway, method), states in sorted(figures.outcomes.items())
        ],
        "times_to_credit": {
            gateway: {bound_name(number): count for number, count in enumerate(times)}
            for gateway, times in sorted(figures.times_to_credit.items())
        },
    }


def _print(figures: Report) -> None:
    """Print what it comes to."""
    for currency, days in figures.days.items():
        held = list(days.values())[-1].held
        click.echo(f"{currency}        {money_text(currency, figures.opening[currency])} at first")
        for kind in TransactionType:
            total = figures.total(currency, kind)
            if total.count:
                amount = money_text(currency, total.minor_units)
                click.echo(f"           {amount:>24}  {total.count} {kind.value.lower()}s")
        click.echo(f"           {money_text(currency, held):>24}  held at the end")
    for (gateway, method), states in sorted(figures.outcomes.items()):
        credited, ended = success_rate(states)
        click.echo(f"top-ups    {gateway} {method}: {credited} of {ended} that ended were credited")
    if not figures.days:
        click.echo("Nothing has moved until then.")
