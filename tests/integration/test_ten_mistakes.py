"""What real integrators got wrong, one test or more for each, through the real door.

Each mistake is tried with Razorpay and with PayPal: the customer pays at the gateway, its webhooks
arrive as the test decides, and what counts is the wallet.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness import (
    KEY_SECRET,
    WEBHOOK_SECRET,
    outcomes_of,
    refusal_of,
    signature_of,
    with_database,
)
from postbox import Service, Side, running_service
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CREDITED = resources.TOPUP_STATE_CREDITED
PENDING = resources.TOPUP_STATE_PENDING
FAILED = resources.TOPUP_STATE_FAILED
EXPIRED = resources.TOPUP_STATE_EXPIRED
REVERSED = resources.TOPUP_STATE_REVERSED
NEEDS_REVIEW = resources.TOPUP_STATE_NEEDS_REVIEW
ACTIVE = resources.WALLET_STATE_ACTIVE
FROZEN = resources.WALLET_STATE_FROZEN


@pytest.fixture(scope="module")
async def shop(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service on a database of its own, whose poller asks about nothing by itself."""
    uri = with_database(mongodb_uri, "ten_mistakes")
    folder = tmp_path_factory.mktemp("ten_mistakes")
    async with running_service(uri, folder, poll_interval_seconds=0.05) as running:
        yield running


@pytest.fixture(params=["razorpay", "paypal"])
def side(request: pytest.FixtureRequest, shop: Service) -> Side:
    """Each gateway in turn."""
    return shop.side(request.param)


async def start(side: Side, amount: int = 1_000) -> resources.Topup:
    """Return a new customer's top-up that waits to be paid."""
    return await side.initiate(await side.harness.customer(), amount)


async def amounts(side: Side, topup: resources.Topup) -> list[int]:
    """Return what moved in the wallet of a top-up's customer, oldest first."""
    return [entry["amount"] for entry in await side.harness.entries(topup.customer_id)]


async def events(side: Side, topup: resources.Topup) -> list[str]:
    """Return what became of each event that was recorded for a top-up."""
    cursor = side.harness.database.gateway_events.find({"topup_id": topup.topup_id})
    return [event["outcome"] for event in await cursor.to_list(None)]


# 1. Verifying a re-serialised body instead of the raw bytes.


async def test_mistake_1_a_reserialised_body(side: Side) -> None:
    """The same JSON in other bytes is not what was signed; the bytes that came are, and credit."""
    topup = await start(side)
    await side.pay(topup)
    letter = await side.letter(topup, side.captured)
    content = json.loads(letter.body)

    for rewritten in (
        json.dumps(content, separators=(",", ":")),
        json.dumps(content, indent=2),
        json.dumps(content, sort_keys=True),
        letter.body.decode() + "\n",
    ):
        assert rewritten.encode() != letter.body
        assert await side.deliver(letter, rewritten.encode()) == "SIGNATURE_INVALID"

    assert await events(side, topup) == []
    assert await amounts(side, topup) == []
    assert await side.deliver(letter) == "APPLIED"
    assert await amounts(side, topup) == [1_000]


# 2. Dropping an event that came out of order.


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_mistake_2_an_event_out_of_order(side: Side, order: tuple[int, ...]) -> None:
    """On hold, captured, refunded in part: whatever comes first, and again, the end is one."""
    topup = await start(side)
    paid = await side.pay(topup)
    await side.refund(paid.payment_id, 300)
    kinds = (side.on_hold, side.captured, side.refunded)
    letters = [await side.letter(topup, kinds[place]) for place in order]

    outcomes = [await side.deliver(letter) for letter in letters]
    repeats = [await side.deliver(letter) for letter in letters]

    assert set(outcomes) <= {"APPLIED", "DUPLICATE", "IGNORED"}
    assert set(repeats) == {"DUPLICATE"}
    assert await amounts(side, topup) == [1_000, -300]
    assert (await side.harness.topup(topup)).state == CREDITED


