"""`wallet-payment audit`: who asked for what, and whether the record of it is whole."""

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import click

from server.audit import AuditEntry
from server.audit_chain import AuditDifference
from server.cli.answers import one_line
from server.cli.operate import loaded_settings, opened_database
from server.store.audit_records import AuditFilter, AuditReport, MongoAuditRecords

_MOST: Final = 10_000
_DIFFERS: Final = 1


class _Moment(click.ParamType[int]):
    """A time: ISO 8601, in UTC where it names no other zone."""

    name = "time"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - whatever click hands over
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Return milliseconds since 1970."""
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                "takes a date or a time, such as 2026-11-01 or 2026-11-01T12:30:00", param, ctx
            )
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000)


@click.group()
def audit() -> None:
    """Search the record of all calls, and prove that it is whole."""


@audit.command()
@click.option("--caller", default="", help="The calling service.")
@click.option("--customer", "customer_id", default="", help="The customer's id.")
@click.option("--order", "order_id", default="", help="The order's id.")
@click.option("--method", default="", help="Such as PayWithWallet.")
@click.option("--outcome", "code", default="", help="The status code, such as OK or NOT_FOUND.")
@click.option("--reason", default="", help="Such as TOKEN_INVALID.")
@click.option("--correlation-id", default="", help="That of one call.")
@click.option("--from", "start_ms", type=_Moment(), help="ISO 8601, in UTC.")
@click.option("--to", "end_ms", type=_Moment(), help="Before this.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, _MOST))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each entry.")
def search(limit: int, as_json: bool, **wanted: Any) -> None:  # noqa: ANN401 - options as they are
    """List calls, newest first: those that fit all of the options.

    Exit status 1 says that there are none.
    """

    async def run() -> list[AuditEntry]:
        async with opened_database(loaded_settings()) as database:
            return await MongoAuditRecords(database).search(AuditFilter(**wanted), limit)

    entries = asyncio.run(run())
    for entry in entries:
        click.echo(json.dumps(_as_json(entry)) if as_json else _line(entry))
    if not entries:
        click.echo("no call fits", err=True)
        sys.exit(_DIFFERS)
    if len(entries) == limit:
        click.echo(f"These are the newest {limit}; there may be more: --limit, --to.", err=True)


@audit.command()
@click.option("--noted", default="", help="The last hash of an earlier proof: is it still there?")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each difference.")
def verify(noted: str, as_json: bool) -> None:
    """Recompute the audit's chain, and name each entry that was altered, moved or removed.

    Calls go on meanwhile. Exit status 1 says that something differs.
    """
    report = asyncio.run(_verify(noted, as_json))
    click.echo(json.dumps({"report": asdict(report)}) if as_json else _summary(report))
    if report.differences:
        sys.exit(_DIFFERS)


async def _verify(noted: str, as_json: bool) -> AuditReport:
    report = AuditReport()
    async with opened_database(loaded_settings()) as database:
        async for difference in MongoAuditRecords(database).verify(report, noted):
            click.echo(_told(difference, as_json))
    return report


def _told(difference: AuditDifference, as_json: bool) -> str:
    if as_json:
        return json.dumps({"difference": asdict(difference)})
    return one_line(f"{difference.place}: {difference.problem}")


def _summary(report: AuditReport) -> str:
    lines = [
        f"{report.entries} entries in {report.segments} segments: "
        + (f"{report.differences} differences" if report.differences else "all as written")
    ]
    if report.open_segments:
        lines.append(
            f"{report.open_segments} segments have no end: their servers run, or were killed; "
            "entries after the last one cannot be proven to be missing."
        )
    if report.unchained:
        lines.append(f"{report.unchained} entries are not in the chain: an earlier release's.")
    if report.last_hash:
        lines.append(f"last hash {report.last_hash}")
    return "\n".join(lines)


def _line(entry: AuditEntry) -> str:
    told = [
        _time(entry.time_ms),
        entry.method,
        entry.code + (f" {entry.reason}" if entry.reason else ""),
        f"caller {entry.caller or '-'}",
        f"from {entry.peer or '-'}",
        *(
            f"{what} {name}"
            for what, name in (("customer", entry.customer_id), ("order", entry.order_id))
            if name
        ),
        f"{entry.duration_us / 1_000:.1f} ms",
        entry.correlation_id,
    ]
    return one_line("  ".join(told))


def _as_json(entry: AuditEntry) -> dict[str, Any]:
    return {"time": _time(entry.time_ms)} | asdict(entry)


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")
