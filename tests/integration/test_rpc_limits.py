"""Limits of the gRPC server against callers that mean harm, over real sockets."""

import asyncio
import resource
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from harness import Harness, bearer, eventually, inr, refusal_of, token, unique
from server.app import running_server
from server.rpc import server as rpc
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 3, 5, 6
ENHANCE_YOUR_CALM = 11


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 on the connection itself (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Go through the frames that come until the connection ends."""
    while True:
        try:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        yield head[3], payload


@asynccontextmanager
async def connection(
    address: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect, and nothing more."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.transport.abort()


def no_service() -> Any:
    """Return a handler of nothing."""
    return grpc.method_handlers_generic_handler("test.Nothing", {})


async def test_a_message_that_is_too_large_is_refused(harness: Harness) -> None:
    """RESOURCE_EXHAUSTED, and the connection goes on."""
    request = service.ForwardWebhookRequest(gateway="razorpay", body=b"x" * 600 * 1024)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.call("ForwardWebhook", request)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await harness.balance(await harness.customer()) == 0


async def test_a_crowd_that_comes_at_once_is_taken(harness: Harness) -> None:
    """Payments by the thousand, before the server has looked at the first: each is carried out."""
    crowd = 2_500
    customer = await harness.customer(balance=crowd)
    metadata = bearer(token())
    async with AsyncExitStack() as channels:
        options = (("grpc.use_local_subchannel_pool", 1),)
        stubs = [
            service_grpc.WalletPaymentServiceStub(
                await channels.enter_async_context(
                    grpc.aio.insecure_channel(harness.grpc_address, options)
                )
            )
            for _ in range(4)
        ]

        async def pay(number: int) -> None:
            request = service.PayWithWalletRequest(
                customer_id=customer,
                order_id=unique("order"),
                amount=inr(1),
                idempotency_key=unique("key"),
            )
            await stubs[number % len(stubs)].PayWithWallet(request, metadata=metadata)

        await asyncio.gather(*(pay(number) for number in range(crowd)))
    assert await harness.balance(customer) == 0


async def test_a_message_that_inflates_is_refused_before_it_has(harness: Harness) -> None:
    """A hundred mebibytes that come as a hundred kibibytes take no memory in the server."""
    body = b"\0" * (100 * 1024 * 1024)
    request = service.ForwardWebhookRequest(gateway="razorpay", body=body)
    serialized = request.SerializeToString()
    del request, body
    method = "/wallet_payment.v1.WalletPaymentService/ForwardWebhook"
    call = harness.channel.unary_unary(method, None, None)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(serialized, compression=grpc.Compression.Gzip, metadata=harness.metadata)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    # The caller is in this process, and holds the message a second time to compress it.
    assert grown_mib < 100 + 50


async def test_a_compressed_message_of_fair_size_is_taken(harness: Harness) -> None:
    """Callers may compress."""
    request = service.GetStatusRequest(customer_id=await harness.customer())
    await harness.call("GetStatus", request, compression=grpc.Compression.Gzip)


async def test_metadata_that_is_too_large_is_refused(harness: Harness) -> None:
    """RESOURCE_EXHAUSTED; what a token and a correlation id need is far less."""
    request = service.GetStatusRequest(customer_id=unique("customer"))
    large = (*bearer(token()), ("x-large", "x" * 20_000))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.call("GetStatus", request, metadata=large)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    small = (*bearer(token()), ("x-small", "x" * 2_000))
    refusal = await refusal_of(harness.call("GetStatus", request, metadata=small))
    assert refusal.reason == "CUSTOMER_NOT_FOUND"


async def test_a_correlation_id_comes_back_cut_to_its_length(harness: Harness) -> None:
    """Whoever sends a long one does not get a long answer."""
    request = service.GetStatusRequest(customer_id=await harness.customer())
    call = harness.stub.GetStatus(
        request, metadata=(*bearer(token()), ("x-correlation-id", "i" * 1_000))
    )
    await call
    trailing = dict(await call.trailing_metadata())
    assert trailing["x-correlation-id"] == "i" * 128


async def test_a_connection_says_how_many_calls_it_takes(harness: Harness) -> None:
    """The server's settings tell bounds for streams, frames and heads."""
    async with connection(harness.grpc_address) as (reader, writer):
        writer.write(PREFACE + frame(SETTINGS))
        async for kind, payload in frames(reader):
            if kind == SETTINGS and payload:
                told = dict(struct.iter_unpack(">HI", payload))
                break

    assert told[MAX_CONCURRENT_STREAMS] == 1_000
    assert told[MAX_HEADER_LIST_SIZE] <= 16 * 1024
    assert told.get(MAX_FRAME_SIZE, 16_384) <= 16 * 1024 * 1024


async def test_who_pings_all_the_time_has_to_go(harness: Harness) -> None:
    """Two strikes, then GOAWAY: a ping costs the server an answer."""
    async with connection(harness.grpc_address) as (reader, writer):
        writer.write(PREFACE + frame(SETTINGS) + frame(PING, bytes(8)) * 50)
        left = [payload async for kind, payload in frames(reader) if kind == GOAWAY]

    assert left
    assert struct.unpack(">II", left[-1][:8])[1] == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("sent", [b"", PREFACE[:10]], ids=["nothing", "half a preface"])
async def test_who_connects_and_does_not_speak_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A connection has to speak HTTP/2 in time."""
    quick = (*rpc._OPTIONS, ("grpc.server_handshake_timeout_ms", 300))  # noqa: SLF001
    monkeypatch.setattr(rpc, "_OPTIONS", quick)
    async with (
        rpc.rpc_server(
            no_service(), address="127.0.0.1:0", has_reflection=False, grace_seconds=0
        ) as server,
        connection(server.address) as (reader, writer),
    ):
        writer.write(sent)
        async for _ in frames(reader):
            pass
        assert reader.at_eof()


@pytest.mark.parametrize("sent", [b"", PREFACE + frame(SETTINGS)], ids=["silent", "HTTP/2"])
async def test_a_connection_beyond_the_limit_is_closed_and_the_others_go_on(
    harness: Harness, sent: bytes
) -> None:
    """Held connections keep new ones out; a caller that is there pays, and places come free."""
    payer, limit = await harness.customer(100), 4
    settings = harness.settings.model_copy(update={"grpc_max_connections": limit})
    async with (
        running_server(settings) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        caller: Any = service_grpc.WalletPaymentServiceStub(channel)
        request = service.GetStatusRequest(customer_id=payer)
        await caller.GetStatus(request, metadata=harness.metadata)
        async with AsyncExitStack() as held:
            for _ in range(limit - 1):
                _, writer = await held.enter_async_context(connection(server.grpc_address))
                writer.write(sent)
            for _ in range(3):
                assert await is_closed_at_once(server.grpc_address, sent)
            assert (await caller.GetStatus(request, metadata=harness.metadata)).wallets

        async def is_free_again() -> bool:
            return not await is_closed_at_once(server.grpc_address, PREFACE + frame(SETTINGS))

        assert await eventually(is_free_again)


async def is_closed_at_once(address: str, sent: bytes) -> bool:
    """Tell whether a new connection is closed before the server has said anything."""
    async with connection(address) as (reader, writer):
        writer.write(sent)
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


async def test_a_message_that_is_no_message_is_refused(harness: Harness) -> None:
    """Bytes that cannot be read are INVALID_ARGUMENT, after the token is checked, and audited."""
    garbage = b"\xff\xff\xff\xff"
    method = "/wallet_payment.v1.WalletPaymentService/PayWithWallet"
    call = harness.channel.unary_unary(method, None, None)
    correlation_id = unique("garbage")
    metadata = (*harness.metadata, ("x-correlation-id", correlation_id))

    assert (await refusal_of(call(garbage))).reason == "TOKEN_MISSING"
    refusal = await refusal_of(call(garbage, metadata=metadata))

    assert (refusal.reason, refusal.fields) == ("INVALID_ARGUMENT", ("request",))

    async def written() -> Any:
        query = {"correlation_id": correlation_id}
        return await harness.database.integration_logs.find_one(query)

    assert (await eventually(written))["reason"] == "INVALID_ARGUMENT"
