"""`wallet-payment outgoing`: what the receiver of outgoing webhooks did not take."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from gateway_adapters.guarded_session import guarded_session
from server.app import receiver
from server.cli.answers import print_json
from server.cli.operate import encryption_of, loaded_settings, opened_database
from server.config import Settings
from server.deliveries import DeadLetter, Deliveries
from server.gateways import outbound_hosts
from server.store.outgoing import MongoDeliveries
from server.told import ToldInWords

_MOST: int = 1_000


class NotTaken(ToldInWords):
    """A dead letter is not there, or the receiver does not take it; the message says why."""


@click.group()
def outgoing() -> None:
    """Look after outgoing webhooks that their receiver did not take: list, replay."""


@outgoing.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _MOST))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_letters(limit: int, as_json: bool) -> None:
    """List dead letters, oldest first."""

    async def run() -> Sequence[DeadLetter]:
        settings = loaded_settings()
        async with opened_database(settings) as database:
            return await MongoDeliveries(database, encryption_of(settings)).buried(limit)

    letters = [_told(letter) for letter in asyncio.run(run())]
    if as_json:
        print_json(letters)
        return
    for letter in letters:
        click.echo("  ".join(letter.values()))
    click.echo(f"{len(letters)} dead letters" if letters else "there are no dead letters")


@outgoing.command()
@click.argument("event_ids", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Replay every dead letter, oldest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(event_ids: tuple[str, ...], is_all: bool, as_json: bool) -> None:
    """Post dead letters once more, each with its own id; what is taken is no dead letter any more.

    It stops at the first one that is not taken.
    """
    if bool(event_ids) == is_all:
        raise click.UsageError("Name events, or give --all.")
    settings = loaded_settings()
    if not settings.outgoing_webhook_url:
        raise click.UsageError("WALLET_OUTGOING_WEBHOOK_URL is not set: nobody would be posted to.")
    taken = asyncio.run(_replay(settings, event_ids))
    if as_json:
        print_json({"taken": taken})
        return
    click.echo(f"{taken} taken")


async def _replay(settings: Settings, event_ids: Sequence[str]) -> int:
    target = receiver(settings)
    taken = 0
    async with (
        opened_database(settings) as database,
        guarded_session(outbound_hosts(settings)) as session,
    ):
        deliveries = MongoDeliveries(database, encryption_of(settings))
        while letters := await _letters(deliveries, event_ids[taken:], is_all=not event_ids):
            for letter in letters:
                attempt = await target.post(session, letter.event_id, letter.body)
                if not attempt.is_taken:
                    raise NotTaken(
                        f"{letter.event_id} was not taken: {attempt.problem}. {taken} were."
                    )
                await deliveries.revived(letter.event_id)
                taken += 1
    return taken


async def _letters(
    deliveries: Deliveries, event_ids: Sequence[str], *, is_all: bool
) -> Sequence[DeadLetter]:
    """Return the next dead letters to be posted."""
    if is_all:
        return await deliveries.buried(_MOST)
    letters = []
    for event_id in event_ids:
        letter = await deliveries.dead_letter(event_id)
        if letter is None:
            raise NotTaken(f"There is no dead letter {event_id}.")
        letters.append(letter)
    return letters


def _told(letter: DeadLetter) -> dict[str, str]:
    return {
        "event_id": letter.event_id,
        "customer_id": letter.customer_id,
        "problem": letter.problem,
        "fail_time": datetime.fromtimestamp(letter.fail_time_ms / 1_000, UTC).isoformat(),
    }
