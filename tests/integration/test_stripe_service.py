"""Stripe through the service's door: gRPC, the sandbox, the sidecar's webhooks, and the books."""

import asyncio
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from harness import (
    STRIPE_PUBLISHABLE_KEY,
    STRIPE_SECRET_KEY,
    STRIPE_WEBHOOK_SECRET,
    Harness,
    eventually,
    refusal_of,
    running_harness,
    unique,
    with_database,
)
from server.reconcile import Kind
from service_checks import events_of, reconciliation, wallet_of, was_credited_once
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CREDITED, PENDING = resources.TOPUP_STATE_CREDITED, resources.TOPUP_STATE_PENDING
FAILED, REVERSED = resources.TOPUP_STATE_FAILED, resources.TOPUP_STATE_REVERSED
NEEDS_REVIEW = resources.TOPUP_STATE_NEEDS_REVIEW
ACTIVE, FROZEN = resources.WALLET_STATE_ACTIVE, resources.WALLET_STATE_FROZEN

Json = dict[str, Any]


@pytest.fixture(scope="module")
async def harness(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service on a database of its own: all that is in it is looked through."""
    uri = with_database(mongodb_uri, "stripe_service")
    async with running_harness(uri) as running:
        yield running


async def started(harness: Harness, amount: int = 10_000, **fields: Any) -> resources.Topup:
    """Start a top-up in dollars by Stripe, of a new customer unless one is given."""
    customer = fields.pop("customer", "") or await harness.customer()
    given = {"gateway": "stripe", "currency": "USD"} | fields
    return await harness.initiate(customer, amount, **given)


async def paid(harness: Harness, topup: resources.Topup, **options: Any) -> Json:
    """Have the customer pay at Stripe, and wait until the webhooks were taken."""
    path = f"stripe/intents/{topup.gateway_order_id}/pay"
    return await harness.at_sandbox(path, **{"wait": True} | options)


async def credited(harness: Harness, amount: int = 10_000, **fields: Any) -> resources.Topup:
    """Return a top-up that was paid and credited."""
    topup = await started(harness, amount, **fields)
    await paid(harness, topup)
    return await harness.wait_for_topup(topup, CREDITED)


async def succeeded_event(harness: Harness, topup: resources.Topup) -> bytes:
    """Return the body of a webhook about a payment that no webhook told of."""
    await paid(harness, topup, webhook=False)
    url = f"{harness.sandbox_url}/stripe/v1/payment_intents/{topup.gateway_order_id}"
    headers = {"Authorization": f"Bearer {STRIPE_SECRET_KEY}"}
    async with harness.http.get(url, headers=headers) as answer:
        intent = await answer.json()
    event = {
        "id": unique("evt").replace("-", "_"),
        "object": "event",
        "created": int(time.time()),
        "data": {"object": intent},
        "type": "payment_intent.succeeded",
    }
    return json.dumps(event).encode()


def signed(body: bytes, seconds: int | None = None, secret: str = STRIPE_WEBHOOK_SECRET) -> str:
    """Sign a webhook's raw body as Stripe does, now or at another time."""
    at = int(time.time()) if seconds is None else seconds
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signature}"


async def sent(harness: Harness, body: bytes, signature: str) -> tuple[int, Json]:
    """Send a webhook to the sidecar under a signature."""
    return await harness.deliver(body, gateway="stripe", Stripe_Signature=signature)


async def test_a_top_up_by_stripe_is_credited_once(harness: Harness) -> None:
    """The app gets what it needs to pay, the webhook comes four times, and the money once."""
    topup = await started(harness, 12_345, metadata={"campaign": "diwali"})
    assert topup.state == PENDING
    assert topup.checkout.gateway_order_id == topup.gateway_order_id
    assert topup.checkout.public_key == STRIPE_PUBLISHABLE_KEY
    assert topup.checkout.client_secret.startswith(f"{topup.gateway_order_id}_secret_")

    await paid(harness, topup, duplicate=3)
    done = await harness.wait_for_topup(topup, CREDITED)

    assert done.gateway_payment_id == topup.gateway_order_id
    (entry,) = await harness.entries(topup.customer_id)
    assert entry["metadata"] == {"campaign": "diwali"}
    assert {posting["account"]: posting["amount"] for posting in entry["postings"]} == {
        f"wallet:{topup.customer_id}:USD": 12_345,
        "gateway:stripe:USD": -12_345,
    }
    assert [event["outcome"] for event in await events_of(harness, topup)] == ["APPLIED"]
    assert await was_credited_once(harness, topup)