# 3. The client's callback and the webhook racing, each crediting once.


async def test_mistake_3_the_callback_races_the_webhook(side: Side) -> None:
    """The app's proof and every webhook at one moment, several times over: one credit."""
    for _ in range(5):
        topup = await start(side)
        paid = await side.pay(topup)
        letters = side.letters(topup)

        await asyncio.gather(
            *(side.harness.verify(topup, **paid.proof) for _ in range(3)),
            *(side.deliver(letter) for letter in letters * 3),
            *(side.harness.verify(topup) for _ in range(2)),
        )

        assert await amounts(side, topup) == [1_000]
        credited = await side.harness.topup(topup)
        assert (credited.state, credited.gateway_payment_id) == (CREDITED, paid.payment_id)


# 4. Treating failed as terminal, or PENDING as paid.


async def test_mistake_4_failed_is_not_the_end_at_razorpay(shop: Service) -> None:
    """A payment that failed and is captured all the same is credited, also if failed comes last."""
    razorpay = shop.razorpay
    for is_failed_last in (False, True):
        topup = await start(razorpay)
        await razorpay.act(f"orders/{topup.gateway_order_id}/pay", fail_first=True)
        failed = await razorpay.letter(topup, "payment.failed")
        captured = await razorpay.letter(topup, razorpay.captured)
        if not is_failed_last:
            assert await razorpay.deliver(failed) == "APPLIED"
            assert (await razorpay.harness.topup(topup)).state == FAILED

        assert await razorpay.deliver(captured) == "APPLIED"

        assert await razorpay.deliver(failed) in {"DUPLICATE", "IGNORED"}
        assert (await razorpay.harness.topup(topup)).state == CREDITED
        assert await amounts(razorpay, topup) == [1_000]


async def test_mistake_4_failed_is_not_the_end_at_paypal(shop: Service) -> None:
    """A card that was declined fails the top-up; approved again in another way, it is credited."""
    paypal = shop.paypal
    topup = await start(paypal)
    await paypal.approve(topup, capture="INSTRUMENT_DECLINED")
    assert await paypal.deliver(await paypal.letter(topup, paypal.on_hold)) == "APPLIED"
    assert (await paypal.harness.topup(topup)).state == FAILED
    declined = len(paypal.letters(topup))

    await paypal.approve(topup)
    again = paypal.letters(topup)[declined]
    assert await paypal.deliver(again) == "APPLIED"

    assert (await paypal.harness.topup(topup)).state == CREDITED
    assert await amounts(paypal, topup) == [1_000]


async def test_mistake_4_pending_is_not_paid_at_razorpay(shop: Service) -> None:
    """A payment that the bank has not decided on credits nothing until it is captured."""
    razorpay = shop.razorpay
    topup = await start(razorpay)
    told = await razorpay.act(f"orders/{topup.gateway_order_id}/pay", pending=True)

    assert (await razorpay.harness.verify(topup)).topup.state == PENDING
    assert await amounts(razorpay, topup) == []

    await razorpay.act(f"payments/{told['payment_id']}/capture")
    assert await razorpay.deliver(await razorpay.letter(topup, razorpay.captured)) == "APPLIED"
    assert await amounts(razorpay, topup) == [1_000]


@pytest.mark.parametrize("is_declined", [False, True])
async def test_mistake_4_pending_is_not_paid_at_paypal(shop: Service, is_declined: bool) -> None:
    """A capture under review credits nothing; it is credited if it completes, and only then."""
    paypal = shop.paypal
    topup = await start(paypal)
    await paypal.approve(topup, capture="PENDING")
    await paypal.deliver(await paypal.letter(topup, paypal.on_hold))
    await paypal.deliver(await paypal.letter(topup, "PAYMENT.CAPTURE.PENDING"))
    pending = (await paypal.harness.verify(topup)).topup
    assert pending.state == PENDING
    assert await amounts(paypal, topup) == []

    await paypal.act(f"paypal/captures/{pending.gateway_payment_id}/settle", decline=is_declined)
    kind = "PAYMENT.CAPTURE.DENIED" if is_declined else paypal.captured
    assert await paypal.deliver(await paypal.letter(topup, kind)) == "APPLIED"

    assert (await paypal.harness.topup(topup)).state == (FAILED if is_declined else CREDITED)
    assert await amounts(paypal, topup) == ([] if is_declined else [1_000])


