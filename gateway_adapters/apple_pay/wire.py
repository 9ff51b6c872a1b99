"""Apple's JSON, read with suspicion: a value is what the documentation says, or Malformed."""

import re
from typing import Final

from gateway_adapters import wire
from gateway_adapters.apple_pay.errors import Malformed
from gateway_adapters.wire import JsonObject, unreadable_as

_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_DIGITS_PER_BYTE: Final = 2


def read_object(content: bytes, what: str, max_length: int) -> JsonObject:
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


def base64_of(content: JsonObject, name: str) -> bytes:
    """Return what is under `name` in base64, in the standard alphabet and padded.

    Raises:
        Malformed.
    """
    with unreadable_as(Malformed):
        return wire.decode_base64(content.get(name), f"`{name}`")


def hex_of(content: JsonObject, name: str, length_bytes: int) -> bytes:
    """Return the so many bytes under `name` in hex digits, of either case and nothing else.

    Raises:
        Malformed.
    """
    found = content.get(name)
    if (
        not isinstance(found, str)
        or len(found) != length_bytes * _DIGITS_PER_BYTE
        or _HEX.fullmatch(found) is None
    ):
        raise Malformed(f"`{name}` is not {length_bytes} bytes in hex digits.")
    return bytes.fromhex(found)
