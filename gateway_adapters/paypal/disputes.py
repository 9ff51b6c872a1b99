"""Disputes that the buyer won: what of the loss no refund tells, so that the dispute itself has to.

PayPal, or the merchant who gave in, pays the buyer back by a refund of the capture, with an id and
an event of its own. The order lists its captures and all refunds of them, so that one question
tells what was given back since the dispute began. A refund before that has nothing to do with it.
"""

from dataclasses import dataclass

from gateway_adapters.paypal.wire import (
    payments_in,
    purchase_unit,
    read_capture,
    read_refund,
    read_time_ms,
)
from gateway_adapters.wire import JsonObject, as_object
from server.ledger.money import Money
from server.ledger.records import ReversalState


@dataclass(frozen=True, slots=True)
class LostDispute:
    """What the buyer got by a dispute, whether by a refund that the order shows or not."""

    amount: Money
    since_ms: int
    """When the dispute began, in milliseconds since the epoch."""


def loss_without_refund(lost: LostDispute, capture_id: str, order: JsonObject) -> Money:
    """Return what no refund tells: zero where refunds tell of all, or nothing is left to give back.

    Raises:
        Unreadable: the order, a capture or a refund of it cannot be read.
    """
    unit = purchase_unit(order)
    captures = [
        read_capture(as_object(one, "The capture")) for one in payments_in(unit, "captures")
    ]
    left = sum(one.amount.minor_units for one in captures if one.payment_id == capture_id)
    missing = lost.amount.minor_units
    for one in payments_in(unit, "refunds"):
        entry = as_object(one, "The refund")
        refund = read_refund(entry)
        if refund.payment_id != capture_id or refund.state is ReversalState.RETURNED:
            continue
        left -= refund.amount.minor_units
        if read_time_ms(entry.get("create_time"), "The refund's time") >= lost.since_ms:
            missing -= refund.amount.minor_units
    return Money(lost.amount.currency_code, max(0, min(missing, left)))
