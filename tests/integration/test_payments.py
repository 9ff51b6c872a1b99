"""Paying orders from a wallet: once, whole, and never more than there is."""

import asyncio
from typing import Any

import grpc
import pytest
from bson import Decimal128, Int64

from harness import Harness, Refused, bearer, inr, outcomes_of, refusal_of, token, unique
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service


async def ledger_holds(harness: Harness, customer_id: str) -> int:
    """Check a customer's stored ledger entry by entry; return the balance that it proves."""
    balance = 0
    for place, entry in enumerate(await harness.entries(customer_id), start=1):
        assert entry["sequence"] == place
        assert sum(posting["amount"] for posting in entry["postings"]) == 0
        balance += entry["amount"]
        assert entry["balance_after"] == balance
    return balance


def reasons(outcomes: list[Any]) -> list[str]:
    """Return why calls were refused, of those that were."""
    return [outcome.reason for outcome in outcomes if isinstance(outcome, Refused)]


def payments(outcomes: list[Any]) -> list[service.PayWithWalletResponse]:
    """Return the answers of the calls that were not refused."""
    return [outcome for outcome in outcomes if not isinstance(outcome, Refused)]


async def test_a_payment_takes_the_money_and_marks_the_order(harness: Harness) -> None:
    """A payment lowers the balance, writes one entry and makes the recorded order paid."""
    customer = await harness.customer(10_000)
    order = await harness.order(customer, 2_500)

    answer = await harness.pay(customer, 2_500, order, metadata={"cart.id": "c-1"})

    assert answer.wallet.balance == inr(7_500)
    assert answer.wallet.state == resources.WALLET_STATE_ACTIVE
    assert answer.wallet.sequence == answer.transaction.sequence == 2
    assert answer.payment.state == resources.ORDER_PAYMENT_STATE_PAID
    assert answer.payment.method == resources.ORDER_PAYMENT_METHOD_WALLET
    assert answer.payment.transaction_id == answer.transaction.transaction_id
    assert answer.transaction.amount == inr(-2_500)
    assert answer.transaction.order_id == order
    assert dict(answer.transaction.metadata) == {"cart.id": "c-1"}
    accounts = {
        posting.account: posting.amount.minor_units for posting in answer.transaction.postings
    }
    assert accounts == {f"wallet:{customer}:INR": -2_500, "orders:INR": 2_500}
    stored = await harness.database.orders.find_one({"_id": order})
    assert stored["payment_status"] == "PAID"
    assert stored["payment_method"] == "WALLET"
    assert stored["wallet_transaction_id"] == answer.transaction.transaction_id
    assert await harness.balance(customer) == await ledger_holds(harness, customer) == 7_500


async def test_an_order_that_nobody_recorded_is_recorded_by_its_payment(harness: Harness) -> None:
    """The payment of an unknown order records it, with its amounts as 64-bit longs."""
    customer = await harness.customer(500)
    order = unique("order")

    await harness.pay(customer, 500, order)

    stored = await harness.database.orders.find_one({"_id": order})
    assert stored["customer_id"] == customer
    assert stored["currency"] == "INR"
    longs = {"_id": order, "amount": {"$type": "long"}, "refunded_amount": {"$type": "long"}}
    assert await harness.database.orders.count_documents(longs) == 1


async def test_amounts_are_stored_as_64_bit_longs(harness: Harness) -> None:
    """Every amount and counter of a wallet, its entries and its top-up is a long, however small."""
    customer = await harness.customer(100)
    order = unique("order")
    await harness.pay(customer, 1, order)
    await harness.refund(customer, order)

    long = {"$type": "long"}
    mine = {"customer_id": customer}
    wallets = mine | {"balance": long, "sequence": long, "version": long}
    entries = mine | {
        "amount": long,
        "balance_after": long,
        "sequence": long,
        "postings": {"$not": {"$elemMatch": {"amount": {"$not": long}}}},
    }
    orders = mine | {"refunded_amount": long, "refunds.0.amount": long}
    assert await harness.database.wallets.count_documents(wallets) == 1
    assert await harness.database.wallet_transactions.count_documents(entries) == 3
    assert await harness.database.topups.count_documents(mine | {"amount": long}) == 1
    assert await harness.database.orders.count_documents(orders) == 1


