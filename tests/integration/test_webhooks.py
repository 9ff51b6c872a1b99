"""Webhooks through the sidecar: what is not surely the gateway's word about our money is not."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from harness import (
    WEBHOOK_SECRET,
    Harness,
    Refused,
    event_of,
    gateway_id,
    outcomes_of,
    payment_of,
    signature_of,
    unique,
)
from wallet_payment.v1 import resources_pb2 as resources

CREDITED = resources.TOPUP_STATE_CREDITED
PENDING = resources.TOPUP_STATE_PENDING
NEEDS_REVIEW = resources.TOPUP_STATE_NEEDS_REVIEW


async def events_of(harness: Harness, event_id: str) -> list[dict[str, Any]]:
    """Return what was recorded under an event's id."""
    cursor = harness.database.gateway_events.find({"event_id": event_id})
    events: list[dict[str, Any]] = await cursor.to_list(None)
    return events


async def nothing_credited(harness: Harness, topup: resources.Topup) -> bool:
    """Tell whether the top-up's customer has no money and no entry."""
    entries = await harness.entries(topup.customer_id)
    return entries == [] and await harness.balance(topup.customer_id) == 0


@pytest.mark.parametrize(
    "signature",
    ["", "0" * 64, signature_of(b"another body"), signature_of(b"{}", "another secret"), "☹"],
    ids=["none", "zeros", "other body", "other secret", "not ascii"],
)
async def test_a_wrong_signature_is_refused_and_leaves_no_trace(
    harness: Harness, signature: str
) -> None:
    """A webhook that the gateway did not sign is 401, is not recorded and credits nothing."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    body, event_id = event_of("payment.captured", payment_of(topup)), unique("evt")

    status, answer = await harness.deliver(body, event_id, X_Razorpay_Signature=signature)

    assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")
    assert await events_of(harness, event_id) == []
    assert await nothing_credited(harness, topup)
    assert (await harness.topup(topup)).state == PENDING


async def test_a_reserialised_body_is_refused(harness: Harness) -> None:
    """The signature is over the raw bytes: the same JSON written differently does not pass."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    body = event_of("payment.captured", payment_of(topup))
    rewritten = json.dumps(json.loads(body), separators=(",", ":")).encode()
    assert rewritten != body

    status, _ = await harness.deliver(rewritten, X_Razorpay_Signature=signature_of(body))

    assert status == 401
    assert await nothing_credited(harness, topup)


@pytest.mark.parametrize(
    ("body", "headers", "gateway", "status"),
    [
        (b'{"event": "x", "filler": "' + b"a" * 262_144 + b'"}', {}, "razorpay", 413),
        (b"event=payment.captured", {}, "razorpay", 415),
        (b"{}", {"Content_Type": "text/plain"}, "razorpay", 415),
        (b"{}", {"Content_Encoding": "gzip"}, "razorpay", 415),
        (b"[]", {}, "razorpay", 400),
        (b"{}", {}, "razorpay", 400),
        (b'{"event": "payment.captured", "payload": {}}', {}, "razorpay", 400),
        (b"{}", {}, "acme", 404),
        (b"{}", {}, "google-pay", 404),
    ],
    ids=["large", "form", "text", "gzip", "list", "empty", "no payment", "unknown", "not set up"],
)
async def test_what_is_no_event_is_refused(
    harness: Harness, body: bytes, headers: dict[str, str], gateway: str, status: int
) -> None:
    """Too large, not JSON, encoded, no event, no such gateway: each its status, none a trace."""
    event_id = unique("evt")

    answered, answer = await harness.deliver(body, event_id, gateway, **headers)

    assert answered == status
    assert answer["error"]["reason"]
    assert await events_of(harness, event_id) == []


