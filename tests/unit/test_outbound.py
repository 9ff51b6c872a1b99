"""Calls to a gateway, over real HTTP to a gateway that answers as it is told."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import structlog
from aiohttp import ClientSession, web

from gateway_adapters.gateway import GatewayRefused, GatewayUnavailable
from gateway_adapters.outbound import CredentialsRefused, NoAnswer, Outbound
from gateway_adapters.wire import JsonObject, display_text

SECRET = "secret-credential"
HEADERS = {"Authorization": f"Bearer {SECRET}"}


@dataclass(frozen=True)
class Reply:
    """How the gateway answers one request."""

    status: int = 200
    body: bytes = b'{"ok": true}'
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False


OK, DOWN, CUT = Reply(), Reply(503, b"<html>"), Reply(is_cut=True)


@dataclass
class Line:
    """The gateway: it notes each request, gives the replies that are due, and then OK."""

    session: ClientSession
    outbound: Outbound = field(init=False)
    url: str = field(init=False)
    due: deque[Reply] = field(default_factory=deque)
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)
    now_seconds: float = 0.0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    is_gated: bool = False

    async def take(self, request: web.Request) -> web.Response:
        """Answer a request."""
        assert request.transport is not None
        self.seen.append((request.method, request.path_qs, await request.read()))
        self.peers.add(request.transport.get_extra_info("peername"))
        reply = self.due.popleft() if self.due else OK
        if self.is_gated:
            self.waiting.release()
            await self.gate.wait()
        if reply.is_cut:
            request.transport.abort()
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    async def post(self, *, is_idempotent: bool) -> JsonObject:
        """Send something."""
        answer = await self.outbound.post(
            "/things", headers=HEADERS, body=b"{}", is_idempotent=is_idempotent
        )
        return answer.content

    async def fail(self, times: int) -> None:
        """Let so many calls fail, without a retry."""
        self.due.extend([DOWN] * times)
        for _ in range(times):
            with pytest.raises(NoAnswer):
                await self.post(is_idempotent=False)

    async def is_left_alone(self) -> bool:
        """Tell whether a call is refused without being made."""
        before = len(self.seen)
        try:
            await self.post(is_idempotent=False)
        except GatewayUnavailable:
            return len(self.seen) == before
        return False


def told(content: JsonObject) -> str:
    """Find the words of a refusal."""
    return display_text(content.get("message"))


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """Give a gateway and the way to it."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        line = Line(session)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", line.take)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        line.url = f"http://{host}:{port}"
        line.outbound = Outbound(
            session,
            line.url,
            gateway="Acme",
            timeout_seconds=5,
            description=told,
            clock=lambda: line.now_seconds,
        )
        stack.callback(line.gate.set)
        yield line


async def test_an_answer_comes_parsed_and_as_it_was(line: Line) -> None:
    """Status, headers in any case, the object, and the raw body."""
    body = b'{ "id" : "x_1" }'
    line.due.append(Reply(201, body, {"Request-Id": "r1"}))
    answer = await line.outbound.get("/things", {"a": "b c&d"}, HEADERS)
    assert (answer.status, answer.content, answer.body) == (201, {"id": "x_1"}, body)
    assert answer.headers["request-id"] == "r1"
    assert line.seen == [("GET", "/things?a=b+c%26d", b"")]


async def test_no_content_is_an_empty_object(line: Line) -> None:
    """204 has nothing to be parsed."""
    line.due.append(Reply(204, b""))
    answer = await line.outbound.get("/things")
    assert (answer.content, answer.body) == ({}, b"")


async def test_what_need_not_be_json_comes_as_it_is(line: Line) -> None:
    """A certificate, say, is an answer without an object."""
    line.due.append(Reply(200, b"-----BEGIN CERTIFICATE-----"))
    answer = await line.outbound.get("/cert", is_json=False)
    assert (answer.content, answer.body) == ({}, b"-----BEGIN CERTIFICATE-----")


async def test_connections_are_used_again(line: Line) -> None:
    """Many calls one after the other need one connection."""
    for _ in range(5):
        await line.post(is_idempotent=False)
    assert len(line.peers) == 1


@pytest.mark.parametrize("first", [DOWN, CUT, Reply(408), Reply(200, b"[]"), Reply(302)])
async def test_what_may_be_repeated_is_tried_once_more(line: Line, first: Reply) -> None:
    """One failure of a question, or of something idempotent, is not noticed."""
    line.due.extend([first])
    assert (await line.outbound.get("/things")).content == {"ok": True}
    line.due.extend([first])
    assert await line.post(is_idempotent=True) == {"ok": True}
    assert [method for method, _, _ in line.seen] == ["GET", "GET", "POST", "POST"]


