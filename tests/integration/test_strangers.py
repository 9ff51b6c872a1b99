"""Callers without a good token, over real gRPC: a flood is turned away, who is known goes on."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from pydantic import SecretStr

from gateway_adapters.rate_limit import Rate, private_table
from harness import Harness, Refused, bearer, eventually, outcomes_of, refusal_of, token, unique
from key_bench import LET_IN, SigningKey, trusting, write_keys
from server.app import running_server
from server.audit import TURNED_AWAY, AuditEntry
from server.rpc.errors import RpcError
from server.rpc.strangers import MAX_SENDERS, OTHERS, Strangers
from server.workers.place import Place
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

SLOW = "0.01:5"
"""Five at once, and then one every hundred seconds."""
PEER = "ipv4:192.0.2.1:5000"


class Door:
    """A server's stub, and calls with good and bad tokens through it."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def status(self, customer: str, text: str | None) -> Any:
        """Ask for a customer's status with a token, or without any."""
        metadata = bearer(text) if text is not None else ()
        request = service.GetStatusRequest(customer_id=customer)
        return await self._stub.GetStatus(request, metadata=metadata, timeout=30)

    async def says(self, text: str | None) -> str:
        """Return the reason that a call with a token is given; LET_IN if it is let in."""
        reason = (await refusal_of(self.status("nobody", text))).reason
        return LET_IN if reason == "CUSTOMER_NOT_FOUND" else reason

    async def flood(self, count: int) -> list[Refused]:
        """Send so many calls at one moment, each with another token that is none."""
        calls = [self.status("nobody", unique("forged")) for _ in range(count)]
        return await outcomes_of(calls)


@asynccontextmanager
async def door(harness: Harness, place: Place | None = None, **changes: Any) -> AsyncIterator[Door]:
    """Run a server that bears five strangers from one address."""
    settings = harness.settings.model_copy(update={"rate_limit_addresses": SLOW} | changes)
    async with (
        running_server(settings, place) as running,
        grpc.aio.insecure_channel(running.grpc_address) as channel,
    ):
        yield Door(service_grpc.WalletPaymentServiceStub(channel))


async def test_after_some_bad_tokens_an_address_is_told_to_wait(harness: Harness) -> None:
    """Of fifty at once five are looked at; the others are RATE_LIMITED, with the time."""
    async with door(harness) as stranger:
        refusals = await stranger.flood(50)
        missing = await refusal_of(stranger.status("nobody", None))

    reasons = sorted(refusal.reason for refusal in refusals)
    assert reasons == ["RATE_LIMITED"] * 45 + ["TOKEN_INVALID"] * 5
    assert missing.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert missing.retry_after_seconds == pytest.approx(100, abs=5)
    assert missing.metadata["limit"] == "address"
    assert missing.metadata["address"] == "127.0.0.1"


async def test_a_known_token_goes_on_from_an_address_that_floods(harness: Harness) -> None:
    """Who was let in before is let in; a good token that is new there has to wait."""
    customer, known = await harness.customer(), token()
    async with door(harness) as both:
        await both.status(customer, known)
        await both.flood(20)

        for _ in range(20):
            await both.status(customer, known)
        newcomer = await refusal_of(both.status(customer, token(sub="newcomer")))

    assert newcomer.reason == "RATE_LIMITED"
    assert newcomer.retry_after_seconds == pytest.approx(100, abs=5)


async def test_whoever_waits_as_told_is_let_in(harness: Harness) -> None:
    """A good token whose call was turned away gets in when it comes again."""
    customer = await harness.customer()
    async with door(harness, rate_limit_addresses="5:5") as both:
        await both.flood(10)
        newcomer = token(sub="newcomer")
        wait = await refusal_of(both.status(customer, newcomer))
        assert wait.retry_after_seconds
        assert wait.retry_after_seconds <= 0.2

        async def is_let_in() -> bool:
            [answer] = await outcomes_of([both.status(customer, newcomer)])
            return not isinstance(answer, Refused)

        assert await eventually(is_let_in)


async def test_good_tokens_cost_nothing_however_many(harness: Harness) -> None:
    """Callers may come with a new token for each call."""
    async with door(harness) as caller:
        reasons = [await caller.says(token(jti=unique("token"))) for _ in range(20)]

    assert reasons == [LET_IN] * 20


async def test_a_known_token_is_checked_anew_and_its_end_counts(
    harness: Harness, tmp_path: Path
) -> None:
    """With new keys known tokens are let in still; one that was revoked is, and then counts."""
    key, revoked = SigningKey("key"), tmp_path / "revoked"
    revoked.write_text("")
    keys = SecretStr(write_keys(tmp_path / "keys", [key]))
    async with trusting(
        harness, jwt_keys=keys, jwt_revoked=str(revoked), rate_limit_addresses=SLOW
    ) as server:
        good, stolen = key.token(), key.token(jti="stolen")
        assert [await server.says(one) for one in (good, stolen)] == [LET_IN] * 2
        for _ in range(7):
            last = await server.says(unique("forged"))
        assert last == "RATE_LIMITED"

        revoked.write_text("stolen\n")

        async def is_noticed() -> bool:
            return await server.says(stolen) == "TOKEN_REVOKED"

        assert await eventually(is_noticed)
        assert await server.says(stolen) == "RATE_LIMITED"
        assert await server.says(good) == LET_IN


