"""A top-up step by step: what each report makes of it, and what a person is told of the others."""

from dataclasses import replace
from typing import Any

import pytest

from one_topup import (
    AUTHORIZED,
    CAPTURED,
    FAILED,
    NOW,
    RETURNED,
    STARTED,
    World,
    create,
    inr,
    refused,
    world_is_full,
)
from server.ledger.commands import (
    ExpireTopup,
    OpenTopup,
)
from server.ledger.decisions import Accepted
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.records import (
    Checkout,
    EventOutcome,
    OrderToPay,
    TopupState,
)
from server.ledger.rejection import Reason, Rejection


def test_a_top_up_is_recorded_as_it_was_asked_for() -> None:
    """Its times follow from now, the lifetime and the first poll; nothing is paid."""
    world = World(is_open=False, pay_order=OrderToPay("order", inr(100)))
    topup = world.topup
    assert (topup.state, topup.version, topup.poll_attempts) == (TopupState.CREATED, 1, 0)
    assert (topup.create_time_ms, topup.update_time_ms) == (NOW, NOW)
    assert (topup.expire_time_ms, topup.poll_time_ms) == (NOW + 60_000, NOW + 10_000)
    assert (topup.report_time_ms, topup.checkout, topup.reversals) == (0, None, ())
    assert (topup.amount, topup.gateway, topup.method) == (inr(100), "razorpay", "upi")
    assert (topup.return_url, dict(topup.metadata)) == ("https://shop.example/", {"cart": "1"})
    assert topup.pay_order == OrderToPay("order", inr(100))
    assert topup.pay_order_outcome is None


def test_a_top_up_that_cannot_be_started_says_why() -> None:
    """Another request under the key, an unknown customer, and an order in another currency."""
    world = World()
    reused = {"idempotency_key": "1", "method": "InitiateTopup", "caller": "shop"}
    assert refused(world, create(amount=inr(101))) == (Reason.IDEMPOTENCY_KEY_REUSED, reused)
    nobody = (Reason.CUSTOMER_NOT_FOUND, {"customer_id": "nobody"})
    assert refused(world, create(2, customer_id="nobody")) == nobody
    in_dollars = create(2, pay_order=OrderToPay("order", Money("USD", 100)))
    values = {"order_id": "order", "currency_code": "INR", "order_currency_code": "USD"}
    assert refused(world, in_dollars) == (Reason.CURRENCY_MISMATCH, values)
    assert len(world.ledger.topups) == 1


def test_a_top_up_is_opened_once_by_its_own_customer() -> None:
    """The gateway's order and its time are noted; whoever comes second finds it done."""
    world = World(is_open=False)
    checkout = Checkout("order_1", "", "", expire_time_ms=NOW + 5)
    missing = {"customer_id": "ben", "topup_id": world.topup_id}
    of_another = OpenTopup("ben", world.topup_id, checkout)
    assert refused(world, of_another) == (Reason.TOPUP_NOT_FOUND, missing)
    world.do(OpenTopup("asha", world.topup_id, checkout))
    opened = world.topup
    assert (opened.state, opened.gateway_order_id) == (TopupState.PENDING, "order_1")
    assert (opened.checkout, opened.expire_time_ms) == (checkout, NOW + 5)
    assert (opened.update_time_ms, opened.version) == (NOW + 2_000, 2)
    world.do(OpenTopup("asha", world.topup_id, Checkout("order_2", "", "")))
    assert world.topup == opened


def test_a_top_up_that_failed_before_it_was_opened_stays_failed() -> None:
    """Its order is noted; the gateway's time is the top-up's own where it tells none."""
    world = World(is_open=False)
    world.told(FAILED)
    world.do(OpenTopup("asha", world.topup_id, Checkout("order_1", "", "")))
    assert (world.topup.state, world.topup.expire_time_ms) == (TopupState.FAILED, NOW + 60_000)


