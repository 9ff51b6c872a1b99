"""Files of wallets to bring in: CSV with `customer_id,currency_code,minor_units`, a wallet a line.

A file is read whole and refused whole: with the first lines that are wrong, and before anything of
it was written.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.ledger.money import MAX_AMOUNT_MINOR_UNITS, Money, is_currency
from server.told import ToldInWords

COLUMNS: Final = ("customer_id", "currency_code", "minor_units")
MAX_WALLETS: Final = 1_000_000
_MAX_CUSTOMER_CHARACTERS: Final = 128
_MOST_PROBLEMS: Final = 20


class BadWalletFile(ToldInWords):
    """The file cannot be brought in; the message names its lines and what is wrong with each."""


@dataclass(frozen=True, slots=True)
class WalletToImport:
    """What an earlier system holds for a customer in a currency."""

    customer_id: str
    amount: Money

    @property
    def name(self) -> str:
        """What names the wallet: it comes in once, whatever is in the file by then."""
        return f"{self.customer_id}:{self.amount.currency_code}"


def read_wallet_file(file: Path) -> list[WalletToImport]:
    """Return the wallets of a file.

    Raises:
        BadWalletFile: nothing of it is to be used.
    """
    wallets: list[WalletToImport] = []
    problems: list[str] = []
    names: set[str] = set()
    for number, row in _rows(file):
        wallet = _wallet(row)
        if isinstance(wallet, WalletToImport) and wallet.name in names:
            wallet = f"the {wallet.amount.currency_code} wallet of this customer is there twice"
        if isinstance(wallet, str):
            problems.append(f"{file}, line {number}: {wallet}")
            if len(problems) == _MOST_PROBLEMS:
                break
            continue
        names.add(wallet.name)
        wallets.append(wallet)
        if len(wallets) > MAX_WALLETS:
            raise BadWalletFile(f"{file}: has more than {MAX_WALLETS:,} wallets; split it.")
    if problems:
        raise BadWalletFile("\n".join([*problems, "Nothing was written: correct the file."]))
    return wallets


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Go through the lines after the header, with their numbers; empty ones are passed over."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            if tuple(next(reader, ())) != COLUMNS:
                raise BadWalletFile(f"{file}: its first line has to be {','.join(COLUMNS)}.")
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (OSError, UnicodeError, csv.Error):
        raise BadWalletFile(f"{file}: cannot be read as CSV in UTF-8.") from None


def _wallet(row: list[str]) -> WalletToImport | str:
    """Return the wallet of a line, or what is wrong with it."""
    if len(row) != len(COLUMNS):
        return f"has {len(row)} fields instead of {len(COLUMNS)}"
    customer_id, currency_code, minor_units = row
    is_named = customer_id.isprintable() and customer_id == customer_id.strip()
    if not is_named or not 1 <= len(customer_id) <= _MAX_CUSTOMER_CHARACTERS:
        return f"a customer_id has 1 to {_MAX_CUSTOMER_CHARACTERS} characters"
    if not is_currency(currency_code):
        return "currency_code takes a code such as INR"
    if not (minor_units.isascii() and minor_units.isdecimal()):
        return "minor_units takes a whole number, zero or more: what is owed is not brought in"
    if len(minor_units) > len(str(MAX_AMOUNT_MINOR_UNITS)):
        return f"minor_units is {MAX_AMOUNT_MINOR_UNITS:,} at most"
    amount = int(minor_units)
    if amount > MAX_AMOUNT_MINOR_UNITS:
        return f"minor_units is {MAX_AMOUNT_MINOR_UNITS:,} at most"
    return WalletToImport(customer_id, Money(currency_code, amount))
