"""Keys and revoked tokens change under a running server, whose connections stay open."""

import asyncio
import base64
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import SecretStr

from harness import IMPATIENT, Harness, bearer, eventually, free_port, refusal_of, token
from key_bench import (
    LET_IN,
    KeyServer,
    SigningKey,
    Trusting,
    keys_of_each_kind,
    replace_file,
    running_key_server,
    trusting,
    write_keys,
)
from server.access.trust import published_keys, revoked_ids, verification_key
from server.access.watched_files import Unusable
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1.wallet_payment_service_pb2_grpc import WalletPaymentServiceStub

REFUSED = "TOKEN_INVALID"
NO_KEYS = SecretStr("")
ASYMMETRIC = frozenset({"ES256", "EdDSA", "RS256"})


async def comes_to(server: Trusting, token: str, reason: str) -> bool:
    """Wait until a token is answered so; another answer first is what changes."""

    async def says_so() -> bool:
        return await server.says(token) == reason

    return bool(await eventually(says_so))


async def test_a_key_rotates_by_its_file(harness: Harness, tmp_path: Path) -> None:
    """A new key's tokens are let in without a restart; a removed key's no more, known ones too."""
    old, new = SigningKey("old"), SigningKey("new")
    file = tmp_path / "keys.json"
    keys = SecretStr(write_keys(file, [old]))
    async with trusting(harness, jwt_keys=keys) as server:
        known = old.token()
        assert await server.says(known) == LET_IN
        assert await server.says(new.token()) == REFUSED

        write_keys(file, [old, new])
        assert await comes_to(server, new.token(), LET_IN)
        assert await server.says(known) == LET_IN

        write_keys(file, [new])
        assert await comes_to(server, known, REFUSED)
        assert await server.says(new.token()) == LET_IN


@pytest.mark.parametrize(
    "broken",
    ["", "{", '{"keys": []}', '{"keys": [{"kid": "x", "alg": "ES256", "kty": "EC"}]}', "[]"],
)
async def test_keys_that_cannot_be_used_change_nothing(
    harness: Harness, tmp_path: Path, broken: str
) -> None:
    """The last good keys stay in force with an alarm, which ends when all is well again."""
    key, file = SigningKey("one"), tmp_path / "keys.json"
    keys = SecretStr(write_keys(file, [key]))
    async with trusting(harness, jwt_keys=keys) as server:

        async def alarm() -> float:
            return await server.metric("wallet_renewal_failing", what="jwt_keys")

        assert await alarm() == 0
        replace_file(file, broken)
        await eventually(alarm)
        assert await server.says(key.token()) == LET_IN

        write_keys(file, [key])

        async def is_over() -> bool:
            return await alarm() == 0

        await eventually(is_over)


async def test_a_file_that_is_gone_changes_nothing(harness: Harness, tmp_path: Path) -> None:
    """Without its file the server goes on with the keys that it has, and raises the alarm."""
    key, file = SigningKey("one"), tmp_path / "keys.json"
    keys = SecretStr(write_keys(file, [key]))
    async with trusting(harness, jwt_keys=keys) as server:
        file.unlink()

        async def alarm() -> float:
            return await server.metric("wallet_renewal_failing", what="jwt_keys")

        await eventually(alarm)
        assert await server.says(key.token()) == LET_IN


async def test_a_revoked_token_is_refused_on_a_live_connection(
    harness: Harness, tmp_path: Path
) -> None:
    """A token in the list is refused at once, though it was let in before; others are not."""
    key, revoked = SigningKey("one"), tmp_path / "revoked.txt"
    revoked.write_text("# none yet\n")
    keys = SecretStr(write_keys(tmp_path / "keys.json", [key]))
    async with trusting(harness, jwt_keys=keys, jwt_revoked=str(revoked)) as server:
        lost, kept, nameless = key.token(jti="lost-1"), key.token(jti="kept-1"), key.token()
        for good in (lost, kept, nameless):
            assert await server.says(good) == LET_IN

        replace_file(revoked, "# stolen on Monday\n\nlost-1\nanother\n")
        assert await comes_to(server, lost, "TOKEN_REVOKED")
        assert await server.says(kept) == LET_IN
        assert await server.says(nameless) == LET_IN
        assert await server.says(key.token(jti=" lost-1 ")) == "TOKEN_REVOKED"
        assert await server.says(key.token(jti=["lost-1"])) == REFUSED

        revoked.write_bytes(b"\xff\xfe")

        async def alarm() -> float:
            return await server.metric("wallet_renewal_failing", what="jwt_revoked")

        await eventually(alarm)
        assert await server.says(lost) == "TOKEN_REVOKED"


def test_a_mark_before_the_list_hides_no_token() -> None:
    """Some editors begin a file with a byte order mark: the first token is revoked nevertheless."""
    assert revoked_ids(b"\xef\xbb\xbflost-1\r\nlost-2\r\n") == {"lost-1", "lost-2"}
    assert revoked_ids(b"\xef\xbb\xbf# a remark\nlost-1") == {"lost-1"}


