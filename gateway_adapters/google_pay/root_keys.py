"""Google's root signing keys, as the published key lists have them.

Source of the rules: "Root signing keys" in
https://developers.google.com/pay/api/web/guides/resources/payment-data-cryptography.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from gateway_adapters.google_pay.errors import Malformed
from gateway_adapters.google_pay.wire import decode_public_key, read_object, time_ms_of

PAYMENT_VERSION: Final = "ECv2"
"""The protocolVersion of payment tokens."""
SIGNING_ONLY_VERSION: Final = "ECv2SigningOnly"
"""The protocolVersion of callbacks, which are signed and not encrypted."""

MAX_KEY_LIST_BYTES: Final = 64 * 1024
"""A longer list is not read to its end."""
MAX_ROOT_KEYS: Final = 16
"""Google publishes a handful; each is tried on each signature."""

_VERSIONS: Final = frozenset({PAYMENT_VERSION, SIGNING_ONLY_VERSION})


@dataclass(frozen=True, slots=True)
class RootKey:
    """A root signing key. It signs for one protocolVersion, until it expires."""

    public_key: ec.EllipticCurvePublicKey = field(repr=False)
    protocol_version: str
    expires_ms: int
    """The first UTC millisecond at which it counts no more."""

    def is_usable(self, protocol_version: str, now_ms: int) -> bool:
        """Tell whether it signs for this version at this time."""
        return self.protocol_version == protocol_version and now_ms < self.expires_ms


def read_root_keys(body: bytes) -> tuple[RootKey, ...]:
    """Read a key list; keys of other versions, and keys that cannot be read, are left out.

    A key that is left out is one that is not trusted: a message that it signed is refused.

    Raises:
        Malformed: it is no key list, too long, or has no key that is of use here.
    """
    entries = read_object(body, "The key list", MAX_KEY_LIST_BYTES).get("keys")
    if not isinstance(entries, list):
        raise Malformed("`keys` is not a list.")
    keys = tuple(key for entry in entries if (key := _read_root_key(entry)) is not None)
    if not keys:
        raise Malformed("The key list has no key that can be used.")
    if len(keys) > MAX_ROOT_KEYS:
        raise Malformed("The key list has too many keys.")
    return keys


def _read_root_key(entry: object) -> RootKey | None:
    if not isinstance(entry, Mapping):
        return None
    version = entry.get("protocolVersion")
    if not isinstance(version, str) or version not in _VERSIONS:
        return None
    try:
        return RootKey(
            public_key=decode_public_key(entry.get("keyValue"), "`keyValue`"),
            protocol_version=version,
            expires_ms=time_ms_of(entry, "keyExpiration"),
        )
    except Malformed:
        return None