@pytest.mark.parametrize("state", TopupState)
def test_only_what_is_unpaid_expires_and_at_its_time(state: TopupState) -> None:
    """Not a moment before it, and not where money came or a person has to look."""
    world = World()
    is_unpaid = state in {TopupState.CREATED, TopupState.PENDING, TopupState.FAILED}
    world.now(state=state, transaction_id="")
    before = world.topup
    missing = {"customer_id": "ben", "topup_id": world.topup_id}
    not_his = world.ledger.carry_out(ExpireTopup("ben", world.topup_id))
    assert isinstance(not_his, Rejection)
    assert (not_his.reason, dict(not_his.metadata)) == (Reason.TOPUP_NOT_FOUND, missing)
    for now_ms, has_expired in ((NOW + 59_998, False), (NOW + 60_000, is_unpaid)):
        world.ledger.now_ms = now_ms
        decision = world.ledger.carry_out(ExpireTopup("asha", world.topup_id))
        assert isinstance(decision, Accepted)
        if has_expired:
            now = replace(before, update_time_ms=now_ms, version=before.version + 1)
            assert world.topup == replace(now, state=TopupState.EXPIRED)
        else:
            assert world.topup == before


def test_a_payment_under_way_is_noted_and_credits_nothing() -> None:
    """Also one of a top-up whose time is over; at equal times it is newer than a failure."""
    world = World(is_open=False)
    assert world.told(FAILED, 5, failure_reason="declined")[0] is EventOutcome.APPLIED
    assert (world.topup.state, world.topup.failure_reason) == (TopupState.FAILED, "declined")
    assert (world.topup.report_time_ms, world.topup.version) == (NOW + 5, 2)
    assert world.topup.update_time_ms == NOW + 1_000
    assert world.told(AUTHORIZED, 5, "pay_2")[0] is EventOutcome.APPLIED
    pending = world.topup
    assert (pending.state, pending.failure_reason) == (TopupState.PENDING, "")
    assert (pending.gateway_payment_id, pending.gateway_order_id) == ("pay_2", "order_1")
    assert (pending.report_time_ms, pending.version) == (NOW + 5, 3)
    assert pending.update_time_ms == NOW + 2_000
    old = (EventOutcome.IGNORED, "The top-up is PENDING, by a later report.")
    assert world.told(FAILED, 5) == world.told(AUTHORIZED, 4) == old
    assert world.topup == pending
    assert world.told(FAILED, 6)[0] is EventOutcome.APPLIED
    assert world.topup.failure_reason == "The gateway gave no reason."
    assert world.topup.gateway_payment_id == "pay_1"
    world.now(state=TopupState.EXPIRED)
    over = (EventOutcome.IGNORED, "The top-up is EXPIRED, by a later report.")
    assert world.told(STARTED, 9) == world.told(FAILED, 9) == over
    assert world.told(AUTHORIZED, 9)[0] is EventOutcome.APPLIED
    assert (world.topup.state, world.balance) == (TopupState.PENDING, 0)


def test_a_capture_credits_and_ends_the_questions() -> None:
    """The top-up names its payment, its entry and, where it had none, its order."""
    world = World(is_open=False)
    world.told(FAILED, 5)
    assert world.told(CAPTURED, 1) == (EventOutcome.APPLIED, "")
    topup = world.topup
    assert (topup.state, topup.failure_reason) == (TopupState.CREDITED, "")
    assert (topup.gateway_payment_id, topup.gateway_order_id) == ("pay_1", "order_1")
    assert (topup.poll_time_ms, topup.version) == (None, 3)
    assert topup.update_time_ms == NOW + 2_000
    [entry] = world.ledger.entries
    assert topup.transaction_id == entry.transaction_id
    assert dict(entry.metadata) == {"cart": "1"}
    assert (entry.gateway, entry.gateway_payment_id) == ("razorpay", "pay_1")
    assert world.told(CAPTURED, 2) == (EventOutcome.DUPLICATE, "")
    for status in (AUTHORIZED, FAILED):
        late = (EventOutcome.IGNORED, "The top-up is CREDITED, by a later report.")
        assert world.told(status, 9) == late
    assert (world.topup, world.balance) == (topup, 100)


