"""Razorpay's events through the ledger: in whatever order, and however often, the same end."""

import pytest
from test_razorpay_events import Entity, dispute, payment, read, refund

from event_stories import ACTIVE, FROZEN, Story, check_every_order, check_every_order_pays
from gateway_adapters.gateway import WebhookEvent
from server.ledger.money import Money
from server.ledger.records import TopupState

AMOUNT = Money("INR", 1_000)


def told(seconds: int, event_type: str, **entities: Entity) -> WebhookEvent:
    """Return an event that Razorpay made at a time, about the payment and what is beside it."""
    beside = {"payment": payment(amount=1_000)} | entities
    return read(event_type, created_at=seconds, **beside)


def failed_payment(payment_id: str) -> Entity:
    """Return an attempt that failed."""
    return payment(id=payment_id, amount=1_000, status="failed", error_description="Declined.")


ORDER = {"id": "order_1", "amount": 1_000, "currency": "INR", "receipt": "top_1", "status": "paid"}
ON_HOLD = payment(amount=1_000, status="authorized")
PART = refund(amount=400)
WHOLE = dispute(amount=1_000)

FAILED = told(9, "payment.failed", payment=failed_payment("pay_1"))
AUTHORIZED = told(10, "payment.authorized", payment=ON_HOLD)
FAILED_AT_ONCE = told(10, "payment.failed", payment=failed_payment("pay_0"))
CAPTURED = told(11, "payment.captured")
ORDER_PAID = told(11, "order.paid", order=ORDER)
REFUND_CREATED = told(12, "refund.created", refund=PART)
REFUND_PROCESSED = told(13, "refund.processed", refund=PART | {"status": "processed"})
REFUND_FAILED = told(13, "refund.failed", refund=PART | {"status": "failed"})
REFUND_REST = told(
    14, "refund.processed", refund=refund(id="rfnd_2", amount=600, status="processed")
)
DISPUTED = told(15, "payment.dispute.created", dispute=WHOLE)
UNDER_REVIEW = told(15, "payment.dispute.under_review", dispute=WHOLE | {"status": "under_review"})
WON = told(16, "payment.dispute.won", dispute=WHOLE | {"status": "won"})
LOST = told(
    16, "payment.dispute.lost", dispute=WHOLE | {"status": "lost", "amount_deducted": 1_000}
)
CLOSED = told(16, "payment.dispute.closed", dispute=WHOLE | {"status": "closed"})

STORIES = {
    "paid": Story(AMOUNT, (AUTHORIZED, CAPTURED, ORDER_PAID), TopupState.CREDITED, (1_000, ACTIVE)),
    "failed, then captured": Story(
        AMOUNT, (FAILED, AUTHORIZED, CAPTURED, ORDER_PAID), TopupState.CREDITED, (1_000, ACTIVE)
    ),
    "failed, then on hold": Story(
        AMOUNT, (FAILED, FAILED_AT_ONCE, AUTHORIZED), TopupState.PENDING, None
    ),
    "refunded in part": Story(
        AMOUNT,
        (AUTHORIZED, CAPTURED, REFUND_CREATED, REFUND_PROCESSED),
        TopupState.CREDITED,
        (600, ACTIVE),
    ),
    "refunded whole": Story(
        AMOUNT,
        (CAPTURED, REFUND_CREATED, REFUND_PROCESSED, REFUND_REST),
        TopupState.REVERSED,
        (0, ACTIVE),
    ),
    "refund failed": Story(
        AMOUNT, (CAPTURED, REFUND_CREATED, REFUND_FAILED), TopupState.CREDITED, (1_000, ACTIVE)
    ),
    "dispute won": Story(
        AMOUNT, (CAPTURED, ORDER_PAID, DISPUTED, WON), TopupState.CREDITED, (1_000, ACTIVE)
    ),
    "dispute closed": Story(
        AMOUNT, (CAPTURED, DISPUTED, UNDER_REVIEW, CLOSED), TopupState.CREDITED, (1_000, ACTIVE)
    ),
    "dispute lost": Story(AMOUNT, (CAPTURED, DISPUTED, LOST), TopupState.REVERSED, (0, ACTIVE)),
    "refunded in part, and disputed": Story(
        AMOUNT,
        (CAPTURED, REFUND_PROCESSED, DISPUTED, LOST),
        TopupState.REVERSED,
        (-400, FROZEN),
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_order_of_razorpays_events_with_every_repeat_has_the_same_end(name: str) -> None:
    """All permutations, each with one of its events told twice, end as the true order does."""
    check_every_order(STORIES[name])


@pytest.mark.parametrize("name", ["paid", "refunded in part", "dispute won", "dispute lost"])
def test_an_order_paid_with_the_top_up_stays_paid_in_every_order(name: str) -> None:
    """The order is paid by the credit also when its reversal was heard of first."""
    check_every_order_pays(STORIES[name])
