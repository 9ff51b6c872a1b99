"""Google's JSON, read with suspicion: a value is what the documentation says, or Malformed."""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gateway_adapters import wire
from gateway_adapters.google_pay.errors import Malformed
from gateway_adapters.wire import JsonObject, unreadable_as

MAX_MESSAGE_BYTES: Final = 16 * 1024
"""A payment token has about 1.5 KiB."""

_MAX_TIME_MS: Final = 10**15 - 1
"""Past the year 33000; longer figures are no time."""
_MAX_TIME_DIGITS: Final = 15


def read_object(content: bytes | str, what: str, max_length: int = MAX_MESSAGE_BYTES) -> JsonObject:
    """Parse a JSON object in UTF-8; `what` names it in errors.

    Raises:
        Malformed: it is something else, too long, too deep, or names a key twice.
    """
    with unreadable_as(Malformed):
        return wire.read_signed_object(content, what, max_length)


def member(content: JsonObject, name: str) -> JsonObject:
    """Return the object under `name`.

    Raises:
        Malformed.
    """
    with unreadable_as(Malformed):
        return wire.member(content, name)


def text_of(content: JsonObject, name: str) -> str:
    """Return the text under `name`; it is not empty and can be written in UTF-8.

    Raises:
        Malformed.
    """
    found = content.get(name)
    if not isinstance(found, str) or not found or not is_unicode(found):
        raise Malformed(f"`{name}` is not a text.")
    return found


def time_ms_of(content: JsonObject, name: str) -> int:
    """Return the UTC milliseconds under `name`; Google writes them as digits, in quotes or not.

    Raises:
        Malformed.
    """
    found = content.get(name)
    if isinstance(found, str) and found.isascii() and found.isdigit():
        found = int(found) if len(found) <= _MAX_TIME_DIGITS else None
    # A bool is an int in Python, and not a time.
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= _MAX_TIME_MS:
        raise Malformed(f"`{name}` is not a time in milliseconds.")
    return found


def decode_base64(value: object, what: str) -> bytes:
    """Decode base64 in the standard alphabet, padded.

    Raises:
        Malformed.
    """
    with unreadable_as(Malformed):
        return wire.decode_base64(value, what)


def decode_public_key(value: object, what: str) -> ec.EllipticCurvePublicKey:
    """Decode a P-256 key: base64 of a DER SubjectPublicKeyInfo, as `keyValue` has it.

    Raises:
        Malformed.
    """
    try:
        key = load_der_public_key(decode_base64(value, what))
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed(f"{what} is not a public key.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed(f"{what} is not a P-256 key.")
    return key


def is_unicode(text: str) -> bool:
    """Tell whether the text can be written in UTF-8: JSON can escape halves of characters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
