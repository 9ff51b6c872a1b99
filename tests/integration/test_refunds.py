"""Refunds into the wallet: never more than was paid, whoever was paid and however often asked."""

import asyncio
from typing import Any

import grpc
import pytest
from bson import Int64

from harness import Harness, Refused, inr, outcomes_of, refusal_of, unique
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service


async def paid_order(harness: Harness, customer: str, amount: int) -> str:
    """Return an order that the customer has just paid from the wallet."""
    order = unique("order")
    await harness.pay(customer, amount, order)
    return order


async def payment_of_order(harness: Harness, customer: str, order: str) -> resources.OrderPayment:
    """Return the order's payment as GetOrderPayment tells it."""
    request = service.GetOrderPaymentRequest(customer_id=customer, order_id=order)
    payment: resources.OrderPayment = (await harness.call("GetOrderPayment", request)).payment
    return payment


async def test_a_refund_returns_money_and_is_kept_with_the_order(harness: Harness) -> None:
    """A partial refund credits the wallet at once and stands with its reason in the order."""
    customer = await harness.customer(1_000)
    order = await paid_order(harness, customer, 800)

    answer = await harness.refund(customer, order, 300, reason="broken ☹", metadata={"rma": "7"})

    assert answer.wallet.balance == inr(500)
    assert answer.refund.amount == inr(300)
    assert answer.refund.reason == "broken ☹"
    assert answer.refund.transaction_id == answer.transaction.transaction_id
    assert answer.transaction.type == resources.TRANSACTION_TYPE_REFUND
    assert answer.transaction.refund_id == answer.refund.refund_id
    assert dict(answer.transaction.metadata) == {"rma": "7"}
    assert answer.payment.state == resources.ORDER_PAYMENT_STATE_PARTIALLY_REFUNDED
    assert answer.payment.refunded_amount == inr(300)
    assert await payment_of_order(harness, customer, order) == answer.payment
    stored = await harness.database.orders.find_one({"_id": order})
    assert stored["payment_status"] == "PARTIALLY_REFUNDED"
    assert stored["payment_method"] == "WALLET"
    assert await harness.balance(customer) == 500


async def test_a_refund_without_amount_returns_all_that_remains(harness: Harness) -> None:
    """An unset amount refunds what is left; after it the order is REFUNDED and nothing remains."""
    customer = await harness.customer(1_000)
    order = await paid_order(harness, customer, 700)
    await harness.refund(customer, order, 250)

    answer = await harness.refund(customer, order)

    assert answer.refund.amount == inr(450)
    assert answer.payment.state == resources.ORDER_PAYMENT_STATE_REFUNDED
    assert [refund.amount.minor_units for refund in answer.payment.refunds] == [250, 450]
    for amount in (None, 1):
        refused = await refusal_of(harness.refund(customer, order, amount))
        assert refused.reason == "REFUND_EXCEEDS_PAYMENT"
        assert refused.metadata["remaining_minor_units"] == "0"
    refused = await refusal_of(harness.pay(customer, 700, order))
    assert refused.reason == "ORDER_ALREADY_PAID"
    assert await harness.balance(customer) == 1_000


async def test_racing_refunds_never_exceed_the_payment(harness: Harness) -> None:
    """Of 50 simultaneous refunds of 30 for an order of 1,000, 33 succeed and none goes over."""
    customer = await harness.customer(1_000)
    order = await paid_order(harness, customer, 1_000)

    outcomes = await outcomes_of([harness.refund(customer, order, 30) for _ in range(50)])

    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert len(refusals) == 17
    assert {refusal.reason for refusal in refusals} == {"REFUND_EXCEEDS_PAYMENT"}
    payment = await payment_of_order(harness, customer, order)
    assert payment.refunded_amount == inr(990)
    assert sum(refund.amount.minor_units for refund in payment.refunds) == 990
    refunds = [entry for entry in await harness.entries(customer) if entry["type"] == "REFUND"]
    assert sum(entry["amount"] for entry in refunds) == await harness.balance(customer) == 990
    assert {entry["refund_id"] for entry in refunds} == {
        refund.refund_id for refund in payment.refunds
    }


async def test_racing_full_refunds_return_the_money_once(harness: Harness) -> None:
    """Of 20 simultaneous refunds of all that remains one succeeds."""
    customer = await harness.customer(500)
    order = await paid_order(harness, customer, 500)

    outcomes = await outcomes_of([harness.refund(customer, order) for _ in range(20)])

    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [refusal.reason for refusal in refusals] == ["REFUND_EXCEEDS_PAYMENT"] * 19
    assert await harness.balance(customer) == 500