async def test_200_payments_at_once_spend_exactly_what_there_is(harness: Harness) -> None:
    """Of 200 simultaneous payments of 1 against 100, 100 succeed and 100 are INSUFFICIENT_FUNDS."""
    customer = await harness.customer(100)
    orders = [unique("order") for _ in range(200)]

    outcomes = await outcomes_of([harness.pay(customer, 1, order) for order in orders])

    assert reasons(outcomes) == ["INSUFFICIENT_FUNDS"] * 100
    paid = {answer.payment.order_id for answer in payments(outcomes)}
    assert len(paid) == 100
    assert await harness.balance(customer) == await ledger_holds(harness, customer) == 0
    stored = await harness.database.orders.find({"_id": {"$in": orders}}).to_list(None)
    assert {order["_id"] for order in stored if order["payment_status"] == "PAID"} == paid
    entries = await harness.entries(customer)
    assert {entry["order_id"] for entry in entries if entry["type"] == "PAYMENT"} == paid
    assert len(entries) == 101


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_one_order_with_50_keys_at_once_is_paid_once(
    harness: Harness, is_recorded: bool
) -> None:
    """One order paid 50 times at once with 50 keys: one payment, 49 times ORDER_ALREADY_PAID."""
    customer = await harness.customer(5_000)
    order = await harness.order(customer, 100) if is_recorded else unique("order")

    outcomes = await outcomes_of([harness.pay(customer, 100, order) for _ in range(50)])

    assert reasons(outcomes) == ["ORDER_ALREADY_PAID"] * 49
    (paid,) = payments(outcomes)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    named = {refusal.metadata["transaction_id"] for refusal in refusals}
    assert named == {paid.transaction.transaction_id}
    assert {refusal.code for refusal in refusals} == {grpc.StatusCode.ALREADY_EXISTS}
    assert await harness.balance(customer) == await ledger_holds(harness, customer) == 4_900


async def test_one_order_by_two_customers_at_once_is_paid_by_one(harness: Harness) -> None:
    """Customers in different lanes who pay one unrecorded order at once: one of them pays."""
    customers = [await harness.customer(100) for _ in range(8)]
    order = unique("order")

    outcomes = await outcomes_of([harness.pay(one, 100, order) for one in customers])

    assert reasons(outcomes) == ["ORDER_MISMATCH"] * 7
    (paid,) = payments(outcomes)
    balances = {one: await harness.balance(one) for one in customers}
    assert sum(balances.values()) == 700
    assert balances[paid.wallet.customer_id] == 0


async def test_one_key_50_times_at_once_gives_one_payment_and_equal_answers(
    harness: Harness,
) -> None:
    """The same request 50 times at once takes the money once and gives 50 equal answers."""
    customer = await harness.customer(5_000)
    order, key = unique("order"), unique("key")

    answers = await asyncio.gather(
        *(harness.pay(customer, 100, order, idempotency_key=key) for _ in range(50))
    )

    first = answers[0]
    for answer in answers:
        assert answer.transaction == first.transaction
        assert answer.payment == first.payment
        assert answer.wallet.balance == first.wallet.balance
        assert answer == first
    assert await harness.balance(customer) == await ledger_holds(harness, customer) == 4_900


async def test_a_key_with_another_request_is_refused(harness: Harness) -> None:
    """A key that paid stands for that request alone: another amount, order or note is refused."""
    customer = await harness.customer(5_000)
    order, key = unique("order"), unique("key")
    first = await harness.pay(customer, 100, order, idempotency_key=key, metadata={"note": "a"})

    for amount, other_order, metadata in (
        (200, order, {"note": "a"}),
        (100, unique("order"), {"note": "a"}),
        (100, order, {"note": "b"}),
        (100, order, {}),
    ):
        refused = await refusal_of(
            harness.pay(customer, amount, other_order, idempotency_key=key, metadata=metadata)
        )
        assert refused.reason == "IDEMPOTENCY_KEY_REUSED"
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.metadata["idempotency_key"] == key
    another = await harness.customer(100)
    refused = await refusal_of(
        harness.pay(another, 100, order, idempotency_key=key, metadata={"note": "a"})
    )
    assert refused.reason == "IDEMPOTENCY_KEY_REUSED"
    again = await harness.pay(customer, 100, order, idempotency_key=key, metadata={"note": "a"})
    assert again == first
    assert await harness.balance(customer) == 4_900


