"""The metrics say what was done, once for each time that it was."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway_adapters.circuit import FAILURES_TO_OPEN
from harness import (
    Harness,
    event_of,
    free_port,
    inr,
    payment_of,
    refusal_of,
    running_harness,
    unique,
    with_database,
)
from scraped import Scraped, scraped
from server.commit.port import WriteConflict
from server.store.ledger_store import LedgerStore
from wallet_payment.v1 import resources_pb2 as resources


@pytest.fixture
async def shop(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service whose counters begin at zero."""
    async with running_harness(with_database(mongodb_uri, "metrics")) as running:
        yield running


async def told(shop: Harness) -> Scraped:
    """Return what the service tells now."""
    return await scraped(shop.http, shop.metrics_url)


async def test_payments_and_refunds_are_counted_by_what_they_came_to(shop: Harness) -> None:
    """Done, done before and refused are told apart; the money of each counts once."""
    customer = await shop.customer(1_000)
    order = unique("order")
    for _ in range(3):
        await shop.pay(customer, 300, order, idempotency_key=f"pay-{order}")
    await refusal_of(shop.pay(customer, 5_000))
    await refusal_of(shop.pay(customer, 300, order))
    for _ in range(2):
        await shop.refund(customer, order, 100, idempotency_key=f"refund-{order}")
    await refusal_of(shop.refund(customer, order, 900))

    seen = await told(shop)
    assert seen.value("wallet_payments_total", outcome="paid") == 1
    assert seen.value("wallet_payments_total", outcome="repeated") == 2
    assert seen.value("wallet_payments_total", outcome="insufficient_funds") == 1
    assert seen.value("wallet_payments_total", outcome="order_already_paid") == 1
    assert seen.value("wallet_refunds_total", outcome="refunded") == 1
    assert seen.value("wallet_refunds_total", outcome="repeated") == 1
    assert seen.value("wallet_refunds_total", outcome="refund_exceeds_payment") == 1
    for kind, direction, minor_units in (
        ("topup", "in", 1_000),
        ("payment", "out", 300),
        ("refund", "in", 100),
    ):
        labels = {"type": kind, "direction": direction, "currency": "INR"}
        assert seen.value("wallet_transactions_total", **labels) == 1
        assert seen.value("wallet_transaction_minor_units_total", **labels) == minor_units


async def test_each_call_is_counted_once_by_its_code_and_with_its_time(shop: Harness) -> None:
    """What began has ended, under the code that its caller got, and its time is told."""
    customer = await shop.customer(1_000)
    for _ in range(2):
        await shop.pay(customer, 300)
    await refusal_of(shop.pay(customer, 5_000))

    seen = await told(shop)
    of_pay = {
        "grpc_type": "unary",
        "grpc_service": "wallet_payment.v1.WalletPaymentService",
        "grpc_method": "PayWithWallet",
    }
    assert seen.value("grpc_server_started_total", **of_pay) == 3
    assert seen.value("grpc_server_handled_total", grpc_code="OK", **of_pay) == 2
    refused = {"grpc_code": "FAILED_PRECONDITION"}
    assert seen.value("grpc_server_handled_total", **refused, **of_pay) == 1
    assert seen.value("grpc_server_handled_total", **of_pay) == 3
    assert seen.value("grpc_server_handling_seconds_count", **of_pay) == 3
    assert 0.001 < seen.value("grpc_server_handling_seconds_sum", **of_pay) < 30


