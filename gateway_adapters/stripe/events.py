"""What Stripe's events say in the ledger's terms: one table, and how each kind is read.

Source: https://docs.stripe.com/api/events/types.

`charge.*` beside refunds and disputes is left out: every charge has its intent's events, and
`charge.refunded` tells a sum of refunds, each of which has events of its own. For those the
endpoint needs an API version from 2024-10-28.acacia on; before it `refund.created` was not sent
for charges. What the money of refunds and disputes follows stands in `reversals`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway_adapters.gateway import Fact, MalformedEvent, WebhookEvent
from gateway_adapters.stripe.reversals import read_dispute, read_refund
from gateway_adapters.stripe.wire import created_ms, payment_as, read_intent
from gateway_adapters.wire import JsonObject, Unreadable, member, read_object
from server.ledger.records import GatewayPaymentStatus

_EVENT_TYPE: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_MAX_EVENT_TYPE_LENGTH: Final = 96
_EVENT_ID: Final = re.compile(r"evt_[A-Za-z0-9_]{1,124}")


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says: a fact, and the top-up that it names where it does."""

    fact: Fact | None
    topup_id: str = ""


def read_event(body: bytes) -> WebhookEvent:
    """Read the body of a webhook whose signature fits.

    Raises:
        MalformedEvent.
    """
    try:
        return _read_event(read_object(body))
    except Unreadable as error:
        raise MalformedEvent(str(error)) from None


def _read_event(event: JsonObject) -> WebhookEvent:
    event_id, event_type = event.get("id"), event.get("type")
    if event.get("object") != "event":
        raise Unreadable("The body is not one of Stripe's snapshot events.")
    if not isinstance(event_id, str) or _EVENT_ID.fullmatch(event_id) is None:
        raise Unreadable("The event's id does not look like one.")
    if (
        not isinstance(event_type, str)
        or len(event_type) > _MAX_EVENT_TYPE_LENGTH
        or _EVENT_TYPE.fullmatch(event_type) is None
    ):
        raise Unreadable("`type` is not the name of an event.")
    reader = READERS.get(event_type)
    told = Told(None) if reader is None else reader(member(member(event, "data"), "object"))
    return WebhookEvent(
        event_id=event_id,
        event_type=event_type,
        fact=told.fact,
        report_time_ms=created_ms(event),
        topup_id=told.topup_id,
    )


def _payment(status: GatewayPaymentStatus) -> Callable[[JsonObject], Told]:
    """Take the event's word for the payment's status."""

    def read(entity: JsonObject) -> Told:
        intent = read_intent(entity)
        return Told(payment_as(intent, status), intent.topup_id)

    return read


def _refund(entity: JsonObject) -> Told:
    return Told(read_refund(entity))


def _refund_failed(entity: JsonObject) -> Told:
    return Told(read_refund(entity, has_failed=True))


def _dispute(entity: JsonObject) -> Told:
    return Told(read_dispute(entity))


READERS: Final[Mapping[str, Callable[[JsonObject], Told]]] = MappingProxyType(
    {
        "payment_intent.succeeded": _payment(GatewayPaymentStatus.CAPTURED),
        "payment_intent.amount_capturable_updated": _payment(GatewayPaymentStatus.AUTHORIZED),
        "payment_intent.processing": _payment(GatewayPaymentStatus.PENDING),
        "payment_intent.payment_failed": _payment(GatewayPaymentStatus.FAILED),
        "payment_intent.canceled": _payment(GatewayPaymentStatus.FAILED),
        "refund.created": _refund,
        "refund.updated": _refund,
        "refund.failed": _refund_failed,
        "charge.refund.updated": _refund,
        "charge.dispute.created": _dispute,
        "charge.dispute.updated": _dispute,
        "charge.dispute.funds_withdrawn": _dispute,
        "charge.dispute.funds_reinstated": _dispute,
        "charge.dispute.closed": _dispute,
    }
)
"""The events that say something of money. All others are recorded and change nothing."""
