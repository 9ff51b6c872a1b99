"""A wallet's statement, and the forms in which it is written, entry by entry."""

import csv
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Protocol

import click

from server.cli.answers import money_text, time_text
from server.cli.page import facts, page_end, page_start, table_end, table_row, table_start
from server.cli.svg import Line, line_plot
from server.ledger.records import Transaction, TransactionType, WalletKey
from server.reports import Sum, day_of
from server.told import ToldInWords

_PLOT_COLUMNS: Final = 600
_PLOT_DATES: Final = 5
_ROW: Final = "{:<29}  {:>8}  {:<10}  {:<34}  {:>18}  {:>18}"
_NAMES: Final = {kind: kind.value.lower() for kind in TransactionType} | {
    TransactionType.TOPUP: "top-up"
}
_COLUMNS: Final = ("Time (UTC)", "No.#", "What", "Of", "Amount#", "Balance#")


class StatementBroken(ToldInWords):
    """The entries do not follow each other; the message says what to do."""


@dataclass(slots=True)
class Statement:
    """What a statement comes to. `closing` is the balance after the last entry so far."""

    wallet: WalletKey
    start_time_ms: int
    end_time_ms: int
    opening: int
    closing: int
    sums: dict[TransactionType, Sum] = field(default_factory=dict)

    def add(self, entry: Transaction) -> None:
        """Take in the next entry.

        Raises:
            StatementBroken.
        """
        self.closing += entry.amount
        if entry.balance_after != self.closing:
            raise StatementBroken(
                f"The balance after {entry.transaction_id} is {entry.balance_after}, and the "
                f"entries before it come to {self.closing}: run `wallet-payment books verify`."
            )
        self.sums.setdefault(entry.type, Sum()).add(entry.amount)

    def money(self, minor_units: int) -> str:
        """Write an amount of this wallet."""
        return money_text(self.wallet.currency_code, minor_units)

    def summary(self) -> dict[str, Any]:
        """Return what it comes to, for programs."""
        return {
            "customer_id": self.wallet.customer_id,
            "currency_code": self.wallet.currency_code,
            "start_time": time_text(self.start_time_ms),
            "end_time": time_text(self.end_time_ms),
            "opening_minor_units": self.opening,
            "closing_minor_units": self.closing,
            "sums": {
                kind.value: {"count": one.count, "minor_units": one.minor_units}
                for kind, one in sorted(self.sums.items())
            },
        }


class Writer(Protocol):
    """Who writes a statement in one form, entry by entry."""

    def begin(self, statement: Statement) -> None:
        """Write what comes before the entries."""

    def entry(self, statement: Statement, entry: Transaction) -> None:
        """Write an entry, which the statement has taken in."""

    def end(self, statement: Statement) -> None:
        """Write what comes after the entries."""


class Table:
    """A table for people."""

    def begin(self, statement: Statement) -> None:
        """Print the head and the opening balance."""
        click.echo(_ROW.format("TIME", "NO.", "WHAT", "OF", "AMOUNT", "BALANCE"))
        opening = statement.money(statement.opening)
        click.echo(_ROW.format(time_text(statement.start_time_ms), "", "opening", "", "", opening))

    def entry(self, statement: Statement, entry: Transaction) -> None:
        """Print a row."""
        click.echo(_ROW.format(*_row(statement, entry)))

    def end(self, statement: Statement) -> None:
        """Print the closing balance."""
        closing = statement.money(statement.closing)
        click.echo(_ROW.format(time_text(statement.end_time_ms), "", "closing", "", "", closing))


class Csv:
    """CSV for spreadsheets: amounts in minor units and in major ones."""

    _FIELDS: Final = (
        *("time", "sequence", "transaction_id", "type", "order_id", "topup_id", "refund_id"),
        *("gateway", "gateway_payment_id", "currency_code", "amount_minor_units", "amount"),
        *("balance_minor_units", "balance", "hash"),
    )

    def begin(self, _: Statement) -> None:
        """Print the names of the columns."""
        click.echo(_csv_line(self._FIELDS), nl=False)

    def entry(self, statement: Statement, entry: Transaction) -> None:
        """Print a row."""
        values = _fields(entry) | {
            "amount": statement.money(entry.amount).rpartition(" ")[2],
            "balance": statement.money(entry.balance_after).rpartition(" ")[2],
        }
        click.echo(_csv_line([values[name] for name in self._FIELDS]), nl=False)

    def end(self, _: Statement) -> None:
        """Nothing comes after the rows."""