async def test_the_largest_webhook_passes(harness: Harness) -> None:
    """A body of exactly 256 KiB is taken and recorded byte for byte."""
    frame = '{"event": "invoice.paid", "filler": ""}'
    body = frame.replace('""', f'"{"a" * (262_144 - len(frame))}"').encode()
    assert len(body) == 262_144
    event_id = unique("evt")

    status, answer = await harness.deliver(body, event_id)

    assert (status, answer["outcome"]) == (200, "IGNORED")
    (event,) = await events_of(harness, event_id)
    assert event["body"] == body


async def test_an_unknown_event_is_acknowledged_and_recorded(harness: Harness) -> None:
    """An event of a kind that changes nothing is 200 IGNORED, recorded once, and says why."""
    body, event_id = b'{"event": "invoice.paid", "payload": {}}', unique("evt")

    first = await harness.deliver(body, event_id)
    again = await harness.deliver(body, event_id)

    assert first == (200, {"outcome": "IGNORED", "event_id": event_id})
    assert again == (200, {"outcome": "DUPLICATE", "event_id": event_id})
    (event,) = await events_of(harness, event_id)
    assert (event["event_type"], event["outcome"]) == ("invoice.paid", "IGNORED")
    assert "invoice.paid" in event["reason"]


async def test_an_unknown_payment_is_kept_for_review(harness: Harness) -> None:
    """Money for an order that nobody started is acknowledged and kept, with its raw body."""
    stranger = resources.Topup(gateway_order_id=gateway_id("order"))
    stranger.amount.currency_code, stranger.amount.minor_units = "INR", 10_000
    payment = payment_of(stranger)
    body, event_id = event_of("payment.captured", payment), unique("evt")

    answers = await asyncio.gather(*(harness.deliver(body, event_id) for _ in range(10)))

    assert {status for status, _ in answers} == {200}
    outcomes = Counter(answer["outcome"] for _, answer in answers)
    assert outcomes == {"NEEDS_REVIEW": 1, "DUPLICATE": 9}
    (event,) = await events_of(harness, event_id)
    assert event["outcome"] == "NEEDS_REVIEW"
    assert event["body"] == body
    assert event["gateway_payment_id"] == payment["id"]
    assert event["gateway_order_id"] == payment["order_id"]


@pytest.mark.parametrize(
    "lie", [{"amount": 9_999}, {"amount": 10_001}, {"currency": "USD"}], ids=str
)
async def test_an_amount_that_differs_is_kept_for_review(
    harness: Harness, lie: dict[str, Any]
) -> None:
    """A capture of another amount or currency credits nothing; event and top-up wait for review."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    payment = payment_of(topup, **lie)
    body, event_id = event_of("payment.captured", payment), unique("evt")

    answers = [await harness.deliver(body, event_id) for _ in range(3)]

    assert [status for status, _ in answers] == [200] * 3
    outcomes = [answer["outcome"] for _, answer in answers]
    assert outcomes == ["NEEDS_REVIEW", "DUPLICATE", "DUPLICATE"]
    (event,) = await events_of(harness, event_id)
    assert (event["outcome"], event["body"]) == ("NEEDS_REVIEW", body)
    assert event["topup_id"] == topup.topup_id
    stopped = await harness.topup(topup)
    assert stopped.state == NEEDS_REVIEW
    assert stopped.failure_reason == event["reason"]
    assert not stopped.HasField("checkout")
    assert await nothing_credited(harness, topup)


async def test_an_amount_that_differs_by_lookup_is_kept_for_review(harness: Harness) -> None:
    """A lookup that finds another amount credits nothing and records what the gateway said."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    paid = await harness.pay_at_gateway(topup.gateway_order_id, amount=1, webhook=False)

    answer = await harness.verify(topup)

    assert answer.topup.state == NEEDS_REVIEW
    (event,) = await harness.database.gateway_events.find({"topup_id": topup.topup_id}).to_list(2)
    assert (event["outcome"], event["origin"]) == ("NEEDS_REVIEW", "LOOKUP")
    assert paid["payment_id"].encode() in event["body"]
    assert await nothing_credited(harness, topup)


