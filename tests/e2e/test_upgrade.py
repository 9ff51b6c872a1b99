"""Two releases at work on one database: what a rolling upgrade, and the way back, come to."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from command_line import BIN, run
from harness import (
    Harness,
    bearer,
    inr,
    running_harness,
    token,
    unique,
    with_database,
)
from payment_load import serving
from previous_release import previous_release
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc

BOTH_AT_ONCE = 40


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PYTHONPATH of the release before."""
    return previous_release(tmp_path_factory.mktemp("previous"))


class Release:
    """A server of one release, as a caller sees it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = service_grpc.WalletPaymentServiceStub(channel)

    async def call(self, method: str, request: Any) -> Any:
        """Call it, and once more with the same key where two servers were at one wallet at once."""
        for _ in range(50):
            try:
                return await getattr(self._stub, method)(
                    request, metadata=bearer(token()), timeout=30
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ABORTED:
                    raise
        raise AssertionError("was refused again and again")

    async def pay(self, customer: str, order: str, amount: int, key: str = "") -> Any:
        """Pay an order."""
        request = service.PayWithWalletRequest(
            customer_id=customer,
            order_id=order,
            amount=inr(amount),
            idempotency_key=key or unique("key"),
        )
        return await self.call("PayWithWallet", request)

    async def refund(self, customer: str, order: str, amount: int, key: str = "") -> Any:
        """Refund a part of an order."""
        request = service.RefundToWalletRequest(
            customer_id=customer,
            order_id=order,
            amount=inr(amount),
            idempotency_key=key or unique("key"),
            reason="upgrade",
        )
        return await self.call("RefundToWallet", request)

    async def entries(self, customer: str) -> list[tuple[Any, ...]]:
        """Return a customer's ledger as this release tells it."""
        request = service.ListTransactionsRequest(customer_id=customer, page_size=200)
        answer = await self.call("ListTransactions", request)
        return [
            (one.transaction_id, one.type, one.amount.minor_units, one.sequence, one.hash)
            for one in answer.transactions
        ]


@asynccontextmanager
async def previous_server(uri: str, release: str, **settings: Any) -> AsyncIterator[Release]:
    """Run a server of the release before."""
    async with (
        serving(uri, PYTHONPATH=release, **settings) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Release(channel)


async def prove_books(uri: str, release: str) -> str:
    """Prove the books by the release before."""
    environment = {"PYTHONPATH": release, "WALLET_MONGODB_URI": uri}
    output, _ = await run("books", "verify", environment=environment)
    return output


def test_the_release_before_is_another_one(release: str) -> None:
    """What runs beside this release comes from the history, or nothing here would be shown."""
    folder = release.partition(":")[0]
    where = subprocess.run(
        [str(BIN / "python"), "-c", "import server, wallet_payment.v1 as v1; print(server, v1)"],
        env={"PYTHONPATH": release},
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
    ).stdout

    assert where.count(folder) == 2


@pytest.mark.timeout(300)
async def test_two_releases_pay_refund_and_read_each_others_records(
    release: str, mongodb_uri: str
) -> None:
    """While one replaces the other, and on the way back, any server can take any call."""
    uri = with_database(mongodb_uri, unique("upgrade"))
    async with previous_server(uri, release) as before:
        status = service.GetStatusRequest(customer_id="nobody")
        with pytest.raises(grpc.aio.AioRpcError, match="nobody"):
            await before.call("GetStatus", status)
    async with running_harness(uri) as harness:
        customer = await harness.customer(balance=10_000)
        # It starts after this release has brought the database up to date: as on the way back.
        async with previous_server(
            uri, release, WALLET_RAZORPAY_API_URL=harness.sandbox_url
        ) as before:
            now = Release(harness.channel)
            await both_pay_and_refund(customer, before, now)
            await one_goes_on_with_the_others_topup(harness, before)
            await both_pay_at_once(customer, before, now)
            assert await before.entries(customer) == await now.entries(customer)
    assert "the books agree" in await prove_books(uri, release)


async def both_pay_and_refund(customer: str, before: Release, now: Release) -> None:
    """Each release pays what the other refunds, and knows the other's keys."""
    for first, second in ((before, now), (now, before)):
        order, key, refund_key = unique("order"), unique("key"), unique("key")
        paid = await first.pay(customer, order, 600, key)
        again = await second.pay(customer, order, 600, key)
        assert again.transaction.transaction_id == paid.transaction.transaction_id
        refunded = await second.refund(customer, order, 200, refund_key)
        repeated = await first.refund(customer, order, 200, refund_key)
        assert repeated.refund.refund_id == refunded.refund.refund_id
        rest = await first.refund(customer, order, 400)
        assert rest.payment.state == resources.ORDER_PAYMENT_STATE_REFUNDED
        with pytest.raises(grpc.aio.AioRpcError, match="already"):
            await second.pay(customer, order, 600)


async def one_goes_on_with_the_others_topup(harness: Harness, before: Release) -> None:
    """A top-up that one release starts is credited and told by the other."""
    customer = await harness.customer()
    request = service.InitiateTopupRequest(
        customer_id=customer,
        amount=inr(700),
        gateway="razorpay",
        method="card",
        idempotency_key=unique("key"),
    )
    started = (await before.call("InitiateTopup", request)).topup
    await harness.pay_at_gateway(started.gateway_order_id)
    await harness.wait_for_topup(started, resources.TOPUP_STATE_CREDITED)
    theirs = await harness.initiate(customer, 300)
    await harness.pay_at_gateway(theirs.gateway_order_id)
    proof = service.VerifyTopupRequest(
        customer_id=customer, topup_id=theirs.topup_id, lookup=service.LookupProof()
    )
    verified = await before.call("VerifyTopup", proof)
    assert verified.topup.state == resources.TOPUP_STATE_CREDITED
    assert await harness.balance(customer) == 1_000


async def both_pay_at_once(customer: str, before: Release, now: Release) -> None:
    """Both work on one wallet at the same moment, and every payment counts once."""
    orders = [unique("order") for _ in range(2 * BOTH_AT_ONCE)]
    await asyncio.gather(
        *((before, now)[number % 2].pay(customer, order, 1) for number, order in enumerate(orders))
    )
    paid = [entry for entry in await now.entries(customer) if entry[2] == -1]
    assert len(paid) == len(orders)
