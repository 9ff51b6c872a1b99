"""The sidecar over real HTTP, before a real gRPC server that notes and answers what it is told."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import structlog
from aiohttp import ClientSession, web
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway_adapters.sidecar import sidecar_app, sidecar_runner
from wallet_payment.v1 import wallet_payment_service_pb2 as contract
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as contract_grpc

BODY = b'{ "event" : "payment.captured",\n "x": "\\u20b9" }'
SECRET_TEXT = "Traceback: the password is hunter2"
LIMIT_BYTES = 256 * 1024

Headers = dict[str, str]
Json = dict[str, Any]
Code = grpc.StatusCode


@dataclass(frozen=True)
class Failure:
    """How the server is to fail."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after_ms: int | None = None
    domain: str = "wallet_payment.v1"
    details: bytes | None = None

    def metadata(self) -> tuple[tuple[str, bytes], ...]:
        """Return the trailing metadata with the rich status."""
        if self.details is not None:
            return (("grpc-status-details-bin", self.details),)
        if not self.reason and self.retry_after_ms is None:
            return ()
        code: int = self.code.value[0]
        status = Status(code=code, message=SECRET_TEXT)
        if self.reason:
            status.details.append(packed(ErrorInfo(domain=self.domain, reason=self.reason)))
        if self.retry_after_ms is not None:
            delay = Duration()
            delay.FromMilliseconds(self.retry_after_ms)
            status.details.append(packed(RetryInfo(retry_delay=delay)))
        return (("grpc-status-details-bin", status.SerializeToString()),)


def packed(message: Any) -> AnyMessage:
    """Return a message as a detail of a status."""
    detail = AnyMessage()
    detail.Pack(message)
    return detail


