"""Money: whole minor units of an ISO 4217 currency. Floats never touch it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

MAX_AMOUNT_MINOR_UNITS: Final = 100_000_000_000_000
"""The largest amount that one request may move."""

MAX_BALANCE_MINOR_UNITS: Final = 2**63 - 1
"""The largest balance that a wallet can hold: what a signed 64-bit integer can."""


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount: `minor_units` of the currency `currency_code` (ISO 4217, upper case)."""

    currency_code: str
    minor_units: int

    def __str__(self) -> str:
        """Write the amount in major units, as in `INR 123.45`."""
        return f"{self.currency_code} {to_major_units(self)}"


def is_currency(code: str) -> bool:
    """Tell whether `code` is an ISO 4217 code of a currency that people pay with."""
    return code in _EXPONENTS


def exponent(currency_code: str) -> int:
    """Return how many decimal places the currency's minor unit has: INR 2, JPY 0, KWD 3."""
    return _EXPONENTS[currency_code]


def to_major_units(money: Money) -> str:
    """Write the amount as an exact decimal string in major units, such as `123.45`."""
    return f"{Decimal(money.minor_units).scaleb(-exponent(money.currency_code)):f}"


_EXPONENTS: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP "
            "BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
            "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT "
            "LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN "
            "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP "
            "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED "
            "VES WST XCD YER ZAR ZMW ZWG"
        ).split(),
        2,
    ),
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}
