"""What the sandbox's checkout page says of an order, by its state and its webhooks."""

import pytest

from gateway_adapters.sandbox.checkout import Payable, PayableState
from gateway_adapters.sandbox.checkout.stage import PASSING, PAYABLE, WORDS, Stage, stage_of
from gateway_adapters.sandbox.webhooks import Delivery, DeliveryState, Webhook

WAITING, TAKEN = DeliveryState.WAITING, DeliveryState.TAKEN
LOST, GIVEN_UP = DeliveryState.LOST, DeliveryState.GIVEN_UP


def order(state: PayableState, paid_amount: str = "") -> Payable:
    """Return an order of INR 5.00."""
    return Payable("order_1", "top_1", "INR 5.00", state, paid_amount)


def paid(*deliveries: tuple[DeliveryState, str], amount: str = "INR 5.00") -> Stage:
    """Return the stage of a paid order whose webhooks came so far."""
    webhook = Webhook("evt_1", "{}")
    told = [Delivery(webhook, state, outcome) for state, outcome in deliveries]
    return stage_of(order(PayableState.PAID, amount), told)


@pytest.mark.parametrize("outcome", ["APPLIED", "DUPLICATE"])
def test_a_webhook_that_took_effect_credits(outcome: str) -> None:
    """One that was applied, now or before, is enough, whatever becomes of the others."""
    assert paid((TAKEN, outcome)) is Stage.CREDITED
    assert paid((LOST, ""), (TAKEN, outcome), (WAITING, "")) is Stage.CREDITED


@pytest.mark.parametrize("outcome", ["NEEDS_REVIEW", "IGNORED", ""])
def test_a_webhook_that_was_only_taken_credits_nothing(outcome: str) -> None:
    """Acknowledged is not credited: the page does not say so before it is."""
    assert paid((TAKEN, outcome)) is Stage.NOT_CREDITED
    assert paid((TAKEN, outcome), (WAITING, "")) is Stage.TELLING


@pytest.mark.parametrize("outcome", ["APPLIED", "DUPLICATE", "NEEDS_REVIEW"])
def test_another_amount_is_never_said_to_be_credited(outcome: str) -> None:
    """The service keeps it for review, and a repeat of its webhook is a duplicate."""
    assert paid((TAKEN, outcome), amount="INR 5.01") is Stage.NOT_CREDITED


def test_without_a_taken_webhook_nothing_is_claimed() -> None:
    """Lost, given up or forgotten: the page says that it does not know."""
    assert paid() is Stage.NOT_TOLD
    assert paid((LOST, ""), (GIVEN_UP, "")) is Stage.NOT_TOLD
    assert paid((LOST, ""), (WAITING, "")) is Stage.TELLING


@pytest.mark.parametrize("state", [state for state in PayableState if state != PayableState.PAID])
def test_an_order_that_is_not_paid_is_where_its_gateway_has_it(state: PayableState) -> None:
    """Its webhooks say nothing about that, not even one that was applied."""
    applied = Delivery(Webhook("evt_1", "{}"), TAKEN, "APPLIED")
    assert stage_of(order(state), [applied]).value == state.value


def test_each_stage_has_words_and_money_is_chosen_once() -> None:
    """Every stage can be shown, and none that took money can be paid again."""
    assert set(WORDS) == set(Stage)
    assert {Stage.OPEN, Stage.FAILED} == PAYABLE
    assert not PAYABLE & PASSING
