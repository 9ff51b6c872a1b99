"""Limits of wallets over real gRPC and MongoDB: two servers cannot be raced past them."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from bson import Int64

from harness import (
    Harness,
    Refused,
    another_server,
    bearer,
    inr,
    outcomes_of,
    refusal_of,
    refused,
    running_harness,
    token,
    unique,
    with_database,
)
from operator_commands import operate
from server.ledger.commands import FreezeWallet, SetTier, UnfreezeWallet
from server.store.connection import connect
from server.store.customer_records import MongoCustomerRecords
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

LIMITS = json.dumps(
    {
        "default": {
            "INR": {
                "min_topup": 200,
                "max_topup": 6_000,
                "max_balance": 9_000,
                "daily_topup": 10_000,
                "daily_spend": 1_000,
                "daily_payment_count": 8,
            }
        },
        "verified": {"INR": {"daily_spend": 5_000}},
    }
)


@pytest.fixture(scope="module")
async def limited(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service whose wallets have limits."""
    async with running_harness(with_database(mongodb_uri, "limits"), limits=LIMITS) as running:
        yield running


def next_midnight() -> str:
    """Return when the UTC day ends, as a refusal tells it."""
    return f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}T00:00:00Z"


async def test_a_refusal_says_which_limit_how_much_is_left_and_when_it_resets(
    limited: Harness,
) -> None:
    """What passes the day's spend is refused with everything that a caller has to know."""
    customer = await limited.customer(2_000)
    await limited.pay(customer, 700)

    refusal = await refusal_of(limited.pay(customer, 301))

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "LIMIT_EXCEEDED",
    )
    assert refusal.metadata == {
        "customer_id": customer,
        "currency_code": "INR",
        "limit": "daily_spend",
        "limit_minor_units": "1000",
        "remaining_minor_units": "300",
        "amount_minor_units": "301",
        "reset_time": next_midnight(),
    }
    assert "300 remain" in refusal.message
    assert (await limited.pay(customer, 300)).wallet.balance == inr(1_000)


@pytest.mark.parametrize(
    ("amount", "limit"), [(199, "min_topup"), (6_001, "max_topup"), (4_001, "max_balance")]
)
async def test_a_topup_that_is_too_small_or_too_large_is_not_started(
    limited: Harness, amount: int, limit: str
) -> None:
    """The smallest and the largest top-up, and what a wallet may hold, are checked at the start."""
    customer = await limited.customer(5_000)

    refusal = await refusal_of(limited.initiate(customer, amount))

    assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", limit)
    assert await limited.database.topups.count_documents({"customer_id": customer}) == 1


async def test_racing_payments_on_two_servers_cannot_pass_a_limit_together(
    limited: Harness,
) -> None:
    """Of payments at the same moment, just as many are made as the limit has room for."""
    async with another_server(limited) as other:
        for _ in range(3):
            customer = await limited.customer(3_000)
            requests = [
                service.PayWithWalletRequest(
                    customer_id=customer,
                    order_id=unique("order"),
                    amount=inr(300),
                    idempotency_key=unique("key"),
                )
                for _ in range(12)
            ]
            stubs = (limited.stub, other)
            answers = await outcomes_of(
                [
                    stubs[place % 2].PayWithWallet(request, metadata=bearer(token()), timeout=20)
                    for place, request in enumerate(requests)
                ]
            )

            refusals = [one for one in answers if isinstance(one, Refused)]
            assert len(answers) - len(refusals) == 3
            assert {one.metadata["limit"] for one in refusals} == {"daily_spend"}
            assert await limited.balance(customer) == 2_100