async def test_a_key_with_two_requests_at_once_carries_out_one(harness: Harness) -> None:
    """Of different requests with one key at the same moment one is carried out, others refused."""
    customer = await harness.customer(5_000)
    key = unique("key")

    outcomes = await outcomes_of(
        [harness.pay(customer, amount, idempotency_key=key) for amount in range(100, 120)]
    )

    assert reasons(outcomes) == ["IDEMPOTENCY_KEY_REUSED"] * 19
    (paid,) = payments(outcomes)
    assert await harness.balance(customer) == 5_000 - paid.payment.amount.minor_units


async def test_a_key_is_the_callers_own(harness: Harness) -> None:
    """The same key of another calling service, or for another method, is another key."""
    customer = await harness.customer(300)
    key, order = unique("key"), unique("order")
    request = service.PayWithWalletRequest(
        customer_id=customer, order_id=unique("order"), amount=inr(100), idempotency_key=key
    )
    await harness.pay(customer, 100, order, idempotency_key=key)

    await harness.call("PayWithWallet", request, metadata=bearer(token(sub="pos-service")))
    await harness.refund(customer, order, idempotency_key=key)

    assert await harness.balance(customer) == 200


async def test_a_repeat_gives_the_answer_of_then(harness: Harness) -> None:
    """A repeated payment answers as it did first, whatever became of order and wallet since."""
    customer = await harness.customer(1_000)
    order, key = unique("order"), unique("key")
    first = await harness.pay(customer, 400, order, idempotency_key=key)
    await harness.refund(customer, order, 150)
    await harness.pay(customer, 50)
    await harness.database.wallets.update_one(
        {"customer_id": customer}, {"$set": {"state": "FROZEN"}, "$inc": {"version": Int64(1)}}
    )

    again = await harness.pay(customer, 400, order, idempotency_key=key)

    assert again == first
    assert again.wallet.balance == inr(600)
    assert again.payment.state == resources.ORDER_PAYMENT_STATE_PAID
    assert await harness.balance(customer) == 700


async def test_a_refused_key_may_succeed_later(harness: Harness) -> None:
    """A refusal is not remembered: the same request with its key succeeds once there is money."""
    customer = await harness.customer()
    order, key = unique("order"), unique("key")
    refused = await refusal_of(harness.pay(customer, 100, order, idempotency_key=key))
    assert refused.reason == "INSUFFICIENT_FUNDS"
    assert refused.metadata["missing_minor_units"] == "100"
    assert await harness.database.orders.find_one({"_id": order}) is None
    topup = await harness.initiate(customer, 150)
    await harness.pay_at_gateway(topup.gateway_order_id)
    await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    await harness.pay(customer, 100, order, idempotency_key=key)

    assert await harness.balance(customer) == 50


async def test_insufficient_funds_tells_how_much_is_missing(harness: Harness) -> None:
    """INSUFFICIENT_FUNDS names balance, amount and what is missing, and changes nothing."""
    customer = await harness.customer(100)

    refused = await refusal_of(harness.pay(customer, 101))

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "INSUFFICIENT_FUNDS"
    assert refused.metadata == {
        "customer_id": customer,
        "currency_code": "INR",
        "balance_minor_units": "100",
        "amount_minor_units": "101",
        "missing_minor_units": "1",
    }
    assert await harness.balance(customer) == 100


async def test_an_unknown_customer_is_refused(harness: Harness) -> None:
    """Whom the customer service does not know cannot pay, and leaves no trace."""
    stranger = unique("stranger")

    refused = await refusal_of(harness.pay(stranger, 1))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "CUSTOMER_NOT_FOUND")
    assert refused.metadata == {"customer_id": stranger}
    assert await harness.database.orders.count_documents({"customer_id": stranger}) == 0


async def test_a_frozen_wallet_spends_nothing_and_takes_money(harness: Harness) -> None:
    """A frozen wallet refuses payments, and a refund into it still works."""
    customer = await harness.customer(500)
    order = unique("order")
    await harness.pay(customer, 200, order)
    await harness.database.wallets.update_one(
        {"customer_id": customer}, {"$set": {"state": "FROZEN"}, "$inc": {"version": Int64(1)}}
    )

    refused = await refusal_of(harness.pay(customer, 1))
    assert refused.reason == "WALLET_FROZEN"
    assert refused.metadata == {"customer_id": customer, "currency_code": "INR"}

    answer = await harness.refund(customer, order)
    assert answer.wallet.state == resources.WALLET_STATE_FROZEN
    assert answer.wallet.balance == inr(500)