def test_an_order_that_cannot_be_paid_leaves_the_credit_and_says_why() -> None:
    """The outcome names the reason, or else the entry that paid."""
    world = World(pay_order=OrderToPay("order", inr(101)))
    world.told(CAPTURED)
    outcome = world.topup.pay_order_outcome
    assert outcome is not None
    assert (outcome.transaction_id, outcome.failure_reason) == ("", "INSUFFICIENT_FUNDS")
    assert world.balance == 100
    world = World(pay_order=OrderToPay("order", inr(40)))
    world.told(CAPTURED)
    outcome = world.topup.pay_order_outcome
    assert outcome is not None
    credit, payment = world.ledger.entries
    assert (outcome.transaction_id, outcome.failure_reason) == (payment.transaction_id, "")
    assert (payment.topup_id, dict(payment.metadata)) == (world.topup_id, {"cart": "1"})
    assert (credit.sequence, payment.sequence, world.balance) == (1, 2, 60)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"amount": inr(99)}, "Captured were INR 0.99, the top-up is for INR 1.00."),
        (
            {"gateway_order_id": "order_2"},
            "Payment pay_1 belongs to the gateway's order order_2, the top-up to order_1.",
        ),
    ],
)
def test_a_capture_that_does_not_fit_waits_for_a_person(more: dict[str, Any], reason: str) -> None:
    """Nothing is credited; the top-up stops, and says why, and what was taken back by then."""
    world = World()
    assert world.told(CAPTURED, **more) == (EventOutcome.NEEDS_REVIEW, reason)
    stopped = world.topup
    assert (stopped.state, stopped.failure_reason) == (TopupState.NEEDS_REVIEW, reason)
    assert (stopped.poll_time_ms, stopped.gateway_payment_id) == (None, "pay_1")
    assert (stopped.version, stopped.update_time_ms) == (3, NOW + 2_000)
    assert world.balance == 0
    world = World()
    world.taken(30)
    world.taken(20, reversal_id="rfnd_2")
    world.taken(5, payment_id="pay_2", reversal_id="rfnd_3")
    world.taken(7, RETURNED, reversal_id="rfnd_4")
    told = reason + " The gateway has taken back 50 minor units of it already."
    assert world.told(CAPTURED, **more) == (EventOutcome.NEEDS_REVIEW, told)


def test_a_payment_without_an_order_is_taken_for_the_top_ups_own() -> None:
    """Where the gateway tells no order, or the top-up has none yet, nothing contradicts."""
    world = World()
    assert world.told(CAPTURED, gateway_order_id="")[0] is EventOutcome.APPLIED
    assert world.topup.gateway_order_id == "order_1"
    world = World(is_open=False)
    assert world.told(CAPTURED, gateway_order_id="order_9")[0] is EventOutcome.APPLIED
    assert world.topup.gateway_order_id == "order_9"


def test_a_second_payment_waits_for_a_person() -> None:
    """The customer may have paid twice; the top-up stays as it is."""
    world = World()
    world.told(CAPTURED)
    credited = world.topup
    reason = (
        "Payment pay_2 was captured for a top-up that payment pay_1 had been credited for: the "
        "customer may have paid twice."
    )
    assert world.told(CAPTURED, payment_id="pay_2") == (EventOutcome.NEEDS_REVIEW, reason)
    assert (world.topup, world.balance) == (credited, 100)
    world = World()
    world.taken(5, payment_id="pay_2")
    world.told(CAPTURED)
    reason += " The gateway has taken back 5 minor units of it already."
    assert world.told(CAPTURED, payment_id="pay_2") == (EventOutcome.NEEDS_REVIEW, reason)


def test_a_full_wallet_takes_a_credit_to_its_bound_and_not_over() -> None:
    """What is over waits for a person."""
    for room, outcome in ((100, EventOutcome.APPLIED), (99, EventOutcome.NEEDS_REVIEW)):
        world = World(number=1, amount=inr(MAX_BALANCE_MINOR_UNITS - room))
        world.told(CAPTURED, amount=inr(MAX_BALANCE_MINOR_UNITS - room))
        world.ledger.carry_out(create(2))
        [other] = set(world.ledger.topups) - {world.topup_id}
        world.topup_id = other
        reason = "" if outcome is EventOutcome.APPLIED else world_is_full("The credit would bring")
        told = world.told(CAPTURED, payment_id="pay_2", gateway_order_id="order_2")
        assert told == (outcome, reason)