async def test_opening_many_topups_at_once_does_not_pass_a_limit(limited: Harness) -> None:
    """All that are open count, whichever server started them, also where none is paid."""
    async with another_server(limited) as other:
        customer = await limited.customer()
        stubs = (limited.stub, other)
        answers = await outcomes_of(
            [
                stubs[number % 2].InitiateTopup(
                    service.InitiateTopupRequest(
                        customer_id=customer,
                        amount=inr(2_500),
                        gateway="razorpay",
                        method="card",
                        idempotency_key=unique("key"),
                    ),
                    metadata=bearer(token()),
                    timeout=20,
                )
                for number in range(10)
            ]
        )

    started = [one for one in answers if not isinstance(one, Refused)]
    assert len(started) == 3
    assert {one.metadata["limit"] for one in answers if isinstance(one, Refused)} == {"max_balance"}


async def test_what_was_captured_is_credited_beyond_a_limit_and_reported(
    limited: Harness,
) -> None:
    """Money that came after its top-up's time, when another had taken its room, is not refused."""
    customer = await limited.customer()
    late = await limited.initiate(customer, 6_000)
    await limited.database.topups.update_one(
        {"_id": late.topup_id}, {"$set": {"state": "EXPIRED"}, "$inc": {"version": Int64(1)}}
    )
    taken = await limited.initiate(customer, 5_000)

    for topup in (taken, late):
        await limited.pay_at_gateway(topup.gateway_order_id)
        await limited.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    assert await limited.balance(customer) == 11_000
    stored = await limited.database.topups.find_one({"_id": late.topup_id})
    assert stored["passed_limits"] == "max_balance,daily_topup"
    with connect(limited.settings.mongodb_uri.get_secret_value()) as database:
        found = await MongoCustomerRecords(database).beyond_limits(10)
    assert [one.topup_id for one in found if one.customer_id == customer] == [late.topup_id]
    assert (await refusal_of(limited.initiate(customer, 200))).metadata["limit"] == "max_balance"


async def test_an_order_that_a_limit_forbids_leaves_the_credit_in_the_wallet(
    limited: Harness,
) -> None:
    """A top-up's order is checked at its start, and again when it is to be paid."""
    customer = await limited.customer(1_000)
    order = resources.PayOrder(order_id=unique("order"), amount=inr(900))
    topup = await limited.initiate(customer, 900, pay_order=order)
    await limited.pay(customer, 500)
    await limited.pay_at_gateway(topup.gateway_order_id)
    credited = await limited.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    assert credited.pay_order_outcome.failure_reason == "LIMIT_EXCEEDED"
    assert await limited.balance(customer) == 1_400
    again = resources.PayOrder(order_id=unique("order"), amount=inr(501))
    refusal = await refusal_of(limited.initiate(customer, 600, pay_order=again))
    assert refusal.metadata["limit"] == "daily_spend"


async def test_a_refund_gives_back_no_spend_and_is_never_refused(limited: Harness) -> None:
    """Spend is counted gross: paying and refunding in turn moves no more than the limit."""
    customer = await limited.customer(6_000)
    paid = await limited.pay(customer, 1_000)

    refunded = await limited.refund(customer, paid.payment.order_id)

    assert refunded.wallet.balance == inr(6_000)
    refusal = await refusal_of(limited.pay(customer, 1))
    assert (refusal.metadata["limit"], refusal.metadata["remaining_minor_units"]) == (
        "daily_spend",
        "0",
    )


async def test_a_count_is_limited_too(limited: Harness) -> None:
    """The ninth payment of a day is refused, however small."""
    customer = await limited.customer(1_000)
    for _ in range(8):
        await limited.pay(customer, 1)

    refusal = await refusal_of(limited.pay(customer, 1))

    assert refusal.metadata["limit"] == "daily_payment_count"
    assert (refusal.metadata["limit_count"], refusal.metadata["remaining_count"]) == ("8", "0")


