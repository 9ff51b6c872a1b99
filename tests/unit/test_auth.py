"""Tokens at the edge, over real gRPC: who is let in, and with what scope to which method."""

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway_adapters.rate_limit import Rates, private_table
from harness import Refused, bearer, eventually, refusal_of
from key_bench import forged
from server.access.trust import TrustedKeys, VerificationKey
from server.audit import AuditEntry
from server.metrics import Metrics
from server.rpc import auth
from server.rpc.auth import Authenticator
from server.rpc.edge import SERVICE, ServicerSlot, generic_handler, required_scope
from server.rpc.rate_limits import RateLimits
from server.rpc.server import rpc_server

SECRET = "a shared secret of at least thirty-two bytes"
METHODS = list(SERVICE.methods)
SCOPES = {required_scope(method) for method in METHODS}
LET_IN = "DATABASE_UNAVAILABLE"
"""What somebody is told who is let in: these tests have no database behind the edge."""


class Audit:
    """Keeps what the edge notes."""

    takes_calls = True

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def put(self, entry: AuditEntry) -> None:
        """Take an entry."""
        self.entries.append(entry)


class Edge:
    """The edge of a server that trusts an RSA key and a shared secret."""

    def __init__(self, channel: grpc.aio.Channel, private_key: RSAPrivateKey, audit: Audit) -> None:
        self._channel = channel
        self.private_key = private_key
        self.audit = audit

    async def call(
        self, authorization: str | None, method: MethodDescriptor = METHODS[0]
    ) -> Refused:
        """Call a method; return what is said, which is LET_IN where the token is good."""
        call = self._channel.unary_unary(
            f"/{SERVICE.full_name}/{method.name}",
            GetMessageClass(method.input_type).SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )
        metadata = () if authorization is None else (("authorization", authorization),)
        request = GetMessageClass(method.input_type)()
        return await refusal_of(call(request, metadata=metadata, timeout=10))

    async def reason(self, token: str, method: MethodDescriptor = METHODS[0]) -> str:
        """Call a method with a token; return the reason that is given."""
        return (await self.call(bearer(token)[0][1], method)).reason

    def token(self, kid: str | None = "rsa", **claims: Any) -> str:
        """Return a token signed with the RSA key; `claims` change it, None removes."""
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(claims_of(**claims), self.private_key, "RS256", headers=headers)


def claims_of(**claims: Any) -> dict[str, Any]:
    """Return the claims of a good token with every scope; `claims` change it, None removes."""
    now = int(time.time())
    given = {
        "iss": "issuer",
        "aud": "audience",
        "sub": "order-service",
        "iat": now,
        "exp": now + 600,
        "scope": " ".join(sorted(SCOPES)),
    } | claims
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture(scope="module")
async def edge() -> AsyncIterator[Edge]:
    """A real gRPC server with the edge and nothing behind it."""
    private_key = rsa.generate_private_key(65537, 2048)
    keys = (
        VerificationKey("rsa", "RS256", private_key.public_key()),
        VerificationKey("shared", "HS256", SECRET.encode()),
    )
    trusted = TrustedKeys()
    trusted.set_keys("test", keys)
    authenticator = Authenticator(trusted, issuer="issuer", audience="audience")
    audit = Audit()
    limits = RateLimits(Rates(), Rates(), private_table())
    handler = generic_handler(ServicerSlot(), authenticator, Metrics(), audit, limits)
    async with (
        rpc_server(handler, address="127.0.0.1:0", has_reflection=False, grace_seconds=0) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Edge(channel, private_key, audit)


async def test_good_tokens_are_let_in(edge: Edge) -> None:
    """Tokens of each trusted key are good, with the key's name and without, in any case of it."""
    shared = jwt.encode(claims_of(), SECRET, "HS256")

    assert await edge.reason(edge.token()) == LET_IN
    assert await edge.reason(edge.token(kid=None)) == LET_IN
    assert await edge.reason(shared) == LET_IN
    assert await edge.reason(edge.token(aud=["another", "audience"])) == LET_IN
    assert (await edge.call(f"bearer  {shared}")).reason == LET_IN
    assert edge.audit.entries[-1].caller == "order-service"


@pytest.mark.parametrize("authorization", [None, ""])
async def test_no_token_is_token_missing(edge: Edge, authorization: str | None) -> None:
    """Without a token the call is TOKEN_MISSING, and the audit names no caller."""
    refused = await edge.call(authorization)

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert edge.audit.entries[-1].caller == ""
    assert edge.audit.entries[-1].reason == "TOKEN_MISSING"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "token",
        "Bearer a.b.c",
        "Bearer a",
        "Bearer ..",
        "Bearer " + "a" * 9_000,
    ],
    ids=lambda text: text[:20],
)
async def test_what_is_no_token_is_invalid(edge: Edge, authorization: str) -> None:
    """Another scheme, no token in it, nonsense or too much of it: TOKEN_INVALID."""
    refused = await edge.call(authorization)

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_an_expired_token_is_token_expired(edge: Edge) -> None:
    """Half a minute of leeway, and not more; also a token that was good a moment ago."""
    now = int(time.time())

    assert await edge.reason(edge.token(exp=now - 15)) == LET_IN
    refused = await edge.call(bearer(edge.token(exp=now - 31))[0][1])
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": ["another", "third"]},
        {"iss": "another"},
        {"exp": None},
        {"iat": None},
        {"iss": None},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "two words"},
        {"sub": "line\nbreak"},
        {"sub": "x" * 129},
        {"exp": "tomorrow"},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"scope": ["payment.write"]},
        {"scope": {"payment.write": True}},
    ],
    ids=str,
)
async def test_a_claim_that_is_wrong_or_missing_is_invalid(
    edge: Edge, claims: dict[str, Any]
) -> None:
    """A well-signed token for others, from others or without a required claim: TOKEN_INVALID."""
    assert await edge.reason(edge.token(**claims)) == "TOKEN_INVALID"


