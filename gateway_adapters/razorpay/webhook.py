"""Razorpay's webhooks: the signature over the raw body first, then what the event says.

Source of the rules: https://razorpay.com/docs/webhooks/validate-test/.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway_adapters.gateway import MalformedEvent, SignatureInvalid, WebhookEvent
from gateway_adapters.razorpay.events import read_told
from gateway_adapters.razorpay.wire import time_seconds
from gateway_adapters.wire import JsonObject, Unreadable, read_object

SIGNATURE_HEADER: Final = "x-razorpay-signature"
EVENT_ID_HEADER: Final = "x-razorpay-event-id"

_EVENT_TYPE: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_MAX_EVENT_TYPE_LENGTH: Final = 64
_EVENT_ID: Final = re.compile(r"[!-~]{1,128}")


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
    # What changes nothing here may come without a payload; whatever needs one says so.
    payload = envelope.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    told = read_told(event_type, payload)
    # `refund.speed_changed` has the time inside its payload.
    made_seconds = time_seconds(envelope) or time_seconds(payload)
    return WebhookEvent(
        event_id=event_id,
        event_type=event_type,
        fact=told.fact if told else None,
        report_time_ms=made_seconds * 1000 or None,
        topup_id=told.topup_id if told else "",
    )


def _event_id(headers: Mapping[str, str], body: bytes) -> str:
    """Return Razorpay's id of the event, or one that its body gives."""
    event_id = headers.get(EVENT_ID_HEADER, "")
    if _EVENT_ID.fullmatch(event_id):
        return event_id
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
