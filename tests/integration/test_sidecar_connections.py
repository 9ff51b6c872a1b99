"""Clients who only hold connections, over real sockets: they are cut off, others get through."""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from aiohttp import ClientSession

from gateway_adapters.rate_limit import Rate
from gateway_adapters.sidecar import ConnectionLimits, SidecarRates, sidecar_app, sidecar_runner
from gateway_adapters.sidecar.remote import TrustedProxies
from server.listening import address_of, bind, http_server

QUICK = ConnectionLimits(
    total=8, per_address=4, first_request_seconds=0.3, next_request_seconds=0.6
)
HEAD = b"POST /webhooks/razorpay HTTP/1.1\r\nHost: sidecar\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A sidecar that is soon impatient; there is no server behind it."""
    async with sidecar_with(QUICK) as running:
        yield running


@asynccontextmanager
async def sidecar_with(
    limits: ConnectionLimits,
    proxies: TrustedProxies = TrustedProxies(),  # noqa: B008 - it never changes
    rates: SidecarRates = SidecarRates(),  # noqa: B008 - nor does this
) -> AsyncIterator[str]:
    """Run a sidecar with these limits; give its host:port."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        app = sidecar_app(
            lambda: channel,
            lambda: "token",
            deadline_seconds=0.5,
            rates=rates,
            connection_limits=limits,
            proxies=proxies,
        )
        bound = bind("127.0.0.1:0", "sidecar")
        async with http_server(sidecar_runner(app), bound):
            yield address_of(bound)


class Client:
    """A connection that sends whatever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Send, whether anybody still listens or not."""
        self._writer.write(data)

    async def answer(self) -> bytes:
        """Return everything that comes until the connection ends."""
        try:
            async with asyncio.timeout(10):
                return await self._reader.read()
        except ConnectionError:
            return b""

    async def status(self) -> int:
        """Return the status of the next answer, and leave its content unread."""
        async with asyncio.timeout(10):
            return int((await self._reader.readline()).split()[1])


@asynccontextmanager
async def client(address: str, local: str = "127.0.0.1") -> AsyncIterator[Client]:
    """Open a connection from a local address."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(local, 0))
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def is_served(address: str, local: str = "127.0.0.1") -> bool:
    """Tell whether an honest client gets an answer."""
    async with client(address, local) as honest:
        honest.send(b"GET /healthz HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n")
        return b'{"status": "ok"}' in await honest.answer()


@pytest.mark.parametrize("sent", [b"", b"POST /web", HEAD], ids=["nothing", "half a line", "head"])
async def test_a_client_without_a_whole_head_is_cut_off(address: str, sent: bytes) -> None:
    """Neither silence nor half a request holds a connection for longer than it may."""
    started = time.monotonic()
    async with client(address) as slow:
        slow.send(sent)
        assert await slow.answer() == b""

    assert time.monotonic() - started < 5


async def test_a_head_that_comes_byte_by_byte_is_cut_off(address: str) -> None:
    """A byte now and then does not gain time."""
    started = time.monotonic()
    async with client(address) as slow:

        async def drip() -> None:
            for byte in HEAD * 100:
                slow.send(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await slow.answer() == b""
        dripping.cancel()

    assert time.monotonic() - started < 5


async def test_a_body_that_comes_byte_by_byte_is_answered_and_cut_off(address: str) -> None:
    """408 after the deadline, however much is still announced."""
    started = time.monotonic()
    async with client(address) as slow:
        slow.send(HEAD + b"Content-Length: 200000\r\n\r\n")

        async def drip() -> None:
            while True:
                slow.send(b" ")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        answer = await slow.answer()
        dripping.cancel()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"BODY_TOO_SLOW" in answer
    assert time.monotonic() - started < 5


async def test_a_kept_connection_that_asks_for_nothing_more_is_closed(address: str) -> None:
    """It may ask again for a while; half a head does not prolong that."""
    async with client(address) as kept:
        for _ in range(3):
            kept.send(b"GET /healthz HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        assert await kept.status() == 200
        kept.send(b"GET /heal")
        assert (await kept.answer()).count(b"200 OK") == 2


async def test_an_address_has_so_many_connections_at_most() -> None:
    """One more is cut off at once; another address is served, and so is the first one later."""
    patient = ConnectionLimits(total=8, per_address=4)
    async with sidecar_with(patient) as address:
        async with (
            client(address, "127.0.0.2"),
            client(address, "127.0.0.2"),
            client(address, "127.0.0.2"),
            client(address, "127.0.0.2"),
        ):
            assert not await is_served(address, "127.0.0.2")
            assert await is_served(address, "127.0.0.3")
        async with asyncio.timeout(5):
            while not await is_served(address, "127.0.0.2"):
                await asyncio.sleep(0.01)


async def test_connections_that_are_only_held_make_room() -> None:
    """Where all places are taken by those who ask for nothing, the oldest of them has to go."""
    patient = ConnectionLimits(total=8, per_address=4)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(10))
        address = await stack.enter_async_context(sidecar_with(patient))
        first, *_ = [
            await stack.enter_async_context(client(address, f"127.0.1.{number + 1}"))
            for number in range(8)
        ]
        assert await is_served(address, "127.0.0.4")
        assert await first.answer() == b""


async def hold_ten(address: str) -> None:
    """Hold ten connections from one address until each is cut off."""
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(client(address, "127.0.0.2")) for _ in range(10)]
        for one in held:
            assert await one.answer() == b""