async def test_a_stream_ends_when_its_token_is_revoked(harness: Harness, tmp_path: Path) -> None:
    """Who watches events with a token is told so, also where nothing happens meanwhile."""
    key, revoked = SigningKey("one"), tmp_path / "revoked.txt"
    revoked.touch()
    keys = SecretStr(write_keys(tmp_path / "keys.json", [key]))
    async with trusting(
        harness, jwt_keys=keys, jwt_revoked=str(revoked), events_heartbeat_seconds=0.05
    ) as server:
        watching = server.stub.WatchEvents(
            service.WatchEventsRequest(), metadata=bearer(key.token(jti="lost")), timeout=30
        )

        async def read_on() -> None:
            async for heard in watching:
                assert heard.cursor
                replace_file(revoked, "lost")

        assert (await refusal_of(read_on())).reason == "TOKEN_REVOKED"


async def test_keys_of_a_url_are_trusted_beside_those_of_the_settings(harness: Harness) -> None:
    """Tokens of each published key are let in, of each algorithm; those of a stranger are not."""
    kinds = keys_of_each_kind()
    async with running_key_server() as publisher:
        publisher.publish(*kinds)
        async with trusting(
            harness, jwt_keys_url=publisher.url, jwt_algorithms=("ES256", "EdDSA", "RS256", "HS256")
        ) as server:
            for key in kinds:
                assert await server.says(key.token()) == LET_IN
            assert await server.says(token()) == LET_IN
            assert await server.says(SigningKey("elliptic").token()) == REFUSED


async def test_an_unknown_key_is_asked_for_at_once(harness: Harness) -> None:
    """The first call with a token of a key that was just published is let in."""
    old, new = SigningKey("old"), SigningKey("new")
    async with running_key_server() as publisher:
        publisher.publish(old)
        async with trusting(harness, jwt_keys=NO_KEYS, jwt_keys_url=publisher.url) as server:
            assert await server.says(old.token()) == LET_IN
            publisher.publish(new)
            assert await server.says(new.token()) == LET_IN
            assert await server.says(old.token()) == REFUSED


async def test_a_flood_of_unknown_keys_does_not_flood_the_key_server(harness: Harness) -> None:
    """Three hundred tokens of unknown keys cause one more fetch, and good ones pass meanwhile."""
    good, stranger = SigningKey("good"), SigningKey("stranger")
    async with running_key_server() as publisher:
        publisher.publish(good)
        given = {"jwt_keys": NO_KEYS, "jwt_keys_url": publisher.url, "rate_limit_addresses": ""}
        async with trusting(harness, **given) as server:
            before = publisher.asked
            forged = [
                SigningKey(f"unknown-{number}", private=stranger.private).token()
                for number in range(300)
            ]
            answers = await asyncio.gather(
                *(server.says(one) for one in forged), server.says(good.token())
            )
            assert answers == [REFUSED] * 300 + [LET_IN]
            assert publisher.asked == before + 1


@pytest.mark.parametrize("outage", ["500", "redirect", "not JSON", "no keys", "too long"])
async def test_keys_are_served_on_during_an_outage(harness: Harness, outage: str) -> None:
    """While the key server gives nothing good the last keys hold, with an alarm; then new ones."""
    old, new = SigningKey("old"), SigningKey("new")
    async with running_key_server() as publisher:
        publisher.publish(old)
        async with trusting(
            harness,
            jwt_keys=NO_KEYS,
            jwt_keys_url=publisher.url,
            jwt_keys_refresh_seconds=0.05,
        ) as server:
            _break(publisher, outage)

            async def alarm() -> float:
                return await server.metric("wallet_renewal_failing", what="jwt_keys_url")

            await eventually(alarm)
            assert await server.says(old.token()) == LET_IN
            assert await server.says(old.token(jti="never seen")) == LET_IN

            publisher.status, publisher.headers = 200, {}
            publisher.publish(new)
            assert await comes_to(server, new.token(), LET_IN)
            assert await comes_to(server, old.token(), REFUSED)


async def test_a_key_server_that_hangs_delays_nobody_else(harness: Harness) -> None:
    """While a token of an unknown key waits for it, tokens of known keys are let in."""
    known, new = SigningKey("known"), SigningKey("new")
    async with running_key_server() as publisher:
        publisher.publish(known)
        async with trusting(harness, jwt_keys=NO_KEYS, jwt_keys_url=publisher.url) as server:
            publisher.held = asyncio.Event()
            before = publisher.asked
            waiting = asyncio.create_task(server.says(new.token()))

            async def is_asked() -> bool:
                return publisher.asked > before

            await eventually(is_asked)
            assert await server.says(known.token()) == LET_IN
            assert not waiting.done()
            publisher.publish(known, new)
            publisher.held.set()
            assert await waiting == LET_IN


