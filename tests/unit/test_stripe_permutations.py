"""Stripe's events through the ledger: in whatever order, and however often, the same end."""

import itertools
from collections.abc import Iterable, Sequence

import pytest
from test_ledger_permutations import Ledger, Report
from test_stripe_events import Entity, dispute, intent, moved, read, refund

from server.ledger.records import TopupState, WalletState


def report(seconds: int, name: str, entity: Entity) -> Report:
    """Return what the ledger is told of an event."""
    event = read(name, entity, id=f"evt_{seconds}", created=seconds)
    assert event.fact is not None
    assert event.report_time_ms == seconds * 1_000
    return event.event_id, seconds, event.fact


DECLINED = intent(
    status="requires_payment_method",
    amount_received=0,
    last_payment_error={"message": "Your card was declined."},
)
FAILED = report(9, "payment_intent.payment_failed", DECLINED)
PROCESSING = report(10, "payment_intent.processing", intent(status="processing", amount_received=0))
ON_HOLD = report(
    11,
    "payment_intent.amount_capturable_updated",
    intent(status="requires_capture", amount_received=0),
)
SUCCEEDED = report(12, "payment_intent.succeeded", intent())
CANCELED = report(
    12,
    "payment_intent.canceled",
    intent(status="canceled", amount_received=0, cancellation_reason="abandoned"),
)
REFUND_PENDING = report(13, "refund.created", refund(status="pending"))
REFUNDED = report(14, "refund.updated", refund(status="succeeded"))
REFUNDED_AGAIN_TOLD = report(15, "charge.refund.updated", refund(status="succeeded"))
REFUND_FAILED = report(16, "refund.failed", refund(status="failed"))
REST = report(17, "refund.created", refund(id="re_2", amount=600))
DISPUTED = report(18, "charge.dispute.created", dispute())
WITHDRAWN = report(19, "charge.dispute.funds_withdrawn", dispute())
WON = report(20, "charge.dispute.closed", dispute(status="won"))
REINSTATED = report(
    21,
    "charge.dispute.funds_reinstated",
    dispute(status="won", balance_transactions=moved(-1_000, 1_000)),
)
LOST = report(22, "charge.dispute.closed", dispute(status="lost"))
REST_DISPUTED = report(23, "charge.dispute.created", dispute(balance_transactions=moved(-600)))
REST_LOST = report(
    24, "charge.dispute.closed", dispute(status="lost", balance_transactions=moved(-600))
)

SEQUENCES: dict[str, tuple[Sequence[Report], TopupState, int]] = {
    "paid": ((ON_HOLD, SUCCEEDED), TopupState.CREDITED, 1_000),
    "failed, then paid": ((FAILED, PROCESSING, ON_HOLD, SUCCEEDED), TopupState.CREDITED, 1_000),
    "failed": ((FAILED, PROCESSING), TopupState.PENDING, 0),
    "canceled": ((FAILED, ON_HOLD, CANCELED), TopupState.FAILED, 0),
    "refunded in part": (
        (SUCCEEDED, REFUND_PENDING, REFUNDED, REFUNDED_AGAIN_TOLD),
        TopupState.CREDITED,
        600,
    ),
    "refund succeeded, then failed": (
        (SUCCEEDED, REFUND_PENDING, REFUNDED, REFUND_FAILED),
        TopupState.CREDITED,
        1_000,
    ),
    "refunded whole": ((ON_HOLD, SUCCEEDED, REFUNDED, REST), TopupState.REVERSED, 0),
    "dispute won": (
        (SUCCEEDED, DISPUTED, WITHDRAWN, WON, REINSTATED),
        TopupState.CREDITED,
        1_000,
    ),
    "dispute lost": ((SUCCEEDED, DISPUTED, WITHDRAWN, LOST), TopupState.REVERSED, 0),
    "refunded in part, and the rest disputed": (
        (SUCCEEDED, REFUNDED, REST_DISPUTED, REST_LOST),
        TopupState.REVERSED,
        0,
    ),
}


def end_of(reports: Iterable[Report]) -> tuple[object, ...]:
    """Have reports come in, in this order; return the end."""
    ledger = Ledger()
    for one in reports:
        ledger.report(one)
    return ledger.end()


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_order_of_stripes_events_with_every_repeat_has_the_same_end(name: str) -> None:
    """All permutations, each with one of its events told twice, end as the true order does."""
    reports, state, balance = SEQUENCES[name]
    expected = end_of(reports)
    assert expected[1] is state
    wallet = None if SUCCEEDED not in reports else (balance, WalletState.ACTIVE)
    assert expected[0] == wallet
    for repeated in reports:
        for order in itertools.permutations((*reports, repeated)):
            assert end_of(order) == expected, [event_id for event_id, _, _ in order]


def test_a_dispute_reinstated_in_part_goes_to_a_person_and_credits_nothing_by_guess() -> None:
    """The ledger keeps the hold as it was; the event waits in the review queue."""
    part = dispute(status="won", balance_transactions=moved(-1_000, 700))
    partly = report(30, "charge.dispute.funds_reinstated", part)
    ledger = Ledger()
    for one in (SUCCEEDED, DISPUTED, partly):
        ledger.report(one)
    assert ledger.end()[:2] == ((0, WalletState.ACTIVE), TopupState.REVERSED)
    outcomes = [str(event.outcome) for event in ledger.state.events.values() if event]
    assert outcomes == ["APPLIED", "APPLIED", "NEEDS_REVIEW"]