async def test_who_only_holds_connections_is_barred() -> None:
    """After twenty that were cut off, further ones are as soon as they are made."""
    quick = ConnectionLimits(first_request_seconds=0.05)
    async with sidecar_with(quick, rates=SidecarRates(address=Rate(1, 50))) as address:
        for _ in range(4):
            await hold_ten(address)

        assert not await is_served(address, "127.0.0.2")
        assert await is_served(address, "127.0.0.3")


async def test_a_trusted_proxy_is_not_held_to_account_for_its_senders() -> None:
    """It has as many connections as there are, also some that it does not use."""
    quick = ConnectionLimits(total=50, per_address=2, first_request_seconds=0.05)
    proxies = TrustedProxies((ipaddress.ip_network("127.0.0.2/32"),))
    async with sidecar_with(quick, proxies, SidecarRates(address=Rate(1, 50))) as address:
        for _ in range(4):
            await hold_ten(address)

        assert await is_served(address, "127.0.0.2")


async def test_connections_under_way_are_not_made_to_go(address: str) -> None:
    """A webhook that is being answered is let be, however many come after it."""
    async with ClientSession() as session:

        async def post() -> int:
            url = f"http://{address}/webhooks/razorpay"
            headers = {"Content-Type": "application/json"}
            async with session.post(url, data=b"{}", headers=headers) as answer:
                return answer.status

        posting = asyncio.create_task(post())
        for number in range(20):
            async with client(address, f"127.0.2.{number + 1}"):
                pass
        assert await posting == 503


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X-One: a\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        HEAD + b"X-One: a\r\n b: folded\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"X-One : a\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"X-\x00One: a\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"X-One: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"X-One: a\rX-Two: b\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: +2\r\n\r\n{}",
        HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /webhooks/" + b"r" * 20_000 + b" HTTP/1.1\r\nHost: sidecar\r\n\r\n",
        HEAD + b"X-One: " + b"a" * 40_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n",
    ],
    ids=[
        *("two lengths", "length and chunks", "folded", "space before colon", "nul in a name"),
        *("nul in a value", "bare return", "signed length", "list of lengths", "bad chunk"),
        *("long line", "long field", "many fields"),
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_refused(address: str, head: bytes) -> None:
    """What a proxy might read otherwise, or what is too large, gets 4xx and the connection ends."""
    async with client(address) as smuggler:
        smuggler.send(head)
        answer = await smuggler.answer()

    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
    assert answer.count(b"HTTP/1.") == 1


async def test_heads_that_are_no_http_fill_no_log(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However many come, the log says now and then that they do, and quotes nothing of them."""
    for _ in range(30):
        async with client(address) as attacker:
            attacker.send(HEAD + b"Content-Length: 2\r\nContent-Length: of-the-attacker\r\n\r\n{}")
            assert (await attacker.answer()).startswith(b"HTTP/1.0 400 ")

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "malformed_requests" in caplog.text
    assert "of-the-attacker" not in caplog.text


async def test_a_name_of_a_gateway_cannot_write_into_an_answer(address: str) -> None:
    """Line breaks in a path stay out of the answer's head and of the log's lines."""
    async with client(address) as attacker:
        attacker.send(
            b"POST /webhooks/a%0d%0aSet-Cookie:%20x=1 HTTP/1.1\r\nHost: sidecar\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        )
        answer = await attacker.answer()

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"Set-Cookie" not in answer
