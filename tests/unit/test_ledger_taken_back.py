"""What a gateway takes back of a top-up, step by step, and what a person is told of the rest."""

from dataclasses import replace
from typing import Any

import pytest

from one_topup import CAPTURED, NOW, RETURNED, TAKEN, World, create, inr, world_is_full
from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.ledger.records import (
    EventOutcome,
    ReversalState,
    TopupState,
)
from server.ledger.reversals import MAX_REVERSALS_PER_TOPUP


def test_what_is_taken_back_debits_until_all_is() -> None:
    """A top-up of which all was taken back is REVERSED, and no more once a part returns."""
    world = World()
    world.told(CAPTURED)
    assert world.taken(99) == (EventOutcome.APPLIED, "")
    assert (world.topup.state, world.balance) == (TopupState.CREDITED, 1)
    version = world.topup.version
    assert world.taken(1, reversal_id="rfnd_2") == (EventOutcome.APPLIED, "")
    assert (world.topup.state, world.balance) == (TopupState.REVERSED, 0)
    assert (world.topup.version, world.topup.update_time_ms) == (version + 1, NOW + 4_000)
    assert [one.reversal_id for one in world.topup.reversals] == ["rfnd_1", "rfnd_2"]
    assert world.taken(99, RETURNED, is_final=True) == (EventOutcome.APPLIED, "")
    assert (world.topup.state, world.balance) == (TopupState.CREDITED, 99)
    first, second = world.topup.reversals
    assert (first.is_debited, first.state, first.is_final) == (False, RETURNED, True)
    assert (second.reversal_id, second.is_debited, second.is_final) == ("rfnd_2", True, False)
    entry = world.ledger.entries[-1]
    assert (entry.gateway_reversal_id, entry.amount) == ("rfnd_1", 99)
    assert (entry.gateway, entry.gateway_payment_id) == ("razorpay", "pay_1")
    assert entry.topup_id == world.topup_id


def test_a_repeated_or_older_report_of_what_was_taken_changes_nothing() -> None:
    """The last word stands, also against an earlier one that comes late; a final word is noted."""
    world = World()
    world.told(CAPTURED)
    world.taken(30)
    known = world.topup
    assert world.taken(30) == (EventOutcome.DUPLICATE, "")
    assert world.topup == known
    assert world.taken(30, is_final=True) == (EventOutcome.APPLIED, "")
    assert (world.topup.reversals[0].is_final, world.balance) == (True, 70)
    assert world.taken(30, RETURNED) == (EventOutcome.DUPLICATE, "")
    assert world.balance == 70


@pytest.mark.parametrize(
    ("amount", "state", "more", "reason"),
    [
        (
            *(30, TAKEN, {"currency_code": "USD"}),
            "The refund rfnd_1 is in USD, the top-up in INR 1.00.",
        ),
        (
            *(30, TAKEN, {"payment_id": "pay_2"}),
            "The refund rfnd_1 is of payment pay_2; the top-up was credited for pay_1.",
        ),
        (
            *(31, TAKEN, {}),
            "The refund rfnd_1 was over 30 minor units and is now over INR 0.31.",
        ),
        (
            *(30, RETURNED, {"is_final": True}),
            "The refund rfnd_1 was TAKEN for good and is now RETURNED.",
        ),
    ],
)
def test_a_report_against_what_is_known_waits_for_a_person(
    amount: int, state: ReversalState, more: dict[str, Any], reason: str
) -> None:
    """Another currency, payment, amount or last word changes nothing by itself."""
    world = World()
    world.told(CAPTURED)
    world.taken(30, is_final=True)
    known = world.topup
    assert world.taken(amount, state, **more) == (EventOutcome.NEEDS_REVIEW, reason)
    assert (world.topup, world.balance) == (known, 70)


def test_what_was_taken_before_the_credit_is_debited_with_it() -> None:
    """It is noted, and debited once its payment is credited; what is of another one is not."""
    world = World()
    assert world.taken(30) == (EventOutcome.APPLIED, "")
    assert (world.topup.reversals[0].is_debited, world.topup.state) == (False, TopupState.PENDING)
    world.taken(5, payment_id="pay_2", reversal_id="rfnd_2")
    world.taken(7, RETURNED, reversal_id="rfnd_3")
    world.told(CAPTURED)
    assert [one.is_debited for one in world.topup.reversals] == [True, False, False]
    assert (world.balance, world.topup.state) == (70, TopupState.CREDITED)


def test_a_top_up_that_waits_for_a_person_notes_what_was_taken() -> None:
    """Only that person knows whether a wallet was given the payment."""
    world = World()
    world.told(CAPTURED, amount=inr(99))
    by_hand = (
        "The refund rfnd_1 is of payment pay_1, whose top-up waits for review: if a wallet was "
        "given that payment, take this out of it."
    )
    assert world.taken(30) == (EventOutcome.NEEDS_REVIEW, by_hand)
    assert (world.topup.reversals[0].amount, world.balance) == (30, 0)
    noted = world.topup
    assert world.taken(30) == (EventOutcome.NEEDS_REVIEW, by_hand)
    assert world.topup == noted


def test_a_top_up_notes_200_refunds_at_most() -> None:
    """One more waits for a person; the ones that are known are still heard."""
    assert MAX_REVERSALS_PER_TOPUP == 200
    world = World()
    world.taken(1)
    one = world.topup.reversals[0]
    more = tuple(replace(one, reversal_id=f"rfnd_{number}") for number in range(2, 200))
    world.now(reversals=(one, *more))
    assert world.taken(1, reversal_id="rfnd_200") == (EventOutcome.APPLIED, "")
    full = "The top-up has 200 refunds and disputes already."
    assert world.taken(1, reversal_id="rfnd_201") == (EventOutcome.NEEDS_REVIEW, full)
    assert world.taken(1, is_final=True) == (EventOutcome.APPLIED, "")


def test_what_comes_back_fills_a_wallet_to_its_bound_and_not_over() -> None:
    """A wallet that was filled meanwhile takes back what fits, and else a person has to look."""
    for room, outcome in ((30, EventOutcome.APPLIED), (29, EventOutcome.NEEDS_REVIEW)):
        world = World()
        world.told(CAPTURED)
        world.taken(30)
        world.ledger.carry_out(create(2, amount=inr(MAX_BALANCE_MINOR_UNITS - 70 - room)))
        [other] = set(world.ledger.topups) - {world.topup_id}
        own, world.topup_id = world.topup_id, other
        amount = inr(MAX_BALANCE_MINOR_UNITS - 70 - room)
        world.told(CAPTURED, payment_id="pay_2", gateway_order_id="order_2", amount=amount)
        world.topup_id = own
        told = world.taken(30, RETURNED)
        over = world_is_full("What came back would bring")
        assert told == (outcome, "" if outcome is EventOutcome.APPLIED else over)
