"""How operators' commands take and tell amounts and times, the same in each of them."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from server.ledger.money import Money, is_currency

DATE: Final = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
"""A day or a time of an option, UTC."""


def new_file(_: click.Context, __: click.Parameter, file: Path | None) -> Path | None:
    """Check, before any work is done, that the file of an option can be made.

    Raises:
        click.BadParameter.
    """
    if file is not None and not os.access(file.parent, os.W_OK | os.X_OK):
        raise click.BadParameter(f"the folder {file.parent} is not there or cannot be written to.")
    return file


def amount(text: str) -> Money:
    """Read an amount as it is typed: a currency and minor units, `INR:50000`.

    Raises:
        click.BadParameter.
    """
    currency, _, minor_units = text.partition(":")
    if not is_currency(currency) or not (minor_units.isascii() and minor_units.isdecimal()):
        raise click.BadParameter("takes a currency and minor units, such as INR:50000.")
    return Money(currency, int(minor_units))


def time_ms_of(time: datetime) -> int:
    """Return what an option of the type `DATE` says, in milliseconds since the epoch."""
    return round(time.replace(tzinfo=UTC).timestamp()) * 1_000


def time_text(time_ms: int) -> str:
    """Write a time, UTC."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")


def money_text(currency_code: str, minor_units: int) -> str:
    """Write an amount for people, also of what is no currency: an order may hold anything."""
    if is_currency(currency_code):
        return str(Money(currency_code, minor_units))
    return f"{minor_units} {currency_code}".rstrip()


def money_json(money: Money) -> dict[str, Any]:
    """Write an amount for programs."""
    return {"currency_code": money.currency_code, "minor_units": money.minor_units}


def one_line(text: str) -> str:
    """Return a text as it stands in a line of a terminal, whoever wrote it.

    Line breaks would add lines that nobody wrote, and escapes can hide those that stand there.
    """
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def print_json(content: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print a command's answer for programs."""
    click.echo(json.dumps(content, indent=2))


def print_fields(fields: dict[str, Any]) -> None:
    """Print names and values, a line each; what is empty is left out."""
    for name, value in fields.items():
        if value not in {None, ""}:
            click.echo(f"{name:<18} {one_line(str(value))}")
