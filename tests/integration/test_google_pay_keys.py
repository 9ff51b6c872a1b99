"""Google's root keys over real HTTPS: fetched, kept, fetched again, and kept through an outage."""

import asyncio
import base64
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from gateway_adapters.google_pay import (
    GoogleKeys,
    KeysUnavailable,
    KeyUnknown,
    RootKey,
    SignatureInvalid,
)

START_MS = 1_785_000_000_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000

Answer = Callable[[], web.Response]


@dataclass
class Clock:
    """A clock that stands until a test moves it."""

    time_ms: int = START_MS

    def __call__(self) -> int:
        """Return the time in UTC milliseconds."""
        return self.time_ms


@dataclass
class Publisher:
    """The server that publishes keys: it counts requests, and answers the next ones as told."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    cache_control: str = "public, max-age=3600"
    requests: int = 0
    faults: deque[Answer | str] = field(default_factory=deque)
    is_down: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Publish the keys, unless a fault is due."""
        self.requests += 1
        fault = self.faults.popleft() if self.faults else None
        if self.is_down:
            return web.Response(status=503)
        if fault == "hold":
            self.arrived.set()
            await self.released.wait()
        if fault == "abort":
            assert request.transport is not None
            request.transport.abort()
        if fault == "endless":
            await send_without_end(request)
        if callable(fault):
            return fault()
        return web.json_response({"keys": self.keys}, headers={"Cache-Control": self.cache_control})


async def send_without_end(request: web.Request) -> None:
    """Send until the client has left."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 4096)


@dataclass(frozen=True)
class Bench:
    """The keys under test, where they come from, and the time."""

    keys: GoogleKeys
    publisher: Publisher
    clock: Clock
    url: str
    session: ClientSession


def entry(expires_ms: int = START_MS + 30 * DAY_MS, version: str = "ECv2") -> dict[str, Any]:
    """Return a new key as it is published."""
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    encoded = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "keyValue": base64.b64encode(encoded).decode(),
        "protocolVersion": version,
        "keyExpiration": str(expires_ms),
    }


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Give the server's and the client's TLS, under a certificate made here."""
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keys")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    path.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())


