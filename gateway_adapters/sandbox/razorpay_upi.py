"""UPI at the sandbox's Razorpay: intents on an order, and QR codes that are paid without one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway_adapters.sandbox.razorpay_account import (
    RazorpayAccount,
    check_open,
    new_id,
    now_seconds,
)
from gateway_adapters.sandbox.razorpay_entities import Event, Payment, QrCode, qr_code_entity
from gateway_adapters.sandbox.razorpay_fields import (
    RazorpayError,
    amount_field,
    close_by_field,
    label_field,
    no_other_fields,
    notes_field,
    one_of_field,
)
from gateway_adapters.upi import UpiIntent, intent_uri
from server.ledger.money import Money

_PAYEE: Final = "sandbox.razorpay@sandbox"
_PAYEE_NAME: Final = "Sandbox Shop"
_QR_CODE_FIELDS: Final = frozenset(
    {
        "type",
        "name",
        "usage",
        "fixed_amount",
        "payment_amount",
        "description",
        "customer_id",
        "close_by",
        "notes",
    }
)


def create_intent(account: RazorpayAccount, content: Mapping[str, Any]) -> tuple[Payment, str]:
    """Start a payment of an order by UPI; return it with the link for the customer's app.

    Raises:
        RazorpayError: a field is not as Razorpay wants it, or the order is paid.
    """
    for name in ("email", "contact"):
        if not isinstance(content.get(name), str) or not content[name]:
            raise RazorpayError(f"The {name} field is required.", name)
    one_of_field(content, "method", "upi")
    upi = content.get("upi")
    one_of_field(upi if isinstance(upi, dict) else {}, "flow", "intent")
    order = account.order(str(content.get("order_id")))
    check_open(order)
    if amount_field(content.get("amount")) != order.amount:
        raise RazorpayError("Your payment amount is different from your order amount.", "amount")
    if content.get("currency") != "INR" or order.currency != "INR":
        raise RazorpayError("UPI is available for INR only", "currency")
    payment = Payment(
        id=new_id("pay"),
        order_id=order.id,
        amount=order.amount,
        currency=order.currency,
        method="upi",
        status="created",
        amount_refunded=0,
        notes=notes_field(content.get("notes")),
        created_at=now_seconds(),
        is_intent=True,
    )
    account.add_attempt(payment)
    return payment, _uri(payment.id, order.amount)


def create_qr_code(
    account: RazorpayAccount, content: Mapping[str, Any]
) -> tuple[QrCode, list[Event]]:
    """Make a QR code of one payment of a fixed amount by UPI, the only kind that there is here.

    Raises:
        RazorpayError: a field is not as Razorpay wants it.
    """
    no_other_fields(content, _QR_CODE_FIELDS)
    one_of_field(content, "type", "upi_qr")
    one_of_field(content, "usage", "single_use")
    one_of_field(content, "fixed_amount", True)
    qr_code_id = new_id("qr")
    amount = amount_field(content.get("payment_amount"), "payment_amount")
    now = now_seconds()
    qr_code = QrCode(
        id=qr_code_id,
        name=label_field(content, "name"),
        description=label_field(content, "description"),
        amount=amount,
        notes=notes_field(content.get("notes")),
        image_content=_uri(qr_code_id, amount),
        close_by=close_by_field(content.get("close_by"), now),
        created_at=now,
    )
    account.qr_codes[qr_code.id] = qr_code
    # A webhook of Razorpay's tells this time as a text; its answers, as a number.
    told = qr_code_entity(qr_code) | {"close_by": str(qr_code.close_by)}
    return qr_code, [Event("qr_code.created", {"qr_code": told})]


def close_qr_code(account: RazorpayAccount, qr_code_id: str) -> tuple[QrCode, list[Event]]:
    """Close a QR code, so that it is not paid any more.

    Raises:
        RazorpayError: there is none, or it is closed.
    """
    qr_code = account.qr_code(qr_code_id)
    check_open(qr_code)
    closed = replace(qr_code, closed_at=now_seconds(), close_reason="on_demand")
    account.qr_codes[closed.id] = closed
    return closed, [Event("qr_code.closed", {"qr_code": qr_code_entity(closed)})]


def _uri(reference: str, amount: int) -> str:
    return intent_uri(UpiIntent(_PAYEE, _PAYEE_NAME, Money("INR", amount), reference))
