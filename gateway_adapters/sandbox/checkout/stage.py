"""How far an order and its webhooks have come, and what the checkout page says of that.

A gateway does not know of wallets. Whether one was credited is what the sidecar answered to the
webhooks that tell of the payment.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway_adapters.sandbox.checkout.payable import Payable, PayableState
from gateway_adapters.sandbox.webhooks import Delivery, DeliveryState

_CREDITING_OUTCOMES: Final = frozenset({"APPLIED", "DUPLICATE"})


class Stage(StrEnum):
    """Where an order is, its webhooks included."""

    OPEN = "open"
    FAILED = "failed"
    PENDING = "pending"
    CLOSED = "closed"
    TELLING = "telling"
    """Paid; the webhook is on its way."""
    CREDITED = "credited"
    NOT_CREDITED = "not_credited"
    """Paid; the webhook was taken, and not applied."""
    NOT_TOLD = "not_told"
    """Paid; no webhook is known to have been taken, and none is on its way."""


class Words(NamedTuple):
    """What the page says."""

    heading: str
    text: str


PAYABLE: Final = frozenset({Stage.OPEN, Stage.FAILED})
"""Stages in which a person may choose."""
PASSING: Final = frozenset({Stage.PENDING, Stage.TELLING})
"""Stages that end by themselves: the page looks again."""

_UNPAID: Final[Mapping[PayableState, Stage]] = MappingProxyType(
    {
        PayableState.OPEN: Stage.OPEN,
        PayableState.FAILED: Stage.FAILED,
        PayableState.PENDING: Stage.PENDING,
        PayableState.CLOSED: Stage.CLOSED,
    }
)

WORDS: Final[Mapping[Stage, Words]] = MappingProxyType(
    {
        Stage.OPEN: Words(
            "Waiting for the payment.",
            "Choose what the customer does. A webhook then tells the wallet service.",
        ),
        Stage.FAILED: Words(
            "The payment failed.",
            "No money was taken. The order can still be paid.",
        ),
        Stage.PENDING: Words(
            "The payment is under way.",
            "No money is taken yet. This page follows it.",
        ),
        Stage.CLOSED: Words(
            "This order cannot be paid any more.",
            "It was cancelled or declined, and no money was taken. Start another top-up.",
        ),
        Stage.TELLING: Words(
            "Paid. The wallet service is being told.",
            "The webhook comes again until it is taken. This page follows it.",
        ),
        Stage.CREDITED: Words(
            "Paid. The wallet has been credited.",
            "An order is paid once: nothing is left to do here.",
        ),
        Stage.NOT_CREDITED: Words(
            "Paid. The wallet has not been credited.",
            "The service took the webhook and keeps the payment for review.",
        ),
        Stage.NOT_TOLD: Words(
            "Paid. Whether the wallet was credited is not known here.",
            "No webhook was taken since the sandbox started. The service finds out by asking.",
        ),
    }
)


def stage_of(payable: Payable, deliveries: Sequence[Delivery]) -> Stage:
    """Return where an order is; `deliveries` are of the webhooks that tell of its payment."""
    if payable.state is not PayableState.PAID:
        return _UNPAID[payable.state]
    taken = [one.outcome for one in deliveries if one.state is DeliveryState.TAKEN]
    if payable.paid_amount == payable.amount and _CREDITING_OUTCOMES.intersection(taken):
        return Stage.CREDITED
    if any(one.state is DeliveryState.WAITING for one in deliveries):
        return Stage.TELLING
    return Stage.NOT_CREDITED if taken else Stage.NOT_TOLD