async def test_a_second_capture_for_one_top_up_is_kept_for_review(harness: Harness) -> None:
    """A customer who paid twice is credited once; the second payment waits for a person."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    first, second = payment_of(topup), payment_of(topup)

    answers = await asyncio.gather(
        *(harness.deliver(event_of("payment.captured", payment)) for payment in (first, second))
    )

    outcomes = sorted(answer["outcome"] for _, answer in answers)
    assert outcomes == ["APPLIED", "NEEDS_REVIEW"]
    credited = await harness.topup(topup)
    assert credited.state == CREDITED
    (entry,) = await harness.entries(topup.customer_id)
    assert entry["gateway_payment_id"] == credited.gateway_payment_id
    kept = await harness.database.gateway_events.find_one(
        {"topup_id": topup.topup_id, "outcome": "NEEDS_REVIEW"}
    )
    assert {kept["gateway_payment_id"], credited.gateway_payment_id} == {first["id"], second["id"]}
    assert await harness.balance(topup.customer_id) == 10_000


async def test_one_payment_never_credits_two_top_ups(harness: Harness) -> None:
    """A payment told again for another top-up waits for review, and its neighbours go on."""
    customer = await harness.customer(1_000)
    first, second = [await harness.initiate(customer, 10_000) for _ in range(2)]
    payment = payment_of(first)
    await harness.deliver(event_of("payment.captured", payment))
    lie = payment | {"order_id": second.gateway_order_id}

    delivered, *paid = await outcomes_of(
        [
            harness.deliver(event_of("payment.captured", lie)),
            *(harness.pay(customer, 1) for _ in range(10)),
        ]
    )

    assert not [outcome for outcome in paid if isinstance(outcome, Refused)]
    assert delivered[0] == 200
    assert delivered[1]["outcome"] == "NEEDS_REVIEW"
    assert (await harness.topup(second)).state == NEEDS_REVIEW
    assert await harness.balance(customer) == 10_990


async def test_an_events_id_alone_does_not_mark_it_as_seen(harness: Harness) -> None:
    """The id is in no signature: another signed body under the same id takes effect too."""
    first, second = [await harness.initiate(await harness.customer(), 10_000) for _ in range(2)]
    event_id = unique("evt")

    answers = [
        await harness.deliver(event_of("payment.captured", payment_of(topup)), event_id)
        for topup in (first, second)
    ]

    assert [answer["outcome"] for _, answer in answers] == ["APPLIED", "APPLIED"]
    for topup in (first, second):
        assert (await harness.topup(topup)).state == CREDITED
        assert await harness.balance(topup.customer_id) == 10_000
    assert len(await events_of(harness, event_id)) == 2


async def test_a_webhook_without_an_id_takes_effect_once(harness: Harness) -> None:
    """An event that carries no id is known by its body."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    body = event_of("payment.captured", payment_of(topup))
    headers = {"Content-Type": "application/json", "X-Razorpay-Signature": signature_of(body)}
    url = f"{harness.sidecar_url}/webhooks/razorpay"

    outcomes = []
    for _ in range(2):
        async with harness.http.post(url, data=body, headers=headers) as answer:
            outcomes.append((await answer.json())["outcome"])

    assert outcomes == ["APPLIED", "DUPLICATE"]
    assert await harness.balance(topup.customer_id) == 10_000


async def test_what_is_recorded_of_an_event_proves_what_was_said(harness: Harness) -> None:
    """Every event is kept with its raw body, whose signature can be checked again later."""
    topup = await harness.initiate(await harness.customer(), 10_000)
    body, event_id = event_of("payment.captured", payment_of(topup)), unique("evt")
    signature = signature_of(body)

    await harness.deliver(body, event_id)

    (event,) = await events_of(harness, event_id)
    assert signature_of(event["body"], WEBHOOK_SECRET) == signature
    assert event["customer_id"] == topup.customer_id
    assert event["outcome"] == "APPLIED"
    assert event["receive_time"] <= event["apply_time"]
