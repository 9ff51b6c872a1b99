"""What a person may do with money that came without its top-up: not what was done meanwhile."""

import pytest

from server.ledger.commands import AdjustWallet, DismissEvent
from server.ledger.decide import decide
from server.ledger.decisions import Accepted
from server.ledger.money import Money
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayEvent,
    GatewayPaymentKey,
    ReceivedEvent,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import State

NOW_MS = 1_700_000_000_000
PAYMENT = GatewayPaymentKey("razorpay", "pay_1")


def kept(topup_id: str = "") -> GatewayEvent:
    """Return a captured payment that was kept for review, with its top-up or without."""
    received = ReceivedEvent(
        gateway="razorpay",
        event_id="evt_1",
        event_type="payment.captured",
        body_digest="0" * 64,
        body=b"{}",
        origin=EventOrigin.WEBHOOK,
        receive_time_ms=NOW_MS,
        report_time_ms=NOW_MS,
    )
    return GatewayEvent(
        received=received,
        outcome=EventOutcome.NEEDS_REVIEW,
        reason="No top-up was started for the gateway's order none.",
        customer_id="",
        topup_id=topup_id,
        gateway_order_id="",
        gateway_payment_id="pay_1",
        amount=Money("INR", 500),
        apply_time_ms=NOW_MS,
    )


def state_of(event: GatewayEvent, credited_for: str | None) -> State:
    """Return what is loaded to settle the event: the customer has no wallet yet."""
    return State(
        customers={"asha": True},
        wallets={"asha": {}},
        credits={PAYMENT: credited_for},
        events={event.received.key: event},
    )


def adjust(event: GatewayEvent, minor_units: int) -> AdjustWallet:
    """Return an operator's command to put money into the wallet."""
    return AdjustWallet(
        event_key=event.received.key,
        gateway=PAYMENT.gateway,
        payment_id=PAYMENT.payment_id,
        customer_id="asha",
        amount=Money("INR", minor_units),
        by="ben",
        why="paid",
    )


def test_a_payment_that_was_credited_meanwhile_is_not_credited_by_hand() -> None:
    """The event came without its top-up; a later report credited it: the person is told which."""
    event = kept()

    decision = decide(state_of(event, "top_1"), adjust(event, 500), NOW_MS)

    assert isinstance(decision, Rejection)
    assert decision.reason is Reason.EVENT_SETTLED
    assert "top_1" in decision.message
    assert decision.metadata == {
        "event_key": event.received.key,
        "topup_id": "top_1",
        "gateway_payment_id": "pay_1",
    }


@pytest.mark.parametrize(
    ("topup_id", "credited_for"), [("", None), ("top_1", "top_1")], ids=["nobody's", "another one"]
)
def test_what_was_not_credited_is_credited_by_hand(topup_id: str, credited_for: str | None) -> None:
    """A payment that nobody got, and one that came beside the one that was credited."""
    event = kept(topup_id)

    decision = decide(state_of(event, credited_for), adjust(event, 500), NOW_MS)

    assert isinstance(decision, Accepted)
    [wallet] = decision.changes.wallets
    assert wallet.balance == 500
    assert decision.changes.events[0].outcome is EventOutcome.RESOLVED


def test_such_an_event_is_dismissed() -> None:
    """What is left to do with it moves no money."""
    event = kept()

    decision = decide(
        state_of(event, "top_1"), DismissEvent(event.received.key, "ben", "credited"), NOW_MS
    )

    assert isinstance(decision, Accepted)
    assert decision.changes.transactions == ()
    assert decision.changes.events[0].outcome is EventOutcome.RESOLVED
