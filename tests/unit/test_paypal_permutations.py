"""PayPal's events through the ledger: in whatever order, and however often, the same end."""

import pytest
from test_paypal_events import (
    ORDER_ID,
    TOPUP_ID,
    WON,
    Json,
    body_of,
    capture_resource,
    dispute_resource,
    order_resource,
    refund_resource,
    resolved,
    usd,
)

from event_stories import ACTIVE, FROZEN, Story, check_every_order, check_every_order_pays
from gateway_adapters.gateway import WebhookEvent
from gateway_adapters.paypal.events import PaypalEvent, read_event, taken_by_dispute
from server.ledger.money import Money
from server.ledger.records import TopupState

AMOUNT = Money("USD", 1_000)


def read(second: int, event_type: str, resource: Json) -> PaypalEvent:
    """Read an event that PayPal made at a time."""
    time = f"2026-11-01T10:00:{second:02}.000Z"
    return read_event(body_of(event_type, resource, id=f"WH-{second}", create_time=time))


def told(second: int, event_type: str, resource: Json) -> WebhookEvent:
    """Return what the ledger is told of an event for which PayPal need not be asked."""
    return read(second, event_type, resource).event


APPROVED = told(10, "CHECKOUT.ORDER.APPROVED", order_resource())
TAKEN_BACK = told(
    11,
    "CHECKOUT.PAYMENT-APPROVAL.REVERSED",
    {"order_id": ORDER_ID, "purchase_units": [{"custom_id": TOPUP_ID}]},
)
APPROVED_AGAIN = told(12, "CHECKOUT.ORDER.APPROVED", order_resource())
UNDER_REVIEW = told(13, "PAYMENT.CAPTURE.PENDING", capture_resource(status="PENDING"))
DENIED = told(14, "PAYMENT.CAPTURE.DENIED", capture_resource(status="DECLINED"))
DECLINED = told(14, "PAYMENT.CAPTURE.DECLINED", capture_resource(status="DECLINED"))
COMPLETED = told(15, "PAYMENT.CAPTURE.COMPLETED", capture_resource())
REFUND_PENDING = told(20, "PAYMENT.REFUND.PENDING", refund_resource(status="PENDING"))
REFUND_BEGUN = told(20, "PAYMENT.CAPTURE.REFUNDED", refund_resource(status="PENDING"))
REFUNDED = told(21, "PAYMENT.CAPTURE.REFUNDED", refund_resource())
REFUND_FAILED = told(22, "PAYMENT.REFUND.FAILED", refund_resource(status="FAILED"))
REST = told(23, "PAYMENT.CAPTURE.REFUNDED", refund_resource(id="REST1", amount=usd("7.49")))
DISPUTED = told(30, "CUSTOMER.DISPUTE.CREATED", dispute_resource())
CONTESTED = told(31, "CUSTOMER.DISPUTE.UPDATED", dispute_resource(status="UNDER_REVIEW"))
DISPUTE_WON = told(32, "CUSTOMER.DISPUTE.RESOLVED", resolved(WON))
DISPUTE_LOST = read(32, "CUSTOMER.DISPUTE.RESOLVED", resolved({"outcome_code": "ACCEPTED"}))
REFUND_OF_LOST = told(
    33, "PAYMENT.CAPTURE.REVERSED", refund_resource(id="LOST1", amount=usd("3.00"))
)
ALL_DISPUTED = told(34, "CUSTOMER.DISPUTE.CREATED", dispute_resource(dispute_amount=usd("10.00")))

STORIES = {
    "paid": Story(AMOUNT, (APPROVED, COMPLETED), TopupState.CREDITED, (1_000, ACTIVE)),
    "approval taken back": Story(AMOUNT, (APPROVED, TAKEN_BACK), TopupState.FAILED, None),
    "approved again, and paid": Story(
        AMOUNT,
        (APPROVED, TAKEN_BACK, APPROVED_AGAIN, COMPLETED),
        TopupState.CREDITED,
        (1_000, ACTIVE),
    ),
    "under review, then paid": Story(
        AMOUNT, (APPROVED, UNDER_REVIEW, COMPLETED), TopupState.CREDITED, (1_000, ACTIVE)
    ),
    "under review, then denied": Story(
        AMOUNT, (APPROVED, UNDER_REVIEW, DENIED), TopupState.FAILED, None
    ),
    "declined at once": Story(AMOUNT, (APPROVED, DECLINED), TopupState.FAILED, None),
    "refunded in part": Story(
        AMOUNT,
        (APPROVED, COMPLETED, REFUND_PENDING, REFUNDED),
        TopupState.CREDITED,
        (749, ACTIVE),
    ),
    "refund failed": Story(
        AMOUNT,
        (COMPLETED, REFUND_PENDING, REFUND_BEGUN, REFUND_FAILED),
        TopupState.CREDITED,
        (1_000, ACTIVE),
    ),
    "refunded whole": Story(
        AMOUNT, (APPROVED, COMPLETED, REFUNDED, REST), TopupState.REVERSED, (0, ACTIVE)
    ),
    "dispute won": Story(
        AMOUNT,
        (COMPLETED, DISPUTED, CONTESTED, DISPUTE_WON),
        TopupState.CREDITED,
        (1_000, ACTIVE),
    ),
    "dispute lost, by a refund": Story(
        AMOUNT,
        (COMPLETED, DISPUTED, DISPUTE_LOST.event, REFUND_OF_LOST),
        TopupState.CREDITED,
        (700, ACTIVE),
    ),
    "dispute lost, by no refund": Story(
        AMOUNT,
        (APPROVED, COMPLETED, DISPUTED, taken_by_dispute(DISPUTE_LOST.event, Money("USD", 300))),
        TopupState.CREDITED,
        (700, ACTIVE),
    ),
    "refunded in part, then a dispute lost, by no refund": Story(
        AMOUNT,
        (COMPLETED, REFUNDED, DISPUTED, taken_by_dispute(DISPUTE_LOST.event, Money("USD", 300))),
        TopupState.CREDITED,
        (449, ACTIVE),
    ),
    "refunded in part, and all of it disputed": Story(
        AMOUNT, (APPROVED, COMPLETED, REFUNDED, ALL_DISPUTED), TopupState.REVERSED, (-251, FROZEN)
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_order_of_paypals_events_with_every_repeat_has_the_same_end(name: str) -> None:
    """All permutations, each with one of its events told twice, end as the true order does."""
    check_every_order(STORIES[name])


@pytest.mark.parametrize("name", ["paid", "refunded in part", "dispute won", "refunded whole"])
def test_an_order_paid_with_the_top_up_stays_paid_in_every_order(name: str) -> None:
    """The order is paid by the credit also when its reversal was heard of first."""
    check_every_order_pays(STORIES[name])