@pytest.mark.parametrize("method", ["google_pay", "apple_pay"])
async def test_a_wallet_of_a_phone_pays_as_a_card_does(harness: Harness, method: str) -> None:
    """Stripe handles the tokens of Google Pay and Apple Pay itself."""
    topup = await credited(harness, method=method)
    assert topup.method == method
    assert await was_credited_once(harness, topup)


async def test_what_stripe_cannot_charge_is_refused_before_anything_happens(
    harness: Harness,
) -> None:
    """An unknown method and an amount with a part of Stripe's smallest unit name their field."""
    customer = await harness.customer()
    for fields, field in (
        ({"method": "upi"}, "method"),
        ({"currency": "KWD", "amount": 1_001}, "amount"),
    ):
        refused = await refusal_of(started(harness, customer=customer, **fields))
        assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", (field,))
    assert await harness.database.topups.count_documents({"customer_id": customer}) == 0


async def test_a_payment_on_hold_is_captured_and_then_credited(harness: Harness) -> None:
    """The service captures what Stripe only holds."""
    topup = await started(harness)
    await paid(harness, topup, status="requires_capture")
    await harness.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(harness, topup)


async def test_a_payment_whose_webhook_is_lost_is_credited_on_asking(harness: Harness) -> None:
    """VerifyTopup asks Stripe, and a repeat adds nothing."""
    topup = await started(harness)
    assert (await harness.verify(topup)).topup.state == PENDING
    await paid(harness, topup, webhook=False)

    first, again = await harness.verify(topup), await harness.verify(topup)

    assert first.topup.state == CREDITED
    assert first == again
    assert await was_credited_once(harness, topup)


async def test_a_failed_attempt_is_not_the_end(harness: Harness) -> None:
    """The top-up is FAILED with Stripe's words, can still be paid, and is then credited."""
    topup = await started(harness)
    await harness.at_sandbox(f"stripe/intents/{topup.gateway_order_id}/fail")
    failed = await harness.wait_for_topup(topup, FAILED)
    assert failed.failure_reason == "Your card was declined."
    assert failed.checkout.gateway_order_id == topup.gateway_order_id

    await paid(harness, topup)
    await harness.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(harness, topup)


async def test_one_webhook_many_times_at_once_takes_effect_once(harness: Harness) -> None:
    """Stripe signs each try anew; the event is the same, and all but one are DUPLICATE."""
    topup = await started(harness)
    body = await succeeded_event(harness, topup)
    now = int(time.time())

    answers = await asyncio.gather(
        *(sent(harness, body, signed(body, now - age)) for age in range(20))
    )

    assert {status for status, _ in answers} == {200}
    outcomes = Counter(answer["outcome"] for _, answer in answers)
    assert outcomes == {"APPLIED": 1, "DUPLICATE": 19}
    assert await was_credited_once(harness, topup)


@pytest.mark.parametrize(
    ("age_seconds", "secret", "tail"),
    [
        (0, "whsec_of_somebody_else", b""),
        (0, STRIPE_WEBHOOK_SECRET, b" "),
        (400, STRIPE_WEBHOOK_SECRET, b""),
        (-400, STRIPE_WEBHOOK_SECRET, b""),
    ],
    ids=["other secret", "other body", "old", "from the future"],
)
async def test_what_stripe_did_not_sign_just_now_is_refused_and_leaves_no_trace(
    harness: Harness, age_seconds: int, secret: str, tail: bytes
) -> None:
    """It is 401 at the sidecar, is not recorded and credits nothing; the same, well signed, is."""
    topup = await started(harness)
    body = await succeeded_event(harness, topup)
    signature = signed(body, int(time.time()) - age_seconds, secret)

    status, answer = await sent(harness, body + tail, signature)

    assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")
    assert await events_of(harness, topup) == []
    assert await harness.entries(topup.customer_id) == []
    assert (await harness.topup(topup)).state == PENDING
    assert (await sent(harness, body, signed(body)))[1]["outcome"] == "APPLIED"
    assert await was_credited_once(harness, topup)


