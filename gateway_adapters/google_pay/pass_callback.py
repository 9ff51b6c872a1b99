"""Callbacks that Google Wallet signs itself: a pass was saved or deleted. They carry no payment.

Source of the rules:
https://developers.google.com/wallet/generic/use-cases/use-callbacks-for-saves-and-deletions. They
are signed as payment tokens are, in the name of `GooglePayPasses` and for the issuer's id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway_adapters.google_pay.errors import Expired, Malformed
from gateway_adapters.google_pay.root_keys import SIGNING_ONLY_VERSION, RootKey
from gateway_adapters.google_pay.signed_message import verify_signed_message
from gateway_adapters.google_pay.wire import is_unicode, read_object, time_ms_of
from gateway_adapters.wire import JsonObject

SENDER: Final = "GooglePayPasses"
"""Who signs callbacks."""

_MAX_TEXT_LENGTH: Final = 256


@dataclass(frozen=True, slots=True)
class PassCallback:
    """A verified callback. Google may deliver one more than once: `nonce` tells it again."""

    event_type: str
    """`save` or `del`; others may come."""
    class_id: str
    """`<issuer id>.<class>`; empty for a private pass."""
    object_id: str
    """`<issuer id>.<object>`; empty for a private pass."""
    nonce: str
    expires_ms: int
    replay_key: str
    """The same for the same signed callback, however its envelope is written."""


def verify_pass_callback(
    body: bytes, root_keys: Sequence[RootKey], issuer_id: str, now_ms: int
) -> PassCallback:
    """Verify that Google signed the callback for `issuer_id` and that it is not past its time.

    Raises:
        Malformed, UnsupportedVersion, KeyUnknown, SignatureInvalid, Expired.
        ValueError: the issuer's id is blank.
    """
    signed = verify_signed_message(
        body, SENDER, SIGNING_ONLY_VERSION, (issuer_id,), root_keys, now_ms
    )
    content = read_object(signed.text, "`signedMessage`")
    expires_ms = time_ms_of(content, "expTimeMillis")
    if now_ms >= expires_ms:
        raise Expired("The callback has expired.")
    return PassCallback(
        event_type=_required_text(content, "eventType"),
        class_id=_text(content, "classId"),
        object_id=_text(content, "objectId"),
        nonce=_required_text(content, "nonce"),
        expires_ms=expires_ms,
        replay_key=signed.replay_key,
    )


def _required_text(content: JsonObject, name: str) -> str:
    found = _text(content, name)
    if not found:
        raise Malformed(f"`{name}` is missing.")
    return found


def _text(content: JsonObject, name: str) -> str:
    """Return a text that is fit to be stored; empty where there is none."""
    found = content.get(name)
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > _MAX_TEXT_LENGTH or not is_unicode(found):
        raise Malformed(f"`{name}` is not a text of at most {_MAX_TEXT_LENGTH} characters.")
    return found
