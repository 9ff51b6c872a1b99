"""Stripe's events through the ledger: in whatever order, and however often, the same end."""

import pytest
from test_stripe_events import Entity, dispute, intent, moved, read, refund

from event_stories import ACTIVE, Ledger, Story, check_every_order, check_every_order_pays
from gateway_adapters.gateway import WebhookEvent
from server.ledger.money import Money
from server.ledger.records import EventOutcome, TopupState

AMOUNT = Money("INR", 1_000)


def told(seconds: int, name: str, entity: Entity) -> WebhookEvent:
    """Return an event that Stripe made at a time."""
    return read(name, entity, id=f"evt_{seconds}", created=seconds)


DECLINED = intent(
    status="requires_payment_method",
    amount_received=0,
    last_payment_error={"message": "Your card was declined."},
)
FAILED = told(9, "payment_intent.payment_failed", DECLINED)
PROCESSING = told(10, "payment_intent.processing", intent(status="processing", amount_received=0))
ON_HOLD = told(
    11,
    "payment_intent.amount_capturable_updated",
    intent(status="requires_capture", amount_received=0),
)
SUCCEEDED = told(12, "payment_intent.succeeded", intent())
CANCELED = told(
    12,
    "payment_intent.canceled",
    intent(status="canceled", amount_received=0, cancellation_reason="abandoned"),
)
REFUND_PENDING = told(13, "refund.created", refund(status="pending"))
REFUNDED = told(14, "refund.updated", refund(status="succeeded"))
REFUNDED_AGAIN_TOLD = told(15, "charge.refund.updated", refund(status="succeeded"))
REFUND_FAILED = told(16, "refund.failed", refund(status="failed"))
REST = told(17, "refund.created", refund(id="re_2", amount=600))
DISPUTED = told(18, "charge.dispute.created", dispute())
WITHDRAWN = told(19, "charge.dispute.funds_withdrawn", dispute())
WON = told(20, "charge.dispute.closed", dispute(status="won"))
REINSTATED = told(
    21,
    "charge.dispute.funds_reinstated",
    dispute(status="won", balance_transactions=moved(-1_000, 1_000)),
)
LOST = told(22, "charge.dispute.closed", dispute(status="lost"))
REST_DISPUTED = told(23, "charge.dispute.created", dispute(balance_transactions=moved(-600)))
REST_LOST = told(
    24, "charge.dispute.closed", dispute(status="lost", balance_transactions=moved(-600))
)

STORIES = {
    "paid": Story(AMOUNT, (ON_HOLD, SUCCEEDED), TopupState.CREDITED, (1_000, ACTIVE)),
    "failed, then paid": Story(
        AMOUNT, (FAILED, PROCESSING, ON_HOLD, SUCCEEDED), TopupState.CREDITED, (1_000, ACTIVE)
    ),
    "failed": Story(AMOUNT, (FAILED, PROCESSING), TopupState.PENDING, None),
    "canceled": Story(AMOUNT, (FAILED, ON_HOLD, CANCELED), TopupState.FAILED, None),
    "refunded in part": Story(
        AMOUNT,
        (SUCCEEDED, REFUND_PENDING, REFUNDED, REFUNDED_AGAIN_TOLD),
        TopupState.CREDITED,
        (600, ACTIVE),
    ),
    "refund succeeded, then failed": Story(
        AMOUNT,
        (SUCCEEDED, REFUND_PENDING, REFUNDED, REFUND_FAILED),
        TopupState.CREDITED,
        (1_000, ACTIVE),
    ),
    "refunded whole": Story(
        AMOUNT, (ON_HOLD, SUCCEEDED, REFUNDED, REST), TopupState.REVERSED, (0, ACTIVE)
    ),
    "dispute won": Story(
        AMOUNT,
        (SUCCEEDED, DISPUTED, WITHDRAWN, WON, REINSTATED),
        TopupState.CREDITED,
        (1_000, ACTIVE),
    ),
    "dispute lost": Story(
        AMOUNT, (SUCCEEDED, DISPUTED, WITHDRAWN, LOST), TopupState.REVERSED, (0, ACTIVE)
    ),
    "refunded in part, and the rest disputed": Story(
        AMOUNT, (SUCCEEDED, REFUNDED, REST_DISPUTED, REST_LOST), TopupState.REVERSED, (0, ACTIVE)
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_order_of_stripes_events_with_every_repeat_has_the_same_end(name: str) -> None:
    """All permutations, each with one of its events told twice, end as the true order does."""
    check_every_order(STORIES[name])


@pytest.mark.parametrize("name", ["paid", "refunded in part", "dispute won", "dispute lost"])
def test_an_order_paid_with_the_top_up_stays_paid_in_every_order(name: str) -> None:
    """The order is paid by the credit also when its reversal was heard of first."""
    check_every_order_pays(STORIES[name])


def test_a_dispute_reinstated_in_part_goes_to_a_person_and_credits_nothing_by_guess() -> None:
    """The ledger keeps the hold as it was; the event waits in the review queue."""
    part = dispute(status="won", balance_transactions=moved(-1_000, 700))
    partly = told(30, "charge.dispute.funds_reinstated", part)
    ledger = Ledger(AMOUNT)
    outcomes = [ledger.take(event) for event in (SUCCEEDED, DISPUTED, partly)]
    assert outcomes == [EventOutcome.APPLIED, EventOutcome.APPLIED, EventOutcome.NEEDS_REVIEW]
    assert (ledger.end().wallet, ledger.end().state) == ((0, ACTIVE), TopupState.REVERSED)
