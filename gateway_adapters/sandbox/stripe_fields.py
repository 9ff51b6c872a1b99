"""The fields of a request to the sandbox's Stripe, checked and refused as Stripe does."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

MIN_AMOUNT: Final = 50
MAX_AMOUNT: Final = 99_999_999
MAX_LIMIT: Final = 100
_DEFAULT_LIMIT: Final = "10"
_MAX_METADATA: Final = 50
_MAX_KEY_LENGTH: Final = 40
_MAX_VALUE_LENGTH: Final = 500
_AMOUNT: Final = re.compile(r"[0-9]{1,12}")
_CURRENCY: Final = re.compile(r"[a-z]{3}")
_METADATA: Final = re.compile(r"metadata\[([^\[\]]+)\]")

Form = Mapping[str, str]
"""A form or a query, with one value for each name."""


class StripeError(Exception):
    """A request that Stripe refuses, with its own code for the reason."""

    def __init__(
        self,
        message: str,
        code: str = "",
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.kind = kind


def missing(object_id: str) -> StripeError:
    """Say that there is no such object."""
    return StripeError(f"No such object: '{object_id}'", "resource_missing", HTTPStatus.NOT_FOUND)


def amount_field(form: Form, name: str = "amount", default: int | None = None) -> int:
    """Return an amount in Stripe's smallest unit.

    Raises:
        StripeError.
    """
    text = form.get(name)
    if text is None and default is not None:
        return default
    if text is None or _AMOUNT.fullmatch(text) is None:
        raise StripeError(f"Invalid integer: {name}", "parameter_invalid_integer")
    if int(text) > MAX_AMOUNT:
        raise StripeError(f"Amount must be no more than {MAX_AMOUNT}", "amount_too_large")
    return int(text)


def charged_amount_field(form: Form) -> int:
    """Return the amount of a new intent, which has a minimum.

    Raises:
        StripeError.
    """
    amount = amount_field(form)
    if amount < MIN_AMOUNT:
        raise StripeError("Amount must be at least 50 cents", "amount_too_small")
    return amount


def currency_field(form: Form) -> str:
    """Return a currency, in lower case.

    Raises:
        StripeError.
    """
    currency = form.get("currency", "")
    if _CURRENCY.fullmatch(currency) is None:
        raise StripeError(f"Invalid currency: {currency}")
    return currency


def metadata_field(form: Form) -> dict[str, str]:
    """Return the metadata.

    Raises:
        StripeError.
    """
    metadata = {
        match[1]: value for name, value in form.items() if (match := _METADATA.fullmatch(name))
    }
    if (
        len(metadata) > _MAX_METADATA
        or any(len(name) > _MAX_KEY_LENGTH for name in metadata)
        or any(len(value) > _MAX_VALUE_LENGTH for value in metadata.values())
    ):
        raise StripeError("Metadata is too long.")
    return metadata


def limit_field(query: Form) -> int:
    """Return how many entries a page is to have.

    Raises:
        StripeError.
    """
    text = query.get("limit", _DEFAULT_LIMIT)
    if _AMOUNT.fullmatch(text) is None or not 1 <= int(text) <= MAX_LIMIT:
        raise StripeError("Limit must be between 1 and 100", "parameter_invalid_integer")
    return int(text)


def time_field(query: Form, name: str, default: int) -> int:
    """Return a bound in seconds since the epoch.

    Raises:
        StripeError.
    """
    text = query.get(name)
    if text is None:
        return default
    if _AMOUNT.fullmatch(text) is None:
        raise StripeError(f"Invalid integer: {name}", "parameter_invalid_integer")
    return int(text)
