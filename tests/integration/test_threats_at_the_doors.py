"""Each threat to the doors in the threat model, tried over real sockets.

A test has the name of its row in `docs/concepts/threat-model.md`.
"""

import asyncio
import base64
import gzip
import json
import os
import stat
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from test_rpc_limits import PREFACE, SETTINGS, connection, frame, frames
from test_sidecar_connections import HEAD, QUICK, client, is_served, sidecar_with
from test_sidecar_limits import ATTACKER, GATEWAY, RATES, sender, sidecar_before
from test_token_keys import NO_KEYS

from command_line import run_in_process
from gateway_adapters.addresses import read_network
from gateway_adapters.sidecar import ConnectionLimits
from gateway_adapters.sidecar.remote import TrustedProxies
from harness import (
    JWT_SECRET,
    KEY_SECRET,
    WEBHOOK_SECRET,
    Harness,
    bearer,
    event_of,
    eventually,
    inr,
    outcomes_of,
    payment_of,
    refusal_of,
    signature_of,
    token,
    unique,
    with_database,
)
from key_bench import LET_IN, SigningKey, running_key_server, trusting
from payment_load import serving
from server.app import running_server
from server.audit import TURNED_AWAY
from server.config import Settings
from server.store.queries import MongoQueries
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

METHOD = "/wallet_payment.v1.WalletPaymentService"
DEEP = b"[" * 100_000
HEADERS, DATA = 1, 0
END_HEADERS, END_STREAM = 4, 1
OPERATORS = ['{"$gt": ""}', "$where", "$gt", "{}", "[]", "a\x00b", "*", ".*", "' || 1"]


def modes_of_sockets_folders(folder: Path) -> set[int]:
    """Return who may do what in the folders within a folder in which there are sockets."""
    sockets = (found for found in folder.glob("*/*") if found.is_socket())
    return {stat.S_IMODE(found.parent.stat().st_mode) for found in sockets}