# 5. Late authorization after the session expired.


@pytest.mark.parametrize("is_captured", [False, True])
async def test_mistake_5_money_that_comes_after_the_session_expired(
    side: Side, is_captured: bool
) -> None:
    """Authorized or captured after the top-up's end: it is captured and credited, never ignored."""
    topup = await start(side)
    await side.harness.database.topups.update_one(
        {"_id": topup.topup_id},
        [{"$set": {"expire_time": "$create_time", "poll_time": "$create_time"}}],
    )
    await side.harness.wait_for_topup(topup, EXPIRED)

    if is_captured:
        await side.pay(topup)
    else:
        await side.hold(topup)
    await side.deliver(await side.letter(topup, side.captured if is_captured else side.on_hold))

    assert (await side.harness.topup(topup)).state == CREDITED
    assert await amounts(side, topup) == [1_000]
    assert await side.captures(topup) == 1


# 6. Trusting the client's order id or amount; float rounding.


async def test_mistake_6_the_clients_order_id(side: Side) -> None:
    """A good proof of a small top-up does not pay a large one: the stored order counts."""
    small, large = await start(side, 100), await start(side, 100_000)
    paid = await side.pay(small)

    refused = await refusal_of(side.harness.verify(large, **paid.proof))

    assert refused.reason == "PROOF_INVALID"
    assert (await side.harness.topup(large)).state == PENDING
    assert await amounts(side, large) == []
    assert (await side.harness.verify(small, **paid.proof)).topup.state == CREDITED


async def test_mistake_6_the_clients_signature(shop: Service) -> None:
    """A proof with one bit flipped, by another key, or of ids the other way round is no proof."""
    razorpay = shop.razorpay
    topup = await start(razorpay)
    paid = await razorpay.pay(topup)
    good = paid.proof["razorpay"].signature
    order, payment_id = topup.gateway_order_id, paid.payment_id
    flipped = [
        f"{good[:place]}{int(good[place], 16) ^ 1 << bit:x}{good[place + 1 :]}"
        for place in range(len(good))
        for bit in range(4)
    ]
    others = [
        signature_of(f"{order}|{payment_id}".encode(), WEBHOOK_SECRET),
        signature_of(f"{payment_id}|{order}".encode(), KEY_SECRET),
        good.upper(),
    ]

    refusals = await outcomes_of(
        [
            razorpay.harness.verify(
                topup, razorpay=service.RazorpayProof(payment_id=payment_id, signature=signature)
            )
            for signature in (*flipped, *others)
        ]
    )

    assert {refusal.reason for refusal in refusals} == {"PROOF_INVALID"}
    assert await amounts(razorpay, topup) == []
    assert signature_of(f"{order}|{payment_id}".encode(), KEY_SECRET) == good
    assert (await razorpay.harness.verify(topup, **paid.proof)).topup.state == CREDITED


async def test_mistake_6_the_clients_amount_at_razorpay(shop: Service) -> None:
    """Whoever paid a rupee for a top-up of a thousand is not credited: a person looks at it."""
    razorpay = shop.razorpay
    topup = await start(razorpay, 100_000)
    await razorpay.act(f"orders/{topup.gateway_order_id}/pay", amount=100)

    outcome = await razorpay.deliver(await razorpay.letter(topup, razorpay.captured))

    assert outcome == "NEEDS_REVIEW"
    assert (await razorpay.harness.topup(topup)).state == NEEDS_REVIEW
    assert await amounts(razorpay, topup) == []


