"""Refusals as a client sees them: a reason, a code, every value, and never more than that."""

from typing import Any

import grpc
import pytest
from bson import Int64
from google.protobuf.timestamp_pb2 import Timestamp

from harness import (
    Harness,
    bearer,
    inr,
    outcomes_of,
    refusal_of,
    running_harness,
    token,
    unique,
    with_database,
)
from server.store.queries import MongoQueries
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

MOST = 100_000_000_000_000
MAX_INT64 = 2**63 - 1


def good_payment(**fields: Any) -> service.PayWithWalletRequest:
    """Return a well-formed payment, but for `fields`."""
    given: dict[str, Any] = {
        "customer_id": "asha",
        "order_id": "order-1",
        "amount": inr(1),
        "idempotency_key": "key-1",
    } | fields
    return service.PayWithWalletRequest(**given)


def money(currency_code: str, minor_units: int = 1) -> resources.Money:
    """Return an amount, however odd."""
    return resources.Money(currency_code=currency_code, minor_units=minor_units)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"customer_id": ""}, ("customer_id",)),
        ({"customer_id": "a" * 129}, ("customer_id",)),
        ({"customer_id": "a\x00b"}, ("customer_id",)),
        ({"customer_id": "with space"}, ("customer_id",)),
        ({"customer_id": "$ne"}, ("customer_id",)),
        ({"customer_id": "आशा"}, ("customer_id",)),
        ({"customer_id": "line\n"}, ("customer_id",)),
        ({"order_id": ""}, ("order_id",)),
        ({"order_id": "../" * 50}, ("order_id",)),
        ({"amount": None}, ("amount.currency_code", "amount.minor_units")),
        ({"amount": inr(0)}, ("amount.minor_units",)),
        ({"amount": inr(-1)}, ("amount.minor_units",)),
        ({"amount": inr(MOST + 1)}, ("amount.minor_units",)),
        ({"amount": inr(MAX_INT64)}, ("amount.minor_units",)),
        ({"amount": inr(-MAX_INT64 - 1)}, ("amount.minor_units",)),
        ({"amount": money("inr")}, ("amount.currency_code",)),
        ({"amount": money("XXX")}, ("amount.currency_code",)),
        ({"amount": money("₹")}, ("amount.currency_code",)),
        ({"idempotency_key": ""}, ("idempotency_key",)),
        ({"idempotency_key": "k" * 256}, ("idempotency_key",)),
        ({"idempotency_key": "tab\t"}, ("idempotency_key",)),
        ({"idempotency_key": "ключ"}, ("idempotency_key",)),
        ({"metadata": {"$set": "x"}}, ("metadata",)),
        ({"metadata": {"": "x"}}, ("metadata",)),
        ({"metadata": {"k" * 41: "x"}}, ("metadata",)),
        ({"metadata": {"note": "v" * 501}}, ("metadata.note",)),
        ({"metadata": {"note": "\x00"}}, ("metadata.note",)),
        ({"metadata": {f"k{number}": "" for number in range(21)}}, ("metadata",)),
        (
            {"customer_id": "", "order_id": "", "idempotency_key": ""},
            ("customer_id", "order_id", "idempotency_key"),
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_malformed_payment_names_each_wrong_field(
    harness: Harness, fields: dict[str, Any], wrong: tuple[str, ...]
) -> None:
    """Every wrong field of a payment is named at once, and nothing is written."""
    refused = await refusal_of(harness.call("PayWithWallet", good_payment(**fields)))

    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
    )
    assert refused.fields == wrong
    assert refused.metadata == {"field": wrong[0]}
    assert refused.message.startswith(wrong[0])
    assert await harness.database.orders.count_documents({"customer_id": "asha"}) == 0