class Recorder(contract_grpc.WalletPaymentServiceServicer):
    """The server: it notes each webhook and answers as it was told."""

    def __init__(self) -> None:
        self.requests: list[contract.ForwardWebhookRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.answer = contract.ForwardWebhookResponse(
            outcome=contract.WEBHOOK_OUTCOME_APPLIED, event_id="evt_1"
        )
        self.failure: Failure | None = None
        self.held: asyncio.Event | None = None

    async def ForwardWebhook(  # noqa: N802 - the contract's name
        self,
        request: contract.ForwardWebhookRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> contract.ForwardWebhookResponse:
        """Note the request, then answer or fail."""
        self.requests.append(request)
        self.metadata.append(dict(tuple(context.invocation_metadata() or ())))
        if self.held is not None:
            await self.held.wait()
        if self.failure is not None:
            await context.abort(self.failure.code, SECRET_TEXT, self.failure.metadata())
        return self.answer


@dataclass
class Edge:
    """A running sidecar before its server."""

    url: str
    session: ClientSession
    recorder: Recorder
    health: health.HealthServicer
    tokens: list[str] = field(default_factory=list)

    async def post(
        self,
        data: Any = BODY,
        path: str = "/webhooks/razorpay",
        headers: Headers | None = None,
    ) -> tuple[int, Json, Mapping[str, str]]:
        """Send a webhook; return status, answer and headers."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        async with self.session.post(self.url + path, data=data, headers=sent) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path: str) -> tuple[int, Json]:
        """Ask for a path."""
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json()


@asynccontextmanager
async def serving(runner: web.AppRunner) -> AsyncIterator[str]:
    """Serve an application on a free port and give its URL."""
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def edge_before(
    target: str, recorder: Recorder, health_servicer: health.HealthServicer, deadline: float = 4.0
) -> AsyncIterator[Edge]:
    """Give a sidecar that forwards to a target."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
        session = await stack.enter_async_context(ClientSession(auto_decompress=False))
        tokens = ["token-1"]
        app = sidecar_app(lambda: channel, lambda: tokens[-1], deadline_seconds=deadline)
        url = await stack.enter_async_context(serving(sidecar_runner(app)))
        yield Edge(url, session, recorder, health_servicer, tokens)


@asynccontextmanager
async def running_server() -> AsyncIterator[tuple[str, Recorder, health.HealthServicer]]:
    """Run a gRPC server with the recorder and a health service."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    recorder = Recorder()  # type: ignore[abstract] # only webhooks are forwarded
    contract_grpc.add_WalletPaymentServiceServicer_to_server(recorder, server)
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", recorder, health_servicer
    finally:
        if recorder.held is not None:
            recorder.held.set()
        await server.stop(None)


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Give a sidecar before a server that takes everything."""
    async with (
        running_server() as (target, recorder, health_servicer),
        edge_before(target, recorder, health_servicer) as edge,
    ):
        yield edge


async def test_a_webhook_reaches_the_server_byte_for_byte(edge: Edge) -> None:
    """Body and headers are forwarded as they came, with token, time and correlation id."""
    status, answer, headers = await edge.post(headers={"X-Razorpay-Signature": "ab\u00e9"})
    assert (status, answer) == (200, {"outcome": "APPLIED", "event_id": "evt_1"})
    (request,) = edge.recorder.requests
    assert request.gateway == "razorpay"
    assert request.body == BODY
    assert request.receive_time.seconds > 1_700_000_000
    forwarded = {header.name: header.value for header in request.headers}
    assert forwarded["X-Razorpay-Signature"] == "ab\u00e9"
    assert forwarded["Content-Type"] == "application/json"
    (metadata,) = edge.recorder.metadata
    assert metadata["authorization"] == "Bearer token-1"
    assert metadata["x-correlation-id"] == headers["X-Correlation-Id"]


async def test_each_webhook_gets_a_fresh_token_and_its_own_correlation_id(edge: Edge) -> None:
    """A token that was renewed meanwhile is used, and no two webhooks share a correlation id."""
    await edge.post()
    edge.tokens.append("token-2")
    await edge.post()
    first, second = edge.recorder.metadata
    assert second["authorization"] == "Bearer token-2"
    assert first["x-correlation-id"] != second["x-correlation-id"]


async def test_credentials_and_hop_by_hop_headers_stay_here(edge: Edge) -> None:
    """What speaks of the connection, or is somebody's credential, is not forwarded."""
    dropped = {
        "Authorization": "Bearer forged",
        "Cookie": "session=1",
        "Proxy-Authorization": "x",
        "TE": "trailers",
        "Keep-Alive": "1",
        "Upgrade": "h2c",
        "Connection": "keep-alive, X-Of-Connection",
        "X-Of-Connection": "1",
    }
    assert (await edge.post(headers={**dropped, "X-Kept": "1"}))[0] == 200
    (request,) = edge.recorder.requests
    names = {header.name.lower() for header in request.headers}
    assert names.isdisjoint({name.lower() for name in dropped})
    assert "x-kept" in names
    assert edge.recorder.metadata[0]["authorization"] == "Bearer token-1"


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (contract.WEBHOOK_OUTCOME_APPLIED, "APPLIED"),
        (contract.WEBHOOK_OUTCOME_DUPLICATE, "DUPLICATE"),
        (contract.WEBHOOK_OUTCOME_IGNORED, "IGNORED"),
        (contract.WEBHOOK_OUTCOME_NEEDS_REVIEW, "NEEDS_REVIEW"),
    ],
)
async def test_every_outcome_is_acknowledged(
    edge: Edge, outcome: "contract.WebhookOutcome.ValueType", name: str
) -> None:
    """Applied, duplicate, ignored or kept for review: the gateway need not send it again."""
    edge.recorder.answer = contract.ForwardWebhookResponse(outcome=outcome, event_id="evt_2")
    assert (await edge.post())[:2] == (200, {"outcome": name, "event_id": "evt_2"})


