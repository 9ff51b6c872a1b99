"""Tokens that are limited to one customer, through every RPC that the contract has."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from harness import Harness, Refused, another_server, bearer, inr, refusal_of, token, unique
from server.rpc.edge import SERVICE
from wallet_payment.v1 import wallet_payment_service_pb2 as service

METHODS = list(SERVICE.methods)
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "CUSTOMER_NOT_ALLOWED")


def limited_to(customer_id: str) -> dict[str, Any]:
    """Return the options of a call with a token that is limited to a customer."""
    return {"metadata": bearer(token(customer_id=customer_id))}


async def refusal(harness: Harness, customer: str, method: str, **fields: Any) -> Refused:
    """Call with a token that is limited to a customer; return how that is refused."""
    request = GetMessageClass(SERVICE.methods_by_name[method].input_type)(**fields)
    call = getattr(harness.stub, method)(request, timeout=30, **limited_to(customer))
    return await refusal_of(call.read() if isinstance(call, grpc.aio.UnaryStreamCall) else call)


def denial(refused: Refused) -> tuple[grpc.StatusCode, str]:
    """Return what a program decides on."""
    return refused.code, refused.reason


def customer_fields(message: Descriptor, depth: int = 0) -> list[tuple[int, str]]:
    """Return each field that names a customer, and how deep it is in the request."""
    found = [(depth, field.name) for field in message.fields if "customer" in field.name]
    for field in message.fields:
        if field.message_type is not None:
            found += customer_fields(field.message_type, depth + 1)
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_no_method_takes_another_customer(harness: Harness, method: MethodDescriptor) -> None:
    """Whatever else a request holds, one about another customer, or about none, is refused."""
    mine, other = await harness.customer(), await harness.customer()
    names_a_customer = "customer_id" in method.input_type.fields_by_name
    requests = [{"customer_id": other}, {"customer_id": unique("unknown")}, {}]

    for fields in requests if names_a_customer else [{}]:
        refused = await refusal(harness, mine, method.name, **fields)
        assert denial(refused) == DENIED
        assert refused.metadata == {"caller": "order-service"}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_request_names_its_customer_in_one_place(method: MethodDescriptor) -> None:
    """A request that named customers elsewhere would need a rule of its own: there is none."""
    assert set(customer_fields(method.input_type)) <= {(0, "customer_id")}


async def test_what_is_the_customers_own_is_let_in(harness: Harness) -> None:
    """Top-up, payment, refund and all reads of the token's own customer are carried out."""
    mine = await harness.customer(1_000)
    own = limited_to(mine)
    initiate = service.InitiateTopupRequest(
        customer_id=mine,
        amount=inr(500),
        gateway="razorpay",
        method="card",
        idempotency_key=unique("key"),
    )
    topup = (await harness.call("InitiateTopup", initiate, **own)).topup
    pay = service.PayWithWalletRequest(
        customer_id=mine, order_id=unique("order"), amount=inr(300), idempotency_key=unique("key")
    )
    await harness.call("PayWithWallet", pay, **own)
    refund = service.RefundToWalletRequest(
        customer_id=mine, order_id=pay.order_id, idempotency_key=unique("key")
    )
    wallet = (await harness.call("RefundToWallet", refund, **own)).wallet
    assert wallet.balance == inr(1_000)
    ids = {"customer_id": mine, "topup_id": topup.topup_id}
    assert (await harness.call("GetTopup", service.GetTopupRequest(**ids), **own)).topup == topup
    lookup = service.VerifyTopupRequest(**ids, lookup=service.LookupProof())
    assert (await harness.call("VerifyTopup", lookup, **own)).topup.topup_id == topup.topup_id
    order = service.GetOrderPaymentRequest(customer_id=mine, order_id=pay.order_id)
    assert (await harness.call("GetOrderPayment", order, **own)).payment.order_id == pay.order_id
    listed = service.ListTransactionsRequest(customer_id=mine)
    assert len((await harness.call("ListTransactions", listed, **own)).transactions) == 3
    watching = harness.stub.WatchEvents(service.WatchEventsRequest(customer_id=mine), **own)
    assert (await watching.read()).cursor
    watching.cancel()