async def test_a_tier_holds_at_once_on_a_server_that_remembers_the_wallet(
    limited: Harness,
) -> None:
    """A tier that an operator sets lifts a limit, and one that he takes away binds again."""
    customer = await limited.customer(4_000)
    await limited.pay(customer, 1_000)
    assert (await refusal_of(limited.pay(customer, 10))).reason == "LIMIT_EXCEEDED"

    await operate(limited, SetTier(customer, "verified", "asha", "papers seen"))
    await limited.pay(customer, 500)
    await operate(limited, SetTier(customer, "", "asha", "papers expired"))

    assert (await refusal_of(limited.pay(customer, 10))).metadata["limit"] == "daily_spend"
    with connect(limited.settings.mongodb_uri.get_secret_value()) as database:
        actions = await MongoCustomerRecords(database).actions(customer, 10)
    assert [(one.tier, one.by, one.why) for one in actions] == [
        ("", "asha", "papers expired"),
        ("verified", "asha", "papers seen"),
    ]


async def test_a_wallet_of_an_earlier_release_is_counted_by_its_entries(limited: Harness) -> None:
    """A wallet without counts has what its entries tell, from the first call on."""
    customer = await limited.customer(2_000)
    await limited.pay(customer, 700)
    await limited.database.wallets.update_one(
        {"_id": f"{customer}:INR"}, {"$unset": {"usage": ""}, "$inc": {"version": Int64(1)}}
    )

    assert (await refusal_of(limited.pay(customer, 301))).metadata["limit"] == "daily_spend"
    await limited.pay(customer, 300)
    stored = await limited.database.wallets.find_one({"_id": f"{customer}:INR"})
    assert stored["usage"]["day"] == {
        "topups": 1,
        "topup_amount": 2_000,
        "payments": 2,
        "payment_amount": 1_000,
    }


async def test_other_currencies_have_no_limits(limited: Harness) -> None:
    """A currency that a tier does not name is not limited."""
    customer = await limited.customer(50_000, currency="JPY")

    assert (
        await limited.pay(customer, 20_000, currency="JPY")
    ).wallet.balance.minor_units == 30_000


async def test_an_operators_freeze_outlasts_a_settled_debt(limited: Harness) -> None:
    """A frozen wallet pays nothing, takes credits and refunds, and thaws by an operator alone."""
    customer = await limited.customer(2_000)
    paid = await limited.pay(customer, 500)
    await operate(limited, FreezeWallet(customer, "INR", "asha", "a stolen phone"))

    racing = [limited.pay(customer, 1) for _ in range(6)]
    assert {one.reason for one in await outcomes_of(racing)} == {"WALLET_FROZEN"}
    refunded = await limited.refund(customer, paid.payment.order_id)
    assert refunded.wallet.state == resources.WALLET_STATE_FROZEN
    topup = await limited.initiate(customer, 1_000)
    await limited.pay_at_gateway(topup.gateway_order_id)
    await limited.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
    assert await limited.balance(customer) == 3_000
    assert (await refusal_of(limited.pay(customer, 1))).reason == "WALLET_FROZEN"

    await operate(limited, UnfreezeWallet(customer, "INR", "asha", "found again"))
    assert (await limited.pay(customer, 1)).wallet.state == resources.WALLET_STATE_ACTIVE


async def test_a_freeze_while_payments_are_under_way_lets_no_later_one_through(
    limited: Harness,
) -> None:
    """After the operator's command has its answer, no server makes a payment from the wallet."""
    customer = await limited.customer(5_000)

    async def pay_until_refused() -> Refused:
        while True:
            try:
                await limited.pay(customer, 1)
            except grpc.aio.AioRpcError as error:
                return refused(error)

    paying = [asyncio.create_task(pay_until_refused()) for _ in range(4)]
    await operate(limited, FreezeWallet(customer, "INR", "asha", "a doubt"))

    reasons = {refusal.reason for refusal in await asyncio.gather(*paying)}
    assert reasons <= {"WALLET_FROZEN", "LIMIT_EXCEEDED"}
    assert (await refusal_of(limited.pay(customer, 1))).reason == "WALLET_FROZEN"
