"""Card numbers in what callers write: they are refused, since nothing here may keep one."""

import re
from typing import Final

_NUMBER: Final = re.compile(
    r"(?<![0-9])(?:[0-9]{13,19}"
    r"|[0-9]{4}([ .-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}([ .-])[0-9]{6}\2[0-9]{4,5})(?![0-9])"
)
"""13 to 19 digits in one, or in the groups in which they stand on a card."""
_SCHEMES: Final = (
    (re.compile("4"), {13, 16, 19}),  # Visa
    (re.compile("5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), {16}),  # Mastercard
    (re.compile("3[47]"), {15}),  # American Express
    (re.compile("3(?:0[0-5]|[689])"), {14, 16, 17, 18, 19}),  # Diners Club
    (re.compile("35(?:2[89]|[3-8])"), {16, 17, 18, 19}),  # JCB
    (re.compile("50|5[6-8]|6|8[12]"), {16, 17, 18, 19}),  # Discover, Maestro, RuPay, UnionPay
)
"""Beginnings and lengths of the numbers that the large schemes issue."""


def has_card_number(text: str) -> bool:
    """Tell whether a text has what looks like a card's number: issued so, with a right check digit.

    The check digit is that of ISO/IEC 7812-1 (Luhn).
    """
    for found in _NUMBER.finditer(text):
        digits = re.sub(r"[ .-]", "", found.group())
        if _is_issued(digits) and _check_sum(digits) % 10 == 0:
            return True
    return False


def _is_issued(digits: str) -> bool:
    return any(begins.match(digits) and len(digits) in lengths for begins, lengths in _SCHEMES)


def _check_sum(digits: str) -> int:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004 - the sum of its two digits
    return total
