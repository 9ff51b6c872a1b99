"""The Python client on real servers: the main job, two servers of which one dies, and watching."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from harness import Harness, token, unique
from payment_load import serving
from wallet_payment.client import AsyncClient, Client, errors, money, new_key
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service


async def test_the_main_job_with_asyncio(harness: Harness) -> None:
    """Top-up, payment, refund, status and history, and refusals as exceptions."""
    customer = await harness.customer()
    async with AsyncClient([harness.grpc_address], token) as client:
        topup = await client.top_up(
            customer, money("INR", 50_000), gateway="razorpay", method="card", key=new_key()
        )
        await harness.pay_at_gateway(topup.gateway_order_id, wait=True)
        credited = await client.topup(customer, topup.topup_id)
        order, key = unique("order"), new_key()
        paid = await client.pay(customer, order, money("INR", 20_000), key=key)
        again = await client.pay(customer, order, money("INR", 20_000), key=key)
        refunded = await client.refund(customer, order, key=new_key(), reason="returned")
        status = await client.status(customer)
        request = service.ListTransactionsRequest(customer_id=customer, page_size=2)
        history = [entry.type async for entry in client.transactions(request)]
        with pytest.raises(errors.OrderAlreadyPaid):
            await client.pay(customer, order, money("INR", 20_000), key=new_key())
        with pytest.raises(errors.InsufficientFunds) as poor:
            await client.pay(customer, unique("order"), money("INR", 50_001), key=new_key())

    assert credited.state == resources.TOPUP_STATE_CREDITED
    assert again == paid
    assert refunded.wallet.balance == money("INR", 50_000) == status.wallets[0].balance
    assert history == [
        resources.TRANSACTION_TYPE_REFUND,
        resources.TRANSACTION_TYPE_PAYMENT,
        resources.TRANSACTION_TYPE_TOPUP,
    ]
    assert poor.value.metadata


async def test_the_main_job_in_threads(harness: Harness) -> None:
    """The client without asyncio pays, refunds, and hears of both by watching from a cursor."""
    customer = await harness.customer(10_000)

    def work() -> list[int]:
        with Client([harness.grpc_address], token) as client:
            stream = client.watch(customer_id=customer)
            cursor = next(stream).cursor
            stream.close()  # type: ignore[attr-defined] # a generator's
            client.pay(customer, f"{customer}-order", money("INR", 5_000), key=new_key())
            client.refund(customer, f"{customer}-order", key=new_key())
            heard: list[int] = []
            for response in client.watch(customer_id=customer, cursor=cursor):
                heard += [event.type for event in response.events]
                if len(heard) >= 2:
                    return heard
            raise AssertionError("the feed has no end")

    assert await asyncio.to_thread(work) == [
        resources.WALLET_EVENT_TYPE_PAYMENT_MADE,
        resources.WALLET_EVENT_TYPE_REFUND_MADE,
    ]


@asynccontextmanager
async def two_servers(harness: Harness) -> AsyncIterator[list[tuple[Any, str]]]:
    """Run two servers on the harness' database, in processes of their own."""
    uri = harness.settings.mongodb_uri.get_secret_value()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(uri)) for _ in range(2)]


async def test_nothing_is_missed_or_doubled_when_a_server_is_killed(harness: Harness) -> None:
    """Payments go on at the server that stays, with their keys, and the watcher hears each once."""
    customer = await harness.customer(100_000)
    async with two_servers(harness) as servers:
        addresses = [address for _, address in servers]
        async with AsyncClient(addresses, token) as client:
            heard: list[str] = []
            started = asyncio.Event()

            async def watch() -> None:
                async for response in client.watch(customer_id=customer):
                    started.set()
                    heard.extend(event.transaction.order_id for event in response.events)
                    if len(heard) >= 60:
                        return

            watching = asyncio.create_task(watch())
            await asyncio.wait_for(started.wait(), 20)
            orders = []
            for number in range(60):
                if number == 20:
                    servers[0][0].kill()
                orders.append(unique("order"))
                await client.pay(customer, orders[-1], money("INR", 1), key=new_key())
            await asyncio.wait_for(watching, 30)

    assert heard == orders
    assert await harness.balance(customer) == 100_000 - 60
