"""Razorpay's JSON, read with suspicion: a value is what the documentation says, or Unreadable.

Amounts come as whole minor units of the currency, so that no conversion takes place.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NoReturn

from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money, is_currency
from server.ledger.records import GatewayPayment, GatewayPaymentStatus

JsonObject = Mapping[str, object]

PAYMENT_ID: Final = re.compile(r"pay_[A-Za-z0-9]{1,32}")
"""With this shape an id cannot change the path of a request."""
ORDER_ID: Final = re.compile(r"order_[A-Za-z0-9]{1,32}")
"""As PAYMENT_ID, for orders."""

MAX_TEXT_LENGTH: Final = 500
"""Longer texts for people are cut."""

STATUSES: Final[Mapping[str, GatewayPaymentStatus]] = MappingProxyType(
    {
        "created": GatewayPaymentStatus.PENDING,
        "authorized": GatewayPaymentStatus.AUTHORIZED,
        "captured": GatewayPaymentStatus.CAPTURED,
        # It was captured before. What became of the money since then is told by the refund.
        "refunded": GatewayPaymentStatus.CAPTURED,
        "failed": GatewayPaymentStatus.FAILED,
    }
)
"""Razorpay's payment states in the ledger's terms. Trust them, and not `captured` beside them."""


class Unreadable(Exception):
    """What came is not what Razorpay documents; the message says where, and quotes nothing."""


@dataclass(frozen=True, slots=True)
class WireOrder:
    """An order as Razorpay tells it."""

    order_id: str
    receipt: str
    amount: Money
    status: str
    create_time_seconds: int


@dataclass(frozen=True, slots=True)
class WirePayment:
    """A payment as Razorpay tells it."""

    payment: GatewayPayment
    create_time_seconds: int


def read_object(body: bytes) -> JsonObject:
    """Parse a JSON object in UTF-8.

    Raises:
        Unreadable: it is something else, too deep, or has numbers that JSON does not have.
    """
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Unreadable("The body is not JSON.") from None
    return _as_object(content, "The body")


def read_order(entity: object) -> WireOrder:
    """Read an order entity.

    Raises:
        Unreadable.
    """
    order = _as_object(entity, "The order")
    receipt = order.get("receipt")
    status = order.get("status")
    return WireOrder(
        order_id=_identifier(order.get("id"), ORDER_ID, "The order's id"),
        receipt=receipt if isinstance(receipt, str) else "",
        amount=_money(order, "The order"),
        status=status if isinstance(status, str) else "",
        create_time_seconds=_create_time(order),
    )


def read_payment(entity: object, status: GatewayPaymentStatus | None = None) -> WirePayment:
    """Read a payment entity; `status` overrides its own where more is known.

    A status that nobody has documented is PENDING: nothing is paid by guess.

    Raises:
        Unreadable.
    """
    payment = _as_object(entity, "The payment")
    told = payment.get("status")
    if not isinstance(told, str):
        raise Unreadable("The payment's status is not a text.")
    if status is None:
        status = STATUSES.get(told, GatewayPaymentStatus.PENDING)
    order_id = payment.get("order_id")
    if order_id is not None:
        order_id = _identifier(order_id, ORDER_ID, "The payment's order id")
    return WirePayment(
        GatewayPayment(
            payment_id=_identifier(payment.get("id"), PAYMENT_ID, "The payment's id"),
            gateway_order_id=order_id or "",
            status=status,
            amount=_money(payment, "The payment"),
            failure_reason=(
                _failure_reason(payment) if status is GatewayPaymentStatus.FAILED else ""
            ),
        ),
        _create_time(payment),
    )


def member(content: JsonObject, name: str) -> JsonObject:
    """Return the object under `name`.

    Raises:
        Unreadable.
    """
    return _as_object(content.get(name), f"`{name}`")


def items(collection: JsonObject) -> list[object]:
    """Return the items of a collection.

    Raises:
        Unreadable.
    """
    found = collection.get("items")
    if not isinstance(found, list):
        raise Unreadable("`items` is not a list.")
    return found


def display_text(value: object) -> str:
    """Return a text that is fit to be shown and stored: one line, cut; empty if it is no text."""
    if not isinstance(value, str):
        return ""
    cut = value[:MAX_TEXT_LENGTH]
    return "".join(character if character.isprintable() else " " for character in cut).strip()


def _failure_reason(payment: JsonObject) -> str:
    """Say why it failed. Razorpay leaves these null or empty at will."""
    return display_text(payment.get("error_description")) or display_text(
        payment.get("error_reason")
    )


def _as_object(value: object, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise Unreadable(f"{what} is not an object.")
    return value


def _identifier(value: object, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise Unreadable(f"{what} does not look like one.")
    return value


def _money(entity: JsonObject, what: str) -> Money:
    amount = entity.get("amount")
    currency = entity.get("currency")
    # A bool is an int in Python, and not an amount.
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise Unreadable(f"{what}'s amount is not a whole number.")
    if not 0 < amount <= MAX_BALANCE_MINOR_UNITS:
        raise Unreadable(f"{what}'s amount is out of bounds.")
    if not isinstance(currency, str) or not is_currency(currency):
        raise Unreadable(f"{what}'s currency is not an ISO 4217 code.")
    return Money(currency, amount)


def _create_time(entity: JsonObject) -> int:
    """Return when it was made, for sorting only; 0 where it is missing."""
    value = entity.get("created_at")
    return value if isinstance(value, int) else 0


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
