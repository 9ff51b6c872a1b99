"""Signatures of outgoing webhooks, by the Standard Webhooks specification (symmetric, `v1`)."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

_PREFIX: Final = "whsec_"
_SHORTEST_SECRET: Final = 24
_LONGEST_SECRET: Final = 64


def secret_key(secret: str) -> bytes:
    """Return the key that a secret stands for.

    Raises:
        ValueError: it is not `whsec_` and base64 of 24 to 64 bytes.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or not _SHORTEST_SECRET <= len(key) <= _LONGEST_SECRET:
        raise ValueError("takes whsec_ and base64 of 24 to 64 random bytes")
    return key


def signed_headers(
    keys: Sequence[bytes], webhook_id: str, time_seconds: int, body: bytes
) -> Mapping[str, str]:
    """Return the headers that prove who sent a body; it is signed with each key, current first."""
    content = f"{webhook_id}.{time_seconds}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys
    ]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(time_seconds),
        "webhook-signature": " ".join(signatures),
    }