async def test_a_freeze_during_payments_holds(harness: Harness) -> None:
    """A wallet that an operator freezes while payments are under way stays frozen."""
    customer = await harness.customer(10_000)
    wallets = harness.database.wallets

    async def become(state: str) -> None:
        change = {"$set": {"state": state}, "$inc": {"version": Int64(1)}}
        await wallets.update_one({"customer_id": customer}, change)

    for _ in range(10):
        await asyncio.gather(
            *(outcomes_of([harness.pay(customer, 1)]) for _ in range(8)), become("FROZEN")
        )
        assert (await wallets.find_one({"customer_id": customer}))["state"] == "FROZEN"
        assert (await refusal_of(harness.pay(customer, 1))).reason == "WALLET_FROZEN"
        await become("ACTIVE")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"customer_id": "somebody-else"}, "ORDER_MISMATCH"),
        ({"customer_id": None}, "ORDER_MISMATCH"),
        ({"customer_id": 7}, "ORDER_MISMATCH"),
        ({"amount": Int64(101)}, "ORDER_MISMATCH"),
        ({"amount": 100.5}, "ORDER_MISMATCH"),
        ({"amount": "100"}, "ORDER_MISMATCH"),
        ({"amount": True}, "ORDER_MISMATCH"),
        ({"amount": float("nan")}, "ORDER_MISMATCH"),
        ({"amount": Decimal128("100")}, "ORDER_MISMATCH"),
        ({"currency": "USD"}, "CURRENCY_MISMATCH"),
        ({"currency": None}, "CURRENCY_MISMATCH"),
        ({"payment_status": "PAID", "payment_method": "CARD"}, "ORDER_ALREADY_PAID"),
        ({"payment_status": "paid", "payment_method": "CARD"}, "ORDER_ALREADY_PAID"),
        ({"payment_status": "REFUNDED", "payment_method": "CARD"}, "ORDER_ALREADY_PAID"),
    ],
    ids=str,
)
async def test_an_order_that_does_not_fit_is_refused_and_left_alone(
    harness: Harness, fields: dict[str, Any], reason: str
) -> None:
    """A payment that differs from the recorded order is refused; order and wallet stay as is."""
    customer = await harness.customer(1_000)
    order = await harness.order(customer, 100, **fields)
    before = await harness.database.orders.find_one({"_id": order})

    refused = await refusal_of(harness.pay(customer, 100, order))

    assert refused.reason == reason
    assert repr(await harness.database.orders.find_one({"_id": order})) == repr(before)
    assert await harness.balance(customer) == 1_000


@pytest.mark.parametrize("amount", [100, 100.0, Int64(100)], ids=["int32", "double", "long"])
async def test_an_order_may_hold_its_amount_in_any_whole_number_type(
    harness: Harness, amount: float
) -> None:
    """The order service may store 100 as int32, double or long: it is the same amount."""
    customer = await harness.customer(100)
    order = await harness.order(customer, 1, amount=amount)

    await harness.pay(customer, 100, order)
    await harness.refund(customer, order, 30)
    answer = await harness.refund(customer, order)

    assert answer.payment.state == resources.ORDER_PAYMENT_STATE_REFUNDED
    assert await harness.balance(customer) == 100


async def test_the_order_services_own_fields_survive(harness: Harness) -> None:
    """Payment and refund write their own fields of an order and leave all others as they are."""
    customer = await harness.customer(1_000)
    own = {
        "items": [{"sku": "A-1", "quantity": 2, "price": 50}],
        "shipping": {"city": "Pune", "notes": None},
        "amount": 100,
        "amount_display": "1.00",
    }
    order = await harness.order(customer, 1, **own)

    await harness.pay(customer, 100, order)
    await harness.refund(customer, order, 40)

    stored = await harness.database.orders.find_one({"_id": order})
    assert {name: stored[name] for name in own} == own
    assert isinstance(stored["amount"], int)
    assert not isinstance(stored["amount"], Int64)
    assert stored["refunded_amount"] == 40


