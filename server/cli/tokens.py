"""Tokens for development and operators, signed with a key of the configured key set."""

import secrets
import time
from collections.abc import Iterable

import jwt

from server.config import Settings, SettingsError, read_key_set
from server.rpc.edge import SERVICE, required_scope


def all_scopes() -> tuple[str, ...]:
    """Return every scope of the contract, in alphabetical order."""
    return tuple(sorted({required_scope(method) for method in SERVICE.methods}))


def make_token(
    settings: Settings,
    *,
    subject: str,
    scopes: Iterable[str],
    lifetime_seconds: int,
    customer_id: str = "",
) -> str:
    """Return a signed token; with `customer_id` it is limited to that customer.

    Raises:
        SettingsError: the key set has no key that can sign.
    """
    now = int(time.time())
    claims = {
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "sub": subject,
        "scope": " ".join(scopes),
        "iat": now,
        "exp": now + lifetime_seconds,
        "jti": secrets.token_hex(16),
    }
    if customer_id:
        claims["customer_id"] = customer_id
    for key in read_key_set(settings.jwt_keys):
        if "k" in key or "d" in key:
            signer = jwt.PyJWK(key)
            return jwt.encode(claims, signer.key, key["alg"], headers={"kid": key["kid"]})
    raise SettingsError(
        "WALLET_JWT_KEYS has public keys only: tokens are made by whoever has the private ones."
    )