async def test_payments_and_refunds_of_one_wallet_may_race(harness: Harness) -> None:
    """Payments, refunds of them and new payments at once leave exactly what they sum to."""
    customer = await harness.customer(1_000)
    orders = [await paid_order(harness, customer, 10) for _ in range(20)]

    outcomes = await outcomes_of(
        [harness.refund(customer, order, 7) for order in orders]
        + [harness.pay(customer, 5) for _ in range(20)]
        + [harness.refund(customer, order, 7) for order in orders]
    )

    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert len(refusals) == 20
    assert await harness.balance(customer) == 1_000 - 200 + 140 - 100


async def test_one_refund_key_at_once_returns_the_money_once(harness: Harness) -> None:
    """The same refund 30 times at once credits once and gives 30 equal answers."""
    customer = await harness.customer(1_000)
    order = await paid_order(harness, customer, 900)
    key = unique("key")

    answers = await asyncio.gather(
        *(harness.refund(customer, order, 100, idempotency_key=key) for _ in range(30))
    )

    assert all(answer == answers[0] for answer in answers)
    assert await harness.balance(customer) == 200


async def test_a_repeated_refund_gives_the_answer_of_then(harness: Harness) -> None:
    """A repeat after later refunds and payments tells refund, order and wallet as they were."""
    customer = await harness.customer(1_000)
    order = await paid_order(harness, customer, 900)
    key, whole = unique("key"), unique("key")
    first = await harness.refund(customer, order, 100, idempotency_key=key)
    rest = await harness.refund(customer, order, idempotency_key=whole)
    await harness.pay(customer, 50)

    assert await harness.refund(customer, order, 100, idempotency_key=key) == first
    assert await harness.refund(customer, order, idempotency_key=whole) == rest
    assert first.payment.refunded_amount == inr(100)
    assert first.payment.state == resources.ORDER_PAYMENT_STATE_PARTIALLY_REFUNDED
    assert await harness.balance(customer) == 950


async def test_a_refund_key_with_another_request_is_refused(harness: Harness) -> None:
    """A key that refunded is refused with another amount, order or reason."""
    customer = await harness.customer(1_000)
    order, other = [await paid_order(harness, customer, 300) for _ in range(2)]
    key = unique("key")
    await harness.refund(customer, order, 100, idempotency_key=key)

    for asked_order, amount, reason in (
        (order, 101, "returned"),
        (order, None, "returned"),
        (other, 100, "returned"),
        (unique("order"), 100, "returned"),
        (order, 100, "another reason"),
    ):
        refused = await refusal_of(
            harness.refund(customer, asked_order, amount, idempotency_key=key, reason=reason)
        )
        assert refused.reason == "IDEMPOTENCY_KEY_REUSED"
    assert await harness.balance(customer) == 500


