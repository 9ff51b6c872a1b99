"""The real doors: whatever comes by gRPC or HTTP is answered in the contract's terms."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import grpc
import pytest

from event_samples import SAMPLES
from fuzz.changes import changed
from fuzz.requests import METHODS, request_seeds
from fuzz.targets import TARGETS
from fuzz.webhooks import body_of, stripe_signature_of
from harness import STRIPE_WEBHOOK_SECRET, Harness, Refused, refused, unique
from server.rpc.edge import SERVICE

INPUTS = 300
AT_ONCE = 16
NEVER = {"INTERNAL", "UNKNOWN"}


async def each(inputs: Sequence[bytes], call: Callable[[bytes], Awaitable[Any]]) -> list[Any]:
    """Send every input, some at once; return the answers."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(content: bytes) -> Any:
        async with slots, asyncio.timeout(20):
            return await call(content)

    return await asyncio.gather(*(one(content) for content in inputs))


def changes_of(seeds: Sequence[bytes]) -> list[bytes]:
    """Return inputs that are the same in every run."""
    dice = Random(6)
    return [changed(dice.choice(seeds), dice) for _ in range(INPUTS)]


async def call_with(
    harness: Harness, name: str, content: bytes, metadata: Sequence[tuple[str, str]]
) -> Refused | None:
    """Send bytes as a request; return the refusal, None where there was an answer."""
    path = f"/{SERVICE.full_name}/{name}"
    call = harness.channel.unary_unary(path, bytes, bytes)
    try:
        if SERVICE.methods_by_name[name].server_streaming:
            stream = harness.channel.unary_stream(path, bytes, bytes)
            await anext(aiter(stream(content, metadata=metadata, timeout=15)))
        else:
            await call(content, metadata=metadata, timeout=15)
    except grpc.aio.AioRpcError as error:
        return refused(error)
    return None


async def test_any_request_is_answered_in_the_contracts_terms(harness: Harness) -> None:
    """Whatever the bytes of a request are: no INTERNAL, and a reason with every refusal."""
    customer_id = await harness.customer(balance=5_000)
    topup = await harness.initiate(customer_id, 1_000)
    seeds = request_seeds(customer_id, topup.topup_id)

    async def call(content: bytes) -> Refused | None:
        name = METHODS[content[0] % len(METHODS)].name
        return await call_with(harness, name, content[1:], harness.metadata)

    answers = await each([one for one in changes_of(seeds) if one], call)
    reasons = {answer.reason for answer in answers if answer is not None}
    assert not reasons & NEVER, reasons
    assert {"INVALID_ARGUMENT", "TOPUP_NOT_FOUND"} <= reasons
    assert None in answers


async def test_a_request_that_is_no_message_is_an_invalid_argument(harness: Harness) -> None:
    """Bytes that are not protobuf are refused by name, and only to who may call at all."""
    answer = await call_with(harness, "GetStatus", b"\xff\xff\xff", harness.metadata)
    assert answer is not None
    assert (answer.reason, answer.fields) == ("INVALID_ARGUMENT", ("request",))
    stranger = await call_with(harness, "GetStatus", b"\xff\xff\xff", ())
    assert stranger is not None
    assert stranger.reason == "TOKEN_MISSING"


async def test_any_token_is_answered_in_the_contracts_terms(harness: Harness) -> None:
    """Whatever the metadata `authorization` holds, the call is refused as unauthenticated."""
    seeds = TARGETS["authorization"].seeds()
    texts = [one.decode("ascii", "replace") for one in changes_of(seeds)]
    sendable = [text.strip() for text in texts if text.isascii() and text.isprintable()]

    async def call(content: bytes) -> Refused | None:
        metadata = (("authorization", content.decode()),)
        return await call_with(harness, "GetStatus", b"", metadata)

    answers = await each([text.encode() for text in sendable if len(text) < 6_000], call)
    assert {answer.reason for answer in answers if answer} <= {"TOKEN_INVALID", "TOKEN_MISSING"}
    assert None not in answers


@pytest.mark.parametrize("gateway", ["razorpay", "stripe"])
async def test_any_signed_webhook_is_answered_without_an_error_of_ours(
    harness: Harness, gateway: str
) -> None:
    """Whatever a gateway has signed, the sidecar takes it or says what is wrong with it."""
    seeds = [json.dumps(body_of(gateway, sample)).encode() for sample in SAMPLES[gateway]]

    async def call(body: bytes) -> int:
        signature = stripe_signature_of(body, STRIPE_WEBHOOK_SECRET, int(time.time()))
        status, _ = await harness.deliver(body, gateway=gateway, Stripe_Signature=signature)
        return status

    statuses = await each(changes_of(seeds), call)
    assert {status for status in statuses if status >= 500} == set()
    assert {200, 400, 415} <= set(statuses)


@pytest.mark.parametrize("gateway", ["razorpay", "stripe", "paypal", unique("none")])
async def test_any_header_is_answered_without_an_error_of_ours(
    harness: Harness, gateway: str
) -> None:
    """Whatever the headers of a webhook are, the sidecar says what is wrong with them."""
    seeds = [seed for seed in TARGETS["webhook_headers"].seeds() if seed]

    async def call(content: bytes) -> int:
        lines = content.decode("latin-1").split("\n")[1:]
        named = (line.partition(":") for line in lines)
        headers = {
            name: "".join(part for part in value if part.isprintable())
            for name, _, value in named
            if name.isascii() and name.replace("-", "").isalnum()
        }
        status, _ = await harness.deliver(b"{}", gateway=gateway, **headers)
        return status

    statuses = await each(changes_of(seeds), call)
    assert set(statuses) <= {400, 401, 404, 415, 431}
