"""Paying by UPI through the whole service: by intent, and by QR code, which has no order."""

import asyncio
import json
import re
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
import segno

from gateway_adapters.upi import GOOGLE_PAY_ANDROID_PACKAGE, read_intent_uri
from harness import (
    Harness,
    event_of,
    gateway_id,
    payment_of,
    refusal_of,
    running_harness,
    unique,
    with_database,
)
from server.ledger.money import Money
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CREDITED = resources.TOPUP_STATE_CREDITED
EXPIRED = resources.TOPUP_STATE_EXPIRED
NEEDS_REVIEW = resources.TOPUP_STATE_NEEDS_REVIEW
PENDING = resources.TOPUP_STATE_PENDING
REVERSED = resources.TOPUP_STATE_REVERSED

AMOUNT = 12_345


async def qr_topup(harness: Harness) -> resources.Topup:
    """Start a top-up by QR code for a new customer."""
    return await harness.initiate(await harness.customer(), AMOUNT, method="upi_qr")


async def paid_silently(harness: Harness, topup: resources.Topup) -> dict[str, Any]:
    """Have the customer pay the QR code with no webhook sent; return the payment as told in one."""
    paid = await harness.pay_at_gateway(topup.gateway_order_id, webhook=False)
    return qr_payment(topup, id=paid["payment_id"])


def qr_payment(topup: resources.Topup, **fields: Any) -> dict[str, Any]:
    """Return a payment of the top-up's QR code, which names neither an order nor the code."""
    return payment_of(topup, **{"order_id": None, "method": "upi", **fields})


def captured(payment: dict[str, Any]) -> bytes:
    """Return the webhook that knows the payment alone."""
    return event_of("payment.captured", payment)


def credited(topup: resources.Topup, payment: dict[str, Any]) -> bytes:
    """Return the webhook that knows payment and QR code."""
    qr_code = {
        "id": topup.gateway_order_id,
        "entity": "qr_code",
        "usage": "single_use",
        "notes": {"topup_id": topup.topup_id},
        "close_by": "1625077799",
    }
    payload = {"payment": {"entity": payment}, "qr_code": {"entity": qr_code}}
    contains = list(payload)
    event = {"entity": "event", "event": "qr_code.credited", "contains": contains}
    return json.dumps(event | {"payload": payload}).encode()


async def outcomes(harness: Harness, bodies: Sequence[bytes]) -> list[str]:
    """Deliver webhooks one after another, each under its own id; return what became of them."""
    return [(await harness.deliver(body))[1]["outcome"] for body in bodies]


async def was_credited_once(harness: Harness, topup: resources.Topup) -> bool:
    """Tell whether one entry credits the top-up, its payment does not wait, the money is there."""
    entries = await harness.entries(topup.customer_id)
    waiting = await harness.database.gateway_events.count_documents(
        {"gateway_payment_id": entries[0]["gateway_payment_id"], "outcome": "NEEDS_REVIEW"}
    )
    balance = await harness.balance(topup.customer_id)
    return [entry["type"] for entry in entries] == ["TOPUP"] and (balance, waiting) == (AMOUNT, 0)


async def set_faults(harness: Harness, **faults: Any) -> None:
    """Say what the sandbox's next requests are to suffer."""
    async with harness.http.post(f"{harness.sandbox_url}/sandbox/faults", json=faults) as answer:
        assert answer.status == 200


def modules_of(svg: str) -> list[list[int]]:
    """Read a drawn QR code back into its modules, 1 where it is dark, with its quiet zone."""
    root = ET.fromstring(svg)  # noqa: S314  # the service made it
    size = int(root.attrib["viewBox"].split()[2])
    [lines] = [path.attrib["d"] for path in root if "stroke" in path.attrib]
    grid = [[0] * size for _ in range(size)]
    x, y = 0.0, 0.0
    for command, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: (-?[\d.]+))?", lines):
        if command == "h":
            for dark in range(int(x), int(x) + int(first)):
                grid[int(y)][dark] = 1
            x += int(first)
        elif command == "M":
            x, y = float(first), float(second)
        else:
            x, y = x + float(first), y + float(second)
    return grid


def check_upi(checkout: resources.Checkout) -> None:
    """Make sure that all of a checkout's UPI part is for the same payment of the exact amount."""
    uri = checkout.upi.intent_uri
    assert read_intent_uri(uri).amount == Money("INR", AMOUNT)
    assert checkout.upi.google_pay_ios_uri == uri.replace("upi://pay?", "gpay://upi/pay?")
    assert checkout.upi.google_pay_android_package == GOOGLE_PAY_ANDROID_PACKAGE
    expected = segno.make_qr(uri, error="m").matrix_iter(border=4)
    assert modules_of(checkout.upi.qr_svg) == [list(row) for row in expected]