async def test_mistake_6_the_clients_amount_at_paypal(shop: Service) -> None:
    """A capture of another amount than the order's is not credited: a person looks at it."""
    paypal = shop.paypal
    topup = await start(paypal, 100_000)
    await paypal.approve(topup, amount="1.00")

    await paypal.deliver(await paypal.letter(topup, paypal.on_hold))

    assert (await paypal.harness.topup(topup)).state == NEEDS_REVIEW
    assert await events(paypal, topup) == ["APPLIED", "NEEDS_REVIEW"]
    assert await amounts(paypal, topup) == []


@pytest.mark.parametrize("amount", [110, 115, 229, 835, 1_999, 8_035, 419_835, 90_071_992])
async def test_mistake_6_float_rounding(side: Side, amount: int) -> None:
    """Amounts that floats cannot hold are ordered, paid, credited and refunded to the last unit."""
    topup, payment_id = await side.credited(amount)

    await side.refund(payment_id, amount - 1)
    await side.deliver(await side.letter(topup, side.refunded))

    assert await amounts(side, topup) == [amount, 1 - amount]
    assert await side.balance(topup) == 1


# 7. Refunds and partial refunds started in the gateway's dashboard.


async def test_mistake_7_refunds_from_the_dashboard(side: Side) -> None:
    """Each partial refund takes its own amount, once, until all of it was taken back."""
    topup, payment_id = await side.credited(1_000)
    letters = []
    for amount in (300, 100, 600):
        await side.refund(payment_id, amount)
        letters.append(await side.letter(topup, side.refunded))

    outcomes = [await side.deliver(letter) for letter in reversed(letters)]

    assert outcomes == ["APPLIED"] * 3
    assert [await side.deliver(letter) for letter in letters] == ["DUPLICATE"] * 3
    assert await amounts(side, topup) == [1_000, -600, -100, -300]
    assert (await side.harness.topup(topup)).state == REVERSED


async def test_mistake_7_a_refund_whose_webhook_was_lost(side: Side) -> None:
    """What was refunded before the credit is learnt with it, though no webhook ever told."""
    topup = await start(side)
    paid = await side.pay(topup)
    await side.refund(paid.payment_id, 300)

    answer = await side.harness.verify(topup)

    assert answer.topup.state == CREDITED
    assert answer.wallet.balance.minor_units == 700
    assert await amounts(side, topup) == [1_000, -300]


# 8. Capture called twice at once.


async def test_mistake_8_capture_called_twice_at_once(side: Side) -> None:
    """Webhooks and lookups that all see the money on hold capture it once, and credit it once."""
    topup = await start(side)
    await side.hold(topup)
    letter = await side.letter(topup, side.on_hold)

    outcomes = await asyncio.gather(
        *(side.deliver(letter) for _ in range(5)),
        *(side.harness.verify(topup) for _ in range(5)),
    )

    told = Counter(outcome for outcome in outcomes if isinstance(outcome, str))
    assert told["NEEDS_REVIEW"] == 0
    assert await side.captures(topup) == 1
    assert await amounts(side, topup) == [1_000]
    assert (await side.harness.topup(topup)).state == CREDITED


# 9. Marking an event as seen before it took effect.


@asynccontextmanager
async def refusing_entries(database: Any) -> AsyncIterator[None]:
    """Have MongoDB refuse every entry of the ledger, in the middle of each commit."""
    [found] = await (
        await database.list_collections(filter={"name": "wallet_transactions"})
    ).to_list(None)
    await database.command(
        "collMod", "wallet_transactions", validator={"no_such_field": {"$exists": True}}
    )
    yield
    validator = found["options"]["validator"]
    await database.command("collMod", "wallet_transactions", validator=validator)