async def test_what_cannot_be_refunded_is_refused_with_its_reason(harness: Harness) -> None:
    """Another customer's, an unknown, an unpaid order and another currency: each its own reason."""
    customer, other = await harness.customer(500), await harness.customer(500)
    theirs = await paid_order(harness, other, 100)
    mine = await paid_order(harness, customer, 100)
    unpaid = await harness.order(customer, 100)
    yen = service.RefundToWalletRequest(
        customer_id=customer,
        order_id=mine,
        amount=resources.Money(currency_code="JPY", minor_units=1),
        idempotency_key=unique("key"),
    )

    refusals = await outcomes_of(
        [
            harness.refund(customer, theirs),
            harness.refund(customer, unique("order")),
            harness.refund(customer, unpaid),
            harness.refund(customer, mine, 101),
            harness.call("RefundToWallet", yen),
            harness.refund(unique("stranger"), mine),
        ]
    )

    assert [(refusal.reason, refusal.code) for refusal in refusals] == [
        ("ORDER_MISMATCH", grpc.StatusCode.FAILED_PRECONDITION),
        ("ORDER_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ("ORDER_NOT_PAID", grpc.StatusCode.FAILED_PRECONDITION),
        ("REFUND_EXCEEDS_PAYMENT", grpc.StatusCode.FAILED_PRECONDITION),
        ("CURRENCY_MISMATCH", grpc.StatusCode.FAILED_PRECONDITION),
        ("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    ]
    assert await harness.balance(customer) == 400
    assert await harness.balance(other) == 400


async def test_an_order_paid_through_a_gateway_is_refunded_into_the_wallet(
    harness: Harness,
) -> None:
    """An order that the order service took by card is refunded into a wallet made by it."""
    customer = await harness.customer()
    order = await harness.order(
        customer, 2_000, payment_status="PAID", payment_method="CARD", items=[{"sku": "A"}]
    )

    first = await harness.refund(customer, order, 500)

    assert first.payment.method == resources.ORDER_PAYMENT_METHOD_GATEWAY
    assert first.wallet.balance == inr(500)
    assert first.wallet.sequence == 1
    await harness.refund(customer, order)
    stored = await harness.database.orders.find_one({"_id": order})
    assert stored["payment_method"] == "CARD"
    assert stored["payment_status"] == "REFUNDED"
    assert stored["items"] == [{"sku": "A"}]
    assert "wallet_transaction_id" not in stored
    assert await harness.balance(customer) == 2_000


async def test_what_the_order_service_refunded_itself_counts(harness: Harness) -> None:
    """Refunds that the order service has noted before leave only the rest, also in repeats."""
    customer = await harness.customer()
    theirs = {"id": "rfnd_9", "amount": 400}
    order = await harness.order(
        customer,
        1_000,
        payment_status="PARTIALLY_REFUNDED",
        payment_method="CARD",
        refunded_amount=400,
        refunds=[theirs],
    )
    refused = await refusal_of(harness.refund(customer, order, 601))
    assert refused.reason == "REFUND_EXCEEDS_PAYMENT"
    assert refused.metadata["remaining_minor_units"] == "600"
    key = unique("key")

    first = await harness.refund(customer, order, 100, idempotency_key=key)
    await harness.refund(customer, order)

    assert first.payment.refunded_amount == inr(500)
    assert await harness.refund(customer, order, 100, idempotency_key=key) == first
    stored = await harness.database.orders.find_one({"_id": order})
    assert stored["refunds"][0] == theirs
    assert len(stored["refunds"]) == 3
    assert await harness.balance(customer) == 600


@pytest.mark.parametrize(
    "fields",
    [
        {"refunded_amount": "400"},
        {"refunded_amount": -400},
        {"refunded_amount": 0.5},
        {"refunded_amount": [400]},
        {"amount": "1000"},
        {"amount": -1_000},
        {"amount": None},
        {"currency": None},
    ],
    ids=str,
)
async def test_an_order_whose_amounts_make_no_sense_is_not_refunded(
    harness: Harness, fields: dict[str, Any]
) -> None:
    """Where nobody can tell how much may be refunded, nothing is."""
    customer = await harness.customer()
    order = await harness.order(
        customer, 1_000, **{"payment_status": "PAID", "payment_method": "CARD"} | fields
    )

    for amount in (None, 1_001, 100):
        refused = await refusal_of(harness.refund(customer, order, amount))
        assert refused.reason in {"ORDER_MISMATCH", "REFUND_EXCEEDS_PAYMENT", "CURRENCY_MISMATCH"}
    assert await harness.balance(customer) == 0


@pytest.mark.parametrize("refunds", [None, [], "none"], ids=repr)
async def test_an_order_with_any_empty_list_of_refunds_is_refunded_or_refused_alone(
    harness: Harness, refunds: object
) -> None:
    """`refunds` may be null or empty; as a text it is refused for this order alone."""
    customer = await harness.customer(100)
    order = await harness.order(
        customer, 300, payment_status="PAID", payment_method="CARD", refunds=refunds
    )

    refunded, *paid = await outcomes_of(
        [harness.refund(customer, order), *(harness.pay(customer, 1) for _ in range(10))]
    )

    assert not [outcome for outcome in paid if isinstance(outcome, Refused)]
    if refunds == "none":
        assert refunded.reason == "INTERNAL"
        assert await harness.balance(customer) == 90
    else:
        assert refunded.refund.amount == inr(300)
        assert await harness.balance(customer) == 390


async def test_an_order_has_at_most_200_refunds(harness: Harness) -> None:
    """The 201st refund of an order is LIMIT_EXCEEDED, and the first 200 stand."""
    customer = await harness.customer(1_000)
    order = await paid_order(harness, customer, 300)

    outcomes = await outcomes_of([harness.refund(customer, order, 1) for _ in range(210)])

    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [refusal.reason for refusal in refusals] == ["LIMIT_EXCEEDED"] * 10
    assert (await payment_of_order(harness, customer, order)).refunded_amount == inr(200)
    assert await harness.balance(customer) == 900


async def test_a_refund_races_the_order_services_own(harness: Harness) -> None:
    """While the order service notes refunds of its own, the total never exceeds the payment."""
    customer = await harness.customer()
    order = await harness.order(
        customer, 1_000, payment_status="PAID", payment_method="CARD", refunded_amount=Int64(0)
    )

    async def refund_elsewhere() -> int:
        changed = await harness.database.orders.update_one(
            {"_id": order, "refunded_amount": {"$lte": 900}}, {"$inc": {"refunded_amount": 100}}
        )
        return int(changed.modified_count) * 100

    outcomes, *elsewhere = await asyncio.gather(
        outcomes_of([harness.refund(customer, order, 100) for _ in range(10)]),
        *(refund_elsewhere() for _ in range(10)),
    )

    refunded = 100 * len([outcome for outcome in outcomes if not isinstance(outcome, Refused)])
    stored = await harness.database.orders.find_one({"_id": order})
    assert stored["refunded_amount"] == refunded + sum(elsewhere) <= 1_000
    assert await harness.balance(customer) == refunded
