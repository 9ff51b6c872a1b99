"""Razorpay's own books: the payments that it captured, its refunds, and its disputes.

Source: https://razorpay.com/docs/api/payments/fetch-all-payments/ and
https://razorpay.com/docs/api/pagination/.
"""

from collections.abc import AsyncIterator
from typing import Final

from gateway_adapters.gateway import Movement
from gateway_adapters.outbound import NOTHING
from gateway_adapters.razorpay.api import RazorpayApi, reading, time_bound
from gateway_adapters.razorpay.reversals import reversal_of_dispute, reversal_of_refund
from gateway_adapters.razorpay.wire import (
    STATUSES,
    read_dispute,
    read_payment,
    read_refund,
    status_of,
)
from gateway_adapters.wire import as_object
from server.ledger.records import GatewayPayment, GatewayPaymentStatus, GatewayReversal

_MS: Final = 1000


async def movements(
    api: RazorpayApi, start_time_ms: int, end_time_ms: int
) -> AsyncIterator[Movement]:
    """Go through what was captured, refunded and disputed; see Gateway.

    The time of each is the second in which Razorpay made it: when a payment was captured, it does
    not tell.
    """
    # Whether the bounds belong to the time is not documented: a second more, and then exactly.
    query = {
        "from": time_bound(start_time_ms // _MS - 1),
        "to": time_bound(end_time_ms // _MS + 1),
    }
    # Disputes are listed without any bounds.
    for path, bounds, read_entry in (
        ("/v1/payments", query, _captured_payment),
        ("/v1/refunds", query, _refund),
        ("/v1/disputes", NOTHING, _dispute),
    ):
        seen: set[str] = set()
        async for entry in api.entries(path, bounds):
            with reading():
                movement = read_entry(entry)
            if movement is None or not start_time_ms <= movement.time_ms < end_time_ms:
                continue
            name = _name(movement)
            if name not in seen:
                seen.add(name)
                yield movement


async def refunds_of(api: RazorpayApi, payment: GatewayPayment) -> tuple[GatewayReversal, ...]:
    """Return what was refunded of a payment, whoever started it.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    found: dict[str, GatewayReversal] = {}
    async for entry in api.entries(f"/v1/payments/{payment.payment_id}/refunds"):
        with reading():
            refund = read_refund(entry)
        if refund.payment_id == payment.payment_id:
            found[refund.refund_id] = reversal_of_refund(refund, payment.gateway_order_id)
    return tuple(found.values())


def _captured_payment(entry: object) -> Movement | None:
    """Read a payment; None where it moved no money."""
    status = STATUSES.get(status_of(as_object(entry, "The payment")))
    if status is not GatewayPaymentStatus.CAPTURED:
        return None
    found = read_payment(entry)
    return Movement(found.payment, found.create_time_seconds * _MS)


def _refund(entry: object) -> Movement:
    refund = read_refund(entry)
    return Movement(reversal_of_refund(refund), refund.create_time_seconds * _MS)


def _dispute(entry: object) -> Movement:
    dispute = read_dispute(entry)
    return Movement(reversal_of_dispute(dispute), dispute.create_time_seconds * _MS)


def _name(movement: Movement) -> str:
    fact = movement.fact
    return fact.reversal_id if isinstance(fact, GatewayReversal) else fact.payment_id
