"""JSON from outside, read with suspicion: a value is what its documentation says, or Unreadable."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn

JsonObject = Mapping[str, object]

MAX_TEXT_LENGTH: Final = 500
"""Longer texts for people are cut."""


class Unreadable(Exception):
    """What came is not what is documented; the message says where, and quotes nothing."""


@contextmanager
def unreadable_as(told: type[Exception]) -> Iterator[None]:
    """Raise another error in the place of Unreadable, with its words."""
    try:
        yield
    except Unreadable as error:
        raise told(str(error)) from None


def read_object(body: bytes) -> JsonObject:
    """Parse a JSON object in UTF-8.

    Raises:
        Unreadable: it is something else, too deep, or has numbers that JSON does not have.
    """
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Unreadable("The body is not JSON.") from None
    return as_object(content, "The body")


def read_signed_object(content: bytes | str, what: str, max_length: int) -> JsonObject:
    """Parse a JSON object that is verified here and then forwarded as it came; `what` names it.

    A key that appears twice could be read one way here and another way there; so it is refused, as
    RFC 8259 section 4 allows.

    Raises:
        Unreadable: it is something else, longer than `max_length`, too deep, or names a key twice.
    """
    if len(content) > max_length:
        raise Unreadable(f"{what} is too long.")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        found = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated_keys
        )
    except (ValueError, RecursionError):
        raise Unreadable(f"{what} is not JSON.") from None
    return as_object(found, what)


def as_object(value: object, what: str) -> JsonObject:
    """Return a value that has to be an object; `what` names it in the error.

    Raises:
        Unreadable.
    """
    if not isinstance(value, dict):
        raise Unreadable(f"{what} is not an object.")
    return value


def member(content: JsonObject, name: str) -> JsonObject:
    """Return the object under `name`.

    Raises:
        Unreadable.
    """
    return as_object(content.get(name), f"`{name}`")


def decode_base64(value: object, what: str) -> bytes:
    """Decode base64 in the standard alphabet, padded; `what` names it in the error.

    Raises:
        Unreadable.
    """
    if not isinstance(value, str) or not value.isascii():
        raise Unreadable(f"{what} is not base64.")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise Unreadable(f"{what} is not base64.") from None


def display_text(value: object) -> str:
    """Return a text that is fit to be shown and stored: one line, cut; empty if it is no text."""
    if not isinstance(value, str):
        return ""
    cut = value[:MAX_TEXT_LENGTH]
    return "".join(character if character.isprintable() else " " for character in cut).strip()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found