async def test_no_algorithm_is_no_signature(edge: Edge) -> None:
    """The algorithm `none`, however it is written, and a removed signature are TOKEN_INVALID."""
    good = edge.token()

    for name in ("none", "None", "NONE", "nOnE", ""):
        unsigned = forged({"alg": name, "typ": "JWT", "kid": "rsa"}, claims_of(), None)
        assert await edge.reason(unsigned) == "TOKEN_INVALID"
    assert await edge.reason(good.rpartition(".")[0] + ".") == "TOKEN_INVALID"


@pytest.mark.parametrize("kid", ["rsa", "shared", None])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "RS256"])
async def test_a_public_key_is_no_shared_secret(
    edge: Edge, kid: str | None, algorithm: str
) -> None:
    """A token signed by HMAC with the server's public RSA key is TOKEN_INVALID in every form."""
    public_key = edge.private_key.public_key()
    for key in (
        public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip(),
        public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        header = {"alg": algorithm, "typ": "JWT"} | ({} if kid is None else {"kid": kid})
        assert await edge.reason(forged(header, claims_of(), key)) == "TOKEN_INVALID"


async def test_a_key_that_nobody_trusts_is_invalid(edge: Edge) -> None:
    """Tokens of another RSA key, another secret or under another key's name are TOKEN_INVALID."""
    other = rsa.generate_private_key(65537, 2048)

    for token in (
        jwt.encode(claims_of(), other, "RS256", headers={"kid": "rsa"}),
        jwt.encode(claims_of(), other, "RS256"),
        jwt.encode(claims_of(), "another secret of more than thirty-two bytes", "HS256"),
        edge.token(kid="shared"),
        edge.token(kid="unknown"),
        jwt.encode(claims_of(), edge.private_key, "RS512", headers={"kid": "rsa"}),
    ):
        assert await edge.reason(token) == "TOKEN_INVALID"


async def test_a_tampered_payload_is_invalid(edge: Edge) -> None:
    """A good token's signature does not carry other claims, also after the token was seen."""
    weak = edge.token(scope="status.read")
    assert await edge.reason(weak) in {LET_IN, "SCOPE_MISSING"}
    head, _, signature = weak.split(".")
    payload = edge.token().split(".")[1]

    assert await edge.reason(f"{head}.{payload}.{signature}") == "TOKEN_INVALID"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_method_takes_its_own_scope_and_no_other(
    edge: Edge, method: MethodDescriptor
) -> None:
    """Each RPC lets its own scope in, and refuses a token with all others and one with none."""
    scope = required_scope(method)
    assert scope
    others = " ".join(sorted(SCOPES - {scope}))

    assert await edge.reason(edge.token(scope=scope), method) == LET_IN
    for wrong in (others, "", None, scope.upper(), f"{scope}.more", scope.replace(".", " ")):
        refused = await edge.call(bearer(edge.token(scope=wrong))[0][1], method)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "SCOPE_MISSING",
        )
        assert refused.metadata == {"scope": scope, "caller": "order-service"}


async def test_a_token_that_was_seen_is_still_checked_for_scope(edge: Edge) -> None:
    """A token that is remembered from one method does not open another."""
    by_name = SERVICE.methods_by_name
    token = edge.token(scope="payment.write")

    for _ in range(2):
        assert await edge.reason(token, by_name["PayWithWallet"]) == LET_IN
        assert await edge.reason(token, by_name["RefundToWallet"]) == "SCOPE_MISSING"


async def test_a_token_for_ever_is_a_token(edge: Edge) -> None:
    """An `exp` that no float can hold is a time like any other: nothing unforeseen comes of it."""
    assert await edge.reason(edge.token(exp=10**400)) == LET_IN


@pytest.mark.parametrize("critical", [["exp"], ["b64"], [], "exp", None])
async def test_a_token_that_asks_for_more_than_is_understood_is_invalid(
    edge: Edge, critical: object
) -> None:
    """`crit` lists what must be understood (RFC 7515): nothing of it is, whatever it lists."""
    token = jwt.encode(claims_of(), edge.private_key, "RS256", headers={"kid": "rsa"})
    _, payload, _ = token.split(".")
    header = {"alg": "RS256", "kid": "rsa", "crit": critical, "b64": True}
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    signature = edge.private_key.sign(
        f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    signed = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    assert await edge.reason(f"{head}.{payload}.{signed}") == "TOKEN_INVALID"


async def test_a_token_that_was_let_in_expires_nevertheless(edge: Edge) -> None:
    """A token is remembered until it expires, with the leeway, and not for longer."""
    token = edge.token(exp=int(time.time()) - 28)
    assert await edge.reason(token) == LET_IN

    async def is_expired() -> bool:
        return await edge.reason(token) == "TOKEN_EXPIRED"

    await eventually(is_expired)


async def test_so_many_tokens_are_remembered_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new good tokens fill no memory: the first one makes room."""
    monkeypatch.setattr(auth, "_MAX_CACHED_TOKENS", 3)
    trusted = TrustedKeys()
    trusted.set_keys("test", (VerificationKey("shared", "HS256", SECRET.encode()),))
    authenticator = Authenticator(trusted, issuer="issuer", audience="audience")

    for number in range(10):
        token = jwt.encode(claims_of(jti=str(number)), SECRET, "HS256")
        await authenticator.authenticate(f"Bearer {token}", "status.read")

    assert len(authenticator._verified) == 3  # noqa: SLF001 - its memory is what is bounded
