"""Stripe's amounts: exact both ways, with the currencies that Stripe writes in its own way."""

from typing import Any

import pytest

from gateway_adapters.gateway import InvalidTopup
from gateway_adapters.stripe import Stripe
from gateway_adapters.stripe.amounts import NotCharged, read_amount, to_amount
from gateway_adapters.wire import Unreadable
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money

EXACT = [
    ("INR", 12_345, 12_345),
    ("USD", 50, 50),
    ("JPY", 500, 500),
    ("KRW", 1, 1),
    ("HUF", 12_345, 12_345),
    ("TWD", 12_345, 12_345),
    ("ISK", 5, 500),
    ("UGX", 5, 500),
    ("MGA", 500, 5),
    ("KWD", 5_120, 5_120),
    ("BHD", 10, 10),
]
"""Currency, the ledger's minor units, Stripe's amount."""


@pytest.mark.parametrize(("currency", "minor_units", "amount"), EXACT)
def test_an_amount_is_written_and_read_exactly(
    currency: str, minor_units: int, amount: int
) -> None:
    """What is asked for comes back as the same money."""
    money = Money(currency, minor_units)
    assert to_amount(money) == amount
    assert read_amount({"currency": currency.lower(), "amount": amount}, "amount") == money


@pytest.mark.parametrize(
    ("currency", "minor_units"),
    [("MGA", 501), ("MGA", 1), ("KWD", 5_123), ("TND", 1), ("IQD", 1_000), ("LYD", 10)],
)
def test_an_amount_that_stripe_does_not_charge_is_refused_and_never_rounded(
    currency: str, minor_units: int
) -> None:
    """Nobody is charged more or less than what the top-up is for."""
    with pytest.raises(NotCharged):
        to_amount(Money(currency, minor_units))


def test_a_top_up_that_stripe_cannot_charge_names_the_field_to_change() -> None:
    """The caller learns it before anything is recorded."""
    stripe = Stripe.__new__(Stripe)
    for method in ("card", "google_pay", "apple_pay"):
        stripe.check_topup(Money("USD", 50), method)
    with pytest.raises(InvalidTopup) as refused:
        stripe.check_topup(Money("KWD", 5_123), "card")
    assert refused.value.field == "amount"
    for method in ("upi", "netbanking", "paypal", ""):
        with pytest.raises(InvalidTopup) as refused:
            stripe.check_topup(Money("INR", 5_123), method)
        assert refused.value.field == "method"


@pytest.mark.parametrize(
    "entity",
    [
        {"currency": "usd"},
        {"currency": "usd", "amount": None},
        {"currency": "usd", "amount": True},
        {"currency": "usd", "amount": "100"},
        {"currency": "usd", "amount": 100.0},
        {"currency": "usd", "amount": 0},
        {"currency": "usd", "amount": -1},
        {"currency": "usd", "amount": MAX_BALANCE_MINOR_UNITS + 1},
        {"currency": "usd", "amount": 10**400},
        {"currency": "isk", "amount": 501},
        {"currency": "ugx", "amount": 1},
        {"currency": "iqd", "amount": 1_000},
        {"currency": "USD", "amount": 100},
        {"currency": "xxx", "amount": 100},
        {"currency": "", "amount": 100},
        {"currency": None, "amount": 100},
        {"currency": ["usd"], "amount": 100},
        {"amount": 100},
    ],
    ids=str,
)
def test_what_is_no_amount_is_unreadable(entity: dict[str, Any]) -> None:
    """Nothing is credited by guess."""
    with pytest.raises(Unreadable):
        read_amount(entity, "amount")


def test_nothing_is_an_amount_only_where_it_may_be() -> None:
    """An intent that nobody paid has received nothing."""
    entity = {"currency": "usd", "amount": 0}
    assert read_amount(entity, "amount", may_be_nothing=True) == Money("USD", 0)
