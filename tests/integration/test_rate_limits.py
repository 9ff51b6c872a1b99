"""Rate limits of calls over real gRPC: per caller and method, per customer and method."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness import (
    Harness,
    another_server,
    bearer,
    eventually,
    inr,
    refusal_of,
    refused,
    token,
    unique,
)
from server.app import running_server
from server.workers.place import Place
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

SLOW = "0.01:3"
"""Three at once, and then one every hundred seconds."""


def status_of(stub: Any, customer: str, caller: str) -> Any:
    """Ask for a customer's status on behalf of a caller."""
    request = service.GetStatusRequest(customer_id=customer)
    return stub.GetStatus(request, metadata=bearer(token(sub=caller)), timeout=30)


@pytest.fixture
async def per_caller(harness: Harness) -> AsyncIterator[Any]:
    """A server that limits each caller."""
    async with another_server(harness, rate_limit_callers=(SLOW, "GetOrderPayment=0.01:1")) as stub:
        yield stub


@pytest.fixture
async def per_customer(harness: Harness) -> AsyncIterator[Any]:
    """A server that limits what is done for each customer."""
    async with another_server(harness, rate_limit_customers=(SLOW,)) as stub:
        yield stub


async def test_a_caller_at_its_limit_is_told_how_long_to_wait(
    harness: Harness, per_caller: Any
) -> None:
    """The fourth call is RATE_LIMITED, with the limit and the time; another caller is served."""
    customer, caller = await harness.customer(), unique("caller")
    for _ in range(3):
        await status_of(per_caller, customer, caller)

    problem = await refusal_of(status_of(per_caller, customer, caller))

    assert (problem.code, problem.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "RATE_LIMITED",
    )
    assert problem.retry_after_seconds == pytest.approx(100, abs=5)
    assert problem.metadata["caller"] == caller
    assert problem.metadata["limit"] == "caller"
    assert caller in problem.message
    await status_of(per_caller, customer, unique("caller"))


async def test_each_method_has_a_limit_of_its_own(harness: Harness, per_caller: Any) -> None:
    """A method that is named has its own rate, and using one does not use up another."""
    customer, metadata = await harness.customer(), bearer(token(sub=unique("caller")))
    order = service.GetOrderPaymentRequest(customer_id=customer, order_id=unique("order"))
    first = per_caller.GetOrderPayment(order, metadata=metadata)
    assert (await refusal_of(first)).reason == "ORDER_NOT_FOUND"

    second = per_caller.GetOrderPayment(order, metadata=metadata)

    assert (await refusal_of(second)).reason == "RATE_LIMITED"
    await per_caller.GetStatus(
        service.GetStatusRequest(customer_id=customer), metadata=metadata, timeout=30
    )


async def test_a_customer_at_the_limit_does_not_hold_up_another(
    harness: Harness, per_customer: Any
) -> None:
    """Whoever calls, no more is done for one customer; for others it is."""
    busy, quiet = await harness.customer(), await harness.customer()
    for _ in range(3):
        await status_of(per_customer, busy, unique("caller"))

    problem = await refusal_of(status_of(per_customer, busy, unique("caller")))

    assert (problem.reason, problem.metadata["limit"]) == ("RATE_LIMITED", "customer")
    assert problem.metadata["customer"] == busy
    await status_of(per_customer, quiet, unique("caller"))


async def test_a_limited_payment_moves_nothing_and_its_repeat_pays_once(harness: Harness) -> None:
    """Of payments at once as many are made as the limit has room for; a repeat finds its own."""
    customer = await harness.customer(1_000)
    requests = [
        service.PayWithWalletRequest(
            customer_id=customer,
            order_id=unique("order"),
            amount=inr(10),
            idempotency_key=unique("key"),
        )
        for _ in range(10)
    ]
    async with another_server(harness, rate_limit_customers=("PayWithWallet=0.01:3",)) as limited:
        answers = await asyncio.gather(
            *(limited.PayWithWallet(one, metadata=harness.metadata) for one in requests),
            return_exceptions=True,
        )
    problems = [refused(one) for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert [problem.reason for problem in problems] == ["RATE_LIMITED"] * 7
    assert await harness.balance(customer) == 1_000 - 3 * 10

    await harness.settled("PayWithWallet", requests)

    assert await harness.balance(customer) == 1_000 - 10 * 10


async def test_webhooks_are_not_limited_with_other_calls(harness: Harness) -> None:
    """What limits all methods does not limit the gateways' webhooks; what names them does."""
    request = service.ForwardWebhookRequest(gateway=unique("gateway"), body=b"{}")
    request.receive_time.GetCurrentTime()
    metadata = bearer(harness.sidecar_token)
    async with another_server(harness, rate_limit_callers=(SLOW,)) as stub:
        for _ in range(5):
            refusal = await refusal_of(stub.ForwardWebhook(request, metadata=metadata))
            assert refusal.reason == "UNKNOWN_GATEWAY"
    async with another_server(harness, rate_limit_callers=("ForwardWebhook=0.01:1",)) as stub:
        await refusal_of(stub.ForwardWebhook(request, metadata=metadata))
        refusal = await refusal_of(stub.ForwardWebhook(request, metadata=metadata))
        assert refusal.reason == "RATE_LIMITED"


async def test_a_call_that_was_limited_is_audited(harness: Harness, per_customer: Any) -> None:
    """The audit tells who was turned away, and why."""
    customer, caller = await harness.customer(), unique("caller")
    for _ in range(3):
        await status_of(per_customer, customer, caller)
    await refusal_of(status_of(per_customer, customer, caller))

    async def written() -> Any:
        query = {"caller": caller, "reason": "RATE_LIMITED"}
        return await harness.database.integration_logs.find_one(query)

    assert (await eventually(written))["customer_id"] == customer


async def test_an_id_as_long_as_a_message_is_no_longer_in_an_answer(per_customer: Any) -> None:
    """Neither the table nor the refusal takes more of an id than an id may have."""
    huge = "c" * 400_000
    for _ in range(3):
        assert (await refusal_of(status_of(per_customer, huge, "x"))).reason == "INVALID_ARGUMENT"

    refusal = await refusal_of(status_of(per_customer, huge, "x"))

    assert refusal.reason == "RATE_LIMITED"
    assert len(refusal.message) < 512


async def test_workers_of_one_server_count_together(harness: Harness, tmp_path: Path) -> None:
    """A customer's calls that reach both workers are as many as one of them would take."""
    settings = harness.settings.model_copy(update={"rate_limit_customers": (SLOW,)})
    customer = await harness.customer()
    async with AsyncExitStack() as workers:
        stubs = []
        for index in range(2):
            place = Place(index, 2, tmp_path)
            running = await workers.enter_async_context(running_server(settings, place))
            channel = await workers.enter_async_context(
                grpc.aio.insecure_channel(running.grpc_address)
            )
            stubs.append(service_grpc.WalletPaymentServiceStub(channel))
        await status_of(stubs[0], customer, "x")
        await status_of(stubs[1], customer, "x")
        await status_of(stubs[0], customer, "x")

        for stub in stubs:
            assert (await refusal_of(status_of(stub, customer, "x"))).reason == "RATE_LIMITED"
