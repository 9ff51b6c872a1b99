"""Who calls, and what for: JSON Web Tokens with pinned algorithms and scopes."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from server.rpc.errors import RpcError

LEEWAY_SECONDS: Final = 30
_MAX_TOKEN_CHARACTERS: Final = 8_192
_MAX_NAME_CHARACTERS: Final = 128
"""A refusal names the caller, and travels in headers."""
_MAX_CACHED_TOKENS: Final = 10_000
_BEARER: Final = "bearer "
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: a token may claim any number, also one that is no float."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A calling service, as its token says."""

    name: str
    """`sub`."""
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that tokens may be signed with, for one algorithm only.

    The algorithm belongs to the key, never to the token: so no public key can ever be taken for a
    shared secret.
    """

    key_id: str
    algorithm: str
    key: Any = field(repr=False)


class Authenticator:
    """Verifies tokens, and remembers the verified ones until they expire."""

    def __init__(
        self,
        keys: Sequence[VerificationKey],
        *,
        issuer: str,
        audience: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self._verified: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    def authenticate(self, authorization: str | None, scope: str) -> Caller:
        """Return the caller whose `authorization` metadata holds a good token with `scope`.

        Raises:
            RpcError: TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED or SCOPE_MISSING.
        """
        if not authorization:
            raise RpcError(
                "TOKEN_MISSING",
                "The call has no token. Send the metadata `authorization: Bearer <token>`.",
            )
        caller = self._caller(authorization)
        if not scope or scope not in caller.scopes:
            raise RpcError(
                "SCOPE_MISSING",
                f"The token of {caller.name} lacks the scope {scope}.",
                {"scope": scope, "caller": caller.name},
            )
        return caller

    def _caller(self, authorization: str) -> Caller:
        cached = self._verified.get(authorization)
        if cached is not None:
            caller, expires = cached
            if self._now() < expires:
                return caller
            del self._verified[authorization]
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise _invalid("it is not of the form `Bearer <token>`")
        token = authorization[len(_BEARER) :].strip()
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise _invalid(f"it is longer than {_MAX_TOKEN_CHARACTERS} characters")
        claims = self._claims(token)
        name, scope = claims["sub"], claims.get("scope", "")
        if not isinstance(name, str) or not name.isprintable() or not name or " " in name:
            raise _invalid("`sub` has to name the calling service in one word")
        if len(name) > _MAX_NAME_CHARACTERS:
            raise _invalid(f"its `sub` is longer than {_MAX_NAME_CHARACTERS} characters")
        if not isinstance(scope, str):
            raise _invalid("`scope` has to be one text with the scopes separated by spaces")
        caller = Caller(name, frozenset(scope.split()))
        expires = min(int(claims["exp"]), _LAST_SECOND) + LEEWAY_SECONDS
        self._verified[authorization] = (caller, expires)
        while len(self._verified) > _MAX_CACHED_TOKENS:
            self._verified.popitem(last=False)
        return caller

    def _claims(self, token: str) -> dict[str, Any]:
        """Verify the token by the key that it names, or by each one of its algorithm."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise _invalid("it is not a signed JSON Web Token") from None
        fitting = [
            key
            for key in self._keys
            if header.get("alg") == key.algorithm and header.get("kid") in {None, key.key_id}
        ]
        if not fitting:
            raise _invalid("no key of this server fits its algorithm and key id")
        problem: RpcError | None = None
        for key in fitting:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key.key,
                    algorithms=[key.algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=LEEWAY_SECONDS,
                    options={"require": ["exp", "iat", "iss", "aud", "sub"]},
                )
            except jwt.ExpiredSignatureError:
                raise RpcError(
                    "TOKEN_EXPIRED", "The token has expired. Get a new one and repeat."
                ) from None
            except jwt.InvalidTokenError as error:
                problem = _invalid(_PROBLEMS.get(type(error), "its signature does not hold"))
            else:
                return claims
        assert problem is not None  # noqa: S101 - at least one key was tried
        raise problem


_PROBLEMS: Final[dict[type[jwt.InvalidTokenError], str]] = {
    jwt.InvalidAudienceError: "it was made for another audience",
    jwt.InvalidIssuerError: "it was made by another issuer",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuedAtError: "its `iat` is not a time",
    jwt.MissingRequiredClaimError: "it lacks one of exp, iat, iss, aud, sub",
}


def _invalid(why: str) -> RpcError:
    return RpcError("TOKEN_INVALID", f"The token is not accepted: {why}.")
