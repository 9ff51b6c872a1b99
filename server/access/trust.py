"""What tokens are checked against: keys that may have signed them, and ids that are revoked."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from server.access.watched_files import Unusable

MAX_TOKEN_ID: Final = 255
MAX_PUBLISHED_KEYS: Final = 100
"""A token that names no key is tried with each of its algorithm."""
_MIN_RSA_BITS: Final = 2_048
_IMPLIED_ALGORITHMS: Final[Mapping[tuple[object, object], str]] = {
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
    ("RSA", None): "RS256",
    ("oct", None): "HS256",
}
"""By type and curve: the one algorithm that a key is for."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that tokens may be signed with, for one algorithm only.

    The algorithm belongs to the key, never to the token: so no public key can ever be taken for a
    shared secret.
    """

    key_id: str
    algorithm: str
    key: Any = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Trust:
    """One state of what is trusted; any change makes another one."""

    keys: tuple[VerificationKey, ...] = ()
    revoked: frozenset[str] = frozenset()
    """`jti` of tokens that are refused."""


class TrustedKeys:
    """Holds what is trusted now, from all sources together."""

    def __init__(self) -> None:
        self.now = Trust()
        """Replaced as a whole: whoever remembers something checked against it sees that."""
        self._keys: dict[str, tuple[VerificationKey, ...]] = {}

    def set_keys(self, source: str, keys: tuple[VerificationKey, ...]) -> None:
        """Trust the keys of a source, in place of those that it had."""
        self._keys[source] = keys
        together = tuple(key for part in self._keys.values() for key in part)
        if together != self.now.keys:
            self.now = Trust(together, self.now.revoked)

    def set_revoked(self, revoked: frozenset[str]) -> None:
        """Refuse the tokens with these ids, and no others."""
        if revoked != self.now.revoked:
            self.now = Trust(self.now.keys, revoked)


def verification_keys(
    keys: Iterable[Mapping[str, Any]], algorithms: Collection[str]
) -> tuple[VerificationKey, ...]:
    """Make those keys of a set ready that are for one of the algorithms.

    Raises:
        Unusable: there is none, or one cannot be used.
    """
    found = tuple(verification_key(key) for key in keys if key["alg"] in algorithms)
    if not found:
        raise Unusable(
            "there is no key for an algorithm of WALLET_JWT_ALGORITHMS: no token would be accepted"
        )
    return found


def verification_key(key: Mapping[str, Any]) -> VerificationKey:
    """Make a JSON Web Key (RFC 7517) with `kid` and `alg` ready for use.

    Raises:
        Unusable: it is no key of its algorithm, or too weak.
    """
    if _implied_algorithm(key) != key["alg"]:
        raise Unusable("a key's type is not that of its `alg`")
    try:
        made = jwt.PyJWK(dict(key), key["alg"]).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        raise Unusable("a key cannot be read") from None
    if isinstance(made, RSAPublicKey | RSAPrivateKey) and made.key_size < _MIN_RSA_BITS:
        raise Unusable(f"an RSA key has fewer than {_MIN_RSA_BITS} bits")
    return VerificationKey(key["kid"], key["alg"], made)


def published_keys(document: object, algorithms: frozenset[str]) -> tuple[VerificationKey, ...]:
    """Read the key set that a key server publishes; keys of other uses are left out (RFC 7517).

    Raises:
        Unusable: it is no key set, or holds no key that can be used.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise Unusable("it is not a JSON Web Key Set")
    found = []
    for key in keys:
        if not isinstance(key, dict) or not _may_verify(key):
            continue
        algorithm = key.get("alg") or _implied_algorithm(key)
        if algorithm in algorithms:
            try:
                found.append(verification_key(key | {"alg": algorithm}))
            except Unusable:
                continue
    if not 0 < len(found) <= MAX_PUBLISHED_KEYS:
        raise Unusable(f"it has {len(found)} keys that can be used, not 1 to {MAX_PUBLISHED_KEYS}")
    return tuple(found)


def revoked_ids(content: bytes) -> frozenset[str]:
    """Read a list of revoked tokens: a `jti` on each line; `#` begins a remark.

    Raises:
        Unusable.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()  # editors put a mark before the first
    except UnicodeDecodeError:
        raise Unusable("the list of revoked tokens is not UTF-8") from None
    found = frozenset(line.strip() for line in lines if not line.startswith("#")) - {""}
    if any(len(token_id) > MAX_TOKEN_ID for token_id in found):
        raise Unusable(f"a line of the list is longer than {MAX_TOKEN_ID} characters")
    return found


def _implied_algorithm(key: Mapping[str, Any]) -> str | None:
    return _IMPLIED_ALGORITHMS.get((key.get("kty"), key.get("crv")))


def _may_verify(key: Mapping[str, Any]) -> bool:
    """Tell whether a published key is for signatures: a secret that is published is nobody's."""
    is_named = isinstance(key.get("kid"), str) and key["kid"]
    hashable = all(isinstance(key.get(name), str | None) for name in ("alg", "kty", "crv"))
    is_secret = "d" in key or key.get("kty") == "oct"
    return bool(is_named and hashable and not is_secret and key.get("use") in {None, "sig"})