def on_stream(kind: int, flags: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2 on the first stream."""
    head = frame(kind, payload)
    return head[:4] + bytes([flags]) + (1).to_bytes(4) + payload


async def first_byte(reader: asyncio.StreamReader) -> bytes:
    """Return the first byte that a connection's other end says; nothing where it hangs up."""
    try:
        return await reader.read(1)
    except ConnectionError:
        return b""


async def refusal_over_http(harness: Harness, body: bytes, **headers: str) -> tuple[int, str]:
    """Send a webhook to the sidecar; return the status and the reason."""
    status, answer = await harness.deliver(body, **headers)
    return status, answer["error"]["reason"]


# What comes in.


async def test_threat_oversized_input(harness: Harness) -> None:
    """A body, a message and metadata beyond their limits are refused at both doors."""
    body = b'"' + b"x" * 600_000 + b'"'
    assert await refusal_over_http(harness, body) == (413, "BODY_TOO_LARGE")
    assert (await harness.deliver(b"{}", X_Large="x" * 15_000, X_Larger="x" * 5_000))[0] == 431

    message = service.ForwardWebhookRequest(gateway="razorpay", body=body)
    request = service.GetStatusRequest(customer_id="x")
    large = (*harness.metadata, ("x-large", "x" * 20_000))
    for call in (
        harness.call("ForwardWebhook", message),
        harness.call("GetStatus", request, metadata=large),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_threat_deeply_nested_input(harness: Harness) -> None:
    """JSON as deep as a body is long is refused as what it is, in a body and in a token's head."""
    assert await refusal_over_http(harness, DEEP) == (415, "NOT_JSON")
    message = service.ForwardWebhookRequest(gateway="razorpay", body=DEEP)
    message.receive_time.GetCurrentTime()
    message.headers.add(name="X-Razorpay-Signature", value=signature_of(DEEP))
    assert (await refusal_of(harness.call("ForwardWebhook", message))).reason == "INVALID_ARGUMENT"

    head = base64.urlsafe_b64encode(DEEP[:6_000]).decode()
    request = service.GetStatusRequest(customer_id="x")
    refused = await refusal_of(
        harness.call("GetStatus", request, metadata=bearer(f"{head}.{head[:20]}.AA"))
    )
    assert refused.reason == "TOKEN_INVALID"


@pytest.mark.parametrize("sent", [b"", HEAD[:40], HEAD + b"Content-Length: 9\r\n\r\n{"])
async def test_threat_slow_input(sent: bytes) -> None:
    """Who sends nothing, half a head or half a body is cut off, and others are served."""
    async with sidecar_with(QUICK) as address, client(address) as slow:
        slow.send(sent)
        assert await is_served(address, "127.0.0.2")
        answer = await slow.answer()

    assert (b"HTTP/1.1 408 " in answer) == (b"Content-Length" in sent)


async def test_threat_header_injection(harness: Harness) -> None:
    """Line breaks in a path stay out of the answer's head; two lengths are no request."""
    address = harness.sidecar_url.removeprefix("http://")
    injected = HEAD.replace(b"razorpay", b"a%0d%0aSet-Cookie:%20x=1")
    for head, status in (
        (injected + b"Content-Length: 2\r\n", 404),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 20\r\n", 400),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
    ):
        async with client(address) as attacker:
            attacker.send(head + b"Connection: close\r\n\r\n{}")
            answer = await attacker.answer()
        assert int(answer.split()[1]) == status
        assert b"Set-Cookie" not in answer
        assert answer.count(b"HTTP/1.") == 1


async def test_threat_decompression_bomb(harness: Harness) -> None:
    """What inflates is refused: at the sidecar before it is read, by gRPC before it has."""
    bomb = gzip.compress(bytes(20 * 1024 * 1024))
    assert await refusal_over_http(harness, bomb, Content_Encoding="gzip") == (415, "ENCODED_BODY")

    request = service.ForwardWebhookRequest(gateway="razorpay", body=bytes(20 * 1024 * 1024))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.call("ForwardWebhook", request, compression=grpc.Compression.Gzip)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("text", OPERATORS)
async def test_threat_query_operators(harness: Harness, text: str) -> None:
    """An operator of the database is a wrong id, and in a webhook a payment that nobody knows."""
    victim = await harness.customer(100)
    for call in (
        harness.balance(text),
        harness.pay(text, 1),
        harness.pay(victim, 1, text),
        harness.refund(victim, text),
        harness.pay(victim, 1, metadata={"$set": "balance"}),
    ):
        assert (await refusal_of(call)).reason == "INVALID_ARGUMENT"

    topup = await harness.initiate(victim, 500)
    for order in (text, {"$gt": ""}, {"$ne": None}, [topup.gateway_order_id]):
        body = event_of("payment.captured", payment_of(topup, order_id=order))
        status, answer = await harness.deliver(body)
        assert (status, answer.get("outcome")) in {(200, "NEEDS_REVIEW"), (400, None)}
    assert await harness.balance(victim) == 100


async def test_threat_line_breaks_in_ids(
    harness: Harness, mongodb_uri: str, tmp_path: Path
) -> None:
    """Ids with line breaks and escapes, without any token, write no line of log or audit."""
    ended = "\r\n2026-01-01 all is well\x1b[2J"
    customer = unique("customer") + ended
    request = service.GetStatusRequest(customer_id=customer)
    order = service.GetOrderPaymentRequest(customer_id=customer, order_id=ended)
    for given, metadata in ((request, ()), (order, ()), (request, harness.metadata)):
        await refusal_of(harness.call(type(given).__name__[:-7], given, metadata=metadata))

    async def written() -> bool:
        query = {"customer_id": customer}
        return bool(await harness.database.integration_logs.count_documents(query) == 3)

    await eventually(written)
    logs = harness.database.integration_logs
    planted = {"code": "OK", "time": datetime.now(UTC), "correlation_id": ended, "peer": ended}
    await logs.insert_one({"customer_id": customer, "method": ended, "caller": ended} | planted)
    payer = await harness.customer(100)
    paid = (await harness.pay(payer, 100)).payment.order_id
    await harness.refund(payer, paid, reason=f"late{ended}")
    environment = {"PATH": os.environ["PATH"], "WALLET_MONGODB_URI": mongodb_uri}
    printed = [
        await run_in_process(*command, environment=environment, folder=tmp_path)
        for command in (("audit", "search", "--customer", customer), ("status", paid))
    ]
    assert len(printed[0][0].splitlines()) == 4
    assert all(output.replace("\n", "").isprintable() for output, _ in printed)
    assert not any(line.startswith("2026-01-01") for line in printed[1][0].splitlines())
    assert "late\\u000d\\u000a2026-01-01" in printed[1][0]


async def test_threat_illegal_metadata(harness: Harness) -> None:
    """What gRPC cannot send back in an answer is not echoed: the call is answered as any other."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"{METHOD}/GetStatus",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        "x-correlation-id": "mine\r\nx: y\x1b[2J",
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    async with connection(harness.grpc_address) as (reader, writer):
        writer.write(PREFACE + frame(SETTINGS))
        writer.write(on_stream(HEADERS, END_HEADERS, block) + on_stream(DATA, END_STREAM, bytes(5)))
        answers = (payload async for kind, payload in frames(reader) if kind == HEADERS)
        answer = await anext(answers)

    assert b"The call has no token." in answer
    assert b"mine" not in answer


# Floods.


async def test_threat_flood_of_bad_webhooks(harness: Harness) -> None:
    """The attacker is turned away before the server hears of it; the gateway gets through."""
    before = sidecar_before(harness.grpc_address, harness.sidecar_token, RATES)
    async with before as url, sender(GATEWAY, url) as gateway, sender(ATTACKER, url) as attacker:
        assert await gateway.statuses(1, is_good=True) == [200]

        answers = await asyncio.gather(*(attacker.send(is_good=False) for _ in range(40)))
        assert sorted(status for status, _ in answers) == [401] * 5 + [429] * 35
        for number in range(4):
            async with sender(f"127.0.1.{number + 1}", url) as another:
                await another.statuses(6, is_good=False)

        assert await gateway.statuses(20, is_good=True) == [200] * 20


async def test_threat_forged_sender_address(harness: Harness) -> None:
    """Who names other addresses is turned away for its own, and nobody else for that."""
    proxies = TrustedProxies((read_network("127.0.0.9/32"),))
    before = sidecar_before(harness.grpc_address, harness.sidecar_token, RATES, proxies)
    async with (
        before as url,
        sender("127.0.0.9", url) as proxy,
        sender(ATTACKER, url) as attacker,
        sender(GATEWAY, url) as gateway,
    ):
        said = [
            (await attacker.send(is_good=False, through=f"{GATEWAY}, 192.0.2.{number}"))[0]
            for number in range(8)
        ]
        assert said == [401] * 5 + [429] * 3
        said = [
            (await proxy.send(is_good=False, through=f"{GATEWAY}, 192.0.2.{number}, 6.6.6.6"))[0]
            for number in range(8)
        ]
        assert said == [401] * 5 + [429] * 3
        assert await gateway.send(is_good=True) == (200, 0)
        assert await proxy.send(is_good=True, through="192.0.2.1") == (200, 0)


async def test_threat_flood_of_keys(harness: Harness) -> None:
    """Tokens of keys that nobody knows cost the key server one question; good ones pass."""
    good, stranger = SigningKey("good"), SigningKey("stranger")
    async with running_key_server() as publisher:
        publisher.publish(good)
        given = {"jwt_keys": NO_KEYS, "jwt_keys_url": publisher.url, "rate_limit_addresses": ""}
        async with trusting(harness, **given) as server:
            before = publisher.asked
            names = (unique("unknown") for _ in range(100))
            forged = [SigningKey(name, private=stranger.private).token() for name in names]

            told = await asyncio.gather(*(server.says(one) for one in (*forged, good.token())))

            assert told == ["TOKEN_INVALID"] * 100 + [LET_IN]
            assert publisher.asked == before + 1


async def test_threat_flood_of_bad_tokens(harness: Harness) -> None:
    """A thousand forged tokens: few are looked at and audited, and who is known goes on paying."""
    payer = await harness.customer(100)
    settings = harness.settings.model_copy(update={"rate_limit_addresses": "0.01:10"})
    forged = [service.GetStatusRequest(customer_id=unique("flooded")) for _ in range(1_000)]
    async with (
        running_server(settings) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        stub: Any = service_grpc.WalletPaymentServiceStub(channel)
        request = service.PayWithWalletRequest(customer_id=payer, amount=inr(1))
        for _ in range(2):
            request.order_id, request.idempotency_key = unique("order"), unique("key")
            await stub.PayWithWallet(request, metadata=harness.metadata)
            bad = bearer(f"{token()}x")
            said = await outcomes_of([stub.GetStatus(one, metadata=bad) for one in forged])

    assert {refusal.reason for refusal in said} == {"RATE_LIMITED"}
    assert await harness.balance(payer) == 98
    audit = harness.database.integration_logs
    assert await audit.count_documents({"customer_id": {"$regex": "^flooded-"}}) == 10
    [told] = [one["reason"] async for one in audit.find({"method": TURNED_AWAY, "reason": "1990"})]
    assert told


async def test_threat_flood_of_connections() -> None:
    """Connections that are only held, from one address or many, keep nobody else out."""
    limits = ConnectionLimits(total=8, per_address=4)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(sidecar_with(limits))
        for number in range(24):
            await stack.enter_async_context(client(address, f"127.0.1.{number % 6 + 1}"))

        assert await is_served(address, "127.0.0.9")


async def test_threat_flood_of_grpc_connections(harness: Harness) -> None:
    """Who holds all places of the gRPC port keeps out who comes later, and nobody who pays."""
    payer = await harness.customer(100)
    settings = harness.settings.model_copy(update={"grpc_max_connections": 8})
    async with (
        running_server(settings) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
        AsyncExitStack() as held,
    ):
        stub: Any = service_grpc.WalletPaymentServiceStub(channel)
        request = service.PayWithWalletRequest(customer_id=payer, amount=inr(1))
        flood = []
        for number in range(40):
            if number in {1, 39}:
                request.order_id, request.idempotency_key = unique("order"), unique("key")
                await stub.PayWithWallet(request, metadata=harness.metadata)
            flood.append(await held.enter_async_context(connection(server.grpc_address)))
            flood[-1][1].write(PREFACE + frame(SETTINGS))
        said = [await first_byte(reader) for reader, _ in flood]

    assert said.count(b"") == 40 - (8 - 1)
    assert await harness.balance(payer) == 98


# What is told.


async def test_threat_exception_in_an_answer(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is told as INTERNAL, without its name, its text or a trace."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError(KEY_SECRET)

    monkeypatch.setattr(MongoQueries, "wallets", fail)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.balance(await harness.customer())

    told = f"{refused.value.details()} {refused.value.trailing_metadata()}"
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert [text for text in (KEY_SECRET, "ZeroDivision", "Traceback") if text in told] == []


async def test_threat_secret_in_an_answer_or_log(mongodb_uri: str, tmp_path: Path) -> None:
    """A real server that logs all it can tells no secret, and writes a line for each event."""
    log, uri = tmp_path / "log.txt", with_database(mongodb_uri, unique("logs"))
    customer, sidecar = unique("customer"), token(scope="webhook.forward")
    body = event_of("payment.captured", {"id": "pay_1\nforged line", "order_id": "order_1"})
    signatures = (signature_of(body), "0" * 64)
    with log.open("wb") as stderr:
        async with (
            serving(uri, stderr=stderr, WALLET_LOG_LEVEL="debug") as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub: Any = service_grpc.WalletPaymentServiceStub(channel)
            said = []
            for signature in signatures:
                forwarded = service.ForwardWebhookRequest(gateway="razorpay", body=body)
                forwarded.headers.add(name="X-Razorpay-Signature", value=signature)
                forwarded.receive_time.GetCurrentTime()
                call = stub.ForwardWebhook(forwarded, metadata=bearer(sidecar), timeout=20)
                said.append(str(await outcomes_of([call])))
            request = service.GetStatusRequest(customer_id=f"{customer}\nforged line")
            for given in (token(), token(scope=""), f"{token()}x"):
                call = stub.GetStatus(request, metadata=bearer(given), timeout=20)
                said.append(str(await refusal_of(call)))

    lines = log.read_text().splitlines()
    assert len([json.loads(line) for line in lines]) >= 4
    secrets = (KEY_SECRET, WEBHOOK_SECRET, JWT_SECRET, sidecar, *signatures)
    assert [text for text in (*lines, *said) if any(secret in text for secret in secrets)] == []


async def test_threat_other_user_of_the_machine(mongodb_uri: str, tmp_path: Path) -> None:
    """What workers tell each other passes where nobody but their own user may look."""
    uri = with_database(mongodb_uri, unique("workers"))
    async with serving(uri, "--workers", "2", TMPDIR=str(tmp_path)):
        assert modes_of_sockets_folders(tmp_path) == {stat.S_IRWXU}


async def test_threat_metrics_and_health(harness: Harness) -> None:
    """Who reads metrics and health learns of no customer, order, secret or address inside."""
    customer = await harness.customer(100)
    order = (await harness.pay(customer, 100)).payment.order_id
    told = ""
    for url in (
        harness.metrics_url,
        f"{harness.sidecar_url}/healthz",
        f"{harness.sidecar_url}/readyz",
    ):
        async with harness.http.get(url) as answer:
            told += await answer.text()

    uri = harness.settings.mongodb_uri.get_secret_value()
    hidden = (customer, order, KEY_SECRET, WEBHOOK_SECRET, JWT_SECRET, uri, uri.split("/")[2])
    assert "wallet_" in told
    assert [text for text in hidden if text in told] == []


async def test_threat_reflection(harness: Harness) -> None:
    """Nobody is told of the methods unless it was switched on."""
    is_on = Settings.model_fields["reflection"].default
    async with (
        trusting(harness, reflection=is_on, jwt_algorithms=("HS256",)) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ServerReflectionInfo(asked).read()

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
