"""One order at Razorpay for each top-up, found again by its receipt, and its payments.

Source: https://razorpay.com/docs/api/orders/create/.
"""

from functools import partial
from typing import Final

from gateway_adapters.gateway import GatewayRefused
from gateway_adapters.razorpay.api import RazorpayApi, find_or_make, read
from gateway_adapters.razorpay.wire import WireOrder, WirePayment, items, read_order, read_payment
from server.ledger.records import Topup

_CAPTURE: Final = {
    "capture": "automatic",
    # A payment that is authorized late, up to five days after, is captured and so credited.
    "capture_options": {
        "automatic_expiry_period": 7200,
        "manual_expiry_period": 7200,
        "refund_speed": "normal",
    },
}
_MAX_NOTE_LENGTH: Final = 256
_STATUSES: Final = ("paid", "attempted", "created")
"""Of several orders for one top-up the one that is furthest counts."""


async def open_order(api: RazorpayApi, topup: Topup) -> WireOrder:
    """Find the top-up's order or make one.

    Its receipt stands in for the idempotency key that Razorpay does not take.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    return await find_or_make(partial(_find, api, topup), partial(_create, api, topup))


async def payments_of(api: RazorpayApi, order_id: str) -> tuple[list[WirePayment], bytes]:
    """Return an order's payments, and the answer as it came.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    answer = await api.get(f"/v1/orders/{order_id}/payments")
    payments = read(answer, lambda content: [read_payment(entry) for entry in items(content)])
    return [found for found in payments if found.payment.gateway_order_id == order_id], answer.body


async def _find(api: RazorpayApi, topup: Topup) -> WireOrder | None:
    answer = await api.get("/v1/orders", {"receipt": topup.topup_id})
    orders = [
        order
        for order in read(answer, lambda content: [read_order(one) for one in items(content)])
        if order.receipt == topup.topup_id
    ]
    for order in orders:
        _check(topup, order)
    return min(orders, key=_rank, default=None)


async def _create(api: RazorpayApi, topup: Topup) -> WireOrder:
    answer = await api.post(
        "/v1/orders",
        {
            "amount": topup.amount.minor_units,
            "currency": topup.amount.currency_code,
            "receipt": topup.topup_id,
            "notes": _notes(topup),
            "payment": _CAPTURE,
        },
    )
    order = read(answer, read_order)
    _check(topup, order)
    return order


def _notes(topup: Topup) -> dict[str, str]:
    """Return what Razorpay keeps with the order: whose it is, and where its payer comes from.

    A page of the merchant's that pays the order finds there where to send the customer back to.
    """
    notes = {"topup_id": topup.topup_id, "customer_id": topup.customer_id}
    if 0 < len(topup.return_url) <= _MAX_NOTE_LENGTH:
        notes["return_url"] = topup.return_url
    return notes


def _check(topup: Topup, order: WireOrder) -> None:
    """Make sure that the customer pays what the top-up is for."""
    if order.amount != topup.amount or order.receipt != topup.topup_id:
        raise GatewayRefused(
            f"Razorpay's order {order.order_id} is for {order.amount} and does not fit the "
            f"top-up {topup.topup_id} for {topup.amount}."
        )


def _rank(order: WireOrder) -> tuple[int, int, str]:
    """Sort the order that is furthest first, then the oldest."""
    is_known = order.status in _STATUSES
    progress = _STATUSES.index(order.status) if is_known else len(_STATUSES)
    return progress, order.create_time_seconds, order.order_id
