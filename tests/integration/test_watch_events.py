"""The event feed over real gRPC: what is told, to whom, from where on, and what ends a stream."""

import time
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from event_watch import names_of, watching
from harness import (
    Harness,
    bearer,
    event_of,
    eventually,
    payment_of,
    refusal_of,
    running_harness,
    token,
)
from payment_load import serving
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service
from wallet_payment.v1 import wallet_payment_service_pb2_grpc as service_grpc


def since(seconds: float) -> Timestamp:
    """Return a time, in seconds since the epoch, as the contract has it."""
    stamp = Timestamp()
    stamp.FromMilliseconds(round(seconds * 1_000))
    return stamp


async def first_response(harness: Harness, **request: Any) -> service.WatchEventsResponse:
    """Return the first response of a new stream."""
    call = harness.stub.WatchEvents(
        service.WatchEventsRequest(**request), metadata=harness.metadata, timeout=30
    )
    response: service.WatchEventsResponse = await call.read()
    call.cancel()
    return response


async def test_what_happens_to_a_wallet_is_told_in_its_order(harness: Harness) -> None:
    """Top-up, payment and refund come as they were committed, each with its ledger entry."""
    customer = await harness.customer()
    async with watching(harness.stub, customer_id=customer) as watcher:
        topup = await harness.initiate(customer, 50_000)
        await harness.pay_at_gateway(topup.gateway_order_id)
        await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
        paid = await harness.pay(customer, 20_000)
        refunded = await harness.refund(customer, paid.payment.order_id, 5_000)
        events = await watcher.until(lambda told: len(told) >= 3)

    assert names_of(events) == ["TOPUP_CREDITED", "PAYMENT_MADE", "REFUND_MADE"]
    assert events[0].transaction.topup_id == topup.topup_id
    assert events[1].transaction == paid.transaction
    assert events[2].transaction == refunded.transaction
    assert len({event.event_id for event in events}) == 3


async def test_a_failed_attempt_is_told_once_with_its_reason(harness: Harness) -> None:
    """A failure comes as the top-up then was, and no later change of the top-up repeats it."""
    customer = await harness.customer()
    of_failures: dict[str, Any] = {
        "types": [resources.WALLET_EVENT_TYPE_TOPUP_FAILED],
        "start_time": since(time.time()),
    }
    async with (
        watching(harness.stub, customer_id=customer) as watcher,
        watching(harness.stub, customer_id=customer, **of_failures) as narrow,
    ):
        topup = await harness.initiate(customer, 50_000)
        await harness.pay_at_gateway(topup.gateway_order_id, "fail")
        await harness.wait_for_topup(topup, resources.TOPUP_STATE_FAILED)
        await harness.pay_at_gateway(topup.gateway_order_id)
        await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
        events = await watcher.until(lambda told: len(told) >= 2)
        await narrow.until(len)

    assert names_of(events) == ["TOPUP_FAILED", "TOPUP_CREDITED"]
    assert narrow.events == events[:1]
    assert events[0].topup.topup_id == topup.topup_id
    assert events[0].topup.failure_reason
    assert not events[0].topup.HasField("checkout")


async def test_what_a_gateway_takes_back_freezes_the_wallet_and_tells_both(
    harness: Harness,
) -> None:
    """A reversal below zero is told as reversal and freeze; the money's return thaws again."""
    customer = await harness.customer(10_000)
    await harness.pay(customer, 8_000)
    start = time.time()
    credited = (await harness.entries(customer))[0]
    async with watching(harness.stub, customer_id=customer) as watcher:
        payment_id = credited["gateway_payment_id"]
        refund = await harness.at_sandbox(f"payments/{payment_id}/refund", amount=10_000, wait=True)
        await watcher.until(lambda told: len(told) >= 2)
        await harness.customer()  # something else happens meanwhile
        topup = await harness.initiate(customer, 50_000)
        await harness.pay_at_gateway(topup.gateway_order_id)
        events = await watcher.until(lambda told: len(told) >= 4)
    assert refund

    assert names_of(events) == [
        "TOPUP_REVERSED",
        "WALLET_FROZEN",
        "TOPUP_CREDITED",
        "WALLET_THAWED",
    ]
    async with watching(
        harness.stub,
        customer_id=customer,
        start_time=since(start),
        types=[resources.WALLET_EVENT_TYPE_WALLET_FROZEN],
    ) as later:
        assert names_of(await later.until(len)) == ["WALLET_FROZEN"]


async def test_filters_let_through_what_is_wanted_alone(harness: Harness) -> None:
    """A customer and types narrow the feed; the cursor goes on also where nothing is wanted."""
    customer, other = await harness.customer(10_000), await harness.customer(10_000)
    wanted = [resources.WALLET_EVENT_TYPE_REFUND_MADE]
    async with (
        watching(harness.stub, customer_id=customer, types=wanted) as narrow,
        watching(harness.stub, customer_id=customer) as wide,
    ):
        elsewhere = await harness.pay(other, 1_000)
        await harness.refund(other, elsewhere.payment.order_id)
        paid = await harness.pay(customer, 1_000)
        await harness.refund(customer, paid.payment.order_id)
        await narrow.until(len)
        await wide.until(lambda told: len(told) >= 2)

    assert names_of(narrow.events) == ["REFUND_MADE"]
    assert names_of(wide.events) == ["PAYMENT_MADE", "REFUND_MADE"]
    assert {event.customer_id for event in narrow.events + wide.events} == {customer}


