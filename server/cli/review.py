"""`wallet-payment review`: what could not be applied, settled by a person."""

import asyncio
import getpass
import json
from datetime import UTC, datetime
from typing import Any, Final

import click

from server.cli.operate import opened_database, opened_ledger
from server.commit.errors import Rejected
from server.config import load_settings
from server.ledger.commands import AdjustWallet, DismissEvent, TieToTopup
from server.ledger.decisions import EventReply
from server.ledger.money import Money, is_currency
from server.ledger.records import EventOutcome, GatewayEvent
from server.store.queries import MongoGatewayRecords, MongoQueries

_MOST: Final = 1_000


class ReviewRefused(Exception):
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
        async with opened_database(load_settings()) as database:
            return await MongoGatewayRecords(database).waiting(limit)

    events = asyncio.run(run())
    if as_json:
        click.echo(json.dumps([_as_json(event) for event in events], indent=2))
        return
    if not events:
        click.echo("nothing waits for review")
    for event in events:
        amount = str(event.amount) if event.amount else ""
        click.echo(
            f"{event.received.key}\n    {_time(event.received.receive_time_ms)}  "
            f"{event.received.event_type}  {amount}  {event.gateway_payment_id}\n    {event.reason}"
        )


@review.command()
@click.argument("event_key")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(event_key: str, as_json: bool) -> None:
    """Show an event whole: why it waits, what came, and what can be done."""
    event = asyncio.run(_event(event_key))
    if as_json:
        click.echo(json.dumps(_as_json(event) | {"body": _body(event)}, indent=2))
        return
    for name, value in _as_json(event).items():
        click.echo(f"{name:<20} {value}")
    click.echo(f"\n{_body(event)}\n")
    if event.outcome is EventOutcome.NEEDS_REVIEW:
        click.echo(_WHAT_TO_DO.format(key=event.received.key))


@review.command()
@click.argument("event_key")
@click.option("--topup", "topup_id", help="Credit this top-up with the event's payment.")
@click.option("--credit", nargs=2, metavar="CUSTOMER AMOUNT", help="Move AMOUNT to a wallet.")
@click.option("--dismiss", is_flag=True, help="Settle it without moving money.")
@click.option("--why", required=True, help="The reason; it is kept with the event.")
@click.option("--by", default=getpass.getuser, show_default="you", help="Who decides.")
def resolve(
    event_key: str,
    topup_id: str | None,
    credit: tuple[str, str] | None,
    dismiss: bool,
    why: str,
    by: str,
) -> None:
    """Settle an event, once.

    AMOUNT is a currency and minor units, such as INR:50000; negative takes from the wallet.
    """
    if sum((topup_id is not None, credit is not None, dismiss)) != 1:
        raise click.UsageError("Give exactly one of --topup, --credit and --dismiss.")

    async def run() -> str:
        event = await _event(event_key)
        async with opened_ledger(load_settings()) as (database, committer):
            command: TieToTopup | AdjustWallet | DismissEvent
            if topup_id is not None:
                command = await _tie(MongoQueries(database), event, topup_id, by, why)
            elif credit is not None:
                command = AdjustWallet(
                    event_key=event_key,
                    gateway=event.received.gateway,
                    payment_id=event.gateway_payment_id,
                    customer_id=credit[0],
                    amount=_money(credit[1]),
                    by=by,
                    why=why,
                )
            else:
                command = DismissEvent(event_key, by, why)
            try:
                reply = await committer.submit(command)
            except Rejected as error:
                raise ReviewRefused(error.rejection.message) from None
            assert isinstance(reply, EventReply)  # noqa: S101 - what these commands reply
        settled = (await _event(event_key)).resolution
        assert settled is not None  # noqa: S101 - it was just settled
        return settled.transaction_id

    transaction_id = asyncio.run(run())
    click.echo(f"resolved{f' by transaction {transaction_id}' if transaction_id else ''}")


async def _event(key: str) -> GatewayEvent:
    async with opened_database(load_settings()) as database:
        event = await MongoGatewayRecords(database).event(key)
    if event is None:
        raise ReviewRefused(f"There is no event {key}; `wallet-payment review list` names them.")
    return event


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


def _as_json(event: GatewayEvent) -> dict[str, Any]:
    found: dict[str, Any] = {
        "event_key": event.received.key,
        "event_type": event.received.event_type,
        "outcome": event.outcome.value,
        "reason": event.reason,
        "amount": str(event.amount) if event.amount else "",
        "gateway_order_id": event.gateway_order_id,
        "gateway_payment_id": event.gateway_payment_id,
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


_WHAT_TO_DO: Final = """What can be done, once, with --why "..." :
  wallet-payment review resolve {key} --topup TOPUP_ID             the payment was for this top-up
  wallet-payment review resolve {key} --credit CUSTOMER INR:50000  put the money into a wallet
  wallet-payment review resolve {key} --dismiss                    nothing is owed to a customer"""
