"""What a person may do with money that came without its top-up: not what was done meanwhile."""

from server.ledger.commands import AdjustWallet, DismissEvent
from server.ledger.decide import decide
from server.ledger.decisions import Accepted
from server.ledger.money import Money
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    EventMoney,
    EventOrigin,
    EventOutcome,
    GatewayEvent,
    GatewayPaymentKey,
    ReceivedEvent,
    Transaction,
    TransactionType,
    WalletKey,
)
from server.ledger.rejection import Rejection
from server.ledger.state import State

NOW_MS = 1_700_000_000_000
PAYMENT = GatewayPaymentKey("razorpay", "pay_1")


def kept() -> GatewayEvent:
    """Return a captured payment that was kept for review, without its top-up."""
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
        topup_id="",
        gateway_order_id="",
        gateway_payment_id="pay_1",
        amount=Money("INR", 500),
        apply_time_ms=NOW_MS,
        money=EventMoney.CAPTURED,
    )


def credit() -> Transaction:
    """Return the entry that credited the payment to a top-up meanwhile."""
    return post(
        empty_wallet(WalletKey("asha", "INR"), NOW_MS),
        TransactionType.TOPUP,
        500,
        gateway_account("razorpay", "INR"),
        Cause(topup_id="top_1", gateway="razorpay", gateway_payment_id="pay_1"),
        NOW_MS,
    )[1]


def state_of(event: GatewayEvent, settled_by: Transaction | None) -> State:
    """Return what is loaded to settle the event: the customer has no wallet yet."""
    return State(
        customers={"asha": True},
        wallets={"asha": {}},
        transactions_by_key={PAYMENT.credit_key: settled_by},
        events={event.received.key: event},
    )


def adjust(event: GatewayEvent) -> AdjustWallet:
    """Return an operator's command to put the money into the wallet."""
    return AdjustWallet(
        event.received.key, event.settlement_key, "asha", Money("INR", 500), "ben", "paid"
    )


def test_a_payment_that_was_credited_meanwhile_is_not_credited_by_hand() -> None:
    """The event came without its top-up; a later report credited it: the person is told by what."""
    event, entry = kept(), credit()

    decision = decide(state_of(event, entry), adjust(event), NOW_MS)

    assert isinstance(decision, Rejection)
    assert entry.transaction_id in decision.message


def test_what_was_not_credited_is_credited_by_hand() -> None:
    """A payment that nobody got is put into the wallet, and the event is settled."""
    event = kept()

    decision = decide(state_of(event, None), adjust(event), NOW_MS)

    assert isinstance(decision, Accepted)
    [wallet] = decision.changes.wallets
    assert wallet.balance == 500
    assert decision.changes.events[0].outcome is EventOutcome.RESOLVED


def test_such_an_event_is_dismissed() -> None:
    """What is left to do with it moves no money."""
    event = kept()

    decision = decide(
        state_of(event, credit()), DismissEvent(event.received.key, "ben", "credited"), NOW_MS
    )

    assert isinstance(decision, Accepted)
    assert decision.changes.transactions == ()
    assert decision.changes.events[0].outcome is EventOutcome.RESOLVED
