"""Reads: lists without gaps or repeats while money moves, and everybody's own records only."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from harness import Harness, event_of, inr, outcomes_of, payment_of, refusal_of, unique
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

PAYMENT = resources.TRANSACTION_TYPE_PAYMENT
REFUND = resources.TRANSACTION_TYPE_REFUND
TOPUP = resources.TRANSACTION_TYPE_TOPUP


async def page(harness: Harness, customer: str, **fields: Any) -> service.ListTransactionsResponse:
    """Return one page of a customer's transactions."""
    request = service.ListTransactionsRequest(customer_id=customer, **fields)
    response: service.ListTransactionsResponse = await harness.call("ListTransactions", request)
    return response


async def all_pages(
    harness: Harness, customer: str, **fields: Any
) -> list[resources.WalletTransaction]:
    """Read a list to its end, page by page."""
    found: list[resources.WalletTransaction] = []
    token = ""
    while True:
        answer = await page(harness, customer, page_token=token, **fields)
        found += answer.transactions
        token = answer.next_page_token
        if not token:
            return found
        assert len(answer.transactions) == fields["page_size"]


async def status_of(harness: Harness, customer: str) -> service.GetStatusResponse:
    """Return a customer's status."""
    request = service.GetStatusRequest(customer_id=customer)
    response: service.GetStatusResponse = await harness.call("GetStatus", request)
    return response


async def history(harness: Harness) -> tuple[str, list[str]]:
    """Return a customer with a top-up, six payments and two refunds, and the orders paid."""
    customer = await harness.customer(1_000)
    orders = [unique("order") for _ in range(6)]
    for order in orders:
        await harness.pay(customer, 10, order)
    for order in orders[:2]:
        await harness.refund(customer, order, 5)
    return customer, orders


async def test_pages_have_no_gaps_and_no_repeats_while_payments_go_on(harness: Harness) -> None:
    """Reading page by page during payments gives every earlier entry once, newest first."""
    customer = await harness.customer(10_000)
    await asyncio.gather(*(harness.pay(customer, 1) for _ in range(150)))
    is_over = False
    paid = 0

    async def keep_paying() -> None:
        nonlocal paid
        while not is_over:
            await harness.pay(customer, 1)
            paid += 1

    payers = [asyncio.create_task(keep_paying()) for _ in range(4)]
    for page_size in (1, 7, 50):
        before = (await page(harness, customer, page_size=1)).transactions[0].sequence
        found = await all_pages(harness, customer, page_size=page_size)
        sequences = [transaction.sequence for transaction in found]
        assert sequences == list(range(sequences[0], 0, -1))
        assert sequences[0] >= before
    is_over = True
    await asyncio.gather(*payers)

    assert paid > 10
    statement = await all_pages(harness, customer, page_size=200)
    assert [one.sequence for one in statement] == list(range(151 + paid, 0, -1))
    balance = 0
    for one in reversed(statement):
        balance += one.amount.minor_units
        assert one.balance_after.minor_units == balance
        assert sum(posting.amount.minor_units for posting in one.postings) == 0
    assert balance == await harness.balance(customer)


async def test_filters_choose_what_is_listed(harness: Harness) -> None:
    """Type, currency and time filters give exactly the transactions that fit, over pages too."""
    customer, _ = await history(harness)
    everything = await all_pages(harness, customer, page_size=50)
    assert [one.type for one in everything] == [REFUND] * 2 + [PAYMENT] * 6 + [TOPUP]

    refunds = await all_pages(harness, customer, page_size=1, types=[REFUND])
    assert refunds == everything[:2]
    both = await all_pages(harness, customer, page_size=3, types=[TOPUP, REFUND])
    assert both == [*everything[:2], everything[8]]
    assert await all_pages(harness, customer, page_size=2, currency_code="INR") == everything
    assert await all_pages(harness, customer, page_size=2, currency_code="JPY") == []
    since = everything[3].create_time
    until = everything[1].create_time
    within = await all_pages(harness, customer, page_size=2, start_time=since, end_time=until)
    chosen = [
        one
        for one in everything
        if since.ToMilliseconds() <= one.create_time.ToMilliseconds() < until.ToMilliseconds()
    ]
    assert within == chosen


async def test_a_page_has_50_by_default_and_200_at_most(harness: Harness) -> None:
    """Page size 0 means 50, more than 200 means 200, a negative one is refused."""
    customer = await harness.customer(1_000)
    await asyncio.gather(*(harness.pay(customer, 1) for _ in range(210)))

    assert len((await page(harness, customer)).transactions) == 50
    assert len((await page(harness, customer, page_size=100_000)).transactions) == 200
    assert len((await page(harness, customer, page_size=3)).transactions) == 3
    refused = await refusal_of(page(harness, customer, page_size=-1))
    assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ("page_size",))


async def test_the_last_page_says_so(harness: Harness) -> None:
    """A list that ends exactly with a page has no token for an empty one after it."""
    customer = await harness.customer(100)
    await harness.pay(customer, 1)

    answer = await page(harness, customer, page_size=2)

    assert len(answer.transactions) == 2
    assert not answer.next_page_token