async def test_refunds_from_the_dashboard_debit_their_own_amounts(harness: Harness) -> None:
    """A part, then the rest: the wallet is short of each, and the top-up REVERSED in the end."""
    topup = await credited(harness)
    intent = f"stripe/intents/{topup.gateway_order_id}"

    await harness.at_sandbox(f"{intent}/refund", amount=345, wait=True)
    assert await harness.balance(topup.customer_id, "USD") == 9_655
    assert (await harness.topup(topup)).state == CREDITED

    await harness.at_sandbox(f"{intent}/refund", wait=True)
    await harness.wait_for_topup(topup, REVERSED)
    entries = await harness.entries(topup.customer_id)
    assert [(entry["type"], entry["amount"]) for entry in entries] == [
        ("TOPUP", 10_000),
        ("REVERSAL", -345),
        ("REVERSAL", -9_655),
    ]
    assert await harness.balance(topup.customer_id, "USD") == 0


async def test_a_refund_that_fails_gives_the_money_back(harness: Harness) -> None:
    """What the bank sends back days later is in the wallet again."""
    topup = await credited(harness)
    path = f"stripe/intents/{topup.gateway_order_id}/refund"
    made = await harness.at_sandbox(path, amount=345, wait=True)
    assert await harness.balance(topup.customer_id, "USD") == 9_655

    await harness.at_sandbox(f"stripe/refunds/{made['refund']['id']}/failed", wait=True)

    assert await harness.balance(topup.customer_id, "USD") == 10_000
    assert (await harness.topup(topup)).state == CREDITED


@pytest.mark.parametrize(
    ("step", "state", "balance", "wallet_state"),
    [("win", CREDITED, 6_000, ACTIVE), ("lose", REVERSED, -4_000, FROZEN)],
)
async def test_a_dispute_takes_the_money_until_it_is_decided(
    harness: Harness, step: str, state: int, balance: int, wallet_state: int
) -> None:
    """The wallet is below zero and frozen meanwhile; who wins has the money for good."""
    topup = await credited(harness)
    await harness.pay(topup.customer_id, 4_000, currency="USD")
    path = f"stripe/intents/{topup.gateway_order_id}/dispute"
    opened = await harness.at_sandbox(path, wait=True)
    held = await wallet_of(harness, topup)
    assert (held.balance.minor_units, held.state) == (-4_000, FROZEN)

    await harness.at_sandbox(f"stripe/disputes/{opened['dispute']['id']}/{step}", wait=True)

    await harness.wait_for_topup(topup, state)
    wallet = await wallet_of(harness, topup)
    assert (wallet.balance.minor_units, wallet.state) == (balance, wallet_state)


async def test_a_lookup_finds_what_was_taken_back_unheard(harness: Harness) -> None:
    """With every webhook lost, the payment and its refund come by one question."""
    topup = await started(harness)
    await paid(harness, topup, webhook=False)
    path = f"stripe/intents/{topup.gateway_order_id}/refund"
    await harness.at_sandbox(path, amount=345, webhook=False)

    answer = await harness.verify(topup)

    assert answer.topup.state == CREDITED
    assert answer.wallet.balance.minor_units == 9_655


