"""PayPal's amounts: exact both ways, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.paypal.amounts import (
    CURRENCIES,
    NotExact,
    read_amount,
    read_signed_amount,
    to_amount,
    to_value,
)
from gateway_adapters.wire import Unreadable
from server.ledger.money import MAX_AMOUNT_MINOR_UNITS, MAX_BALANCE_MINOR_UNITS, Money, is_currency

WHOLE_ONLY = {"HUF", "TWD"}


@given(st.sampled_from(sorted(CURRENCIES - WHOLE_ONLY)), st.integers(1, MAX_AMOUNT_MINOR_UNITS))
def test_every_amount_comes_back_as_it_went(currency: str, minor_units: int) -> None:
    """What is written for PayPal and read again is the same amount."""
    money = Money(currency, minor_units)
    assert read_amount(to_amount(money), "It") == money


@given(st.sampled_from(sorted(WHOLE_ONLY)), st.integers(1, MAX_AMOUNT_MINOR_UNITS // 100))
def test_whole_forints_and_dollars_of_taiwan_come_back_as_they_went(
    currency: str, whole: int
) -> None:
    """Where PayPal takes no decimals a whole amount has none, and is read as its minor units."""
    money = Money(currency, whole * 100)
    assert to_value(money) == str(whole)
    assert read_amount(to_amount(money), "It") == money


@pytest.mark.parametrize(
    ("money", "value"),
    [
        (Money("USD", 1), "0.01"),
        (Money("USD", 835), "8.35"),
        (Money("USD", 100_000), "1000.00"),
        (Money("EUR", 12_345), "123.45"),
        (Money("JPY", 500), "500"),
        (Money("HUF", 500_000), "5000"),
        (Money("TWD", 100), "1"),
    ],
)
def test_amounts_are_written_as_paypal_takes_them(money: Money, value: str) -> None:
    """Two decimals, or none where PayPal takes none."""
    assert to_amount(money) == {"currency_code": money.currency_code, "value": value}


@pytest.mark.parametrize("money", [Money("HUF", 12_345), Money("TWD", 1), Money("HUF", 110)])
def test_a_part_of_what_has_no_decimals_is_refused(money: Money) -> None:
    """Nothing is rounded: a part of a forint cannot be told to PayPal."""
    with pytest.raises(NotExact):
        to_value(money)


@pytest.mark.parametrize(
    ("value", "currency", "minor_units"),
    [
        ("10.00", "USD", 1_000),
        ("10", "USD", 1_000),
        ("10.0", "USD", 1_000),
        (".5", "USD", 50),
        ("0010.10", "USD", 1_010),
        ("10.0000000", "USD", 1_000),
        ("500", "JPY", 500),
        ("500.00", "JPY", 500),
        ("5000", "HUF", 500_000),
        ("5000.00", "HUF", 500_000),
        ("8.35", "USD", 835),
        ("92233720368547758.07", "USD", MAX_BALANCE_MINOR_UNITS),
    ],
)
def test_amounts_are_read_in_every_form_that_is_exact(
    value: str, currency: str, minor_units: int
) -> None:
    """Zeros more or fewer do not change an amount."""
    amount = {"currency_code": currency, "value": value}
    assert read_amount(amount, "It") == Money(currency, minor_units)


@pytest.mark.parametrize(
    "amount",
    [
        None,
        [],
        "10.00",
        {"currency_code": "USD"},
        {"value": "10.00"},
        {"currency_code": "USD", "value": 10},
        {"currency_code": "USD", "value": 10.0},
        {"currency_code": "usd", "value": "10.00"},
        {"currency_code": "XXX", "value": "10.00"},
        {"currency_code": ["USD"], "value": "10.00"},
        *(
            {"currency_code": "USD", "value": value}
            for value in (
                "",
                "10.001",
                "1e3",
                "1E3",
                "NaN",
                "Infinity",
                "10,00",
                "1_000",
                " 10.00",
                "10.00\n",
                "10.",
                ".",
                "--1",
                "+1",
                "0x10",
                "\u0661\u0660",
                "0",
                "0.00",
                "-10.00",
                "9" * 33,
                "9" * 30,
                "92233720368547758.08",
            )
        ),
        {"currency_code": "JPY", "value": "500.5"},
        {"currency_code": "HUF", "value": "123.45"},
        {"currency_code": "TWD", "value": "0.5"},
    ],
)
def test_what_is_not_exactly_an_amount_is_refused(amount: object) -> None:
    """No floats, no exponents, no more decimals than there are, nothing of nothing."""
    with pytest.raises(Unreadable):
        read_amount(amount, "It")


def test_books_may_have_amounts_below_zero() -> None:
    """In PayPal's books money that left is negative, as exact as all other."""
    assert read_signed_amount({"currency_code": "USD", "value": "-8.35"}, "It") == Money(
        "USD", -835
    )


def test_every_currency_is_one_of_the_ledgers_and_inr_is_none_of_them() -> None:
    """What PayPal can receive can also be kept; rupees it cannot receive."""
    assert all(is_currency(currency) for currency in CURRENCIES)
    assert "INR" not in CURRENCIES