async def test_a_reader_goes_on_where_it_left(harness: Harness) -> None:
    """What happened while nobody watched is told first to whoever brings the last cursor."""
    customer = await harness.customer(10_000)
    async with watching(harness.stub, customer_id=customer) as before:
        first = await harness.pay(customer, 1_000)
        await before.until(len)
    second = await harness.pay(customer, 1_000)
    async with watching(harness.stub, customer_id=customer, cursor=before.cursor) as after:
        third = await harness.pay(customer, 1_000)
        await after.until(lambda told: len(told) >= 2)

    told = [event.transaction.transaction_id for event in before.events + after.events]
    made = [paid.transaction.transaction_id for paid in (first, second, third)]
    assert told == made


async def test_history_comes_first_and_each_event_once(harness: Harness) -> None:
    """From a time on, the ledger's entries come page by page, and then what happens meanwhile."""
    customer = await harness.customer(1_000_000)
    start = time.time()
    requests = [
        service.PayWithWalletRequest(
            customer_id=customer,
            order_id=f"{customer}-{number}",
            amount=resources.Money(currency_code="INR", minor_units=1),
            idempotency_key=f"{customer}-{number}",
        )
        for number in range(300)
    ]
    await harness.settled("PayWithWallet", requests[:250])
    async with watching(
        harness.stub, customer_id=customer, start_time=since(start - 0.001)
    ) as watcher:
        await harness.settled("PayWithWallet", requests[250:])
        await watcher.until(lambda told: len(told) >= 300)
        cursor = watcher.cursor

    sequences = [event.transaction.sequence for event in watcher.events]
    assert sequences == list(range(2, 302))
    assert not (await first_response(harness, customer_id=customer, cursor=cursor)).events


