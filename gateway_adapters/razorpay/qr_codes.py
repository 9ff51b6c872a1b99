"""One Razorpay QR code for each top-up by `upi_qr`: it stands for the order that there is not.

Source: https://razorpay.com/docs/api/qr-codes/create/.
"""

from dataclasses import replace
from functools import partial
from typing import Final

from gateway_adapters.gateway import GatewayRefused
from gateway_adapters.razorpay.api import (
    PAGE_SIZE,
    RazorpayApi,
    find_or_make,
    read,
    reading,
    time_bound,
)
from gateway_adapters.razorpay.upi_intents import checked_uri
from gateway_adapters.razorpay.wire import (
    WirePayment,
    WireQrCode,
    items,
    noted_topup,
    read_payment,
    read_qr_code,
    read_qr_code_id,
)
from gateway_adapters.wire import as_object
from server.ledger.records import Checkout, Topup

METHOD: Final = "upi_qr"

_PATH: Final = "/v1/payments/qr_codes"
_SHORTEST_SECONDS: Final = 16 * 60
"""Razorpay refuses what closes earlier: in 2 minutes, or in 15, as its documentation says of one
kind of account. A minute more is for clocks that differ."""
_CLOCKS_DIFFER_SECONDS: Final = 10
"""By so much Razorpay's clock may be behind ours. By more, and a QR code whose answer was lost is
not found: another is made, and the lost one is shown to nobody."""


async def open_qr_code(api: RazorpayApi, topup: Topup, now_seconds: float) -> Checkout:
    """Find the top-up's QR code or make one; return how to pay it.

    Raises:
        GatewayUnavailable.
        GatewayRefused: by Razorpay, or the QR code does not ask for what the top-up is for.
    """
    close_seconds = max(topup.expire_time_ms // 1000, int(now_seconds) + _SHORTEST_SECONDS)
    qr_code = await find_or_make(
        partial(_find, api, topup), partial(_create, api, topup, close_seconds)
    )
    uri = checked_uri(qr_code.image_content, topup) if qr_code.image_content else ""
    if not uri and not qr_code.image_url:
        raise GatewayRefused(
            f"Razorpay's QR code {qr_code.qr_code_id} has neither its content nor a picture."
        )
    return Checkout(
        gateway_order_id=qr_code.qr_code_id,
        public_key="",
        url="" if uri else qr_code.image_url,
        upi_intent_uri=uri,
        expire_time_ms=qr_code.close_time_seconds * 1000 or None,
    )


async def payments_of(api: RazorpayApi, qr_code_id: str) -> tuple[list[WirePayment], bytes]:
    """Return a QR code's payments, whose order it stands for, and the answer as it came.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    # One payment pays it, and far fewer fail than a page holds.
    answer = await api.get(f"{_PATH}/{qr_code_id}/payments", {"count": str(PAGE_SIZE)})
    payments = read(answer, lambda content: [read_payment(entry) for entry in items(content)])
    named = [
        replace(found, payment=replace(found.payment, gateway_order_id=qr_code_id))
        for found in payments
    ]
    return named, answer.body


async def qr_code_of(api: RazorpayApi, payment_id: str) -> str:
    """Return the QR code that a payment was made by; empty where there is none.

    Whoever does not know the filter gives every QR code there is: the QR code's own payments have
    the last word.

    Raises:
        GatewayUnavailable.
    """
    try:
        answer = await api.get(_PATH, {"payment_id": payment_id})
        found = read(answer, items)
        if len(found) != 1:
            return ""
        with reading():
            qr_code_id = read_qr_code_id(as_object(found[0], "The QR code"))
        payments, _ = await payments_of(api, qr_code_id)
    except GatewayRefused:
        return ""
    is_its_own = any(one.payment.payment_id == payment_id for one in payments)
    return qr_code_id if is_its_own else ""


async def _find(api: RazorpayApi, topup: Topup) -> WireQrCode | None:
    """Find the top-up's QR code that was paid or else can be; the notes name the top-up."""
    start = topup.create_time_ms // 1000 - _CLOCKS_DIFFER_SECONDS
    found = []
    async for entry in api.entries(_PATH, {"from": time_bound(start)}):
        with reading():
            if noted_topup(as_object(entry, "The QR code")) != topup.topup_id:
                continue
            qr_code = read_qr_code(entry)
        _check(topup, qr_code)
        if qr_code.is_paid or qr_code.is_active:
            found.append(qr_code)
    return min(found, key=_rank, default=None)


async def _create(api: RazorpayApi, topup: Topup, close_seconds: int) -> WireQrCode:
    answer = await api.post(
        _PATH,
        {
            "type": "upi_qr",
            "name": "Wallet top-up",
            "usage": "single_use",
            "fixed_amount": True,
            "payment_amount": topup.amount.minor_units,
            "description": topup.topup_id,
            "close_by": close_seconds,
            "notes": {"topup_id": topup.topup_id, "customer_id": topup.customer_id},
        },
    )
    qr_code = read(answer, read_qr_code)
    _check(topup, qr_code)
    return qr_code


def _check(topup: Topup, qr_code: WireQrCode) -> None:
    """Make sure that the customer pays what the top-up is for."""
    if qr_code.amount != topup.amount or qr_code.topup_id != topup.topup_id:
        raise GatewayRefused(
            f"Razorpay's QR code {qr_code.qr_code_id} is for {qr_code.amount} and does not fit the "
            f"top-up {topup.topup_id} for {topup.amount}."
        )


def _rank(qr_code: WireQrCode) -> tuple[bool, int, str]:
    """Sort the paid one first, then the oldest."""
    return not qr_code.is_paid, qr_code.create_time_seconds, qr_code.qr_code_id