async def test_no_limit_where_none_is_set(harness: Harness) -> None:
    """An empty setting looks at every token."""
    async with door(harness, rate_limit_addresses="") as stranger:
        refusals = await stranger.flood(200)

    assert {refusal.reason for refusal in refusals} == {"TOKEN_INVALID"}


async def test_workers_of_one_server_bear_strangers_together(
    harness: Harness, tmp_path: Path
) -> None:
    """What one worker has refused counts at the other."""
    async with AsyncExitStack() as workers:
        doors = [
            await workers.enter_async_context(door(harness, Place(index, 2, tmp_path)))
            for index in range(2)
        ]
        reasons = [await doors[number % 2].says(unique("forged")) for number in range(8)]

    assert reasons == ["TOKEN_INVALID"] * 5 + ["RATE_LIMITED"] * 3


async def test_a_flood_is_audited_as_one_entry_with_its_number(harness: Harness) -> None:
    """A server that stops tells how many calls of an address it did not look at."""
    before = await entries(harness)
    async with door(harness) as stranger:
        await stranger.flood(50)

    [entry] = [one for one in await entries(harness) if one not in before]
    assert (entry["peer"], entry["code"], entry["reason"]) == (
        "127.0.0.1",
        "RESOURCE_EXHAUSTED",
        "45",
    )


async def entries(harness: Harness) -> list[dict[str, Any]]:
    """Return the audit's entries that stand for calls that were turned away."""
    found = harness.database.integration_logs.find({"method": TURNED_AWAY})
    return [entry async for entry in found]


class Kept:
    """Keeps the audit's entries."""

    takes_calls = True

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def put(self, entry: AuditEntry) -> None:
        """Keep an entry."""
        self.entries.append(entry)


def knock(strangers: Strangers, peer: str) -> str:
    """Come with a bad token; return what is said."""
    with pytest.raises(RpcError) as refused, strangers.counting(peer, was_good=False):
        _refuse()
    return refused.value.reason


def _refuse() -> NoReturn:
    raise RpcError("TOKEN_INVALID", "")


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (PEER, "ipv4:192.0.2.1:5001"),
        (PEER, "ipv6:%5B::ffff:192.0.2.1%5D:5000"),
        ("ipv6:%5B2001:db8::1%5D:5000", "ipv6:%5B2001:db8::2%5D:5001"),
        ("ipv6:[fe80::1%25eth0]:5000", "ipv6:%5Bfe80::2%5D:5000"),
        ("unix:", "unix:/run/wallet.sock"),
    ],
    ids=["ports", "IPv4 in IPv6", "a network of IPv6", "zones", "sockets"],
)
async def test_what_counts_as_one_address(one: str, another: str) -> None:
    """Ports and the last half of an IPv6 address are for whoever has the address to choose."""
    strangers = Strangers(Rate(0.01, 1), private_table(), Kept())

    assert [knock(strangers, peer) for peer in (one, another)] == ["TOKEN_INVALID", "RATE_LIMITED"]
    strangers.close()


async def test_two_addresses_are_two() -> None:
    """A flood from one address is not held against another."""
    strangers = Strangers(Rate(0.01, 1), private_table(), Kept())

    assert [knock(strangers, PEER) for _ in range(2)] == ["TOKEN_INVALID", "RATE_LIMITED"]
    assert knock(strangers, "ipv4:192.0.2.2:5000") == "TOKEN_INVALID"
    assert knock(strangers, "ipv6:%5B2001:db8::1%5D:5000") == "TOKEN_INVALID"
    strangers.close()


async def test_a_flood_from_everywhere_is_told_in_bounded_memory() -> None:
    """So many addresses are told each with its number, all others together; none is left out."""
    kept = Kept()
    strangers = Strangers(Rate(0.01, 1), private_table(), kept)
    peers = [f"ipv4:10.1.{number // 256}.{number % 256}:1" for number in range(MAX_SENDERS + 200)]
    for _ in range(3):
        for peer in peers:
            knock(strangers, peer)
    strangers.close()
    strangers.close()

    assert len(kept.entries) == MAX_SENDERS + 1
    told = {entry.peer: int(entry.reason) for entry in kept.entries}
    assert told["10.1.0.0"] == 2
    assert told[OTHERS] == 2 * 200
    assert sum(told.values()) == 2 * len(peers)


async def test_a_flood_that_lasts_is_told_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit is told while the server runs, and nothing twice."""
    monkeypatch.setattr("server.rpc.strangers.TELL_SECONDS", 0.01)
    kept = Kept()
    strangers = Strangers(Rate(0.01, 1), private_table(), kept)
    assert knock(strangers, PEER) == "TOKEN_INVALID"
    for told in (1, 2):
        assert knock(strangers, PEER) == "RATE_LIMITED"

        async def is_told(count: int = told) -> bool:
            return len(kept.entries) == count

        assert await eventually(is_told)
    strangers.close()

    assert [entry.reason for entry in kept.entries] == ["1", "1"]