@pytest.mark.parametrize("method", ["upi", "google_pay"])
async def test_a_top_up_by_upi_has_an_intent_and_its_qr_code(harness: Harness, method: str) -> None:
    """The app opens or draws the intent, or pays at Checkout; GetTopup tells the same."""
    topup = await harness.initiate(await harness.customer(), AMOUNT, method=method)
    assert topup.gateway_order_id.startswith("order_")
    assert topup.checkout.url.endswith(f"/{topup.gateway_order_id}")
    check_upi(topup.checkout)
    assert (await harness.topup(topup)).checkout == topup.checkout

    await harness.pay_at_gateway(topup.gateway_order_id, method="upi")

    await harness.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(harness, topup)


async def test_google_pay_in_another_currency_is_not_offered(harness: Harness) -> None:
    """Only in India is it a UPI app."""
    customer = await harness.customer()
    refused = await refusal_of(
        harness.initiate(customer, AMOUNT, method="google_pay", currency="USD")
    )
    assert refused.code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_shop_that_gives_no_payer_has_checkout_alone(mongodb_uri: str) -> None:
    """Without the two settings there is no UPI part, and the order is paid all the same."""
    uri = with_database(mongodb_uri, "upi_without_payer")
    async with running_harness(uri, razorpay_upi_email="", razorpay_upi_contact="") as harness:
        topup = await harness.initiate(await harness.customer(), AMOUNT, method="upi")
        assert not topup.checkout.HasField("upi")
        await harness.pay_at_gateway(topup.gateway_order_id, method="upi")
        await harness.wait_for_topup(topup, CREDITED)


async def test_a_qr_code_is_paid_by_webhook(harness: Harness) -> None:
    """The customer scans and pays; both of Razorpay's webhooks come, and credit once."""
    topup = await qr_topup(harness)
    assert topup.state == PENDING
    assert topup.gateway_order_id.startswith("qr_")
    assert topup.checkout.gateway_order_id == topup.gateway_order_id
    assert (topup.checkout.public_key, topup.checkout.url) == ("", "")
    check_upi(topup.checkout)

    paid = await harness.pay_at_gateway(topup.gateway_order_id, wait=True)

    credited_topup = await harness.wait_for_topup(topup, CREDITED)
    assert credited_topup.gateway_payment_id == paid["payment_id"]
    assert not credited_topup.HasField("checkout")
    assert await was_credited_once(harness, topup)
    found = harness.database.gateway_events.find({"gateway_payment_id": paid["payment_id"]})
    events = {event["event_type"]: event for event in await found.to_list(None)}
    assert events.keys() == {"payment.captured", "qr_code.credited"}
    assert Counter(event["outcome"] for event in events.values()) == {"APPLIED": 1, "DUPLICATE": 1}
    for event in events.values():
        assert event["topup_id"] == topup.topup_id
        assert event["gateway_order_id"] == topup.gateway_order_id


async def test_repeating_the_request_shows_the_same_qr_code(harness: Harness) -> None:
    """The same key gives the same QR code; Razorpay has one for it."""
    customer, key = await harness.customer(), unique("key")
    first, second = [
        await harness.initiate(customer, AMOUNT, method="upi_qr", idempotency_key=key)
        for _ in range(2)
    ]
    assert first == second


async def test_the_time_to_pay_is_the_qr_codes(mongodb_uri: str) -> None:
    """Razorpay closes it after two hours at most: then the top-up's time is over as well."""
    uri = with_database(mongodb_uri, "upi_for_a_day")
    async with running_harness(uri, topup_lifetime_seconds=86_400) as harness:
        topup = await qr_topup(harness)
        seconds = topup.expire_time.seconds - topup.create_time.seconds
        assert abs(seconds - 7_200) <= 5
        assert topup.expire_time.seconds > time.time()


C, Q = "payment.captured", "qr_code.credited"


@pytest.mark.parametrize(
    "order",
    [(C, Q), (Q, C), (C, C, Q, Q), (Q, Q, C, C), (C, Q, C, Q), (Q, C, Q, C), (C,), (Q,)],
    ids=" ".join,
)
async def test_both_webhooks_credit_once_in_every_order(
    harness: Harness, order: tuple[str, ...]
) -> None:
    """Whichever comes first credits, every other is a duplicate; none alone is lost."""
    topup = await qr_topup(harness)
    payment = await paid_silently(harness, topup)
    bodies = {C: captured(payment), Q: credited(topup, payment)}

    became = await outcomes(harness, [bodies[name] for name in order])

    assert became == ["APPLIED", *["DUPLICATE"] * (len(order) - 1)]
    assert (await harness.topup(topup)).state == CREDITED
    assert await was_credited_once(harness, topup)