async def test_a_key_server_that_is_gone_takes_no_keys_along(harness: Harness) -> None:
    """Nobody listens there any more: known keys hold, unknown ones are refused."""
    known = SigningKey("known")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(running_key_server())
        publisher.publish(known)
        async with trusting(harness, jwt_keys=NO_KEYS, jwt_keys_url=publisher.url) as server:
            await stack.aclose()
            assert await server.says(SigningKey("new").token()) == REFUSED
            assert await server.says(known.token()) == LET_IN
            assert await server.metric("wallet_renewal_failing", what="jwt_keys_url") == 1


def _break(publisher: KeyServer, outage: str) -> None:
    document: Any = {
        "not JSON": "nothing",
        "no keys": {"keys": []},
        "too long": {"keys": [], "more": "x" * 300_000},
    }.get(outage, publisher.document)
    publisher.document = document
    if outage == "500":
        publisher.status = 500
    if outage == "redirect":
        publisher.status, publisher.headers = 302, {"Location": publisher.url}


async def test_without_any_key_calls_are_told_to_wait(harness: Harness) -> None:
    """Until its key server has answered once, a server refuses no token as bad; then it serves."""
    key, port = SigningKey("late"), free_port()
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(running_key_server())
        publisher.status = 503
        address = f"127.0.0.1:{port}"
        channel = grpc.aio.insecure_channel(address, options=IMPATIENT)
        stub = WalletPaymentServiceStub(await stack.enter_async_context(channel))
        waiting = Trusting(address, "", stub, harness.http)
        starting = asyncio.create_task(
            stack.enter_async_context(
                trusting(
                    harness,
                    grpc_address=address,
                    jwt_keys=NO_KEYS,
                    jwt_keys_url=publisher.url,
                    jwt_keys_refresh_seconds=0.05,
                )
            )
        )
        assert await waiting.says(key.token()) == "KEYS_UNAVAILABLE"
        assert not starting.done()

        publisher.status = 200
        publisher.publish(key)
        assert await (await starting).says(key.token()) == LET_IN


@pytest.mark.parametrize("leads", [302, 307])
async def test_a_key_server_that_leads_elsewhere_is_not_followed(
    harness: Harness, leads: int
) -> None:
    """Who can only redirect its answer does not say whose tokens are good."""
    key, stranger = SigningKey("one"), SigningKey("stranger")
    async with running_key_server() as publisher, running_key_server() as elsewhere:
        publisher.publish(key)
        elsewhere.publish(stranger)
        async with trusting(harness, jwt_keys=NO_KEYS, jwt_keys_url=publisher.url) as server:
            publisher.status, publisher.headers = leads, {"Location": elsewhere.url}

            assert await server.says(stranger.token()) == REFUSED
            assert elsewhere.asked == 0
            assert await server.says(key.token()) == LET_IN


async def test_a_key_server_that_says_too_much_is_not_heard_out(harness: Harness) -> None:
    """An answer of more than 256 KiB replaces no key, and the alarm shows."""
    key, new = SigningKey("one"), SigningKey("new")
    async with running_key_server() as publisher:
        publisher.publish(key)
        async with trusting(harness, jwt_keys=NO_KEYS, jwt_keys_url=publisher.url) as server:
            publisher.publish(new)
            publisher.document["padding"] = "x" * 256 * 1024

            assert await server.says(new.token()) == REFUSED
            assert await server.metric("wallet_renewal_failing", what="jwt_keys_url") == 1
            assert await server.says(key.token()) == LET_IN


def _private_part() -> dict[str, str]:
    private: dict[str, str] = jwt.algorithms.ECAlgorithm.to_jwk(
        ec.generate_private_key(ec.SECP256R1()), as_dict=True
    )
    return private


def test_a_published_set_is_read_with_care() -> None:
    """What is no public key for signatures is left out; where nothing remains nothing is taken."""
    good = SigningKey("good")
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    small = SigningKey("small", "ES256").public(alg="RS256")
    few_bits = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
    short = SigningKey("short", "RS256", few_bits)
    others: list[Any] = [
        "text",
        None,
        {},
        good.public(kid=None),
        good.public(kid=7),
        good.public(use="enc"),
        good.public(d="AAAA"),
        SigningKey("leaked").public(**_private_part()),
        good.public(alg="ES512"),
        good.public(alg=["ES256"]),
        good.public(crv="P-384"),
        good.public(x=5),
        good.public(x="*"),
        good.public(kty={}),
        {"kty": "oct", "kid": "shared", "alg": "HS256", "k": secret},
        {"kty": "RSA", "kid": "weak", "alg": "RS256", "n": "AQAB", "e": "AQAB"},
        small,
        short.public(),
    ]

    (key,) = published_keys({"keys": [*others, good.public(alg=None)]}, ASYMMETRIC)
    with pytest.raises(Unusable, match="fewer than 2048 bits"):
        verification_key(short.public())

    assert (key.key_id, key.algorithm) == ("good", "ES256")
    assert "key=" not in repr(key)
    nothing: Any
    many = [good.public(kid=str(number)) for number in range(101)]
    for nothing in ([], {"keys": {}}, {"keys": others}, 1, {"keys": many}):
        with pytest.raises(Unusable):
            published_keys(nothing, ASYMMETRIC)