async def test_an_answer_without_an_outcome_is_not_acknowledged(edge: Edge) -> None:
    """Where the server does not say what became of it, the gateway keeps it."""
    edge.recorder.answer = contract.ForwardWebhookResponse()
    assert (await edge.post())[0] == 503


@pytest.mark.parametrize(
    ("failure", "status", "retry_after", "is_error"),
    [
        (Failure(Code.UNAUTHENTICATED, "SIGNATURE_INVALID"), 401, None, False),
        (Failure(Code.UNAUTHENTICATED, "TOKEN_EXPIRED"), 503, "1", True),
        (Failure(Code.UNAUTHENTICATED, "SIGNATURE_INVALID", domain="else"), 503, "1", True),
        (Failure(Code.UNAUTHENTICATED), 503, "1", True),
        (Failure(Code.UNAUTHENTICATED, details=b"\xff\xff"), 503, "1", True),
        (Failure(Code.PERMISSION_DENIED, "SCOPE_MISSING"), 503, "1", True),
        (Failure(Code.PERMISSION_DENIED, "SIGNATURE_INVALID"), 503, "1", True),
        (Failure(Code.NOT_FOUND, "UNKNOWN_GATEWAY"), 404, None, False),
        (Failure(Code.NOT_FOUND, "TOPUP_NOT_FOUND"), 503, "1", True),
        (Failure(Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"), 400, None, False),
        (Failure(Code.UNIMPLEMENTED, "NOT_IMPLEMENTED"), 501, None, False),
        (Failure(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", 2_001), 429, "3", False),
        (Failure(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", 5_000), 429, "5", False),
        (Failure(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", 0), 429, "1", False),
        (Failure(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", -5_000), 429, "1", False),
        (Failure(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", 10**10), 429, "3600", False),
        (Failure(Code.RESOURCE_EXHAUSTED), 429, "1", False),
        (Failure(Code.UNAVAILABLE, "DATABASE_UNAVAILABLE", 1_500), 503, "2", False),
        (Failure(Code.ABORTED, "CONFLICT", 100), 503, "1", False),
        (Failure(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"), 503, "1", False),
        (Failure(Code.INTERNAL, "INTERNAL"), 503, "1", True),
        (Failure(Code.UNKNOWN), 503, "1", True),
        (Failure(Code.FAILED_PRECONDITION, "TOPUP_STATE"), 503, "1", True),
    ],
)
async def test_the_servers_answer_is_said_in_http(
    edge: Edge, failure: Failure, status: int, retry_after: str | None, is_error: bool
) -> None:
    """Each failure has its status and Retry-After, and our own ones an error in the log."""
    edge.recorder.failure = failure
    with structlog.testing.capture_logs() as logs:
        found, answer, headers = await edge.post()
    assert found == status
    assert headers.get("Retry-After") == retry_after
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"reason", "message"}
    assert [log["log_level"] for log in logs] == ["error" if is_error else "info"]
    assert SECRET_TEXT not in f"{answer}{headers}{logs}"


async def test_a_server_that_is_not_there_means_later(edge: Edge) -> None:
    """Without a server the gateway is asked to come back."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unused.getsockname()[1]}"
        async with edge_before(target, edge.recorder, edge.health) as cut_off:
            status, _, headers = await cut_off.post()
            assert (status, headers["Retry-After"]) == (503, "1")
            assert (await cut_off.get("/readyz"))[0] == 503
            assert await cut_off.get("/healthz") == (200, {"status": "ok"})


async def test_a_server_that_does_not_answer_means_later() -> None:
    """The gateway gets its answer before it gives up on us."""
    async with (
        running_server() as (target, recorder, health_servicer),
        edge_before(target, recorder, health_servicer, deadline=0.2) as edge,
    ):
        recorder.held = asyncio.Event()
        status, _, headers = await edge.post()
        assert (status, headers["Retry-After"]) == (503, "1")
        recorder.held.set()


async def test_a_token_that_cannot_be_had_means_later(edge: Edge) -> None:
    """A failure of our own token source shows in the log and not in the answer."""
    edge.tokens.clear()
    with structlog.testing.capture_logs() as logs:
        status, answer, _ = await edge.post()
    assert status == 503
    assert "IndexError" not in str(answer)
    assert [log["log_level"] for log in logs] == ["error"]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("size", "expected"), [(LIMIT_BYTES, 200), (LIMIT_BYTES + 1, 413), (4 * LIMIT_BYTES, 413)]
)
async def test_a_body_of_256_kib_is_the_largest(
    edge: Edge, size: int, expected: int, chunked: bool
) -> None:
    """The limit holds to the byte, whether or not the length was announced."""
    body = b'"' + b"x" * (size - 2) + b'"'
    status, _, _ = await edge.post(in_pieces(body) if chunked else body)
    assert status == expected
    assert [len(request.body) for request in edge.recorder.requests] == (
        [size] if expected == 200 else []
    )


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Give a body in pieces, so that it is sent in chunks."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity", ""])
async def test_an_encoded_body_is_refused_unread(edge: Edge, encoding: str) -> None:
    """No body is decompressed, a bomb is not even looked at, and JSON that is named so neither."""
    bomb = gzip.compress(b"0" * 50_000_000)
    for body in (bomb, b"{}"):
        async with edge.session.post(
            f"{edge.url}/webhooks/razorpay",
            data=body,
            headers={"Content-Type": "application/json", "Content-Encoding": encoding},
        ) as response:
            assert response.status == 415
    assert edge.recorder.requests == []


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", ""],
)
async def test_another_content_type_is_refused(edge: Edge, content_type: str) -> None:
    """Only what says that it is JSON is taken."""
    assert (await edge.post(headers={"Content-Type": content_type}))[0] == 415
    assert edge.recorder.requests == []


async def test_json_with_a_charset_is_taken(edge: Edge) -> None:
    """Parameters of the content type do no harm."""
    content_type = "Application/JSON; charset=utf-8"
    assert (await edge.post(headers={"Content-Type": content_type}))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"payment=1",
        b"\xff\xfe",
        b'"\xff"',
        b"NaN",
        b'{"x":Infinity}',
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
    ids=["empty", "open", "form", "utf-16", "latin", "nan", "infinity", "huge", "deep", "deeper"],
)
async def test_a_body_that_is_not_json_is_refused(edge: Edge, body: bytes) -> None:
    """What no parser can read is not forwarded."""
    assert (await edge.post(body))[0] == 415
    assert edge.recorder.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/Razorpay",
        "/webhooks/9pay",
        "/webhooks/" + "a" * 33,
        "/webhooks/raz_orpay",
        "/webhooks/raz%0aorpay",
        "/webhooks/razorpay%0a",
        "/webhooks/",
        "/webhooks",
        "/webhooks/razorpay/more",
        "/",
        "/healthz",
    ],
)
async def test_another_path_leads_nowhere(edge: Edge, path: str) -> None:
    """A path that names no gateway is not found, and the server is not asked."""
    status, answer, _ = await edge.post(path=path)
    assert status == 404
    assert "error" in answer
    assert edge.recorder.requests == []


async def test_a_webhook_cannot_be_fetched(edge: Edge) -> None:
    """A webhook's address answers to POST alone."""
    assert (await edge.get("/webhooks/razorpay"))[0] == 404


async def test_a_gateway_of_32_characters_is_passed_on(edge: Edge) -> None:
    """Which gateways there are, the server knows."""
    assert (await edge.post(path="/webhooks/" + "g" * 32))[0] == 200
    assert edge.recorder.requests[0].gateway == "g" * 32


@pytest.mark.parametrize(("count", "is_taken"), [(100, True), (101, False), (300, False)])
async def test_a_hundred_headers_are_the_most(edge: Edge, count: int, is_taken: bool) -> None:
    """The forwarded headers are counted to the last."""
    lines = [b"Content-Type: application/json", b"Content-Length: 2"]
    lines += [b"X-%d: 1" % number for number in range(count - len(lines) - 1)]
    status = await raw_status(edge, [*lines, b"Host: sidecar"], b"{}")
    assert (status == 200) == is_taken
    assert status in {200, 400, 431}
    assert len(edge.recorder.requests) == int(is_taken)


@pytest.mark.parametrize(
    ("sizes", "is_taken"),
    [
        ((16_000,), True),
        ((5_000, 5_000, 5_000), True),
        ((5_600, 5_600, 5_600), False),
        ((16_500,), False),
        ((9_000, 9_000, 9_000), False),
    ],
)
async def test_headers_of_16_kib_are_the_longest(
    edge: Edge, sizes: tuple[int, ...], is_taken: bool
) -> None:
    """All headers together are bounded, however they are divided."""
    lines = [b"Host: x", b"Content-Type: application/json", b"Content-Length: 2"]
    lines += [b"X-%d: %b" % (size, b"x" * size) for size in sizes]
    status = await raw_status(edge, lines, b"{}")
    assert (status == 200) == is_taken
    assert status in {200, 400, 431}
    assert len(edge.recorder.requests) == int(is_taken)


async def test_headers_that_are_no_text_are_refused(edge: Edge) -> None:
    """Bytes that are not UTF-8 cannot be forwarded, and are no reason to fall over."""
    lines = [b"Host: x", b"Content-Type: application/json", b"Content-Length: 2", b"X-A: \xff"]
    assert await raw_status(edge, lines, b"{}") == 400
    assert edge.recorder.requests == []


async def test_a_body_that_does_not_come_is_given_up() -> None:
    """A sender that stops in the middle holds nothing up for long."""
    async with (
        running_server() as (target, recorder, health_servicer),
        edge_before(target, recorder, health_servicer, deadline=0.2) as edge,
    ):
        lines = [b"Host: x", b"Content-Type: application/json", b"Content-Length: 20"]
        assert await raw_status(edge, lines, b"{") == 408
        assert recorder.requests == []


async def test_a_sender_that_hangs_up_does_no_harm(edge: Edge) -> None:
    """A connection that breaks within the body is no failure of ours, and the next one works."""
    with structlog.testing.capture_logs() as logs:
        host, port = edge.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /webhooks/razorpay HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 20\r\nExpect: 100-continue\r\n\r\n"
        )
        assert b"100" in await reader.readline()
        writer.write(b"{")
        await writer.drain()
        writer.transport.abort()
        assert (await edge.post())[0] == 200
    assert [request.body for request in edge.recorder.requests] == [BODY]
    assert "error" not in {log["log_level"] for log in logs}


async def raw_status(edge: Edge, lines: list[bytes], body: bytes) -> int:
    """Send a request line by line and return the answer's status."""
    host, port = edge.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [b"POST /webhooks/razorpay HTTP/1.1", *lines]
    writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
    await writer.drain()
    status_line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(status_line.split()[1])


async def test_readiness_is_the_servers(edge: Edge) -> None:
    """Ready is who has a server that serves; alive is who runs."""
    assert await edge.get("/readyz") == (200, {"status": "ready"})
    edge.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    status, answer = await edge.get("/readyz")
    assert status == 503
    assert "error" in answer
    assert await edge.get("/healthz") == (200, {"status": "ok"})


async def test_many_webhooks_at_once_all_arrive(edge: Edge) -> None:
    """Nothing is lost or mixed up where many come at the same moment."""
    bodies = [json.dumps({"event": n}).encode() for n in range(100)]
    answers = await asyncio.gather(*[edge.post(body) for body in bodies])
    assert {status for status, _, _ in answers} == {200}
    assert sorted(request.body for request in edge.recorder.requests) == sorted(bodies)
