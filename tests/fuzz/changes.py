"""Changes of an input: of its bytes, or of one value where it has JSON in it."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any, Final

BETWEEN: Final = b"\xff"
"""Stands between the parts of an input that has several: UTF-8 does not have it."""

Place = tuple[Any, Any]
"""A container, and the key or the index of a value in it."""

_ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, 253402300800),
    *(0.5, 1e308, float("inf"), float("nan"), -0.0),
    *("", " ", "0", "-1", "1e9", "\u0660", "a\x00b", "\ud800", "\u202e", "x" * 700, "inr", "INR"),
    *(
        "https://\ud800",
        "https://a/" + "x" * 9_000,
        "https://[",
        "https://[::1]x/orders/A",
        "//[",
        "upi://pay?pa=a",
        "9999-12-31T23:59:59-23:59",
    ),
    *("0000-00-00T00:00:00Z", "2026-02-30T00:00:00Z", "." * 32, "-0.00", "99999999999999999.99"),
    *([], {}, [[]], [{}], {"": None}, [None] * 40, {"id": []}, {"amount": {}}),
)
_ODD_TEXTS: Final = (
    *(b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"NaN", b"-Infinity", b"1e999", b"9" * 5_000),
    *(b"[" * 3_000, b'{"a":' * 1_500, b'"\\ud800"', b"\\u0000", b"\n", b"|", b",", b"=", b"%"),
)


def changed(content: bytes, dice: Random) -> bytes:
    """Return the input with one to three changes."""
    for _ in range(dice.randint(1, 3)):
        parts = content.split(BETWEEN)
        place = dice.randrange(len(parts))
        change = _changed_json if dice.random() < 0.7 else _spliced
        parts[place] = change(parts[place], dice)
        content = BETWEEN.join(parts)
    return content


def _changed_json(content: bytes, dice: Random) -> bytes:
    """Change one value of the first JSON object or list, if there is one."""
    begins = [place for place in (content.find(b"{"), content.find(b"[")) if place >= 0]
    if not begins:
        return _spliced(content, dice)
    head, text = content[: min(begins)], content[min(begins) :].decode("utf-8", "replace")
    try:
        found, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return _spliced(content, dice)
    places = list(_places(found))
    if not places:
        return _spliced(content, dice)
    container, key = dice.choice(places)
    container[key] = _other_value(container[key], dice)
    if isinstance(container, dict) and dice.random() < 0.2:
        del container[key]
    written = json.dumps(found, ensure_ascii=dice.random() < 0.8)
    return head + (written + text[end:]).encode("utf-8", "surrogatepass")


def _other_value(value: Any, dice: Random) -> Any:
    """Return another value: an odd one, or an inner JSON text that is changed in its turn."""
    if isinstance(value, str) and value.startswith("{") and dice.random() < 0.8:
        return _changed_json(value.encode("utf-8", "replace"), dice).decode("utf-8", "replace")
    if isinstance(value, str) and dice.random() < 0.3:
        return _spliced(value.encode("utf-8", "replace"), dice).decode("utf-8", "replace")
    if isinstance(value, int) and dice.random() < 0.3:
        return value + dice.choice((-1, 1, 10**9, 10**18))
    return dice.choice(_ODD_VALUES)


def _places(value: Any) -> Iterator[Place]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _spliced(content: bytes, dice: Random) -> bytes:
    """Cut out, double or replace a few bytes, or put an odd text among them."""
    begin = dice.randint(0, len(content))
    end = min(len(content), begin + dice.choice((0, 1, 1, 2, 8, 64)))
    match dice.randint(0, 3):
        case 0:
            put = b""
        case 1:
            put = content[begin:end] * 2
        case 2:
            put = bytes([dice.randint(0, 255)])
        case _:
            put = dice.choice(_ODD_TEXTS)
    return content[:begin] + put + content[end:]
