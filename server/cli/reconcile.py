"""`wallet-payment reconcile`: a gateway's books against ours."""

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import click

from gateway_adapters.gateway import Gateway, GatewayError
from gateway_adapters.guarded_session import guarded_session
from server.cli.operate import (
    encryption_of,
    loaded_settings,
    opened_database,
    opened_ledger,
    operator_settings,
)
from server.commit.committer import wall_clock_ms
from server.config import Settings, SettingsError
from server.gateways import gateways, outbound_hosts
from server.ledger.money import Money
from server.reconcile import Discrepancy, Kind, Reconciliation
from server.reconcile import reconcile as compare
from server.store.connection import Database
from server.store.queries import MongoGatewayRecords, MongoQueries
from server.store.standing import MongoStanding
from server.told import ToldInWords
from server.topups import Topups
from server.wallet_tokens import WalletTokens

_ROW = "{:<14}  {:<8}  {:<24}  {:>16}  {:>16}  {:<25}  {}"
_DATE = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


class NotCompared(ToldInWords):
    """The gateway did not tell its books; the message says why."""


class _Applied(NamedTuple):
    """Something that took effect now, and what came of it."""

    what: str
    gateway_id: str
    outcome: str


@click.command()
@click.option("--gateway", "gateway_name", required=True, help="Such as razorpay.")
@click.option(
    "--from", "start", type=_DATE, help="From then on, UTC.  [default: a day before --to]"
)
@click.option("--to", "end", type=_DATE, help="Before this time, UTC.  [default: today, 0:00]")
@click.option(
    "--apply",
    "applies",
    is_flag=True,
    help="Let what is MISSING_HERE take effect, as its webhook would have; then compare again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reconcile(
    gateway_name: str,
    start: datetime | None,
    end: datetime | None,
    applies: bool,
    as_json: bool,
) -> None:
    """Compare a gateway's payments and refunds with the ledger; without a time, those of yesterday.

    Exit status 1 says that they differ, 2 that they could not be compared.
    """
    end = end or datetime.now(UTC).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    start = start or end - timedelta(days=1)
    if start >= end:
        raise click.UsageError("--from must be before --to.")
    settings = operator_settings(loaded_settings())
    window = (_time_ms(start), _time_ms(end))
    applied: list[_Applied] = []
    try:
        if applies:
            result, applied = asyncio.run(_run_and_apply(settings, gateway_name, *window))
        else:
            result = asyncio.run(_run(settings, gateway_name, *window))
    except GatewayError as error:
        raise NotCompared(f"nothing was compared. {error}") from error
    if as_json:
        click.echo(
            json.dumps(
                {
                    "applied": [one._asdict() for one in applied],
                    "compared": result.compared,
                    "discrepancies": [_as_json(one) for one in result.discrepancies],
                },
                indent=2,
            )
        )
    else:
        for one in applied:
            click.echo(f"applied {one.what} {one.gateway_id}: {one.outcome}")
        _print_table(result)
    if result.discrepancies:
        sys.exit(1)


async def _run(settings: Settings, name: str, start_ms: int, end_ms: int) -> Reconciliation:
    async with (
        guarded_session(outbound_hosts(settings)) as session,
        opened_database(settings) as database,
    ):
        gateway = _found(gateways(settings, session), name)
        result = await compare(
            gateway, MongoGatewayRecords(database, encryption_of(settings)), start_ms, end_ms
        )
        await _note(database, name, result)
        return result


async def _run_and_apply(
    settings: Settings, name: str, start_ms: int, end_ms: int
) -> tuple[Reconciliation, list[_Applied]]:
    """Compare, apply what the ledger has not heard of, and compare once more."""
    async with (
        guarded_session(outbound_hosts(settings)) as session,
        opened_ledger(settings) as (database, committer),
    ):
        known = gateways(settings, session)
        encryption = encryption_of(settings)
        gateway, records = _found(known, name), MongoGatewayRecords(database, encryption)
        tokens = WalletTokens(committer, {}, wall_clock_ms)
        topups = Topups(
            committer,
            MongoQueries(database, encryption),
            known,
            {},
            tokens,
            wall_clock_ms,
            _no_webhooks,
        )
        first = await compare(gateway, records, start_ms, end_ms)
        applied = []
        for one in first.discrepancies:
            if one.kind is not Kind.MISSING_HERE or one.told is None:
                continue
            outcome = await topups.take_movement(name, one.told)
            if outcome is not None:
                applied.append(_Applied(*one.moved, outcome.value))
        result = await compare(gateway, records, start_ms, end_ms)
        await _note(database, name, result)
        return result, applied


async def _note(database: Database, name: str, result: Reconciliation) -> None:
    """Keep how many differences there were, for the metrics."""
    differences = len(result.discrepancies)
    await MongoStanding(database).note_reconciliation(name, wall_clock_ms(), differences)


def _found(known: Mapping[str, Gateway], name: str) -> Gateway:
    gateway = known.get(name)
    if gateway is None:
        raise SettingsError(f"There are no credentials for a gateway {name} here.")
    return gateway


def _no_webhooks(_gateway: str, _outcome: str) -> None:
    """Count none: none comes to a command."""


def _print_table(result: Reconciliation) -> None:
    if result.discrepancies:
        click.echo(_ROW.format("KIND", "WHAT", "GATEWAY ID", "HERE", "THERE", "TIME", "TOP-UP"))
    for one in result.discrepancies:
        here, there = _text(one.here), _text(one.there)
        what, gateway_id = one.moved
        click.echo(
            _ROW.format(one.kind, what, gateway_id, here, there, _time(one.time_ms), one.topup_id)
        )
    differing = len(result.discrepancies)
    click.echo(
        f"{result.compared} compared: "
        + (f"{differing} differ" if differing else "the gateway and the ledger agree")
    )


def _as_json(one: Discrepancy) -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "what": one.moved.what,
        "gateway_id": one.moved.gateway_id,
        "here": _money(one.here),
        "there": _money(one.there),
        "time": _time(one.time_ms),
        "topup_id": one.topup_id,
    }


def _money(money: Money | None) -> dict[str, str | int] | None:
    if money is None:
        return None
    return {"currency_code": money.currency_code, "minor_units": money.minor_units}


def _text(money: Money | None) -> str:
    return "-" if money is None else str(money)


def _time_ms(time: datetime) -> int:
    return round(time.replace(tzinfo=UTC).timestamp()) * 1_000


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="seconds")