async def test_an_order_that_changes_under_the_payment_is_decided_anew(harness: Harness) -> None:
    """While the order service rewrites an order's amount, a payment takes either amount whole."""
    customer = await harness.customer(10_000)
    orders = [await harness.order(customer, 100) for _ in range(40)]

    async def reprice(order: str) -> None:
        await harness.database.orders.update_one(
            {"_id": order, "payment_status": "PENDING"}, {"$set": {"amount": Int64(70)}}
        )

    outcomes, *_ = await asyncio.gather(
        outcomes_of([harness.pay(customer, 100, order) for order in orders]),
        *(reprice(order) for order in orders),
    )

    assert set(reasons(outcomes)) <= {"ORDER_MISMATCH"}
    paid = payments(outcomes)
    stored = {
        order["_id"]: order
        for order in await harness.database.orders.find({"_id": {"$in": orders}}).to_list(None)
    }
    for answer in paid:
        assert stored[answer.payment.order_id]["amount"] == 100
    statuses = [order["payment_status"] for order in stored.values()]
    assert statuses.count("PAID") == len(paid)
    assert await harness.balance(customer) == 10_000 - 100 * len(paid)


@pytest.mark.parametrize(
    "garbage",
    [
        {"refunds": [{"refund_id": "ref_1", "amount": "ten"}]},
        {"refunds": [{"refund_id": "ref_1"}]},
        {"payment_status": {"$gt": ""}},
        {"refunded_amount": {"$numberLong": "5"}},
    ],
    ids=str,
)
async def test_an_unreadable_order_fails_alone(harness: Harness, garbage: dict[str, Any]) -> None:
    """An order that another service spoilt is refused for itself; payments beside it succeed."""
    customer = await harness.customer(1_000)
    spoilt = await harness.order(customer, 100, **garbage)
    good = [unique("order") for _ in range(20)]

    outcomes = await outcomes_of(
        [harness.pay(customer, 10, order) for order in good[:10]]
        + [harness.pay(customer, 100, spoilt) for _ in range(3)]
        + [harness.pay(customer, 10, order) for order in good[10:]]
    )

    assert {answer.payment.order_id for answer in payments(outcomes)} >= set(good)
    spent = 1_000 - await harness.balance(customer)
    assert spent == sum(answer.payment.amount.minor_units for answer in payments(outcomes))
    assert set(reasons(outcomes)) <= {"INTERNAL", "ORDER_MISMATCH", "ORDER_ALREADY_PAID"}
    assert await ledger_holds(harness, customer) == 1_000 - spent
    # Or the proof of the books, which other tests end with, would name it.
    await harness.database.orders.update_one({"_id": spoilt}, {"$unset": {"refunds": 1}})


async def test_wallets_of_one_customer_are_apart_by_currency(harness: Harness) -> None:
    """A payment takes money of its own currency only, and each wallet counts by itself."""
    customer = await harness.customer(100)
    topup = await harness.initiate(customer, 5_000, currency="JPY")
    await harness.pay_at_gateway(topup.gateway_order_id)
    await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)

    refused = await refusal_of(harness.pay(customer, 101))
    assert refused.reason == "INSUFFICIENT_FUNDS"
    yen = resources.Money(currency_code="JPY", minor_units=4_000)
    request = service.PayWithWalletRequest(
        customer_id=customer, order_id=unique("order"), amount=yen, idempotency_key=unique("key")
    )
    answer = await harness.call("PayWithWallet", request)

    assert answer.wallet.sequence == 2
    assert await harness.balance(customer, "JPY") == 1_000
    assert await harness.balance(customer) == 100


async def test_a_call_without_patience_is_told_and_repeats_safely(harness: Harness) -> None:
    """Calls whose deadline is nearly over take effect once or not at all; repeats settle them."""
    customer = await harness.customer(1_000)
    requests = [
        service.PayWithWalletRequest(
            customer_id=customer,
            order_id=unique("order"),
            amount=inr(10),
            idempotency_key=unique("key"),
        )
        for _ in range(30)
    ]

    hurried = await asyncio.gather(
        *(
            harness.call("PayWithWallet", request, timeout=0.001 * (number + 1))
            for number, request in enumerate(requests)
        ),
        return_exceptions=True,
    )
    assert any(isinstance(outcome, grpc.aio.AioRpcError) for outcome in hurried)
    settled = await asyncio.gather(
        *(harness.call("PayWithWallet", request) for request in requests)
    )

    assert len({answer.transaction.transaction_id for answer in settled}) == 30
    assert await harness.balance(customer) == await ledger_holds(harness, customer) == 700
