"""Stripe's amounts and the ledger's minor units: whole numbers, which differ in some currencies.

Source of the rules: https://docs.stripe.com/currencies. What they say against ISO 4217:

    MGA         no decimals at Stripe, although an ariary has a hundredth part here
    ISK, UGX    written with two decimals, which are always 00, although they have none
    three       of BHD, JOD, KWD, OMR and TND the last digit of a charge has to be 0

HUF and TWD are charged with two decimals, as everywhere; that they have none at Stripe concerns
payouts alone. Nothing is rounded: what does not convert exactly is refused.
"""

from typing import Final

from gateway_adapters.wire import JsonObject, Unreadable
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money, exponent, is_currency

_WITHOUT_DECIMALS: Final = frozenset(
    {
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "JPY",
        "KMF",
        "KRW",
        "MGA",
        "PYG",
        "RWF",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    }
)
_WITH_THREE_DECIMALS: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
_THREE_DECIMALS: Final = 3
_STEP_OF_THREE_DECIMALS: Final = 10


class NotCharged(Exception):
    """Stripe does not charge such an amount; the message says why."""


def to_amount(money: Money) -> int:
    """Return an amount as Stripe's requests have it.

    Raises:
        NotCharged: it would need a part of the smallest unit that Stripe takes.
    """
    code = money.currency_code
    decimals = _decimals(code)
    if decimals is None:
        raise NotCharged(f"Stripe does not take {code}.")
    amount, rest = divmod(money.minor_units * _units(decimals), _units(exponent(code)))
    if rest:
        raise NotCharged(f"Stripe takes no decimals in {code}: {money} has some.")
    if decimals == _THREE_DECIMALS and amount % _STEP_OF_THREE_DECIMALS:
        raise NotCharged(f"Stripe takes no more than two decimals in {code}: {money} has three.")
    return amount


def read_amount(entity: JsonObject, name: str, *, may_be_nothing: bool = False) -> Money:
    """Read the amount under `name`, in the currency that stands beside it.

    Raises:
        Unreadable: it is none, of no known currency, out of bounds, or not whole in minor units.
    """
    code = _currency(entity)
    amount = entity.get(name)
    # A bool is an int in Python, and not an amount.
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise Unreadable(f"`{name}` is not a whole number.")
    decimals = _decimals(code)
    if decimals is None:
        raise Unreadable("The currency is none of Stripe's.")
    minor_units, rest = divmod(amount * _units(exponent(code)), _units(decimals))
    if rest:
        raise Unreadable(f"`{name}` has more decimals than its currency.")
    if not (0 if may_be_nothing else 1) <= minor_units <= MAX_BALANCE_MINOR_UNITS:
        raise Unreadable(f"`{name}` is out of bounds.")
    return Money(code, minor_units)


def _currency(entity: JsonObject) -> str:
    """Return the ISO 4217 code, which Stripe writes in lower case."""
    told = entity.get("currency")
    if not isinstance(told, str) or not told.islower() or not is_currency(told.upper()):
        raise Unreadable("The currency is not an ISO 4217 code in lower case.")
    return told.upper()


def _decimals(code: str) -> int | None:
    """Return how many of an amount's digits are decimals; None where that is not documented."""
    if code in _WITHOUT_DECIMALS:
        return 0
    if code in _WITH_THREE_DECIMALS:
        return _THREE_DECIMALS
    return None if exponent(code) == _THREE_DECIMALS else 2


def _units(decimals: int) -> int:
    """Return how many of the smallest unit make one of the currency."""
    return int(10**decimals)
