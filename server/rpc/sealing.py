"""Texts that only this service can make: callers keep them and hand them back unchanged."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

_SEAL_BYTES: Final = 16


def sealed(key: bytes, scope: Sequence[str], content: str) -> str:
    """Return `content` with a seal that holds for this scope alone."""
    seal = hmac.digest(key, "\n".join([*scope, content]).encode(), hashlib.sha256)[:_SEAL_BYTES]
    return base64.urlsafe_b64encode(seal + content.encode()).decode().rstrip("=")


def unsealed(key: bytes, scope: Sequence[str], text: str, most_characters: int) -> str | None:
    """Return the content of a sealed text; None where it was changed or is of another scope."""
    cut = text[:most_characters]
    try:
        decoded = base64.b64decode(
            (cut + "=" * (-len(cut) % 4)).encode("ascii"), altchars=b"-_", validate=True
        )
        content = decoded[_SEAL_BYTES:].decode("ascii")
    except (binascii.Error, UnicodeError):
        return None
    is_ours = hmac.compare_digest(text.encode(), sealed(key, scope, content).encode())
    return content if is_ours else None