async def test_both_webhooks_at_once_credit_once(harness: Harness) -> None:
    """Ten of each at the same moment: one takes effect."""
    topup = await qr_topup(harness)
    payment = await paid_silently(harness, topup)
    bodies = [captured(payment), credited(topup, payment)] * 10

    answers = await asyncio.gather(*(harness.deliver(body) for body in bodies))

    assert Counter(answer["outcome"] for _, answer in answers) == {"APPLIED": 1, "DUPLICATE": 19}
    assert await was_credited_once(harness, topup)


async def test_a_lookup_makes_good_for_both_webhooks(harness: Harness) -> None:
    """With no webhook at all, asking credits; the webhooks that come afterwards change nothing."""
    topup = await qr_topup(harness)
    assert (await harness.verify(topup)).topup.state == PENDING
    payment = await paid_silently(harness, topup)

    answer = await harness.verify(topup)

    assert answer.topup.state == CREDITED
    assert answer.topup.gateway_payment_id == payment["id"]
    assert answer.wallet.balance.minor_units == AMOUNT
    late = [captured(payment), credited(topup, payment)]
    assert await outcomes(harness, late) == ["DUPLICATE", "DUPLICATE"]
    assert await was_credited_once(harness, topup)


async def test_while_razorpay_cannot_be_asked_the_webhook_is_not_taken(harness: Harness) -> None:
    """Nobody can tell whose payment it is: it comes again, and credits then."""
    topup = await qr_topup(harness)
    payment = await paid_silently(harness, topup)
    await set_faults(harness, api={"mode": "error500", "times": 2, "path": "/v1/payments/qr"})

    status, _ = await harness.deliver(captured(payment), "evt_comes_again")
    assert status == 503
    assert await harness.entries(topup.customer_id) == []

    assert (await harness.deliver(captured(payment), "evt_comes_again"))[1]["outcome"] == "APPLIED"
    assert await was_credited_once(harness, topup)


async def test_a_payment_that_razorpay_cannot_tell_waits_and_is_credited_by_its_qr_code(
    harness: Harness,
) -> None:
    """Kept for review before anything is known, and credited once when the QR code is named."""
    topup = await qr_topup(harness)
    payment = qr_payment(topup, id=gateway_id("pay"))

    became = await outcomes(
        harness,
        [captured(payment), captured(payment), credited(topup, payment), captured(payment)],
    )

    assert became == ["NEEDS_REVIEW", "NEEDS_REVIEW", "APPLIED", "DUPLICATE"]
    [entry] = await harness.entries(topup.customer_id)
    assert (entry["type"], entry["amount"]) == ("TOPUP", AMOUNT)
    assert await harness.balance(topup.customer_id) == AMOUNT


async def test_a_payment_without_order_and_qr_code_is_kept_for_review(harness: Harness) -> None:
    """Money of the account that no top-up asked for is nobody's here, and is not dropped."""
    stranger = resources.Topup(amount=resources.Money(currency_code="INR", minor_units=500))
    payment = qr_payment(stranger)

    assert await outcomes(harness, [captured(payment)]) == ["NEEDS_REVIEW"]

    [event] = await harness.database.gateway_events.find(
        {"gateway_payment_id": payment["id"]}
    ).to_list(None)
    assert event["reason"] == "No top-up was started for the gateway's order none."


@pytest.mark.parametrize("kind", [C, Q])
async def test_a_qr_codes_payment_of_another_amount_waits_for_review(
    harness: Harness, kind: str
) -> None:
    """Whichever webhook tells of it, nothing is credited."""
    topup = await qr_topup(harness)
    paid = await harness.pay_at_gateway(topup.gateway_order_id, webhook=False, amount=1)
    payment = qr_payment(topup, id=paid["payment_id"], amount=1)
    body = captured(payment) if kind == C else credited(topup, payment)

    assert await outcomes(harness, [body]) == ["NEEDS_REVIEW"]

    stopped = await harness.topup(topup)
    assert stopped.state == NEEDS_REVIEW
    assert "Captured were INR 0.01, the top-up is for INR 123.45." in stopped.failure_reason
    assert await harness.entries(topup.customer_id) == []


async def test_a_second_payment_of_a_qr_code_waits_for_review(harness: Harness) -> None:
    """Two that paid at the same moment: one is credited, the other is for a person."""
    topup = await qr_topup(harness)
    first, second = qr_payment(topup), qr_payment(topup)

    became = await outcomes(harness, [credited(topup, first), credited(topup, second)])

    assert became == ["APPLIED", "NEEDS_REVIEW"]
    assert await was_credited_once(harness, topup)


