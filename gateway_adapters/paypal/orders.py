"""A top-up's order at PayPal: how it is asked for, and what it says of the payment."""

import json
from typing import Final

from gateway_adapters.gateway import GatewayRefused, PaymentReport
from gateway_adapters.outbound import Answer
from gateway_adapters.paypal.amounts import to_amount
from gateway_adapters.paypal.api import issues
from gateway_adapters.paypal.settings import PaypalSettings
from gateway_adapters.paypal.wire import WireOrder
from gateway_adapters.wire import JsonObject
from server.ledger.records import GatewayPayment, GatewayPaymentStatus, Topup

ALREADY_CAPTURED: Final = "ORDER_ALREADY_CAPTURED"
DECLINED_ISSUES: Final = frozenset(
    {
        "CARD_EXPIRED",
        "COMPLIANCE_VIOLATION",
        "INSTRUMENT_DECLINED",
        "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED",
        "PAYEE_BLOCKED_TRANSACTION",
        "PAYER_ACCOUNT_LOCKED_OR_CLOSED",
        "PAYER_ACCOUNT_RESTRICTED",
        "PAYER_CANNOT_PAY",
        "TRANSACTION_BLOCKED_BY_PAYEE",
        "TRANSACTION_LIMIT_EXCEEDED",
        "TRANSACTION_RECEIVING_LIMIT_EXCEEDED",
        "TRANSACTION_REFUSED",
    }
)
"""Why PayPal does not capture an approved order: the customer has to pay in another way."""

_LANDING_PAGES: Final = {"paypal": "LOGIN", "card": "GUEST_CHECKOUT"}
METHODS: Final = frozenset(_LANDING_PAGES)


def order_request(topup: Topup, settings: PaypalSettings) -> JsonObject:
    """Return the body that asks for a top-up's order."""
    return_url = topup.return_url or settings.return_url
    cancel_url = topup.return_url or settings.cancel_url or settings.return_url
    context = {
        "landing_page": _LANDING_PAGES[topup.method],
        "user_action": "PAY_NOW",
        "shipping_preference": "NO_SHIPPING",
        # No cheques, that clear days later or do not.
        "payment_method_preference": "IMMEDIATE_PAYMENT_REQUIRED",
    }
    if return_url and cancel_url:
        context |= {"return_url": return_url, "cancel_url": cancel_url}
    return {
        "intent": "CAPTURE",
        "purchase_units": [
            {
                "reference_id": topup.topup_id,
                "custom_id": topup.topup_id,
                "invoice_id": topup.topup_id,
                "amount": to_amount(topup.amount),
            }
        ],
        "payment_source": {"paypal": {"experience_context": context}},
    }


def check_order(topup: Topup, order: WireOrder) -> None:
    """Make sure that the customer pays what the top-up is for.

    Raises:
        GatewayRefused.
    """
    if order.amount != topup.amount or order.topup_id != topup.topup_id:
        raise GatewayRefused(
            f"PayPal's order {order.order_id} is for {order.amount} and does not fit the top-up "
            f"{topup.topup_id} for {topup.amount}."
        )


def payment_of(order: WireOrder) -> GatewayPayment | None:
    """Return the payment that counts; None where the customer has done nothing yet.

    A capture that is done or under way comes first, then an approval that waits for its capture,
    then what failed.
    """
    by_status = {capture.status: capture for capture in reversed(order.captures)}
    for status in (GatewayPaymentStatus.CAPTURED, GatewayPaymentStatus.PENDING):
        if status in by_status:
            return by_status[status]
    if order.status == "APPROVED":
        return _without_capture(order, GatewayPaymentStatus.AUTHORIZED)
    if GatewayPaymentStatus.FAILED in by_status:
        return by_status[GatewayPaymentStatus.FAILED]
    if order.status == "VOIDED":
        return _without_capture(order, GatewayPaymentStatus.FAILED, "PayPal voided the order.")
    return None


def report_of(order: WireOrder, answer: Answer) -> PaymentReport | None:
    """Return the payment that counts with its refunds, and the answer that told of them."""
    payment = payment_of(order)
    if payment is None:
        return None
    refunds = (refund for refund in order.refunds if refund.payment_id == payment.payment_id)
    return PaymentReport(payment, answer.body, tuple(refunds))


def declined_report(
    topup: Topup, payment: GatewayPayment, refused: GatewayRefused
) -> PaymentReport | None:
    """Return a failed payment, where that is what PayPal's refusal of a capture means."""
    found = issues(refused) & DECLINED_ISSUES
    if not found:
        return None
    failed = GatewayPayment(
        payment_id=payment.payment_id,
        gateway_order_id=topup.gateway_order_id,
        status=GatewayPaymentStatus.FAILED,
        amount=topup.amount,
        failure_reason=f"PayPal declined the payment: {min(found)}.",
    )
    return PaymentReport(failed, json.dumps(dict(refused.content)).encode())


def _without_capture(
    order: WireOrder, status: GatewayPaymentStatus, failure_reason: str = ""
) -> GatewayPayment:
    return GatewayPayment("", order.order_id, status, order.amount, failure_reason)
