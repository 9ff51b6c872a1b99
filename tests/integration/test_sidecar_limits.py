"""The sidecar's rate limits over real HTTP: an attacker is turned away, a gateway is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from aiohttp import ClientConnectionError, ClientSession, TCPConnector

from gateway_adapters.addresses import network_of
from gateway_adapters.rate_limit import Rate
from gateway_adapters.sidecar import SidecarRates, sidecar_app, sidecar_runner
from gateway_adapters.sidecar.limits import (
    KNOWN_SECONDS,
    MAX_KNOWN,
    SidecarLimits,
    TooMany,
)
from gateway_adapters.sidecar.remote import TrustedProxies
from harness import Harness, event_of, eventually, gateway_id, signature_of, unique
from server.listening import address_of, bind, http_server

ATTACKER, GATEWAY = "127.0.0.2", "127.0.0.3"
RATES = SidecarRates(address=Rate(0.01, 5), gateway=Rate(0.01, 20))
BODY = event_of(
    "payment.downtime.started",
    {"id": gateway_id("pay"), "order_id": "", "amount": 1, "currency": "INR"},
)


class Sender:
    """Somebody with an address of their own who sends webhooks."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def send(
        self, *, is_good: bool, gateway: str = "razorpay", through: str = ""
    ) -> tuple[int, int]:
        """Send a webhook; return the status, and the seconds to wait that are told with it.

        `through` is what a proxy writes down of where it comes from.
        """
        headers = {
            "Content-Type": "application/json",
            "X-Razorpay-Event-Id": unique("evt"),
            "X-Razorpay-Signature": signature_of(BODY) if is_good else "0" * 64,
        }
        if through:
            headers["X-Forwarded-For"] = through
        url = f"{self._url}/webhooks/{gateway}"
        async with self._session.post(url, data=BODY, headers=headers) as answer:
            return answer.status, int(answer.headers.get("Retry-After", "0"))

    async def statuses(self, count: int, *, is_good: bool) -> list[int]:
        """Send so many one after the other."""
        return [(await self.send(is_good=is_good))[0] for _ in range(count)]


@asynccontextmanager
async def sidecar_before(
    target: str,
    token: str,
    rates: SidecarRates,
    proxies: TrustedProxies = TrustedProxies(),  # noqa: B008 - it never changes
) -> AsyncIterator[str]:
    """Give the URL of a sidecar with limits."""
    async with grpc.aio.insecure_channel(target) as channel:
        app = sidecar_app(
            lambda: channel, lambda: token, rates=rates, proxies=proxies, deadline_seconds=2
        )
        bound = bind("127.0.0.1:0", "sidecar")
        async with http_server(sidecar_runner(app), bound):
            yield f"http://{address_of(bound)}"


@pytest.fixture
async def url(harness: Harness) -> AsyncIterator[str]:
    """A sidecar with limits before the real server."""
    async with sidecar_before(harness.grpc_address, harness.sidecar_token, RATES) as running:
        yield running


@asynccontextmanager
async def sender(address: str, url: str) -> AsyncIterator[Sender]:
    """Give a sender with this address."""
    connector = TCPConnector(local_addr=(address, 0))
    async with ClientSession(connector=connector) as session:
        yield Sender(session, url)


async def test_bad_signatures_are_answered_for_a_while_and_then_turned_away(url: str) -> None:
    """After five refused ones the address gets 429 and is told how long to wait."""
    async with sender(ATTACKER, url) as attacker:
        assert await attacker.statuses(5, is_good=False) == [401] * 5
        assert await attacker.send(is_good=False) == (429, 100)


async def test_many_bad_signatures_at_once_get_no_further(url: str) -> None:
    """Of fifty at the same moment no more than five reach the server."""
    async with sender(ATTACKER, url) as attacker:
        answers = await asyncio.gather(*(attacker.send(is_good=False) for _ in range(50)))

    assert sorted(status for status, _ in answers) == [401] * 5 + [429] * 45


async def test_good_signatures_do_not_count(url: str) -> None:
    """A gateway may send as much as it has to say."""
    async with sender(GATEWAY, url) as gateway:
        assert await gateway.statuses(40, is_good=True) == [200] * 40