async def test_a_retry_comes_after_a_random_while(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many who failed at one moment do not come back at one moment, and nobody at once."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("gateway_adapters.outbound.asyncio.sleep", noted)
    for _ in range(8):
        line.due.append(DOWN)
        await line.outbound.get("/things")

    assert len(set(waits)) == 8
    assert all(0.05 <= wait <= 0.2 for wait in waits)


@pytest.mark.parametrize("reply", [DOWN, CUT, Reply(408), Reply(200, b"{")])
async def test_what_may_not_be_repeated_is_sent_once(line: Line, reply: Reply) -> None:
    """Whoever sends something that is not idempotent has to find out what became of it."""
    line.due.append(reply)
    with pytest.raises(NoAnswer):
        await line.post(is_idempotent=False)
    assert len(line.seen) == 1


async def test_two_failures_are_enough(line: Line) -> None:
    """A retry is one retry."""
    line.due.extend([DOWN, DOWN])
    with pytest.raises(NoAnswer, match=r"^Acme answered with HTTP status 503\.$"):
        await line.outbound.get("/things")
    assert len(line.seen) == 2


async def test_a_refusal_tells_what_the_gateway_said(line: Line) -> None:
    """Words, status and content of a refusal are there to be read, and it is not repeated."""
    line.due.append(Reply(422, b'{"message": "Too late.", "code": "LATE"}'))
    with pytest.raises(GatewayRefused, match=r"^Too late\.$") as refused:
        await line.outbound.get("/things")
    assert refused.value.status == 422
    assert refused.value.content["code"] == "LATE"
    assert len(line.seen) == 1


async def test_a_refusal_without_words_tells_its_status(line: Line) -> None:
    """Where the gateway says nothing, its status is said."""
    line.due.append(Reply(404, b"{}"))
    with pytest.raises(GatewayRefused, match=r"^Acme refused the request with HTTP status 404\.$"):
        await line.outbound.get("/things")


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_an_operators_matter(line: Line, status: int) -> None:
    """They are logged as an error, not tried again, and shown to nobody."""
    line.due.append(Reply(status, f'{{"message": "{SECRET}"}}'.encode()))
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(CredentialsRefused) as unavailable,
    ):
        await line.outbound.get("/things", headers=HEADERS)
    assert unavailable.value.retry_after_seconds == 60
    assert [(log["log_level"], log["gateway"], log["status"]) for log in logs] == [
        ("error", "Acme", status)
    ]
    assert SECRET not in f"{logs}{unavailable.value}"
    assert len(line.seen) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0", 2), ("9" * 5000, 60), ("soon", 2), ("-1", 2), ("\u0667", 2), ("1.5", 2)],
)
async def test_a_rate_limit_says_how_long_to_stay_away(
    line: Line, header: str, seconds: int
) -> None:
    """429 is passed on with its time, within bounds, and not pushed."""
    line.due.append(Reply(429, headers={"Retry-After": header}))
    with pytest.raises(GatewayUnavailable) as unavailable:
        await line.outbound.get("/things")
    assert unavailable.value.retry_after_seconds == seconds
    assert len(line.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(line: Line, status: int) -> None:
    """Nobody can send the credentials somewhere else."""
    line.due.append(Reply(status, headers={"Location": f"{line.url}/elsewhere"}))
    with pytest.raises(NoAnswer):
        await line.post(is_idempotent=False)
    assert [path for _, path, _ in line.seen] == ["/things"]


async def test_an_answer_has_a_bound(line: Line) -> None:
    """A body that does not end is not read to its end."""
    line.due.append(Reply(200, b'{"a": "' + b" " * 1024 * 1024 + b'"}'))
    with pytest.raises(NoAnswer, match="too long"):
        await line.post(is_idempotent=False)


async def test_silence_ends_in_time(line: Line) -> None:
    """A gateway that never answers is given up after the timeout."""
    line.is_gated = True
    hasty = Outbound(line.session, line.url, gateway="Acme", timeout_seconds=0.05)
    with pytest.raises(NoAnswer, match=r"^Acme did not answer in time\.$"):
        await hasty.post("/things", headers={}, body=b"", is_idempotent=False)


async def test_nobody_there_is_no_answer(line: Line) -> None:
    """A refused connection is told in our words alone."""
    nobody = Outbound(line.session, "http://127.0.0.1:1", gateway="Acme")
    with pytest.raises(NoAnswer, match=r"^Acme cannot be reached\.$"):
        await nobody.get("/things")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "http://128.0.0.1",
        "http://[2001:db8::1]:80",
        "ftp://127.0.0.1",
        "https://user:secret@api.example.com",
        "https://api.example.com?x=1",
        "https://api.example.com/#x",
        "https://",
        "api.example.com",
        "",
    ],
)
def test_a_line_that_others_can_read_is_refused(url: str) -> None:
    """Only https, or http on this machine; and nothing but scheme, host, port and path."""
    with pytest.raises(ValueError, match="Acme"):
        Outbound(None, url, gateway="Acme")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com:8443/base/",
        "http://localhost:8090",
        "http://127.0.0.1:8090",
        "http://127.9.9.9",
        "http://[::1]:8090",
        "http://0.0.0.0:8090",
    ],
)
def test_a_line_that_is_closed_or_does_not_leave_this_machine_is_taken(url: str) -> None:
    """TLS anywhere, and anything on this machine."""
    assert not Outbound(None, url, gateway="Acme").is_cut_off  # type: ignore[arg-type]


