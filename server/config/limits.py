"""The limits of wallets as a setting: JSON, tier by tier and currency by currency."""

import json
import re
from dataclasses import fields
from typing import Any, Final

from server.config.values import content_of
from server.ledger.limits import DEFAULT_TIER, Limits, WalletLimits
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, is_currency

_NAMES: Final = tuple(one.name for one in fields(WalletLimits))
_TIER: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def read_limits(value: str) -> Limits:
    """Read limits, inline or from the file named after `@`; an empty text has none.

    Raises:
        ValueError: it says what is wrong, and where.
    """
    text = content_of(value)
    if not text.strip():
        return Limits()
    try:
        tiers = json.loads(text, object_pairs_hook=_unique, parse_float=_no_number)
    except json.JSONDecodeError:
        raise ValueError(
            'takes JSON, such as {"default": {"INR": {"max_balance": 1000000}}}, or @ and its file'
        ) from None
    if not isinstance(tiers, dict) or DEFAULT_TIER not in tiers:
        raise ValueError(f"needs the tier {DEFAULT_TIER}, whose limits every other customer has")
    return Limits({tier: _tier(tier, given) for tier, given in tiers.items()})


def _tier(tier: str, given: Any) -> dict[str, WalletLimits]:  # noqa: ANN401 - any JSON value
    if not _TIER.fullmatch(tier):
        raise ValueError(f"the tier {tier!r} is no name in lower case, such as verified")
    if not isinstance(given, dict):
        raise ValueError(  # noqa: TRY004 - what a setting's validator raises
            f'{tier} takes currencies with their limits, {{"INR": {{...}}}}'
        )
    return {
        currency: _wallet(f"{tier}.{currency}", currency, given[currency]) for currency in given
    }


def _wallet(place: str, currency: str, given: Any) -> WalletLimits:  # noqa: ANN401 - as above
    if not is_currency(currency):
        raise ValueError(f"{place}: {currency!r} is not an ISO 4217 code in upper case")
    if not isinstance(given, dict):
        raise ValueError(  # noqa: TRY004 - as above
            f'{place} takes limits, {{"max_balance": 1000000}}'
        )
    for name, value in given.items():
        if name not in _NAMES:
            raise ValueError(f"{place}: there is no limit {name!r}, but {', '.join(_NAMES)}")
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not 0 <= value <= MAX_BALANCE_MINOR_UNITS:
            raise ValueError(
                f"{place}.{name} takes a whole number from 0 on, in minor units where it is money"
            )
    limits = WalletLimits(**given)
    for least, most in (
        ("min_topup", "max_topup"),
        ("daily_topup", "monthly_topup"),
        ("daily_spend", "monthly_spend"),
    ):
        low, high = getattr(limits, least), getattr(limits, most)
        if low is not None and high is not None and low > high:
            raise ValueError(f"{place}: {least} is more than {most}")
    return limits


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that is given twice: nobody could tell which of the two holds."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice in the same place")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no whole number of minor units")
