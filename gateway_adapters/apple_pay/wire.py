"""Apple's JSON, read with suspicion: a value is what the documentation says, or Malformed.

A token is verified here and then forwarded as it came. A key that appears twice could be read one
way here and another way there; so it is refused, as RFC 8259 section 4 allows.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Final, NoReturn

from gateway_adapters.apple_pay.errors import Malformed

JsonObject = Mapping[str, object]

_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_DIGITS_PER_BYTE: Final = 2


def read_object(content: bytes, what: str, max_length: int) -> JsonObject:
    """Parse a JSON object in UTF-8; `what` names it in errors.

    Raises:
        Malformed: it is something else, too long, too deep, or names a key twice.
    """
    if len(content) > max_length:
        raise Malformed(f"{what} is too long.")
    try:
        found = json.loads(
            content.decode("utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_repeated_keys,
        )
    except (ValueError, RecursionError):
        raise Malformed(f"{what} is not JSON.") from None
    if not isinstance(found, dict):
        raise Malformed(f"{what} is not an object.")
    return found


def member(content: JsonObject, name: str) -> JsonObject:
    """Return the object under `name`.

    Raises:
        Malformed.
    """
    found = content.get(name)
    if not isinstance(found, dict):
        raise Malformed(f"`{name}` is not an object.")
    return found


def base64_of(content: JsonObject, name: str) -> bytes:
    """Return what is under `name` in base64, in the standard alphabet and padded.

    Raises:
        Malformed.
    """
    found = content.get(name)
    if not isinstance(found, str) or not found.isascii():
        raise Malformed(f"`{name}` is not base64.")
    try:
        return base64.b64decode(found, validate=True)
    except binascii.Error:
        raise Malformed(f"`{name}` is not base64.") from None


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


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found
