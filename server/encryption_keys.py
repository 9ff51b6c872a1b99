"""The keys that values are encrypted with at rest, and where they come from."""

import base64
import binascii
import importlib
import re
from dataclasses import dataclass, field
from typing import Final

KEY_BYTES: Final = 32
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """A key of AES-256, with the name that stands beside each value."""

    key_id: str
    secret: bytes = field(repr=False)


def read_encryption_keys(text: str) -> tuple[EncryptionKey, ...]:
    """Read keys, `id:base64` each, by commas or lines, current first.

    Raises:
        ValueError: it says what is wrong, without a key.
    """
    keys = [_key(part.strip()) for part in re.split(r"[,\n]", text) if part.strip()]
    if len({key.key_id for key in keys}) != len(keys):
        raise ValueError("an id is given to two keys")
    return tuple(keys)


def provided_encryption_keys(provider: str) -> tuple[EncryptionKey, ...]:
    """Ask the function `package.module:name` for the keys, in the form of the setting.

    Raises:
        ValueError: there is no such function, or what it returns is wrong.
    """
    module, _, name = provider.partition(":")
    try:
        provide = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ValueError("there is no such function, as in package.module:name") from None
    return read_encryption_keys(str(provide()))


def _key(text: str) -> EncryptionKey:
    key_id, colon, encoded = text.partition(":")
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not colon or not _KEY_ID.fullmatch(key_id) or len(secret) != KEY_BYTES:
        raise ValueError(
            "takes keys as id:base64 with 32 bytes each, comma-separated, current first, such as "
            "`wallet-payment encryption key` prints"
        )
    return EncryptionKey(key_id, secret)