@pytest.mark.parametrize(
    ("method", "request_", "wrong"),
    [
        (
            "InitiateTopup",
            service.InitiateTopupRequest(),
            (
                "customer_id",
                "amount.currency_code",
                "amount.minor_units",
                "gateway",
                "method",
                "idempotency_key",
            ),
        ),
        (
            "InitiateTopup",
            service.InitiateTopupRequest(
                customer_id="asha",
                amount=inr(100),
                gateway="Razor Pay",
                method="UPI",
                idempotency_key="k",
                return_url="javascript:alert(1)",
                pay_order=resources.PayOrder(),
            ),
            (
                "pay_order.order_id",
                "pay_order.amount.currency_code",
                "pay_order.amount.minor_units",
                "gateway",
                "method",
                "return_url",
            ),
        ),
        (
            "InitiateTopup",
            service.InitiateTopupRequest(
                customer_id="asha",
                amount=inr(100),
                gateway="razorpay",
                method="upi",
                idempotency_key="k",
                return_url="http://shop.example/",
            ),
            ("return_url",),
        ),
        ("VerifyTopup", service.VerifyTopupRequest(), ("customer_id", "topup_id", "proof")),
        ("GetTopup", service.GetTopupRequest(customer_id="asha"), ("topup_id",)),
        (
            "RefundToWallet",
            service.RefundToWalletRequest(
                customer_id="asha",
                order_id="o",
                idempotency_key="k",
                reason="r" * 501,
                amount=inr(0),
            ),
            ("amount.minor_units", "reason"),
        ),
        (
            "RefundToWallet",
            service.RefundToWalletRequest(
                customer_id="asha", order_id="o", idempotency_key="k", reason="\x00"
            ),
            ("reason",),
        ),
        ("GetStatus", service.GetStatusRequest(), ("customer_id",)),
        ("GetOrderPayment", service.GetOrderPaymentRequest(), ("customer_id", "order_id")),
        (
            "ListTransactions",
            service.ListTransactionsRequest(
                customer_id="asha",
                currency_code="rupees",
                types=[99],  # type: ignore[list-item] # no such type
                page_size=-1,
                start_time=Timestamp(seconds=10**15),
            ),
            ("currency_code", "types", "page_size", "start_time"),
        ),
        ("ForwardWebhook", service.ForwardWebhookRequest(), ("gateway", "body")),
        (
            "ForwardWebhook",
            service.ForwardWebhookRequest(
                gateway="razorpay",
                body=b"a" * (256 * 1024 + 1),
                headers=[service.Header(name=f"h{number}") for number in range(101)],
            ),
            ("body", "headers"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_malformed_request_names_each_wrong_field(
    harness: Harness, method: str, request_: Any, wrong: tuple[str, ...]
) -> None:
    """Each method names every wrong field of its request at once."""
    refused = await refusal_of(harness.call(method, request_))

    assert refused.reason == "INVALID_ARGUMENT"
    assert refused.fields == wrong


async def test_what_is_at_a_limit_is_taken(harness: Harness) -> None:
    """The longest ids, keys, notes and the largest amount are fine: only the money is missing."""
    customer = unique("customer").ljust(128, "x")
    await harness.database.customers_v2.insert_one({"_id": customer})
    metadata = {f"k{number}".ljust(40, "_"): "☹" * 500 for number in range(20)}
    request = good_payment(
        customer_id=customer,
        order_id=unique("o").ljust(128, "x"),
        amount=inr(MOST),
        idempotency_key="~" * 255,
        metadata=metadata,
    )

    refused = await refusal_of(harness.call("PayWithWallet", request))

    assert refused.reason == "INSUFFICIENT_FUNDS"
    assert refused.metadata["missing_minor_units"] == str(MOST)


async def test_a_wallet_never_holds_more_than_64_bits(mongodb_uri: str) -> None:
    """A refund or credit over the largest balance is refused or kept for review, never wrapped."""
    uri = with_database(mongodb_uri, unique("rich"))
    async with running_harness(uri, books_agree=False) as rich:
        customer = await rich.customer(1_000)
        order = unique("order")
        await rich.pay(customer, 1_000, order)
        await rich.database.wallets.update_one(
            {"customer_id": customer},
            {"$set": {"balance": MAX_INT64 - 999}, "$inc": {"version": Int64(1)}},
        )
        refused = await refusal_of(rich.refund(customer, order))
        assert refused.reason == "LIMIT_EXCEEDED"
        topup = await rich.initiate(customer, 1_000)
        await rich.pay_at_gateway(topup.gateway_order_id)
        await rich.wait_for_topup(topup, resources.TOPUP_STATE_NEEDS_REVIEW)
        answer = await rich.refund(customer, order, 999)
        assert answer.wallet.balance == inr(MAX_INT64)
        paid = await rich.pay(customer, MOST)
        assert paid.wallet.balance == inr(MAX_INT64 - MOST)


async def test_20_fields_at_most_are_named_and_the_answer_stays_readable(
    harness: Harness,
) -> None:
    """However much is wrong, the details fit into headers: 20 fields, and the text is short."""
    metadata = {f"note{number}": "v" * 501 for number in range(60)}

    refused = await refusal_of(harness.call("PayWithWallet", good_payment(metadata=metadata)))

    assert len(refused.fields) == 20
    assert len(refused.message) <= 512


async def test_a_correlation_id_is_echoed(harness: Harness) -> None:
    """The caller's correlation id comes back with success and refusal; without one we make one."""
    customer = await harness.customer()
    request = service.GetStatusRequest(customer_id=customer)
    mine = unique("correlation")
    for identifier, expected in ((mine, mine), ("x" * 1_000, "x" * 128)):
        call = harness.stub.GetStatus(
            request, metadata=(*bearer(token()), ("x-correlation-id", identifier))
        )
        await call
        assert dict(await call.trailing_metadata())["x-correlation-id"] == expected

    made = set()
    for _ in range(2):
        call = harness.stub.GetStatus(service.GetStatusRequest(), metadata=bearer(token()))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        metadata: Any = error.value.trailing_metadata()
        made.add(dict(metadata)["x-correlation-id"])
    assert len(made) == 2
    assert all(len(one) >= 16 for one in made)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    """Reads that fail with a text that must not get out."""
    secret = "mongodb://root:hunter2@db.internal"

    async def fail(*_: object) -> None:
        raise ZeroDivisionError(secret)

    monkeypatch.setattr(MongoQueries, "wallets", fail)
    return secret


async def test_something_unforeseen_shows_nothing_but_where_to_look(
    harness: Harness, broken: str
) -> None:
    """INTERNAL has a scrubbed message and the correlation id, and never an exception's text."""
    request = service.GetStatusRequest(customer_id="asha")
    mine = unique("correlation")
    call = harness.call(
        "GetStatus", request, metadata=(*bearer(token()), ("x-correlation-id", mine))
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call

    assert error.value.code() is grpc.StatusCode.INTERNAL
    everything = f"{error.value.details()} {error.value.trailing_metadata()}"
    assert broken not in everything
    assert "hunter2" not in everything
    assert "ZeroDivisionError" not in everything
    assert "Traceback" not in everything
    assert mine in str(error.value.details())

    async def again() -> None:
        raise error.value

    refused = await refusal_of(again())
    assert refused.reason == "INTERNAL"
    assert refused.metadata == {"correlation_id": mine}


async def test_every_refusal_names_its_values_in_metadata(harness: Harness) -> None:
    """Whatever id or figure stands in a refusal's message stands in its metadata too."""
    customer = await harness.customer(500)
    other = await harness.customer(500)
    order, key = unique("order"), unique("key")
    await harness.pay(customer, 100, order, idempotency_key=key)
    unpaid = await harness.order(customer, 77)

    refusals = await outcomes_of(
        [
            harness.pay(customer, 100, order),
            harness.pay(customer, 101, order, idempotency_key=key),
            harness.pay(customer, 12_345),
            harness.pay(other, 100, order),
            harness.pay(customer, 78, unpaid),
            harness.pay(unique("stranger"), 1),
            harness.refund(customer, order, 101),
            harness.refund(customer, unpaid),
            harness.refund(customer, unique("order")),
            harness.initiate(customer, 100, gateway="stripe2"),
            harness.topup(resources.Topup(customer_id=customer, topup_id="top_1")),
        ]
    )

    assert len({refusal.reason for refusal in refusals}) == 10
    for refusal in refusals:
        values = " ".join(refusal.metadata.values())
        words = {word.strip(".,:;'") for word in refusal.message.split()}
        named = {word for word in words if any(character.isdigit() for character in word)}
        assert named, refusal.message
        assert all(word in values for word in named), (refusal.message, refusal.metadata)


async def test_an_unknown_method_is_unimplemented(harness: Harness) -> None:
    """A method that is not in the contract is UNIMPLEMENTED, with or without a token."""
    channel: Any = harness.channel
    call = channel.unary_unary("/wallet_payment.v1.WalletPaymentService/MintMoney")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"", metadata=bearer(token()))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
