"""`wallet-payment review`: what could not be applied, settled by a person."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from server.cli.answers import one_line
from server.cli.operate import (
    encryption_of,
    loaded_settings,
    opened_database,
    opened_ledger,
    operator_name,
)
from server.commit.committer import Committer
from server.commit.errors import Rejected
from server.ledger.commands import AdjustWallet, DismissEvent, TieToTopup
from server.ledger.decisions import EventReply
from server.ledger.money import Money, is_currency
from server.ledger.records import EventMoney, EventOutcome, GatewayEvent
from server.store.queries import MongoGatewayRecords, MongoQueries
from server.told import ToldInWords

_MOST: Final = 1_000


class ReviewRefused(ToldInWords):
    """The event cannot be settled so; the message says why."""


@click.group()
def review() -> None:
    """Settle what a gateway reported and could not be applied: list, show, resolve."""


@review.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _MOST))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_events(limit: int, as_json: bool) -> None:
    """List the events that wait, oldest first."""

    async def run() -> list[GatewayEvent]:
        settings = loaded_settings()
        async with opened_database(settings) as database:
            return await MongoGatewayRecords(database, encryption_of(settings)).waiting(limit)

    events = asyncio.run(run())
    if as_json:
        click.echo(json.dumps([_as_json(event) for event in events], indent=2))
        return
    if not events:
        click.echo("nothing waits for review")
        return
    for same in _about_the_same(events):
        click.echo(_paragraph(same))
    if len(events) == limit:
        click.echo(f"These are the oldest {limit}; there may be more: --limit {_MOST} shows them.")
    click.echo("What came, and what can be done: wallet-payment review show EVENT_KEY")


@review.command()
@click.argument("event_key")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(event_key: str, as_json: bool) -> None:
    """Show an event whole: why it waits, what came, and what can be done."""

    async def run() -> GatewayEvent:
        settings = loaded_settings()
        async with opened_database(settings) as database:
            return await _event(MongoGatewayRecords(database, encryption_of(settings)), event_key)

    event = asyncio.run(run())
    if as_json:
        click.echo(json.dumps(_as_json(event) | {"body": _body(event)}, indent=2))
        return
    for name, value in _as_json(event).items():
        click.echo(f"{name:<20} {one_line(str(value))}")
    click.echo(f"\n{_body(event)}\n")
    if event.outcome is EventOutcome.NEEDS_REVIEW:
        click.echo(_what_to_do(event))


@review.command()
@click.argument("event_key")
@click.option("--topup", "topup_id", help="Credit this top-up with the event's payment.")
@click.option("--credit", nargs=2, metavar="CUSTOMER AMOUNT", help="Move AMOUNT to a wallet.")
@click.option("--dismiss", is_flag=True, help="Settle it without moving money.")
@click.option("--why", required=True, help="The reason; it is kept with the event.")
@click.option("--by", default=operator_name, show_default="you", help="Who decides; kept with it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def resolve(
    event_key: str,
    topup_id: str | None,
    credit: tuple[str, str] | None,
    dismiss: bool,
    why: str,
    by: str,
    as_json: bool,
) -> None:
    """Settle an event, once, and with it all others that tell of the same.

    AMOUNT is a currency and minor units, such as INR:50000; negative takes from the wallet. It is
    no more than what the event tells of.
    """
    if not why.strip() or not by.strip():
        raise click.UsageError("Say why with --why, and who decides with --by: both are kept.")
    if sum((topup_id is not None, credit is not None, dismiss)) != 1:
        raise click.UsageError("Give exactly one of --topup, --credit and --dismiss.")
    amount = _money(credit[1]) if credit is not None else None

    async def run() -> tuple[str, list[str]]:
        settings = loaded_settings()
        encryption = encryption_of(settings)
        async with opened_ledger(settings) as (database, committer):
            records = MongoGatewayRecords(database, encryption)
            event = await _event(records, event_key)
            command: TieToTopup | AdjustWallet | DismissEvent
            if topup_id is not None:
                command = await _tie(MongoQueries(database, encryption), event, topup_id, by, why)
            elif credit is not None and amount is not None:
                command = AdjustWallet(event_key, event.settlement_key, credit[0], amount, by, why)
            else:
                command = DismissEvent(event_key, by, why)
            try:
                reply = await committer.submit(command)
            except Rejected as error:
                raise ReviewRefused(error.rejection.message) from None
            assert isinstance(reply, EventReply)  # noqa: S101 - what these commands reply
            also = await _settle_others(records, committer, event, by)
            settled = (await _event(records, event_key)).resolution
            assert settled is not None  # noqa: S101 - it was just settled
            return settled.transaction_id, also

    transaction_id, also = asyncio.run(run())
    if as_json:
        click.echo(json.dumps({"transaction_id": transaction_id, "resolved_too": also}, indent=2))
        return
    click.echo(f"resolved{f' by transaction {transaction_id}' if transaction_id else ''}")
    for key in also:
        click.echo(f"resolved too, since it tells of the same: {key}")


async def _event(records: MongoGatewayRecords, key: str) -> GatewayEvent:
    event = await records.event(key)
    if event is None:
        raise ReviewRefused(f"There is no event {key}; `wallet-payment review list` names them.")
    return event


async def _settle_others(
    records: MongoGatewayRecords, committer: Committer, event: GatewayEvent, by: str
) -> list[str]:
    """Take the other events about the same off the list; return their keys.

    Where that stops half-way, nothing is lost: what is settled cannot be settled again with money.
    """
    settled = []
    for other in await records.waiting_about_the_same(event):
        key = other.received.key
        try:
            await committer.submit(DismissEvent(key, by, f"Settled with {event.received.key}."))
        except Rejected:
            continue  # somebody else was faster
        settled.append(key)
    return settled


async def _tie(
    queries: MongoQueries, event: GatewayEvent, topup_id: str, by: str, why: str
) -> TieToTopup:
    topup = await queries.topup_by_id(event.received.gateway, topup_id)
    if topup is None:
        raise ReviewRefused(f"There is no top-up {topup_id} of {event.received.gateway}.")
    return TieToTopup(
        event_key=event.received.key,
        gateway=event.received.gateway,
        payment_id=event.gateway_payment_id,
        customer_id=topup.customer_id,
        topup_id=topup_id,
        pay_order_id=topup.pay_order.order_id if topup.pay_order else "",
        by=by,
        why=why,
    )


def _money(text: str) -> Money:
    currency, _, minor_units = text.partition(":")
    if not is_currency(currency) or not minor_units.removeprefix("-").isdecimal():
        raise click.UsageError("AMOUNT is a currency and minor units, such as INR:50000.")
    return Money(currency, int(minor_units))


def _about_the_same(events: Iterable[GatewayEvent]) -> list[list[GatewayEvent]]:
    """Put together what one resolution settles, in the order of the first of each."""
    groups: dict[object, list[GatewayEvent]] = {}
    for event in events:
        groups.setdefault(event.settlement_key or event.received.key, []).append(event)
    return list(groups.values())


def _paragraph(same: Sequence[GatewayEvent]) -> str:
    """Tell in a few lines what waits and why."""
    event, *others = same
    names = (
        ("payment", event.gateway_payment_id),
        ("reversal", event.gateway_reversal_id),
        ("top-up", event.topup_id),
        ("customer", event.customer_id),
    )
    told = [
        _time(event.received.receive_time_ms),
        event.received.event_type,
        str(event.amount or ""),
        *(f"{what} {name}" for what, name in names if name),
    ]
    lines = [event.received.key, f"    {'  '.join(filter(None, told))}", f"    {event.reason}"]
    lines += [f"    The same is told by {other.received.key}" for other in others]
    return "\n".join(map(one_line, lines))


def _what_to_do(event: GatewayEvent) -> str:
    """Tell which resolutions the event can have, ready to be pasted."""
    resolve = f"  wallet-payment review resolve {event.received.key}"
    customer = event.customer_id or "CUSTOMER"
    lines = ['What can be done, once, each with --why "..." :']
    if event.money is EventMoney.CAPTURED:
        lines.append(f"{resolve} --topup TOPUP_ID\n      the payment was for this top-up")
    if event.amount is not None and event.money is not EventMoney.NONE:
        is_taken = event.money is EventMoney.TAKEN
        amount = f"{'-' if is_taken else ''}{event.amount.minor_units}"
        what = "take what the gateway took from a" if is_taken else "put the money into a"
        credit = f"--credit {customer} {event.amount.currency_code}:{amount}"
        lines.append(f"{resolve} {credit}\n      {what} wallet, or less of it")
    lines.append(f"{resolve} --dismiss\n      no wallet is concerned, or it was settled elsewhere")
    return "\n".join(lines)


def _as_json(event: GatewayEvent) -> dict[str, Any]:
    found: dict[str, Any] = {
        "event_key": event.received.key,
        "event_type": event.received.event_type,
        "outcome": event.outcome.value,
        "reason": event.reason,
        "amount": str(event.amount) if event.amount else "",
        "gateway_order_id": event.gateway_order_id,
        "gateway_payment_id": event.gateway_payment_id,
        "gateway_reversal_id": event.gateway_reversal_id,
        "money": event.money.value,
        "customer_id": event.customer_id,
        "topup_id": event.topup_id,
        "receive_time": _time(event.received.receive_time_ms),
    }
    if event.resolution is not None:
        found |= {
            "resolved_by": event.resolution.by,
            "resolved_why": event.resolution.why,
            "resolved_time": _time(event.resolution.time_ms),
            "transaction_id": event.resolution.transaction_id,
        }
    return found


def _body(event: GatewayEvent) -> str:
    return event.received.body.decode("utf-8", "replace")


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")