async def test_mistake_9_an_event_marked_as_seen_before_it_took_effect(side: Side) -> None:
    """A commit that fails half-way leaves no trace of the event; the gateway's retry credits."""
    topup = await start(side)
    await side.pay(topup)
    letter = await side.letter(topup, side.captured)

    async with refusing_entries(side.harness.database):
        assert await side.deliver(letter) == "UNAVAILABLE"
        assert await events(side, topup) == []
        assert (await side.harness.topup(topup)).state == PENDING

    assert await side.deliver(letter) == "APPLIED"
    assert await side.deliver(letter) == "DUPLICATE"
    assert await amounts(side, topup) == [1_000]


async def test_mistake_9_an_event_that_needs_an_answer_that_does_not_come(shop: Service) -> None:
    """While PayPal cannot say who got the money, a dispute's end is not marked as seen."""
    paypal = shop.paypal
    topup, payment_id = await paypal.credited(1_000)
    dispute = await paypal.dispute(payment_id, 400)
    await paypal.deliver(await paypal.letter(topup, "CUSTOMER.DISPUTE.CREATED"))
    await paypal.act(f"{dispute}/lose")
    letter = await paypal.letter(topup, "CUSTOMER.DISPUTE.RESOLVED")
    before = await events(paypal, topup)
    await paypal.break_api("error500", times=2, path="/v2/payments/captures/")

    assert await paypal.deliver(letter) == "UNAVAILABLE"
    assert await events(paypal, topup) == before

    assert await paypal.deliver(letter) == "APPLIED"
    await paypal.deliver(await paypal.letter(topup, "PAYMENT.CAPTURE.REVERSED"))
    assert await paypal.balance(topup) == 600


# 10. Chargebacks and partial reversals.


async def test_mistake_10_a_chargeback_of_spent_money(side: Side) -> None:
    """A disputed part is taken below zero and freezes spending; won, it comes back and thaws."""
    topup, payment_id = await side.credited(1_000)
    await side.spend(topup, 800)
    dispute = await side.dispute(payment_id, 600)

    assert await side.deliver(await side.letter(topup, side.disputed)) == "APPLIED"

    assert await side.wallet(topup) == (-400, FROZEN)
    assert (await refusal_of(side.spend(topup, 1))).reason == "WALLET_FROZEN"

    await side.act(f"{dispute}/win")
    assert await side.deliver(await side.letter(topup, side.dispute_won)) == "APPLIED"

    assert await side.wallet(topup) == (200, ACTIVE)
    await side.spend(topup, 200)
    assert await amounts(side, topup) == [1_000, -800, -600, 600, -200]


async def test_mistake_10_a_chargeback_that_is_lost_is_settled_by_a_top_up(side: Side) -> None:
    """What was lost stays taken, by its own amount; a new top-up settles the debt and thaws."""
    topup, payment_id = await side.credited(1_000)
    await side.spend(topup, 1_000)
    dispute = await side.dispute(payment_id, 600)
    await side.act(f"{dispute}/lose")
    about_the_dispute = side.letters(topup)[-side.letters_of_a_loss :]

    for letter in (*about_the_dispute, *reversed(about_the_dispute)):
        await side.deliver(letter)

    assert await side.wallet(topup) == (-600, FROZEN)
    assert (await side.harness.topup(topup)).state == CREDITED

    settling = await side.initiate(topup.customer_id, 700)
    await side.pay(settling)
    await side.deliver(await side.letter(settling, side.captured))

    assert await side.wallet(topup) == (100, ACTIVE)
    await side.spend(topup, 100)


async def test_mistake_10_a_partial_reversal_at_paypal(shop: Service) -> None:
    """What PayPal takes back by itself debits the part that it took, not the payment."""
    paypal = shop.paypal
    topup, payment_id = await paypal.credited(1_000)
    await paypal.act(f"paypal/captures/{payment_id}/reverse", amount="2.50")

    letter = await paypal.letter(topup, "PAYMENT.CAPTURE.REVERSED")
    assert [await paypal.deliver(letter) for _ in range(2)] == ["APPLIED", "DUPLICATE"]

    assert await amounts(paypal, topup) == [1_000, -250]
    assert await paypal.wallet(topup) == (750, ACTIVE)