async def test_a_repeat_tells_the_client_secret_again(harness: Harness) -> None:
    """While it can be paid, also after a failure; one intent, and no other call tells it."""
    key = unique("key")
    topup = await started(harness, idempotency_key=key)
    same: Json = {"customer": topup.customer_id, "idempotency_key": key}

    repeats = await asyncio.gather(*(started(harness, **same) for _ in range(10)))
    assert all(repeat == topup for repeat in repeats)
    request = service.GetStatusRequest(customer_id=topup.customer_id)
    status = await harness.call("GetStatus", request)
    for told in (
        await harness.topup(topup),
        (await harness.verify(topup)).topup,
        status.pending_topups[0],
    ):
        assert told.checkout.gateway_order_id == topup.gateway_order_id
        assert told.checkout.client_secret == ""

    await harness.at_sandbox(f"stripe/intents/{topup.gateway_order_id}/fail")
    await harness.wait_for_topup(topup, FAILED)
    again = await started(harness, **same)
    assert again.state == FAILED
    assert again.checkout == topup.checkout

    await paid(harness, topup)
    await harness.wait_for_topup(topup, CREDITED)
    assert not (await started(harness, **same)).HasField("checkout")


async def test_a_repeat_while_stripe_is_away_is_told_to_wait(harness: Harness) -> None:
    """Without its secret the customer could not pay: that is no success, and loses nothing."""
    key = unique("key")
    topup = await started(harness, idempotency_key=key)
    same: Json = {"customer": topup.customer_id, "idempotency_key": key}
    await harness.at_sandbox("faults", api={"mode": "rate_limit", "path": "/stripe/"})

    refused = await refusal_of(started(harness, **same))

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE")
    assert refused.retry_after_seconds
    assert await harness.topup(topup) == without_secret(topup)
    assert await started(harness, **same) == topup


async def test_a_failure_that_was_heard_of_first_still_leads_to_the_checkout(
    harness: Harness,
) -> None:
    """Stripe's answer is lost, its webhook says FAILED: the repeat finds that very intent."""
    customer, key = await harness.customer(), unique("key")
    same: Json = {"customer": customer, "idempotency_key": key}
    # Both tries to make it lose their answer.
    fault = {"mode": "lose_answer", "path": "/stripe/", "times": 2}
    await harness.at_sandbox("faults", api=fault)
    assert (await refusal_of(started(harness, **same))).reason == "GATEWAY_UNAVAILABLE"
    async with harness.http.get(f"{harness.sandbox_url}/sandbox/stripe/intents") as answer:
        intent = (await answer.json())["data"][0]
    await harness.at_sandbox(f"stripe/intents/{intent['id']}/fail", wait=True)
    kept = await harness.database.topups.find_one({"customer_id": customer})
    assert kept["state"] == "FAILED"

    topup = await started(harness, **same)

    assert topup.checkout.gateway_order_id == intent["id"]
    assert topup.checkout.client_secret == intent["client_secret"]
    await paid(harness, topup)
    await harness.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(harness, topup)


