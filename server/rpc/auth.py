"""Who calls, and what for: JSON Web Tokens with pinned algorithms and scopes."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import jwt

from server.access.trust import MAX_TOKEN_ID, Trust, TrustedKeys, VerificationKey
from server.rpc.errors import RetryLater, RpcError
from server.rpc.strangers import Strangers

LEEWAY_SECONDS: Final = 30
_MAX_TOKEN_CHARACTERS: Final = 8_192
_MAX_NAME_CHARACTERS: Final = 128
"""A refusal names the caller, and travels in headers."""
_MAX_CACHED_TOKENS: Final = 10_000
_BEARER: Final = "bearer "
_CUSTOMER_ID: Final = "customer_id"
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: a token may claim any number, also one that is no float."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A calling service, as its token says."""

    name: str
    """`sub`."""
    scopes: frozenset[str]
    customer_id: str | None = None
    """The one customer that the token is limited to; None where it is not limited."""


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    expires: float
    trust: Trust
    """What it was checked against: as soon as that changes it is to be checked again."""


class Authenticator:
    """Verifies tokens, and remembers the verified ones until they expire or trust changes."""

    def __init__(
        self,
        trusted: TrustedKeys,
        *,
        issuer: str,
        audience: str,
        look_again: Callable[[], Awaitable[None]] | None = None,
        strangers: Strangers | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`look_again` may bring keys of late, where a token names one that is not known.

        `strangers` bounds how many tokens are refused; None is no bound.
        """
        self._trusted = trusted
        self._issuer = issuer
        self._audience = audience
        self._look_again = look_again
        self._strangers = strangers
        self._now = now
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    @property
    def has_keys(self) -> bool:
        """Whether there is any key to verify tokens with."""
        return bool(self._trusted.now.keys)

    async def authenticate(
        self, authorization: str | None, scope: str, peer: Callable[[], str] | None = None
    ) -> Caller:
        """Return the caller whose `authorization` metadata holds a good token with `scope`.

        `peer` tells where the call comes from, which is asked where the token is not remembered;
        None for a call that was let in before.

        Raises:
            RpcError: TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED, SCOPE_MISSING,
                KEYS_UNAVAILABLE, or RATE_LIMITED (TurnedAway).
        """
        verified = self._verified.get(authorization or "")
        if (
            verified is not None
            and verified.trust is self._trusted.now
            and self._now() < verified.expires
        ):
            caller = verified.caller
        else:
            with self._counting(peer, was_good=verified is not None):
                caller = await self._verify(authorization or "")
        if not scope or scope not in caller.scopes:
            raise RpcError(
                "SCOPE_MISSING",
                f"The token of {caller.name} lacks the scope {scope}.",
                {"scope": scope, "caller": caller.name},
            )
        return caller

    def _counting(
        self, peer: Callable[[], str] | None, *, was_good: bool
    ) -> AbstractContextManager[None]:
        if self._strangers is None or peer is None:
            return nullcontext()
        return self._strangers.counting(peer(), was_good=was_good)

    async def _verify(self, authorization: str) -> Caller:
        """Check everything that a token says, and remember it; what does not hold is forgotten."""
        try:
            verified = await self._verified_now(authorization)
        except RpcError:
            self._verified.pop(authorization, None)
            raise
        self._verified[authorization] = verified
        while len(self._verified) > _MAX_CACHED_TOKENS:
            self._verified.popitem(last=False)
        return verified.caller

    async def _verified_now(self, authorization: str) -> _Verified:
        if not authorization:
            raise RpcError(
                "TOKEN_MISSING",
                "The call has no token. Send the metadata `authorization: Bearer <token>`.",
            )
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise _invalid("it is not of the form `Bearer <token>`")
        token = authorization[len(_BEARER) :].strip()
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise _invalid(f"it is longer than {_MAX_TOKEN_CHARACTERS} characters")
        fitting = await self._fitting_keys(token)
        trust = self._trusted.now
        claims = self._claims(token, fitting)
        caller = _caller_of(claims)
        if _token_id(claims).strip() in trust.revoked:
            raise RpcError("TOKEN_REVOKED", "The token has been revoked. Get a new one.")
        expires = min(int(claims["exp"]), _LAST_SECOND) + LEEWAY_SECONDS
        return _Verified(caller, expires, trust)

    async def _fitting_keys(self, token: str) -> list[VerificationKey]:
        """Return the key that the token names, or each one of its algorithm."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise _invalid("it is not a signed JSON Web Token") from None
        if "crit" in header:
            # RFC 7515, section 4.1.11: what is listed there has to be understood, or refused.
            raise _invalid("its head has `crit`, and nothing that is listed there is understood")
        fitting = self._keys_for(header)
        if not fitting and self._look_again is not None:
            await self._look_again()
            fitting = self._keys_for(header)
        if not self.has_keys:
            raise RetryLater(
                "KEYS_UNAVAILABLE",
                "The server has no keys to verify tokens with: its key server has not answered "
                "yet. Nothing was done: repeat after a moment.",
                1.0,
            )
        if not fitting:
            raise _invalid("no key of this server fits its algorithm and key id")
        return fitting

    def _keys_for(self, header: dict[str, Any]) -> list[VerificationKey]:
        return [
            key
            for key in self._trusted.now.keys
            if header.get("alg") == key.algorithm and header.get("kid") in {None, key.key_id}
        ]

    def _claims(self, token: str, keys: list[VerificationKey]) -> dict[str, Any]:
        """Verify the token by the first of the keys that it holds for."""
        problem: RpcError | None = None
        for key in keys:
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


def _caller_of(claims: dict[str, Any]) -> Caller:
    name, scope, customer_id = claims["sub"], claims.get("scope", ""), claims.get(_CUSTOMER_ID)
    if not isinstance(name, str) or not name.isprintable() or not name or " " in name:
        raise _invalid("`sub` has to name the calling service in one word")
    if len(name) > _MAX_NAME_CHARACTERS:
        raise _invalid(f"its `sub` is longer than {_MAX_NAME_CHARACTERS} characters")
    if not isinstance(scope, str):
        raise _invalid("`scope` has to be one text with the scopes separated by spaces")
    if _CUSTOMER_ID in claims and not (isinstance(customer_id, str) and customer_id):
        # Anything else must never be taken for a token without limits.
        raise _invalid("`customer_id` has to name the one customer that it is limited to")
    return Caller(name, frozenset(scope.split()), customer_id)


def _token_id(claims: dict[str, Any]) -> str:
    """Return `jti`; empty where there is none, and such a token cannot be revoked."""
    token_id = claims.get("jti", "")
    if not isinstance(token_id, str) or len(token_id) > MAX_TOKEN_ID:
        raise _invalid(f"`jti` has to be a text of at most {MAX_TOKEN_ID} characters")
    return token_id


_PROBLEMS: Final[dict[type[jwt.InvalidTokenError], str]] = {
    jwt.InvalidAudienceError: "it was made for another audience",
    jwt.InvalidIssuerError: "it was made by another issuer",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuedAtError: "its `iat` is not a time",
    jwt.exceptions.InvalidJTIError: "its `jti` is not a text",
    jwt.MissingRequiredClaimError: "it lacks one of exp, iat, iss, aud, sub",
}


def _invalid(why: str) -> RpcError:
    return RpcError("TOKEN_INVALID", f"The token is not accepted: {why}.")
