"""`wallet-payment reconcile`: a gateway's books against ours."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

import aiohttp
import click

from server.cli.operate import encryption_of, loaded_settings, opened_database, operator_settings
from server.config import Settings, SettingsError
from server.gateways import gateways
from server.ledger.money import Money
from server.reconcile import Discrepancy, Reconciliation
from server.reconcile import reconcile as compare
from server.store.queries import MongoGatewayRecords

_ROW = "{:<14}  {:<8}  {:<24}  {:>16}  {:>16}  {:<25}  {}"
_DATE = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.command()
@click.option("--gateway", "gateway_name", required=True, help="Such as razorpay.")
@click.option("--from", "start", required=True, type=_DATE, help="From this time on, UTC.")
@click.option("--to", "end", required=True, type=_DATE, help="Before this time, UTC.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reconcile(gateway_name: str, start: datetime, end: datetime, as_json: bool) -> None:
    """Compare a gateway's payments and refunds with the ledger.

    Exit status 1 says that they differ, 2 that they could not be compared.
    """
    if start >= end:
        raise click.UsageError("--from must be before --to.")
    settings = operator_settings(loaded_settings())
    result = asyncio.run(_run(settings, gateway_name, _time_ms(start), _time_ms(end)))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "compared": result.compared,
                    "discrepancies": [_as_json(one) for one in result.discrepancies],
                },
                indent=2,
            )
        )
    else:
        _print_table(result)
    if result.discrepancies:
        sys.exit(1)


async def _run(settings: Settings, name: str, start_ms: int, end_ms: int) -> Reconciliation:
    async with aiohttp.ClientSession() as session, opened_database(settings) as database:
        gateway = gateways(settings, session).get(name)
        if gateway is None:
            raise SettingsError(f"There are no credentials for a gateway {name} here.")
        return await compare(
            gateway, MongoGatewayRecords(database, encryption_of(settings)), start_ms, end_ms
        )


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
