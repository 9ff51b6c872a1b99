"""Razorpay's entities, read with suspicion: a value is what is documented, or Unreadable.

Amounts come as whole minor units of the currency, so that no conversion takes place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway_adapters.wire import JsonObject, Unreadable, as_object, display_text
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money, is_currency
from server.ledger.records import GatewayPayment, GatewayPaymentStatus

PAYMENT_ID: Final = re.compile(r"pay_[A-Za-z0-9]{1,32}")
"""With this shape an id cannot change the path of a request."""
ORDER_ID: Final = re.compile(r"order_[A-Za-z0-9]{1,32}")
"""As PAYMENT_ID, for orders."""
REFUND_ID: Final = re.compile(r"rfnd_[A-Za-z0-9]{1,32}")
DISPUTE_ID: Final = re.compile(r"disp_[A-Za-z0-9]{1,32}")
QR_CODE_ID: Final = re.compile(r"qr_[A-Za-z0-9]{1,32}")

_TOPUP_ID: Final = re.compile(r"top_[0-9A-Za-z]{1,36}")
_HTTPS_URL: Final = re.compile(r"https://[!-~]{1,2000}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_LATEST_SECONDS: Final = 253_402_300_799
"""The last second of the year 9999."""

STATUSES: Final[Mapping[str, GatewayPaymentStatus]] = MappingProxyType(
    {
        "created": GatewayPaymentStatus.STARTED,
        "authorized": GatewayPaymentStatus.AUTHORIZED,
        "captured": GatewayPaymentStatus.CAPTURED,
        # It was captured before. What became of the money since then is told by the refund.
        "refunded": GatewayPaymentStatus.CAPTURED,
        "failed": GatewayPaymentStatus.FAILED,
    }
)
"""Razorpay's payment states in the ledger's terms. Trust them, and not `captured` beside them."""


@dataclass(frozen=True, slots=True)
class WireOrder:
    """An order as Razorpay tells it."""

    order_id: str
    receipt: str
    amount: Money
    status: str
    create_time_seconds: int


@dataclass(frozen=True, slots=True)
class WireQrCode:
    """A QR code as Razorpay tells it."""

    qr_code_id: str
    topup_id: str
    """The top-up that its notes name."""
    amount: Money
    is_active: bool
    is_paid: bool
    image_content: str
    """What the QR code says, `upi://pay?...`; empty where the account does not get it."""
    image_url: str
    """Where its drawing is; empty where that is no https URL."""
    close_time_seconds: int
    """When it closes by itself; 0 where it does not tell."""
    create_time_seconds: int


@dataclass(frozen=True, slots=True)
class WirePayment:
    """A payment as Razorpay tells it."""

    payment: GatewayPayment
    has_refunds: bool
    create_time_seconds: int


@dataclass(frozen=True, slots=True)
class WireRefund:
    """A refund as Razorpay tells it."""

    refund_id: str
    payment_id: str
    amount: Money
    status: str
    create_time_seconds: int


@dataclass(frozen=True, slots=True)
class WireDispute:
    """A dispute as Razorpay tells it."""

    dispute_id: str
    payment_id: str
    amount: Money
    status: str
    is_deducted: bool
    """Whether the account was debited for it."""
    create_time_seconds: int


def read_order(entity: object) -> WireOrder:
    """Read an order entity.

    Raises:
        Unreadable.
    """
    order = as_object(entity, "The order")
    receipt = order.get("receipt")
    return WireOrder(
        order_id=_identifier(order.get("id"), ORDER_ID, "The order's id"),
        receipt=receipt if isinstance(receipt, str) else "",
        amount=_money(order, "The order"),
        status=status_of(order),
        create_time_seconds=time_seconds(order),
    )


def read_payment(entity: object, status: GatewayPaymentStatus | None = None) -> WirePayment:
    """Read a payment entity; `status` overrides its own where more is known.

    A status that nobody has documented is PENDING: nothing is paid by guess.

    Raises:
        Unreadable.
    """
    payment = as_object(entity, "The payment")
    told = payment.get("status")
    if not isinstance(told, str):
        raise Unreadable("The payment's status is not a text.")
    if status is None:
        status = STATUSES.get(told, GatewayPaymentStatus.PENDING)
    payment_id, order_id = read_payment_names(payment)
    return WirePayment(
        payment=GatewayPayment(
            payment_id=payment_id,
            gateway_order_id=order_id,
            status=status,
            amount=_money(payment, "The payment"),
            failure_reason=(
                _failure_reason(payment) if status is GatewayPaymentStatus.FAILED else ""
            ),
        ),
        has_refunds=_is_more_than_nothing(payment.get("amount_refunded")),
        create_time_seconds=time_seconds(payment),
    )


def read_payment_names(payment: JsonObject) -> tuple[str, str]:
    """Return a payment's id and that of its order, which is empty where there is none.

    Raises:
        Unreadable.
    """
    order_id = payment.get("order_id")
    if order_id is not None:
        order_id = _identifier(order_id, ORDER_ID, "The payment's order id")
    return _identifier(payment.get("id"), PAYMENT_ID, "The payment's id"), order_id or ""


def read_refund(entity: object) -> WireRefund:
    """Read a refund entity.

    Raises:
        Unreadable.
    """
    refund = as_object(entity, "The refund")
    return WireRefund(
        refund_id=_identifier(refund.get("id"), REFUND_ID, "The refund's id"),
        payment_id=_identifier(refund.get("payment_id"), PAYMENT_ID, "The refund's payment id"),
        amount=_money(refund, "The refund"),
        status=status_of(refund),
        create_time_seconds=time_seconds(refund),
    )


def read_dispute(entity: object) -> WireDispute:
    """Read a dispute entity.

    Raises:
        Unreadable.
    """
    dispute = as_object(entity, "The dispute")
    return WireDispute(
        dispute_id=_identifier(dispute.get("id"), DISPUTE_ID, "The dispute's id"),
        payment_id=_identifier(dispute.get("payment_id"), PAYMENT_ID, "The dispute's payment id"),
        amount=_money(dispute, "The dispute"),
        status=status_of(dispute),
        is_deducted=_is_more_than_nothing(dispute.get("amount_deducted")),
        create_time_seconds=time_seconds(dispute),
    )


def read_qr_code(entity: object) -> WireQrCode:
    """Read a QR code entity of one payment of a fixed amount by UPI, which is in INR.

    Raises:
        Unreadable: it is another kind of QR code, or none.
    """
    qr_code = as_object(entity, "The QR code")
    kind = (qr_code.get("type"), qr_code.get("usage"), qr_code.get("fixed_amount"))
    if kind != ("upi_qr", "single_use", True):
        raise Unreadable("The QR code is not for one payment of a fixed amount by UPI.")
    content, url = qr_code.get("image_content"), qr_code.get("image_url")
    return WireQrCode(
        qr_code_id=read_qr_code_id(qr_code),
        topup_id=noted_topup(qr_code),
        amount=_money({"amount": qr_code.get("payment_amount"), "currency": "INR"}, "The QR code"),
        is_active=status_of(qr_code) == "active",
        is_paid=_is_more_than_nothing(qr_code.get("payments_count_received"))
        or qr_code.get("close_reason") == "paid",
        image_content=content if isinstance(content, str) else "",
        image_url=url if isinstance(url, str) and _HTTPS_URL.fullmatch(url) else "",
        close_time_seconds=_close_time_seconds(qr_code),
        create_time_seconds=time_seconds(qr_code),
    )


def read_qr_code_id(entity: JsonObject) -> str:
    """Return a QR code's id.

    Raises:
        Unreadable.
    """
    return _identifier(entity.get("id"), QR_CODE_ID, "The QR code's id")


def noted_topup(entity: JsonObject) -> str:
    """Return the top-up that an entity's notes name, empty where there is none.

    Notes are `[]` where there are none.
    """
    notes = entity.get("notes")
    value = notes.get("topup_id") if isinstance(notes, dict) else None
    return read_topup_id(value)


def read_topup_id(value: object) -> str:
    """Return a top-up's id, as we write it into receipts and notes; empty where it is none."""
    return value if isinstance(value, str) and _TOPUP_ID.fullmatch(value) else ""


def items(collection: JsonObject) -> list[object]:
    """Return the items of a collection.

    Raises:
        Unreadable.
    """
    found = collection.get("items")
    if not isinstance(found, list):
        raise Unreadable("`items` is not a list.")
    return found


def status_of(entity: JsonObject) -> str:
    """Return what state an entity says it is in; empty where it says none."""
    status = entity.get("status")
    return status if isinstance(status, str) else ""


def time_seconds(entity: JsonObject) -> int:
    """Return `created_at` in seconds since the epoch; 0 where it is missing or no time."""
    return _seconds(entity.get("created_at"))


def _close_time_seconds(qr_code: JsonObject) -> int:
    """Return `close_by`, which Razorpay tells as a number or as a text; 0 where it is no time."""
    value = qr_code.get("close_by")
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        value = int(value)
    return _seconds(value)


def _seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 < value <= _LATEST_SECONDS else 0


def _failure_reason(payment: JsonObject) -> str:
    """Say why it failed. Razorpay leaves these null or empty at will."""
    return display_text(payment.get("error_description")) or display_text(
        payment.get("error_reason")
    )


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


def _is_more_than_nothing(value: object) -> bool:
    """Tell whether an amount beside the main one is there at all; null stands for none."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
