"""Senders behind a proxy, over real HTTP: each has its own limits, and none chooses its address."""

from collections.abc import AsyncIterator

import pytest
import structlog
from test_sidecar_connections import HEAD, QUICK, client, is_served, sidecar_with
from test_sidecar_limits import GATEWAY, RATES, sender, sidecar_before

from gateway_adapters.addresses import read_network
from gateway_adapters.sidecar import ConnectionLimits
from gateway_adapters.sidecar.remote import TrustedProxies
from harness import Harness

PROXY = "127.0.0.2"
BEHIND = TrustedProxies(tuple(map(read_network, ("127.0.0.2/32", "10.0.0.0/8"))))
ATTACKER = "192.0.2.66"


@pytest.fixture
async def url(harness: Harness) -> AsyncIterator[str]:
    """A sidecar with limits that trusts one proxy, before the real server."""
    token = harness.sidecar_token
    async with sidecar_before(harness.grpc_address, token, RATES, BEHIND) as running:
        yield running


async def remote_of(*lines: str, local: str = PROXY, proxies: TrustedProxies = BEHIND) -> str:
    """Send a webhook with these lines in its head; return the address that the log names."""
    body = b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    given = "".join(f"{line}\r\n" for line in lines).encode()
    with structlog.testing.capture_logs() as logs:
        async with sidecar_with(QUICK, proxies) as address, client(address, local) as proxy:
            proxy.send(HEAD + given + body)
            assert (await proxy.answer()).startswith(b"HTTP/1.1 503 ")
    (told,) = [line["remote"] for line in logs if line["event"] == "webhook_not_taken"]
    return str(told)


@pytest.mark.parametrize(
    ("lines", "remote"),
    [
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: 192.0.2.7", "x-forwarded-for: 10.1.2.3"], "192.0.2.7"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.7", "X-Forwarded-For: 10.1.2.3"], "192.0.2.7"),
        (["X-Forwarded-For: ::ffff:192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: [::ffff:192.0.2.7]:4711"], "192.0.2.7"),
        (["X-Forwarded-For: 192.0.2.7, ::ffff:10.1.2.3"], "192.0.2.7"),
        (["X-Forwarded-For: 2001:DB8::7"], "2001:db8::7"),
        (["X-Forwarded-For: [2001:db8::7]"], "2001:db8::7"),
        (["X-Forwarded-For: fe80::7%\u00fcber"], "fe80::7"),
        (["X-Forwarded-For:  192.0.2.7\t"], "192.0.2.7"),
        (["X-Forwarded-For: 6.6.6.6,"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, unknown"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, unknown, 10.1.2.3"], "10.1.2.3"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.7.example"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, 0x7f.1"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.7:"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, [192.0.2.7"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, \u0661\u0662.0.2.7"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, " + "1" * 5_000], PROXY),
        (["X-Forwarded-For: " + "," * 5_000], PROXY),
        (["X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Forwarded-Host: 6.6.6.6"], PROXY),
        (["X-Forwarded-For: 192.0.2.7", "Connection: X-Forwarded-For"], "192.0.2.7"),
    ],
)
async def test_the_last_address_that_no_proxy_has_is_the_senders(
    lines: list[str], remote: str
) -> None:
    """Whatever stands before it, in whichever line; what cannot be read is the proxy's."""
    assert await remote_of(*lines) == remote


async def test_who_is_no_proxy_speaks_for_nobody() -> None:
    """A header from anywhere else is not even looked at."""
    assert await remote_of("X-Forwarded-For: 192.0.2.7", local="127.0.0.3") == "127.0.0.3"
    assert await remote_of("X-Forwarded-For: 192.0.2.7", proxies=TrustedProxies()) == PROXY


async def test_a_network_may_be_written_as_one_of_ipv6() -> None:
    """Addresses of IPv4 in IPv6 are those of IPv4, in the setting as well."""
    proxies = TrustedProxies((read_network("::ffff:127.0.0.0/120"),))
    assert await remote_of("X-Forwarded-For: 192.0.2.7", proxies=proxies) == "192.0.2.7"


async def test_senders_behind_a_proxy_have_their_own_limits(url: str) -> None:
    """An attacker is turned away whatever it writes; a gateway through the same proxy is not."""
    async with sender(PROXY, url) as proxy:
        assert await proxy.send(is_good=True, through="192.0.2.7") == (200, 0)
        said = [
            (await proxy.send(is_good=False, through=f"{spoofed}, {ATTACKER}"))[0]
            for spoofed in ("192.0.2.7", "6.6.6.6", "10.0.0.1", "unknown", "a, b", "::1", "", "%")
        ]
        assert said == [401] * 5 + [429] * 3
        for _ in range(20):
            assert await proxy.send(is_good=True, through="192.0.2.7") == (200, 0)


async def test_a_network_of_ipv6_behind_a_proxy_is_one_sender(url: str) -> None:
    """Whoever has a network takes another address each time, and is turned away all the same."""
    async with sender(PROXY, url) as proxy:
        said = [
            (await proxy.send(is_good=False, through=f"2001:db8::{number + 1:x}"))[0]
            for number in range(7)
        ]
        assert said == [401] * 5 + [429] * 2
        assert (await proxy.send(is_good=False, through="2001:db8:0:1::1"))[0] == 401


async def test_behind_a_proxy_that_is_not_trusted_all_are_one(harness: Harness) -> None:
    """Their word is not taken: what one of them does counts against all of that address."""
    token = harness.sidecar_token
    async with (
        sidecar_before(harness.grpc_address, token, RATES) as url,
        sender(PROXY, url) as proxy,
        sender(GATEWAY, url) as elsewhere,
    ):
        for number in range(5):
            assert (await proxy.send(is_good=False, through=f"192.0.2.{number}"))[0] == 401

        assert (await proxy.send(is_good=True, through="192.0.2.77"))[0] == 429
        assert (await elsewhere.send(is_good=True))[0] == 200


async def test_connections_count_by_their_own_end_whatever_the_head_says() -> None:
    """A header does not get anybody a connection more, and costs nobody else one."""
    limits = ConnectionLimits(total=8, per_address=2)
    async with (
        sidecar_with(limits, BEHIND) as address,
        client(address, "127.0.0.3") as first,
        client(address, "127.0.0.3") as second,
    ):
        for number, held in enumerate((first, second)):
            held.send(HEAD + f"X-Forwarded-For: 127.0.0.{number + 4}\r\n".encode())

        assert not await is_served(address, "127.0.0.3")
        for other in ("127.0.0.4", "127.0.0.5", PROXY):
            assert await is_served(address, other)