async def test_an_attacker_does_not_starve_the_gateway(url: str) -> None:
    """Attackers use up the gateway's limit; the address that sent good ones still gets through."""
    async with sender(GATEWAY, url) as gateway:
        assert await gateway.statuses(1, is_good=True) == [200]
        for number in range(5):
            async with sender(f"127.0.1.{number + 1}", url) as attacker:
                await attacker.statuses(6, is_good=False)
        async with sender("127.0.1.99", url) as another:
            assert (await another.send(is_good=False))[0] == 429

        assert await gateway.statuses(40, is_good=True) == [200] * 40


async def test_what_was_turned_away_is_taken_when_it_is_sent_again(harness: Harness) -> None:
    """A gateway that is told to wait sends again, and its event takes effect once."""
    rates = SidecarRates(gateway=Rate(2, 2))
    async with (
        sidecar_before(harness.grpc_address, harness.sidecar_token, rates) as url,
        sender(ATTACKER, url) as attacker,
        sender(GATEWAY, url) as gateway,
    ):
        assert (await attacker.statuses(3, is_good=False))[-1] == 429
        assert await gateway.send(is_good=True) == (429, 1)

        async def is_taken() -> bool:
            return await gateway.send(is_good=True) == (200, 0)

        await eventually(is_taken)


async def test_a_server_that_is_away_is_nobodys_fault() -> None:
    """503 is not held against the sender, however often."""
    async with (
        sidecar_before("127.0.0.1:1", "token", RATES) as url,
        sender(GATEWAY, url) as gateway,
    ):
        assert await gateway.statuses(30, is_good=True) == [503] * 30


async def test_who_does_not_heed_that_it_was_turned_away_is_barred(url: str) -> None:
    """After twenty refusals that changed nothing its connections are cut off; others are taken."""
    async with sender(ATTACKER, url) as attacker:
        assert await attacker.statuses(25, is_good=False) == [401] * 5 + [429] * 20
    async with sender(ATTACKER, url) as attacker:
        with pytest.raises(ClientConnectionError):
            await attacker.send(is_good=False)
    async with sender(GATEWAY, url) as gateway:
        assert await gateway.statuses(3, is_good=True) == [200] * 3


class Clock:
    """Seconds that only a test moves on."""

    now = 1_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def turn(limits: SidecarLimits, address: str, status: int) -> bool:
    """Let a request in that ends so; return whether it was let in."""
    try:
        with limits.counting("razorpay", address) as verdict:
            verdict.status = status
    except TooMany:
        return False
    return True


def test_an_address_is_known_for_a_day() -> None:
    """Whoever sent nothing good for longer has to be found out again."""
    clock = Clock()
    limits = SidecarLimits(SidecarRates(gateway=Rate(0.001, 1)), clock=clock)
    assert turn(limits, GATEWAY, 200)
    clock.now += KNOWN_SECONDS - 1
    assert turn(limits, ATTACKER, 401)
    assert turn(limits, GATEWAY, 401)
    clock.now += 2

    assert not turn(limits, GATEWAY, 200)


def test_a_bar_ends_by_itself_and_never_holds_for_a_known_address() -> None:
    """Whoever stays away for a while is let in again; a gateway is let in whatever it did."""
    clock = Clock()
    limits = SidecarLimits(SidecarRates(address=Rate(0.001, 1)), clock=clock)
    assert turn(limits, GATEWAY, 200)
    for _ in range(50):
        limits.misbehaved(ATTACKER)
        limits.misbehaved(GATEWAY)

    assert limits.bars(ATTACKER)
    assert not limits.bars(GATEWAY)
    clock.now += 1
    assert not limits.bars(ATTACKER)


def test_no_more_addresses_are_remembered_than_there_is_room_for() -> None:
    """The address that was good the longest ago is forgotten first."""
    limits = SidecarLimits(SidecarRates(gateway=Rate(0.001, 1)))
    for number in range(MAX_KNOWN + 1):
        assert turn(limits, f"10.0.{number // 256}.{number % 256}", 200)
    assert turn(limits, ATTACKER, 401)

    assert not turn(limits, "10.0.0.0", 200)
    assert turn(limits, "10.0.0.1", 200)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("::FFFF:C000:201", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]:443", "2001:db8:1:2::/64"),
        ("192.0.2.01", "unknown"),
        ("192.0.2.1:port", "unknown"),
        ("[192.0.2.1", "unknown"),
        ("192.0.2.1" + " " * 300, "unknown"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("a socket", "unknown"),
    ],
)
def test_a_sender_is_an_address_or_a_network_of_them(address: str, network: str) -> None:
    """Of IPv6 anybody has a whole network; it counts as one."""
    assert network_of(address) == network
