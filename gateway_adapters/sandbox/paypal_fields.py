"""The fields of a request to the sandbox's PayPal, checked and refused as PayPal does."""

import re
from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final

_WITHOUT_DECIMALS: Final = frozenset({"HUF", "JPY", "TWD"})
_WHOLE: Final = re.compile(r"[0-9]{1,12}")
_CENTS: Final = re.compile(r"[0-9]{1,12}\.[0-9]{2}")
_MAX_NAME_LENGTH: Final = 127


class PaypalError(Exception):
    """A request that PayPal refuses, with its own name for the reason."""

    def __init__(self, issue: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__(issue)
        self.issue = issue
        self.status = status


def amount_field(value: object) -> tuple[str, str]:
    """Return an amount's currency and its value, which has the currency's decimals.

    Raises:
        PaypalError.
    """
    if not isinstance(value, dict):
        raise PaypalError("INVALID_PARAMETER_SYNTAX", HTTPStatus.BAD_REQUEST)
    currency, text = value.get("currency_code"), value.get("value")
    if not isinstance(currency, str) or currency == "INR":
        raise PaypalError("CURRENCY_NOT_SUPPORTED")
    return currency, value_field(text, currency)


def value_field(text: object, currency: str) -> str:
    """Return an amount's value in the form that PayPal wants in its currency.

    Raises:
        PaypalError.
    """
    pattern = _WHOLE if currency in _WITHOUT_DECIMALS else _CENTS
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise PaypalError("DECIMAL_PRECISION")
    if not Decimal(text):
        raise PaypalError("CANNOT_BE_ZERO_OR_NEGATIVE")
    return text


def return_url_field(content: Mapping[str, Any]) -> str:
    """Return where an order sends its customer back to, empty where it does not say.

    Raises:
        PaypalError.
    """
    value: object = content
    for name in ("payment_source", "paypal", "experience_context", "return_url"):
        if value is None:
            return ""
        if not isinstance(value, Mapping):
            raise PaypalError("INVALID_PARAMETER_SYNTAX", HTTPStatus.BAD_REQUEST)
        value = value.get(name)
    if value is not None and not isinstance(value, str):
        raise PaypalError("INVALID_PARAMETER_SYNTAX", HTTPStatus.BAD_REQUEST)
    return value or ""


def name_field(value: object) -> str:
    """Return our own name of something, empty where there is none.

    Raises:
        PaypalError.
    """
    if value is not None and (not isinstance(value, str) or len(value) > _MAX_NAME_LENGTH):
        raise PaypalError("INVALID_STRING_MAX_LENGTH", HTTPStatus.BAD_REQUEST)
    return value or ""