async def test_a_token_that_was_changed_is_refused(harness: Harness) -> None:
    """A page token with any character changed, cut or added is INVALID_ARGUMENT."""
    customer, _ = await history(harness)
    token = (await page(harness, customer, page_size=2)).next_page_token

    forged = [
        token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        for place in range(0, len(token), 5)
    ]
    for wrong in [*forged, token[:-1], token + "A", token + "=", "x", "☹", "A" * 10_000]:
        refused = await refusal_of(page(harness, customer, page_size=2, page_token=wrong))
        assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", ("page_token",))


async def test_a_token_of_another_list_is_refused(harness: Harness) -> None:
    """A page token serves the list that it came from: another customer or filter is refused."""
    customer, _ = await history(harness)
    other, _ = await history(harness)
    token = (await page(harness, customer, page_size=2)).next_page_token
    now = Timestamp(seconds=4_000_000_000)

    others: list[tuple[str, dict[str, Any]]] = [
        (other, {}),
        (customer, {"currency_code": "INR"}),
        (customer, {"types": [PAYMENT]}),
        (customer, {"end_time": now}),
        (customer, {"start_time": Timestamp()}),
    ]
    for whose, fields in others:
        call = page(harness, whose, page_size=2, page_token=token, **fields)
        assert (await refusal_of(call)).fields == ("page_token",)
    same = await page(harness, customer, page_size=5, page_token=token)
    assert len(same.transactions) == 5


async def test_nobody_sees_another_customers_transactions(harness: Harness) -> None:
    """A list holds the customer's own entries only, whoever else is paying."""
    customer, orders = await history(harness)
    await history(harness)

    found = await all_pages(harness, customer, page_size=4)

    assert {one.customer_id for one in found} == {customer}
    assert {one.order_id for one in found if one.order_id} == set(orders)


async def test_a_status_shows_wallets_pending_top_ups_and_the_newest_entries(
    harness: Harness,
) -> None:
    """GetStatus tells wallets by currency, top-ups on their way, and ten entries, newest first."""
    customer, _ = await history(harness)
    await asyncio.gather(*(harness.pay(customer, 1) for _ in range(5)))
    yen = await harness.initiate(customer, 500, currency="JPY")
    await harness.deliver(event_of("payment.captured", payment_of(yen)))
    pending = [await harness.initiate(customer, 100 + number) for number in range(22)]
    await harness.deliver(event_of("payment.captured", payment_of(pending[-1])))

    status = await status_of(harness, customer)

    assert [wallet.balance.currency_code for wallet in status.wallets] == ["INR", "JPY"]
    assert status.wallets[1].balance.minor_units == 500
    newest = [topup.topup_id for topup in reversed(pending[:-1])][:20]
    assert [topup.topup_id for topup in status.pending_topups] == newest
    assert len(status.recent_transactions) == 10
    ids = [one.transaction_id for one in status.recent_transactions]
    assert ids == sorted(ids, reverse=True)
    assert status.recent_transactions[0].topup_id == pending[-1].topup_id


async def test_a_customer_without_a_wallet_has_an_empty_status(harness: Harness) -> None:
    """A known customer who never topped up has no wallet, no top-up and no transaction."""
    customer = await harness.customer()

    assert await status_of(harness, customer) == service.GetStatusResponse()
    assert not (await page(harness, customer)).transactions


async def test_reads_of_an_unknown_customer_are_refused(harness: Harness) -> None:
    """Status and list of somebody whom the customer service does not know: CUSTOMER_NOT_FOUND."""
    stranger = unique("stranger")

    refusals = await outcomes_of([status_of(harness, stranger), page(harness, stranger)])

    for refused in refusals:
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "CUSTOMER_NOT_FOUND")


async def test_the_payment_of_an_order_is_told_with_its_refunds(harness: Harness) -> None:
    """GetOrderPayment tells what was paid how, and each refund, oldest first."""
    customer = await harness.customer(1_000)
    order = unique("order")
    paid = await harness.pay(customer, 600, order)
    first = await harness.refund(customer, order, 100)
    second = await harness.refund(customer, order, 200)

    request = service.GetOrderPaymentRequest(customer_id=customer, order_id=order)
    payment = (await harness.call("GetOrderPayment", request)).payment

    assert payment.amount == inr(600)
    assert payment.refunded_amount == inr(300)
    assert payment.pay_time == paid.transaction.create_time
    assert list(payment.refunds) == [first.refund, second.refund]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (None, "ORDER_NOT_FOUND"),
        ({}, "ORDER_NOT_PAID"),
        ({"customer_id": "somebody-else", "payment_status": "PAID"}, "ORDER_MISMATCH"),
    ],
    ids=["unknown", "unpaid", "another customer's"],
)
async def test_an_order_without_a_payment_has_its_reason(
    harness: Harness, fields: dict[str, Any] | None, reason: str
) -> None:
    """GetOrderPayment of an unknown, unpaid or another customer's order says which it is."""
    customer = await harness.customer()
    order = unique("order")
    if fields is not None:
        order = await harness.order(customer, 100, **fields)

    request = service.GetOrderPaymentRequest(customer_id=customer, order_id=order)
    refused = await refusal_of(harness.call("GetOrderPayment", request))

    assert refused.reason == reason
    ids = {"order_id": order, "customer_id": customer}
    whose = {"mismatch": "customer_id"} if reason == "ORDER_MISMATCH" else {}
    assert refused.metadata == ids | whose