async def test_batches_are_counted_with_their_size_time_and_repeats(
    shop: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that another writer got in the way of is tried again, and counts once as done."""
    customer = await shop.customer(1_000)
    before = await told(shop)
    commit, failed = LedgerStore.commit, False

    async def fails_once(store: LedgerStore, *given: Any) -> Any:
        nonlocal failed
        if not failed:
            failed = True
            raise WriteConflict("another one was faster")
        return await commit(store, *given)

    monkeypatch.setattr(LedgerStore, "commit", fails_once)
    await shop.pay(customer, 300)

    seen = await told(shop)

    def grown(name: str) -> float:
        return seen.value(name) - before.value(name)

    assert seen.value("wallet_commit_retries_total", cause="WriteConflict") == 1
    assert seen.value("wallet_commit_retries_total") == 1
    # Besides the payment there may be webhooks that tell of its top-up again.
    batches = grown("wallet_commit_batch_size_count")
    assert 1 <= batches == grown("wallet_commit_seconds_count")
    assert batches <= grown("wallet_commit_batch_size_sum") <= batches + 3
    assert 0.0001 < grown("wallet_commit_seconds_sum") < 30


async def test_topups_are_counted_by_who_told_of_the_payment(shop: Harness) -> None:
    """A credit that a webhook brought has its delay; one that a lookup brought counts apart."""
    customer = await shop.customer(500)
    topup = await shop.initiate(customer, 700)
    await shop.pay_at_gateway(topup.gateway_order_id, webhook=False)
    await shop.verify(topup)

    seen = await told(shop)
    by = {"gateway": "razorpay", "outcome": "credited"}
    assert seen.value("wallet_topups_total", gateway="razorpay", outcome="started") == 2
    assert seen.value("wallet_topups_total", origin="webhook", **by) == 1
    assert seen.value("wallet_topups_total", origin="lookup", **by) == 1
    delays = "wallet_topup_credit_delay_seconds"
    assert seen.value(f"{delays}_count", gateway="razorpay") == 1
    assert 0 <= seen.value(f"{delays}_sum", gateway="razorpay") < 60
    in_all = {"type": "topup", "gateway": "razorpay"}
    assert seen.value("wallet_transaction_minor_units_total", **in_all) == 1_200


async def test_an_order_that_is_paid_with_its_topup_counts_as_paid(shop: Harness) -> None:
    """The commit that credits a top-up and pays its order counts both."""
    customer = await shop.customer()
    to_pay = resources.PayOrder(order_id=unique("order"), amount=inr(400))
    topup = await shop.initiate(customer, 700, pay_order=to_pay)
    await shop.pay_at_gateway(topup.gateway_order_id, wait=True)

    seen = await told(shop)
    assert seen.value("wallet_payments_total", outcome="paid") == 1
    assert seen.value("wallet_transaction_minor_units_total", type="payment") == 400


async def test_webhooks_are_counted_by_what_became_of_them(shop: Harness) -> None:
    """Applied, sent again, unknown and forged ones are told apart, for their gateway."""
    topup = await shop.initiate(await shop.customer(), 700)
    body = event_of("payment.captured", payment_of(topup))
    for status in (200, 200):
        assert (await shop.deliver(body, "evt-of-metrics"))[0] == status
    another_amount = event_of("payment.captured", payment_of(topup, amount=900))
    assert (await shop.deliver(another_amount))[0] == 200
    assert (await shop.deliver(body, X_Razorpay_Signature="0" * 64))[0] == 401

    seen = await told(shop)
    for outcome, count in (
        ("applied", 1),
        ("duplicate", 1),
        ("needs_review", 1),
        ("signature_invalid", 1),
    ):
        labels = {"gateway": "razorpay", "outcome": outcome}
        assert seen.value("wallet_webhooks_total", **labels) == count


async def test_reversals_are_counted_with_their_money(shop: Harness) -> None:
    """What the gateway took out of a wallet is an entry of its own type."""
    topup = await shop.initiate(await shop.customer(), 700)
    paid = await shop.pay_at_gateway(topup.gateway_order_id, wait=True)
    await shop.at_sandbox(f"payments/{paid['payment_id']}/refund", wait=True)

    seen = await told(shop)
    labels = {"type": "reversal", "direction": "out", "gateway": "razorpay"}
    assert seen.value("wallet_transactions_total", **labels) == 1
    assert seen.value("wallet_transaction_minor_units_total", **labels) == 700


async def test_a_gateway_that_is_left_alone_is_told(mongodb_uri: str) -> None:
    """The circuit of the gateway that does not answer is open, that of another one is closed."""
    uri = with_database(mongodb_uri, "metrics_down")
    nobody = f"http://127.0.0.1:{free_port()}"
    async with running_harness(uri, razorpay_api_url=nobody) as shop:
        customer = await shop.customer()
        for _ in range(FAILURES_TO_OPEN):
            assert (await refusal_of(shop.initiate(customer, 700))).reason == "GATEWAY_UNAVAILABLE"

        seen = await told(shop)
        assert seen.value("wallet_gateway_circuit_open", gateway="razorpay") == 1
        assert seen.value("wallet_gateway_circuit_open", gateway="stripe") == 0
        assert len(seen.labels("wallet_gateway_circuit_open", "gateway")) == 3


async def test_the_port_tells_nothing_else(harness: Harness) -> None:
    """There is one path, and one way to ask for it."""
    base = harness.metrics_url.removesuffix("/metrics")
    for method, path, status in (
        ("GET", "/", 404),
        ("GET", "/debug", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/metrics", 405),
    ):
        async with harness.http.request(method, f"{base}{path}") as answer:
            assert answer.status == status