async def test_a_large_page_comes_in_parts_and_each_cursor_leads_to_the_rest(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too large for one response is told in several: going on after any misses nothing."""
    monkeypatch.setattr("server.rpc.watching._MOST_BYTES", 700)
    start = time.time()
    customer = await harness.customer(10_000)
    for _ in range(11):
        await harness.pay(customer, 1)
    wanted: Any = {"customer_id": customer}
    async with watching(harness.stub, **wanted, start_time=since(start - 0.001)) as watcher:
        await watcher.until(lambda told: len(told) >= 12)
    told = [event.event_id for event in watcher.events]
    after_parts = [(cursor, heard) for cursor, heard in watcher.cursors if 0 < heard < len(told)]
    assert len(after_parts) >= 3

    for cursor, heard in after_parts:
        async with watching(harness.stub, **wanted, cursor=cursor) as rest:
            await rest.until(lambda found: found and found[-1].event_id == told[-1])
        assert [event.event_id for event in rest.events] == told[heard:]


async def test_a_quiet_feed_has_heartbeats_with_cursors(mongodb_uri: str) -> None:
    """Where nothing happens a response without events comes all the time, and streams end well."""
    async with running_harness(
        mongodb_uri, events_heartbeat_seconds=0.1, events_stream_seconds=0.7
    ) as harness:
        customer = await harness.customer()
        async with watching(harness.stub, customer_id=customer) as watcher:

            async def goes_on() -> bool:
                return watcher.heartbeats >= 3 and watcher.streams >= 3

            await eventually(goes_on)
    assert not watcher.events


async def test_bad_requests_are_refused_with_their_fields(harness: Harness) -> None:
    """A changed cursor, one of other filters, an unknown type, two starts: each is named."""
    customer = await harness.customer()
    good = (await first_response(harness, customer_id=customer)).cursor

    async def fields_of(**request: Any) -> tuple[str, ...]:
        call = harness.stub.WatchEvents(
            service.WatchEventsRequest(**request), metadata=harness.metadata, timeout=30
        )
        refusal = await refusal_of(call.read())
        assert refusal.reason == "INVALID_ARGUMENT"
        return refusal.fields

    assert await fields_of(cursor=good) == ("cursor",)
    assert await fields_of(customer_id=customer, cursor=good[:-1] + "A" + good[-1]) == ("cursor",)
    assert await fields_of(cursor="x" * 10_000) == ("cursor",)
    assert await fields_of(types=[99]) == ("types",)
    assert await fields_of(customer_id="no spaces") == ("customer_id",)
    assert await fields_of(customer_id=customer, cursor=good, start_time=Timestamp(seconds=1)) == (
        "start_time",
    )


async def test_watching_needs_its_scope(harness: Harness) -> None:
    """A token that may read statuses may not read everybody's events."""
    call = harness.stub.WatchEvents(
        service.WatchEventsRequest(), metadata=bearer(token(scope="status.read")), timeout=30
    )

    assert (await refusal_of(call.read())).reason == "SCOPE_MISSING"


async def test_a_token_of_one_customer_hears_of_that_customer_alone(harness: Harness) -> None:
    """A limited token watches its own customer, and neither another one nor everybody."""
    customer, other = await harness.customer(), await harness.customer()
    limited = bearer(token(customer_id=customer))

    async def watch(**request: Any) -> Any:
        call = harness.stub.WatchEvents(
            service.WatchEventsRequest(**request), metadata=limited, timeout=30
        )
        try:
            return await call.read()
        finally:
            call.cancel()

    assert (await watch(customer_id=customer)).cursor
    assert (await refusal_of(watch(customer_id=other))).reason == "CUSTOMER_NOT_ALLOWED"
    assert (await refusal_of(watch())).reason == "CUSTOMER_NOT_ALLOWED"


async def test_a_stream_ends_with_its_token(mongodb_uri: str) -> None:
    """Whose token runs out while watching is told so, and hears nothing more."""
    async with running_harness(mongodb_uri, events_heartbeat_seconds=0.1) as harness:
        now = int(time.time())
        short = bearer(token(iat=now - 60, exp=now - 27))  # good for 30 seconds after its end

        async def watch() -> None:
            call = harness.stub.WatchEvents(
                service.WatchEventsRequest(), metadata=short, timeout=30
            )
            async for response in call:
                assert response.cursor

        assert (await refusal_of(watch())).reason == "TOKEN_EXPIRED"


async def test_no_more_readers_than_allowed(mongodb_uri: str) -> None:
    """One reader too many is told to come later; when one leaves there is room."""
    async with running_harness(mongodb_uri, events_max_readers=1) as harness:
        async with watching(harness.stub):
            call = harness.stub.WatchEvents(
                service.WatchEventsRequest(), metadata=harness.metadata, timeout=30
            )
            refusal = await refusal_of(call.read())
            async with harness.http.get(harness.metrics_url) as answer:
                metrics = await answer.text()
        async with watching(harness.stub) as second:
            assert second.cursor

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert refusal.retry_after_seconds
    assert "wallet_event_readers 1.0" in metrics
    assert 'grpc_type="server_stream"' in metrics


async def test_a_reader_that_takes_nothing_is_ended(mongodb_uri: str) -> None:
    """Whoever does not read is told so after a time, and goes on from its cursor."""
    async with running_harness(mongodb_uri, events_slow_reader_seconds=1) as harness:
        customer = await harness.customer(1_000_000)
        start = time.time()
        notes = {f"note-{number}": "x" * 500 for number in range(20)}
        requests = [
            service.PayWithWalletRequest(
                customer_id=customer,
                order_id=f"{customer}-{number}",
                amount=resources.Money(currency_code="INR", minor_units=1),
                idempotency_key=f"{customer}-{number}",
                metadata=notes,
            )
            for number in range(1_000)
        ]
        await harness.settled("PayWithWallet", requests)
        request = service.WatchEventsRequest(customer_id=customer, start_time=since(start - 0.001))
        call = harness.stub.WatchEvents(request, metadata=harness.metadata)
        request.cursor = (await call.read()).cursor
        request.ClearField("start_time")

        async def was_ended() -> bool:
            query = {"method": "WatchEvents", "customer_id": customer, "reason": "RATE_LIMITED"}
            return bool(await harness.database.integration_logs.count_documents(query))

        await eventually(was_ended)
        call.cancel()
        async with watching(harness.stub, customer_id=customer, cursor=request.cursor) as watcher:
            await watcher.until(lambda told: told and told[-1].transaction.sequence == 1_001)

        sequences = [event.transaction.sequence for event in watcher.events]
        assert sequences == list(range(1_002 - len(sequences), 1_002))
        assert len(sequences) < 1_000


async def test_a_webhook_that_pays_an_order_tells_credit_and_payment(harness: Harness) -> None:
    """The credit and the payment of one commit come one after the other."""
    customer = await harness.customer()
    order = resources.Money(currency_code="INR", minor_units=500)
    async with watching(harness.stub, customer_id=customer) as watcher:
        topup = await harness.initiate(
            customer, 500, pay_order={"order_id": f"{customer}-order", "amount": order}
        )
        status, _ = await harness.deliver(event_of("payment.captured", payment_of(topup)))
        events = await watcher.until(lambda told: len(told) >= 2)

    assert status == 200
    assert names_of(events) == ["TOPUP_CREDITED", "PAYMENT_MADE"]
    assert events[1].transaction.order_id == f"{customer}-order"


async def test_a_stopping_server_ends_its_streams_well(harness: Harness) -> None:
    """On SIGTERM a watching reader is let go with OK, and the server does not wait for it."""
    async with (
        serving(harness.settings.mongodb_uri.get_secret_value()) as (process, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub: Any = service_grpc.WalletPaymentServiceStub(channel)
        call = stub.WatchEvents(service.WatchEventsRequest(), metadata=harness.metadata)
        assert (await call.read()).cursor
        process.terminate()

        assert not await call.read()  # the end of the stream
        assert await call.code() is grpc.StatusCode.OK
        assert await process.wait() == 0