async def test_ids_of_another_customer_are_as_if_they_did_not_exist(harness: Harness) -> None:
    """Another's top-up and order, and ones that nobody has, get the same answer word for word."""
    mine, other = await harness.customer(1_000), await harness.customer(1_000)
    topup = await harness.initiate(other, 500)
    order = (await harness.pay(other, 100)).payment.order_id
    session = {"validation_url": "https://apple-pay-gateway.apple.com/x", "domain": "example.com"}
    by_topup: list[tuple[str, dict[str, Any]]] = [
        ("GetTopup", {}),
        ("VerifyTopup", {"lookup": service.LookupProof()}),
        ("CreateApplePaySession", session),
    ]
    by_order: list[tuple[str, dict[str, Any]]] = [
        ("GetOrderPayment", {}),
        ("RefundToWallet", {"idempotency_key": unique("key")}),
    ]
    for name, id_of_other, id_of_nobody, calls in (
        ("topup_id", topup.topup_id, f"{topup.topup_id[:-4]}zzzz", by_topup),
        ("order_id", order, unique("order"), by_order),
    ):
        for method, fields in calls:
            others = {name: id_of_other, "customer_id": mine} | fields
            nobodys = others | {name: id_of_nobody}
            answers = [await refusal(harness, mine, method, **given) for given in (others, nobodys)]
            assert answers[0] == answers[1], method
            # Without Apple Pay here, there is no session for anybody.
            assert denial(answers[0]) == DENIED or answers[0].reason == "NOT_IMPLEMENTED", method

    pay = {"order_id": order, "amount": inr(100), "idempotency_key": unique("key")}
    refused = await refusal(harness, mine, "PayWithWallet", customer_id=mine, **pay)
    assert denial(refused) == DENIED
    assert await harness.balance(mine) == 1_000


async def test_an_own_order_is_told_what_is_wrong_with_it(harness: Harness) -> None:
    """Of the token's own customer, a wrong amount and an order without a payment are named."""
    mine = await harness.customer(1_000)
    order = await harness.order(mine, 400)

    pay = {"order_id": order, "amount": inr(300), "idempotency_key": unique("key")}
    refused = await refusal(harness, mine, "PayWithWallet", customer_id=mine, **pay)
    assert refused.reason == "ORDER_MISMATCH"
    refused = await refusal(harness, mine, "GetOrderPayment", customer_id=mine, order_id=order)
    assert refused.reason == "ORDER_NOT_PAID"


@pytest.mark.parametrize("claim", ["", 0, [], {}, False, ["customer-1"]])
async def test_a_limit_that_names_no_customer_is_no_token(harness: Harness, claim: Any) -> None:
    """Anything but a customer's id in the claim is refused, never taken for no limit."""
    mine = await harness.customer()
    call = harness.call(
        "GetStatus",
        service.GetStatusRequest(customer_id=mine),
        metadata=bearer(token(customer_id=claim)),
    )

    assert (await refusal_of(call)).reason == "TOKEN_INVALID"


async def test_a_limited_token_uses_up_nothing_of_another_customer(harness: Harness) -> None:
    """However often it names another customer, that one is still let in; its own one is not."""
    mine, other = await harness.customer(), await harness.customer()
    rates = ("GetStatus=0.001:3",)
    async with another_server(harness, rate_limit_customers=rates) as stub:

        def asked(customer_id: str, **options: Any) -> Any:
            request = service.GetStatusRequest(customer_id=customer_id)
            return stub.GetStatus(request, timeout=20, **options)

        told = [(await refusal_of(asked(other, **limited_to(mine)))).reason for _ in range(5)]
        assert told == ["CUSTOMER_NOT_ALLOWED"] * 3 + ["RATE_LIMITED"] * 2
        await asked(other, metadata=harness.metadata)