@asynccontextmanager
async def serving(publisher: Publisher, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """Serve the keys over HTTPS and give their URL."""
    app = web.Application()
    app.router.add_get("/keys.json", publisher.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"https://{host}:{port}/keys.json"
    finally:
        await runner.cleanup()


@pytest.fixture
async def bench(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Bench]:
    """Give a key source that has fetched nothing yet, and a publisher of one key."""
    publisher, clock = Publisher(keys=[entry()]), Clock()
    async with (
        serving(publisher, tls[0]) as url,
        ClientSession(connector=TCPConnector(ssl=tls[1])) as session,
        GoogleKeys(session, url, clock) as keys,
    ):
        yield Bench(keys, publisher, clock, url, session)


async def test_keys_are_fetched_once_and_kept(bench: Bench) -> None:
    """Until the list is no longer fresh, nobody asks for it again."""
    first = await bench.keys.current()
    bench.clock.time_ms += HOUR_MS - 1
    assert await bench.keys.current() == first
    assert bench.publisher.requests == 1
    assert [key.protocol_version for key in first] == ["ECv2"]


async def test_keys_that_are_not_fresh_are_replaced(bench: Bench) -> None:
    """After max-age the new list counts, also where it leaves a key out."""
    first = await bench.keys.current()
    bench.publisher.keys = [entry(), entry()]
    bench.clock.time_ms += HOUR_MS
    second = await bench.keys.current()
    assert (len(second), bench.publisher.requests) == (2, 2)
    assert first[0] not in second


@pytest.mark.parametrize(
    ("cache_control", "fresh_ms"),
    [
        ("max-age=1800", 30 * MINUTE_MS),
        ("public, Max-Age = 1800 , must-revalidate", 30 * MINUTE_MS),
        ('private,max-age="1800"', 30 * MINUTE_MS),
        ("max-age=0", 5 * MINUTE_MS),
        ("max-age=999999999", DAY_MS),
        ("max-age=" + "9" * 400, HOUR_MS),
        ("s-maxage=1800", HOUR_MS),
        ("x-max-age=1800", HOUR_MS),
        ("max-age=-5", HOUR_MS),
        ("no-cache", HOUR_MS),
    ],
)
async def test_the_headers_say_how_long_within_bounds(
    bench: Bench, cache_control: str, fresh_ms: int
) -> None:
    """No less than five minutes, no more than a day; an hour where nothing is said."""
    bench.publisher.cache_control = cache_control
    await bench.keys.current()
    bench.clock.time_ms += fresh_ms - 1
    await bench.keys.current()
    assert bench.publisher.requests == 1
    bench.clock.time_ms += 1
    await bench.keys.current()
    assert bench.publisher.requests == 2


async def test_an_outage_is_outlived_until_the_keys_expire(bench: Bench) -> None:
    """Keys at hand are served while Google cannot be reached, and not a moment past their end."""
    expires_ms = START_MS + 3 * DAY_MS
    bench.publisher.keys = [entry(expires_ms)]
    known = await bench.keys.current()
    bench.publisher.is_down = True
    bench.clock.time_ms = expires_ms - 1
    assert await bench.keys.current() == known
    bench.clock.time_ms = expires_ms
    with pytest.raises(KeysUnavailable):
        await bench.keys.current()


async def test_an_outage_is_not_asked_about_all_the_time(bench: Bench) -> None:
    """After a fetch that failed the next one waits ten seconds, and then sets things right."""
    bench.publisher.is_down = True
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await bench.keys.current()
    assert bench.publisher.requests == 1
    bench.publisher.is_down = False
    bench.clock.time_ms += 10_000
    assert len(await bench.keys.current()) == 1
    assert bench.publisher.requests == 2


async def test_a_clock_that_is_set_back_stops_no_fetch(bench: Bench) -> None:
    """The pause after a failure does not last until the clock has caught up."""
    bench.publisher.is_down = True
    with pytest.raises(KeysUnavailable):
        await bench.keys.current()
    bench.publisher.is_down = False
    bench.clock.time_ms -= DAY_MS
    assert len(await bench.keys.current()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        "abort",
        lambda: web.json_response({"keys": [entry()]}, status=203),
        lambda: web.json_response({"keys": [entry()]}, status=404),
        lambda: web.Response(status=302, headers={"Location": "/keys.json"}),
        lambda: web.Response(text="<html>"),
        lambda: web.json_response({"keys": []}),
        lambda: web.json_response({"keys": [entry(version="ECv1")]}),
        lambda: web.Response(body=b" " * 70_000 + b'{"keys":[]}'),
        lambda: web.Response(body=b"[" * 60_000),
    ],
)
async def test_an_answer_that_is_no_list_changes_nothing(bench: Bench, fault: Answer | str) -> None:
    """Redirects, errors, other content and overlong answers leave the keys as they are."""
    known = await bench.keys.current()
    bench.publisher.keys = [entry()]
    bench.clock.time_ms += HOUR_MS
    # Twice, as the client sends once more what a closed connection has eaten.
    bench.publisher.faults.extend([fault, fault])
    assert await bench.keys.current() == known
    assert bench.publisher.requests >= 2
    bench.publisher.faults.clear()
    bench.clock.time_ms += 10_000
    assert await bench.keys.current() != known


async def test_an_endless_answer_is_cut_off(bench: Bench) -> None:
    """What does not end is not read until the time is up: it is over the bound before."""
    bench.publisher.faults.append("endless")
    with capture_logs() as logs, pytest.raises(KeysUnavailable):
        await bench.keys.current()
    assert logs[0]["reason"] == "Google's answer is too long."


async def test_all_who_wait_share_one_fetch(bench: Bench) -> None:
    """A crowd at the start asks Google once."""
    bench.publisher.faults.append("hold")
    crowd = [asyncio.create_task(bench.keys.current()) for _ in range(50)]
    await bench.publisher.arrived.wait()
    bench.publisher.released.set()
    found = await asyncio.gather(*crowd)
    assert bench.publisher.requests == 1
    assert all(keys == found[0] for keys in found)


async def test_giving_up_does_not_end_the_fetch_for_others(bench: Bench) -> None:
    """Whoever started the fetch may leave; it is finished, and counts."""
    bench.publisher.faults.append("hold")
    starter = asyncio.create_task(bench.keys.current())
    await bench.publisher.arrived.wait()
    other = asyncio.create_task(bench.keys.current())
    starter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starter
    bench.publisher.released.set()
    assert len(await other) == 1
    assert bench.publisher.requests == 1


async def test_leaving_ends_a_fetch_that_is_under_way(bench: Bench) -> None:
    """Nothing goes on in the background after the exit."""
    bench.publisher.faults.append("hold")
    async with GoogleKeys(bench.session, bench.url, bench.clock) as keys:
        waiting = asyncio.create_task(keys.current())
        await bench.publisher.arrived.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bench.publisher.released.set()


def signed_by(wanted: dict[str, Any]) -> Callable[[Sequence[RootKey]], str]:
    """Return a check that holds once the wanted key is among the keys."""

    def check(keys: Sequence[RootKey]) -> str:
        for key in keys:
            der = key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            if base64.b64encode(der).decode() == wanted["keyValue"]:
                return "taken"
        raise KeyUnknown("Unknown.")

    return check


async def test_an_unknown_key_is_looked_for_once_more(bench: Bench) -> None:
    """A root that is newer than the list at hand is found before the list is stale."""
    await bench.keys.current()
    newer = entry()
    bench.publisher.keys.append(newer)
    bench.clock.time_ms += MINUTE_MS
    assert await bench.keys.verified(signed_by(newer)) == "taken"
    assert bench.publisher.requests == 2


async def test_unknown_keys_cause_one_fetch_a_minute(bench: Bench) -> None:
    """Messages that nobody signed, which anybody can send, do not become requests to Google."""
    await bench.keys.current()
    bench.clock.time_ms += MINUTE_MS
    crowd = [bench.keys.verified(signed_by(entry())) for _ in range(20)]
    found = await asyncio.gather(*crowd, return_exceptions=True)
    assert {type(error) for error in found} == {KeyUnknown}
    assert bench.publisher.requests == 2
    bench.clock.time_ms += MINUTE_MS - 1
    with pytest.raises(KeyUnknown):
        await bench.keys.verified(signed_by(entry()))
    assert bench.publisher.requests == 2


async def test_an_unknown_key_during_an_outage_stays_unknown(bench: Bench) -> None:
    """The message is refused as before; the keys at hand are kept."""
    known = await bench.keys.current()
    bench.publisher.is_down = True
    bench.clock.time_ms += MINUTE_MS
    tried: list[Sequence[RootKey]] = []

    def refuse(keys: Sequence[RootKey]) -> None:
        tried.append(keys)
        raise KeyUnknown("Unknown.")

    with pytest.raises(KeyUnknown):
        await bench.keys.verified(refuse)
    # The same keys again would only cost time.
    assert tried == [known]
    assert bench.publisher.requests == 2
    assert await bench.keys.current() == known


async def test_another_refusal_causes_no_fetch(bench: Bench) -> None:
    """Newer keys do not help a message that was changed."""
    await bench.keys.current()
    bench.clock.time_ms += MINUTE_MS

    def refuse(_keys: Sequence[RootKey]) -> None:
        raise SignatureInvalid("Changed.")

    with pytest.raises(SignatureInvalid, match="Changed"):
        await bench.keys.verified(refuse)
    assert bench.publisher.requests == 1


async def test_a_server_that_nobody_vouches_for_is_not_asked(bench: Bench) -> None:
    """Keys come from a server whose certificate is trusted, or not at all."""
    async with (
        ClientSession() as stranger,
        GoogleKeys(stranger, bench.url, bench.clock) as keys,
    ):
        with pytest.raises(KeysUnavailable):
            await keys.current()
    assert bench.publisher.requests == 0


async def test_a_silent_server_is_given_up_on(bench: Bench) -> None:
    """A fetch has an end also where the answer has none."""
    bench.publisher.faults.append("hold")
    async with GoogleKeys(bench.session, bench.url, bench.clock, timeout_seconds=0.05) as keys:
        with pytest.raises(KeysUnavailable):
            await keys.current()
    bench.publisher.released.set()


@pytest.mark.parametrize(
    "url", ["http://keys.example/keys.json", "ftp://127.0.0.1/keys.json", "", "keys.json"]
)
async def test_keys_come_over_https_only(bench: Bench, url: str) -> None:
    """Whoever can change the keys on their way can sign everything; on this machine nobody can."""
    with pytest.raises(ValueError, match="https"):
        GoogleKeys(bench.session, url, bench.clock)
    GoogleKeys(bench.session, "http://127.0.0.1/keys.json", bench.clock)


async def test_the_declared_type_of_the_list_does_not_matter(bench: Bench) -> None:
    """A list of keys is one by what it says, whatever the headers call it."""
    body = json.dumps({"keys": bench.publisher.keys}).encode()
    bench.publisher.faults.append(lambda: web.Response(body=body, content_type="text/plain"))
    assert len(await bench.keys.current()) == 1
    assert bench.publisher.requests == 1