async def test_five_failures_in_a_row_open_the_circuit(line: Line) -> None:
    """From then on nothing is called for ten seconds, and callers hear how long that is."""
    await line.fail(4)
    assert not line.outbound.is_cut_off
    await line.fail(1)
    assert line.outbound.is_cut_off
    line.now_seconds = 9.5
    for _ in range(3):
        with pytest.raises(GatewayUnavailable, match="Acme did not answer lately") as unavailable:
            await line.outbound.get("/things")
        assert unavailable.value.retry_after_seconds == 0.5
    assert len(line.seen) == 5


@pytest.mark.parametrize(
    "answer",
    [OK, Reply(204, b""), Reply(400, b"{}"), Reply(401), Reply(429)],
    ids=["success", "no content", "refusal", "credentials", "rate limit"],
)
async def test_any_answer_starts_the_count_again(line: Line, answer: Reply) -> None:
    """Who answers is there, whatever the answer: only failures in a row count."""
    for _ in range(3):
        await line.fail(4)
        line.due.append(answer)
        try:
            await line.post(is_idempotent=False)
        except (GatewayRefused, GatewayUnavailable):
            assert answer is not OK
    assert not line.outbound.is_cut_off


async def test_a_retry_does_not_outlive_the_circuit(line: Line) -> None:
    """The failure that opens it is told at once, without another call."""
    await line.fail(4)
    line.due.append(DOWN)
    with pytest.raises(NoAnswer):
        await line.outbound.get("/things")
    assert len(line.seen) == 5


async def test_after_cooling_one_call_probes(line: Line) -> None:
    """While the probe is under way all others are still refused; its success lets them in."""
    await line.fail(5)
    line.now_seconds = 10.0
    line.is_gated = True
    probe = asyncio.create_task(line.post(is_idempotent=False))
    await line.waiting.acquire()
    assert await line.is_left_alone()
    line.gate.set()
    assert await probe == {"ok": True}
    assert not line.outbound.is_cut_off
    await line.fail(4)
    assert not line.outbound.is_cut_off


async def test_each_probe_that_fails_doubles_the_cooling_up_to_a_minute(line: Line) -> None:
    """10, 20, 40, 60, 60 seconds; a success brings back the ten."""
    for expected in ([10, 20, 40, 60, 60], [10, 20]):
        await line.fail(5)
        for cooling, following in itertools.pairwise([*expected, None]):
            assert cooling is not None
            line.now_seconds += cooling - 0.25
            assert await line.is_left_alone()
            line.now_seconds += 0.25
            if following is not None:
                await line.fail(1)
        assert await line.post(is_idempotent=False) == {"ok": True}


async def test_a_probe_that_is_cancelled_leaves_room_for_another(line: Line) -> None:
    """A caller who goes away does not keep the circuit open for good."""
    await line.fail(5)
    line.now_seconds = 10.0
    line.is_gated = True
    probe = asyncio.create_task(line.post(is_idempotent=False))
    await line.waiting.acquire()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    line.gate.set()
    assert await line.post(is_idempotent=False) == {"ok": True}


@pytest.mark.parametrize("late", [OK, DOWN], ids=["success", "failure"])
async def test_calls_from_before_say_nothing_about_the_time_after(line: Line, late: Reply) -> None:
    """What began before the circuit opened neither closes it nor keeps it open for longer."""
    line.is_gated = True
    line.due.append(late)
    old = asyncio.create_task(line.post(is_idempotent=False))
    await line.waiting.acquire()
    line.is_gated = False
    await line.fail(5)
    line.gate.set()
    await asyncio.gather(old, return_exceptions=True)
    line.now_seconds = 9.0
    assert await line.is_left_alone()
    line.now_seconds = 10.0
    assert await line.post(is_idempotent=False) == {"ok": True}


async def test_a_circuit_is_one_gateways(line: Line) -> None:
    """Another gateway, or another way to it, is not cut off along."""
    await line.fail(5)
    other = Outbound(line.session, line.url, gateway="Other")
    assert (await other.get("/things")).content == {"ok": True}


async def test_opening_and_closing_are_logged(line: Line) -> None:
    """Operators see when a gateway went away and when it came back."""
    with structlog.testing.capture_logs() as logs:
        await line.fail(5)
        line.now_seconds = 10.0
        await line.post(is_idempotent=False)
    assert [(log["log_level"], log["event"], log["gateway"]) for log in logs] == [
        ("warning", "circuit opened", "Acme"),
        ("info", "circuit closed", "Acme"),
    ]


async def test_secrets_show_in_no_representation(line: Line) -> None:
    """An answer can be printed without what was in it."""
    line.due.append(Reply(200, f'{{"access_token": "{SECRET}"}}'.encode()))
    assert SECRET not in repr(await line.outbound.get("/token", headers=HEADERS))
