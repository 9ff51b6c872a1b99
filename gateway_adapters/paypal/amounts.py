"""PayPal's amounts: decimal texts in major units, and the ledger's whole minor units. Exact.

Source of the rules: https://developer.paypal.com/api/rest/reference/currency-codes/.

In HUF, JPY and TWD PayPal takes no decimals, although two of them have a minor unit: an amount that
has a part of a forint cannot be told to PayPal, and is refused rather than rounded.
"""

import re
from decimal import Decimal
from typing import Final

from gateway_adapters.wire import JsonObject, Unreadable, as_object
from server.ledger.money import (
    MAX_BALANCE_MINOR_UNITS,
    Money,
    exponent,
    is_currency,
    to_major_units,
)

CURRENCIES: Final = frozenset(
    (
        "AUD",
        "BRL",  # for accounts in Brazil alone
        "CAD",
        "CHF",
        "CNY",  # for accounts in China alone
        "CZK",
        "DKK",
        "EUR",
        "GBP",
        "HKD",
        "HUF",
        "ILS",
        "JPY",
        "MXN",
        "MYR",  # for accounts in Malaysia alone
        "NOK",
        "NZD",
        "PHP",
        "PLN",
        "SEK",
        "SGD",
        "THB",
        "TWD",
        "USD",
    )
)
"""What an account at PayPal can receive. INR is not among it."""

_WITHOUT_DECIMALS: Final = frozenset({"HUF", "JPY", "TWD"})
_MAX_LENGTH: Final = 32
"""Of an amount's text, as PayPal documents it."""
_AMOUNT: Final = re.compile(r"-?(?:[0-9]+|[0-9]*\.[0-9]+)")
"""As PayPal documents it; no exponents, no digits of other scripts."""


class NotExact(Exception):
    """The amount has more decimals than PayPal takes in its currency."""


def to_value(money: Money) -> str:
    """Write an amount as PayPal takes it: `100.00`, and `100` where it takes no decimals.

    Raises:
        NotExact: that would need a part of the smallest unit that PayPal knows.
    """
    value = to_major_units(money)
    if money.currency_code not in _WITHOUT_DECIMALS:
        return value
    whole, _, decimals = value.partition(".")
    if decimals.strip("0"):
        raise NotExact(f"PayPal takes no decimals in {money.currency_code}: {money} has some.")
    return whole


def to_amount(money: Money) -> dict[str, str]:
    """Write an amount as the object that PayPal's requests have.

    Raises:
        NotExact.
    """
    return {"currency_code": money.currency_code, "value": to_value(money)}


def read_amount(value: object, what: str) -> Money:
    """Read an amount that was or will be moved: more than nothing.

    Raises:
        Unreadable: it is none, of no known currency, out of bounds, or not whole in minor units.
    """
    money = read_signed_amount(value, what)
    if money.minor_units <= 0:
        raise Unreadable(f"{what} is out of bounds.")
    return money


def read_signed_amount(value: object, what: str) -> Money:
    """Read an amount of PayPal's books, below zero where the money left.

    Raises:
        Unreadable.
    """
    amount: JsonObject = as_object(value, what)
    currency = amount.get("currency_code")
    text = amount.get("value")
    if not isinstance(currency, str) or not is_currency(currency):
        raise Unreadable(f"{what} has no currency with an ISO 4217 code.")
    if not isinstance(text, str) or len(text) > _MAX_LENGTH or _AMOUNT.fullmatch(text) is None:
        raise Unreadable(f"{what} is not a decimal number in a text.")
    # As a ratio of whole numbers, so that no context's precision has a say.
    numerator, denominator = Decimal(text).as_integer_ratio()
    minor_units, remainder = divmod(numerator * 10 ** exponent(currency), denominator)
    if remainder or (currency in _WITHOUT_DECIMALS and denominator != 1):
        raise Unreadable(f"{what} has more decimals than its currency.")
    if abs(minor_units) > MAX_BALANCE_MINOR_UNITS:
        raise Unreadable(f"{what} is out of bounds.")
    return Money(currency, minor_units)