async def test_no_client_secret_is_ever_kept(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """Told, failed, paid, looked up, for review: no collection, audit or log line holds one."""
    caplog.set_level("WARNING", logger="pymongo")  # as the service has it
    caplog.set_level("DEBUG")
    key = unique("key")
    by_webhook = await started(harness, idempotency_key=key)
    await started(harness, customer=by_webhook.customer_id, idempotency_key=key)
    await harness.at_sandbox(f"stripe/intents/{by_webhook.gateway_order_id}/fail", wait=True)
    await paid(harness, by_webhook)
    by_lookup = await started(harness)
    await paid(harness, by_lookup, webhook=False)
    await harness.verify(by_lookup)
    on_hold = await started(harness)
    await paid(harness, on_hold, status="requires_capture")
    told_wrong, found_wrong = [await started(harness) for _ in range(2)]
    await paid(harness, told_wrong, amount=9_999)
    await paid(harness, found_wrong, amount=9_999, webhook=False)
    assert (await harness.verify(found_wrong)).topup.state == NEEDS_REVIEW
    await harness.wait_for_topup(told_wrong, NEEDS_REVIEW)
    await harness.at_sandbox("faults", api={"mode": "rate_limit", "path": "/stripe/"})
    await refusal_of(started(harness))
    recorded = (by_webhook, on_hold, told_wrong, found_wrong)
    topups = (*recorded, by_lookup)

    async def all_audited() -> bool:
        customers = {topup.customer_id for topup in topups}
        query = {"method": "InitiateTopup", "customer_id": {"$in": list(customers)}}
        return bool(await harness.database.integration_logs.count_documents(query) == 6)

    await eventually(all_audited)
    kept = b"".join([batch async for batch in everything_in(harness)])
    logged = caplog.text
    # What is looked through is where a secret would be: what Stripe told has a place for it.
    for topup in recorded:
        for event in await events_of(harness, topup):
            assert b'"client_secret": "(not kept)"' in event["body"]
            assert event["body"] in kept
    assert {event["origin"] for event in await events_of(harness, found_wrong)} == {"LOOKUP"}
    assert all(topup.topup_id.encode() in kept for topup in topups)
    assert "GATEWAY_UNAVAILABLE" in logged
    async with harness.http.get(f"{harness.sandbox_url}/sandbox/stripe/intents") as answer:
        intents = (await answer.json())["data"]
    assert {topup.checkout.client_secret for topup in topups} <= {
        intent["client_secret"] for intent in intents
    }
    for intent in intents:
        secret = intent["client_secret"]
        assert secret.encode() not in kept
        assert secret.rpartition("_")[2].encode() not in kept
        assert secret not in logged


async def everything_in(harness: Harness) -> AsyncIterator[bytes]:
    """Give the database as it is stored, raw, collection by collection."""
    for name in await harness.database.list_collection_names():
        async for batch in harness.database[name].find_raw_batches():
            yield batch


def without_secret(topup: resources.Topup) -> resources.Topup:
    """Return a top-up as everybody but its starter is told it."""
    told = resources.Topup()
    told.CopyFrom(topup)
    told.checkout.ClearField("client_secret")
    return told


async def test_stripes_books_and_ours_agree(mongodb_uri: str) -> None:
    """Payments and what went back are the same on both sides; a payment unheard of is named."""
    async with running_harness(with_database(mongodb_uri, "stripe_books")) as harness:
        refunded, won, lost = [await credited(harness) for _ in range(3)]
        intent = f"stripe/intents/{refunded.gateway_order_id}"
        await harness.at_sandbox(f"{intent}/refund", amount=345, wait=True)
        failing = await harness.at_sandbox(f"{intent}/refund", amount=55, wait=True)
        await harness.at_sandbox(f"stripe/refunds/{failing['refund']['id']}/failed", wait=True)
        for topup, step in ((won, "win"), (lost, "lose")):
            path = f"stripe/intents/{topup.gateway_order_id}/dispute"
            opened = await harness.at_sandbox(path, wait=True)
            await harness.at_sandbox(f"stripe/disputes/{opened['dispute']['id']}/{step}", wait=True)

        result = await reconciliation(harness, "stripe")
        assert result.discrepancies == ()
        # Three payments, two refunds and two disputes.
        assert result.compared == 7

        unheard = await started(harness)
        await paid(harness, unheard, webhook=False)
        (missing,) = (await reconciliation(harness, "stripe")).discrepancies
        assert missing.kind is Kind.MISSING_HERE
        assert missing.moved.gateway_id == unheard.gateway_order_id
        await harness.verify(unheard)
        assert (await reconciliation(harness, "stripe")).discrepancies == ()


async def test_an_intent_is_paid_on_the_checkout_page(harness: Harness) -> None:
    """The checkout's link shows the intent; failing leaves it open, paying credits it."""
    topup = await harness.initiate(
        await harness.customer(), 1_500, gateway="stripe", currency="USD"
    )
    page = topup.checkout.url
    assert page == f"{harness.sandbox_url}/checkout/{topup.gateway_order_id}"

    async def shown(path: str = "", method: str = "GET") -> str:
        async with harness.http.request(method, page + path) as answer:
            assert answer.status == 200
            return await answer.text()

    first = await shown()
    for text in ("USD 15.00", "Stripe", topup.topup_id):
        assert text in first
    await shown("/fail", "POST")
    await harness.wait_for_topup(topup, resources.TOPUP_STATE_FAILED)
    await shown("/pay", "POST")
    await harness.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
    assert "The wallet has been credited." in await shown()