class JsonLines:
    """A line of JSON for each entry, and one with what it comes to."""

    def begin(self, _: Statement) -> None:
        """Nothing comes before the entries."""

    def entry(self, _: Statement, entry: Transaction) -> None:
        """Print an entry."""
        click.echo(json.dumps({"entry": _fields(entry)}))

    def end(self, statement: Statement) -> None:
        """Print what it comes to."""
        click.echo(json.dumps({"statement": statement.summary()}))


class Page:
    """A page for people, with a plot; its rows wait in a file meanwhile, not in memory."""

    def __init__(self, file: Path, rows: IO[str]) -> None:
        self._file = file
        self._rows = rows
        self._plot = _BalancePlot()

    def begin(self, statement: Statement) -> None:
        """Start the plot with the opening balance."""
        self._plot.add(statement, statement.start_time_ms, statement.opening)

    def entry(self, statement: Statement, entry: Transaction) -> None:
        """Take in an entry."""
        self._plot.add(statement, entry.create_time_ms, entry.balance_after)
        _, *others = _row(statement, entry)
        self._rows.write(table_row(_COLUMNS, (_readable(entry.create_time_ms), *others)))

    def end(self, statement: Statement) -> None:
        """Write the page, whole or not at all."""
        self._plot.add(statement, statement.end_time_ms, statement.closing)
        beside = self._file.with_name(f"{self._file.name}.new")
        with beside.open("w", encoding="utf-8") as opened:
            opened.write(_page_head(statement))
            opened.write(self._plot.drawn(statement))
            opened.write("<h2>Entries</h2>\n" + table_start(_COLUMNS))
            self._rows.seek(0)
            shutil.copyfileobj(self._rows, opened)
            opened.write(table_end() + page_end())
        beside.replace(self._file)
        click.echo(f"{self._file}: {statement.money(statement.closing)} at the end")


class _BalancePlot:
    """A balance over time in a bounded number of columns, each with its extremes and its end."""

    def __init__(self) -> None:
        self._columns: dict[int, list[int]] = {}
        self._places: dict[int, float] = {}

    def add(self, statement: Statement, time_ms: int, balance: int) -> None:
        """Take in the balance from a time on."""
        length_ms = statement.end_time_ms - statement.start_time_ms
        place = (time_ms - statement.start_time_ms) / length_ms
        column = int(place * _PLOT_COLUMNS)
        lowest, highest, _ = self._columns.get(column, [balance] * 3)
        self._columns[column] = [min(lowest, balance), max(highest, balance), balance]
        self._places[column] = place

    def drawn(self, statement: Statement) -> str:
        """Draw it."""
        points = [
            (self._places[column], value)
            for column, values in self._columns.items()
            for value in dict.fromkeys(values)
        ]
        length_ms = statement.end_time_ms - statement.start_time_ms
        days = [
            day_of(statement.start_time_ms + number * length_ms // _PLOT_DATES)
            for number in range(_PLOT_DATES + 1)
        ]
        line = Line("balance", points, is_stepped=True)
        return "<h2>Balance</h2>\n" + line_plot("Balance", [line], days, statement.money)


def _page_head(statement: Statement) -> str:
    wallet = statement.wallet
    title = f"Wallet of {wallet.customer_id} in {wallet.currency_code}"
    start, end = map(_readable, (statement.start_time_ms, statement.end_time_ms))
    about = f"{start} to {end}, UTC"
    sums = {
        f"{_NAMES[kind]}s ({one.count})": statement.money(one.minor_units)
        for kind, one in sorted(statement.sums.items())
    }
    opening, closing = statement.money(statement.opening), statement.money(statement.closing)
    return page_start(title, about) + facts({"opening": opening} | sums | {"closing": closing})


def _readable(time_ms: int) -> str:
    return time_text(time_ms).removesuffix("+00:00").replace("T", " ")


def _row(statement: Statement, entry: Transaction) -> tuple[str, ...]:
    of_what = entry.order_id or entry.topup_id or entry.gateway_payment_id
    return (
        time_text(entry.create_time_ms),
        str(entry.sequence),
        _NAMES[entry.type],
        of_what,
        statement.money(entry.amount),
        statement.money(entry.balance_after),
    )


def _fields(entry: Transaction) -> dict[str, Any]:
    return {
        "time": time_text(entry.create_time_ms),
        "sequence": entry.sequence,
        "transaction_id": entry.transaction_id,
        "type": entry.type.value,
        "order_id": entry.order_id,
        "topup_id": entry.topup_id,
        "refund_id": entry.refund_id,
        "gateway": entry.gateway,
        "gateway_payment_id": entry.gateway_payment_id,
        "currency_code": entry.currency_code,
        "amount_minor_units": entry.amount,
        "balance_minor_units": entry.balance_after,
        "hash": entry.hash,
    }


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
