"""The fields of a request to the sandbox's Razorpay, checked and refused as Razorpay does."""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway_adapters.sandbox.control import ControlError
from server.ledger.money import MAX_AMOUNT_MINOR_UNITS, is_currency

MIN_INR_MINOR_UNITS: Final = 100
MAX_RECEIPT_LENGTH: Final = 40
MAX_NOTES: Final = 15
MAX_NOTE_LENGTH: Final = 256
MAX_LABEL_LENGTH: Final = 255
SHORTEST_QR_CODE_SECONDS: Final = 2 * 60
LONGEST_QR_CODE_SECONDS: Final = 2 * 3_600

MIN_TIME_SECONDS: Final = 946_684_800
MAX_TIME_SECONDS: Final = 4_765_046_400
MAX_COUNT: Final = 100
DEFAULT_COUNT: Final = "10"
PHASES: Final = ("fraud", "retrieval", "chargeback", "pre_arbitration", "arbitration")

_COUNT: Final = re.compile(r"[0-9]{1,3}")
_SKIP: Final = re.compile(r"[0-9]{1,9}")
_TIME: Final = re.compile(r"[0-9]{1,10}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[A-Za-z0-9_-]{10,255}")


class RazorpayError(ControlError):
    """A request that Razorpay refuses, in its own words."""


def amount_field(value: object, name: str = "amount") -> int:
    """Return an amount in minor units; text, fractions and bools are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise RazorpayError("The amount must be an integer.", name)
    if not 0 < value <= MAX_AMOUNT_MINOR_UNITS:
        raise RazorpayError("The amount is invalid", name)
    return value


def order_amount_field(value: object, currency: str) -> int:
    """Return the amount of an order, which has a minimum."""
    amount = amount_field(value)
    if currency == "INR" and amount < MIN_INR_MINOR_UNITS:
        raise RazorpayError("The amount must be at least INR 1.00", "amount")
    return amount


def currency_field(value: object) -> str:
    """Return a currency's ISO 4217 code."""
    if not isinstance(value, str) or not is_currency(value):
        raise RazorpayError("Currency is not supported", "currency")
    return value


def receipt_field(value: object) -> str | None:
    """Return the receipt, None where there is none."""
    if value is not None and (not isinstance(value, str) or len(value) > MAX_RECEIPT_LENGTH):
        raise RazorpayError("The receipt may not be greater than 40 characters.", "receipt")
    return value


def notes_field(value: object) -> dict[str, str]:
    """Return the notes; an empty list stands for none, as in the answers."""
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise RazorpayError("The notes must be an array.", "notes")
    if len(value) > MAX_NOTES:
        raise RazorpayError("Number of fields in notes should be less than or equal to 15", "notes")
    notes = {str(name): str(note) for name, note in value.items()}
    if any(len(note) > MAX_NOTE_LENGTH for note in notes.values()):
        raise RazorpayError("A note may not be greater than 256 characters.", "notes")
    return notes


def one_of_field(content: Mapping[str, Any], name: str, *allowed: object) -> None:
    """Refuse a field that is none of what is allowed."""
    if name not in content:
        raise RazorpayError(f"The {name} field is required.", name)
    if content[name] not in allowed:
        raise RazorpayError(f"The selected {name} is invalid.", name)


def no_other_fields(content: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse fields that there are not."""
    others = sorted(content.keys() - known)
    if others:
        names = ", ".join(others)
        raise RazorpayError(f"{names} is/are not required and should not be sent", others[0])


def label_field(content: Mapping[str, Any], name: str) -> str | None:
    """Return a text for people, None where there is none."""
    value = content.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_LABEL_LENGTH):
        raise RazorpayError(
            f"The {name} may not be greater than {MAX_LABEL_LENGTH} characters.", name
        )
    return value


def close_by_field(value: object, now: int) -> int:
    """Return when a QR code closes: two minutes from now at least, and two hours at most."""
    latest = now + LONGEST_QR_CODE_SECONDS
    if value is None:
        return latest
    if not isinstance(value, int) or isinstance(value, bool):
        raise RazorpayError("The close by must be an integer.", "close_by")
    if value < now + SHORTEST_QR_CODE_SECONDS:
        raise RazorpayError("close_by should be at least 2 minutes after current time", "close_by")
    return min(value, latest)


def automatic_capture_field(value: object) -> bool:
    """Tell whether `payment` asks for automatic capture, which is also what an account does."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.get("capture") not in {"automatic", "manual"}:
        raise RazorpayError("The selected payment.capture is invalid.", "payment")
    return bool(value["capture"] == "automatic")


def speed_field(value: object) -> str:
    """Return how fast a refund is wanted."""
    if value not in {"normal", "optimum"}:
        raise RazorpayError("The selected speed is invalid.", "speed")
    return str(value)


def idempotency_key_field(value: str) -> str:
    """Return the key, empty where there is none."""
    if value and _IDEMPOTENCY_KEY.fullmatch(value) is None:
        raise RazorpayError("The idempotency key must be at least 10 of [A-Za-z0-9_-].")
    return value


def from_field(value: str | None) -> int:
    """Return the first second of a list."""
    return _time_field(value, "from", MIN_TIME_SECONDS)


def to_field(value: str | None) -> int:
    """Return the last second of a list."""
    return _time_field(value, "to", MAX_TIME_SECONDS)


def count_field(value: str | None) -> int:
    """Return how many items a list is to have."""
    text = DEFAULT_COUNT if value is None else value
    if _COUNT.fullmatch(text) is None or not 1 <= int(text) <= MAX_COUNT:
        raise RazorpayError(f"The count must be between 1 and {MAX_COUNT}.", "count")
    return int(text)


def skip_field(value: str | None) -> int:
    """Return how many items a list is to leave out."""
    text = "0" if value is None else value
    if _SKIP.fullmatch(text) is None:
        raise RazorpayError("The skip must be an integer.", "skip")
    return int(text)


def phase_field(value: object) -> str:
    """Return the phase that a dispute is in."""
    if value not in PHASES:
        raise RazorpayError(f"The phase must be one of {', '.join(PHASES)}.", "phase")
    return str(value)


def _time_field(value: str | None, name: str, default: int) -> int:
    if value is None:
        return default
    if _TIME.fullmatch(value) is None or not MIN_TIME_SECONDS <= int(value) <= MAX_TIME_SECONDS:
        raise RazorpayError(f"{name} must be between {MIN_TIME_SECONDS} and {MAX_TIME_SECONDS}")
    return int(value)
