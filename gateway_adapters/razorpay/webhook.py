"""Razorpay's webhooks: the signature over the raw body first, then what the event says.

Source of the rules: https://razorpay.com/docs/webhooks/validate-test/ and
https://razorpay.com/docs/webhooks/payloads/payments/.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway_adapters.gateway import MalformedEvent, SignatureInvalid, WebhookEvent
from gateway_adapters.razorpay.wire import (
    STATUSES,
    JsonObject,
    Unreadable,
    member,
    read_object,
    read_order,
    read_payment,
)
from server.ledger.records import GatewayPaymentStatus

SIGNATURE_HEADER: Final = "x-razorpay-signature"
EVENT_ID_HEADER: Final = "x-razorpay-event-id"

_PAYMENT_EVENTS: Final = frozenset(
    {"payment.authorized", "payment.captured", "payment.failed", "order.paid"}
)
_EVENT_TYPE: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_MAX_EVENT_TYPE_LENGTH: Final = 64
_EVENT_ID: Final = re.compile(r"[!-~]{1,128}")
_TOPUP_ID: Final = re.compile(r"top_[0-9A-Za-z]{1,36}")


def read_webhook(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> WebhookEvent:
    """Verify the signature with any of `secrets`, then read the event.

    `headers` have lower-case names. No timestamp is signed, so that an old webhook stays good: what
    repeats it is kept out by the event's id.

    Raises:
        SignatureInvalid, MalformedEvent.
    """
    signature = headers.get(SIGNATURE_HEADER, "")
    if not signature:
        raise SignatureInvalid("The webhook carries no X-Razorpay-Signature header.")
    # Each secret is tried, so that the time does not tell which one fits.
    fits = [is_signed(body, signature, secret) for secret in secrets]
    if not any(fits):
        raise SignatureInvalid("The webhook's signature does not fit its body.")
    try:
        return _read_event(_event_id(headers, body), read_object(body))
    except Unreadable as error:
        raise MalformedEvent(str(error)) from None


def is_signed(message: bytes, signature: str, key: str) -> bool:
    """Tell whether `signature` is the hex HMAC-SHA256 of `message`, in constant time."""
    expected = hmac.new(key.encode(), message, hashlib.sha256).hexdigest()
    # As bytes, because a header may hold more than ASCII.
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def _read_event(event_id: str, envelope: JsonObject) -> WebhookEvent:
    """Say in the ledger's terms what the event tells."""
    event_type = envelope.get("event")
    if (
        not isinstance(event_type, str)
        or len(event_type) > _MAX_EVENT_TYPE_LENGTH
        or _EVENT_TYPE.fullmatch(event_type) is None
    ):
        raise Unreadable("`event` is not the name of an event.")
    if event_type not in _PAYMENT_EVENTS:
        return WebhookEvent(event_id, event_type, None)
    payload = member(envelope, "payload")
    entity = member(member(payload, "payment"), "entity")
    payment = read_payment(entity, _status_told(event_type, entity)).payment
    receipt: object = None
    if event_type == "order.paid":
        order_entity = member(member(payload, "order"), "entity")
        if read_order(order_entity).order_id != payment.gateway_order_id:
            raise Unreadable("The payment does not belong to the order beside it.")
        receipt = order_entity.get("receipt")
    return WebhookEvent(event_id, event_type, payment, _topup_id(receipt))


def _status_told(event_type: str, entity: JsonObject) -> GatewayPaymentStatus:
    """Take the event's word; an authorized payment may be captured by the time it is told."""
    match event_type:
        case "payment.captured" | "order.paid":
            return GatewayPaymentStatus.CAPTURED
        case "payment.failed":
            return GatewayPaymentStatus.FAILED
    is_captured = STATUSES.get(str(entity.get("status"))) is GatewayPaymentStatus.CAPTURED
    return GatewayPaymentStatus.CAPTURED if is_captured else GatewayPaymentStatus.AUTHORIZED


def _topup_id(receipt: object) -> str:
    """Return the top-up that the order was made for, by its receipt, which only we set.

    A payment's notes are not asked: Checkout lets the customer set them, who could have somebody
    else's payment credited by them.
    """
    is_ours = isinstance(receipt, str) and _TOPUP_ID.fullmatch(receipt)
    return str(receipt) if is_ours else ""


def _event_id(headers: Mapping[str, str], body: bytes) -> str:
    """Return Razorpay's id of the event, or one that its body gives."""
    event_id = headers.get(EVENT_ID_HEADER, "")
    if _EVENT_ID.fullmatch(event_id):
        return event_id
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