async def test_a_payment_on_hold_is_captured_and_credited(harness: Harness) -> None:
    """A QR code's payment that was only authorized is found by its QR code, and captured."""
    topup = await qr_topup(harness)
    held = await harness.pay_at_gateway(topup.gateway_order_id, authorize_only=True, wait=True)

    done = await harness.wait_for_topup(topup, CREDITED)

    assert done.gateway_payment_id == held["payment_id"]
    assert await was_credited_once(harness, topup)


async def test_a_failed_scan_is_told_and_is_not_final(harness: Harness) -> None:
    """A payment that failed shows as FAILED; the QR code is then paid after all."""
    topup = await qr_topup(harness)
    await harness.pay_at_gateway(topup.gateway_order_id, "fail")
    failed = await harness.wait_for_topup(topup, resources.TOPUP_STATE_FAILED)
    assert failed.failure_reason == "Payment failed"
    check_upi(failed.checkout)

    await harness.pay_at_gateway(topup.gateway_order_id)

    await harness.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(harness, topup)


async def test_a_refund_of_a_qr_codes_payment_debits_the_wallet(harness: Harness) -> None:
    """The refund names no order either: the payment that was credited leads to the top-up."""
    topup = await qr_topup(harness)
    paid = await harness.pay_at_gateway(topup.gateway_order_id)
    await harness.wait_for_topup(topup, CREDITED)

    url = f"{harness.sandbox_url}/sandbox/payments/{paid['payment_id']}/refund"
    async with harness.http.post(url, json={}) as answer:
        assert answer.status == 200

    await harness.wait_for_topup(topup, REVERSED)
    assert await harness.balance(topup.customer_id) == 0


async def test_checkouts_proof_is_refused_for_a_qr_code(harness: Harness) -> None:
    """Razorpay gives none: the caller is told to ask for a lookup."""
    topup = await qr_topup(harness)
    proof = service.RazorpayProof(payment_id="pay_1", signature="0" * 64)

    refused = await refusal_of(harness.verify(topup, razorpay=proof))

    assert refused.reason == "PROOF_INVALID"
    assert "lookup" in refused.message


async def test_a_closed_qr_code_changes_nothing(harness: Harness) -> None:
    """That it closed is recorded, and says nothing of the top-up."""
    topup = await qr_topup(harness)
    body = json.dumps(
        {
            "event": "qr_code.closed",
            "payload": {"qr_code": {"entity": {"id": topup.gateway_order_id}}},
        }
    ).encode()
    assert await outcomes(harness, [body]) == ["IGNORED"]
    assert (await harness.topup(topup)).state == PENDING


async def test_while_no_qr_code_can_be_had_a_repeat_goes_on(harness: Harness) -> None:
    """Where Razorpay does not answer, the caller hears so and repeats with the same key."""
    customer, key = await harness.customer(), unique("key")
    await set_faults(harness, api={"mode": "error500", "times": 6, "path": "/v1/payments/qr"})
    refused = await refusal_of(
        harness.initiate(customer, AMOUNT, method="upi_qr", idempotency_key=key)
    )
    assert refused.reason == "GATEWAY_UNAVAILABLE"
    await set_faults(harness, api=None)

    topup = await harness.initiate(customer, AMOUNT, method="upi_qr", idempotency_key=key)

    check_upi(topup.checkout)


@pytest.fixture(scope="module")
async def polling(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service that asks about pending top-ups almost at once, on a database of its own."""
    uri = with_database(mongodb_uri, "polling_upi")
    async with running_harness(uri, poll_first_seconds=0.1, poll_interval_seconds=0.05) as running:
        yield running


async def test_the_poller_finds_what_was_paid_by_qr_code(polling: Harness) -> None:
    """With every webhook lost, the QR code's payments are asked for."""
    topup = await qr_topup(polling)
    await paid_silently(polling, topup)
    await polling.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(polling, topup)


@pytest.mark.parametrize("method", ["upi", "upi_qr"])
async def test_a_payment_after_the_time_is_credited(polling: Harness, method: str) -> None:
    """What nobody paid expires, also with an open intent; money that comes later still counts."""
    topup = await polling.initiate(await polling.customer(), AMOUNT, method=method)
    await polling.database.topups.update_one(
        {"_id": topup.topup_id}, [{"$set": {"expire_time": "$create_time"}}]
    )
    await polling.wait_for_topup(topup, EXPIRED)

    await polling.pay_at_gateway(topup.gateway_order_id, method="upi", webhook=False)

    await polling.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(polling, topup)
