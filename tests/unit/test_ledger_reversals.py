"""What a gateway takes back and returns: the rules one by one, beside all orders of reports."""

from typing import Any

from checked_ledger import Ledger, key, received
from server.ledger.commands import ApplyPayment, ApplyReversal, CreateTopup, PayOrder
from server.ledger.decisions import Accepted, EventReply, TopupReply
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.records import (
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
    Topup,
    WalletKey,
)

ASHA = WalletKey("asha", "INR")


def started(ledger: Ledger, amount: int = 1_000) -> Topup:
    """Return a new top-up of asha's."""
    decision = ledger.carry_out(
        CreateTopup(
            customer_id="asha",
            amount=Money("INR", amount),
            gateway="razorpay",
            method="upi",
            idempotency_key=key("InitiateTopup", len(ledger.topups)),
            pay_order=None,
            return_url="",
            metadata={},
            lifetime_ms=60_000,
            first_poll_ms=60_000,
        )
    )
    assert isinstance(decision, Accepted)
    assert isinstance(decision.reply, TopupReply)
    return decision.reply.topup


def captured(ledger: Ledger, topup: Topup) -> None:
    """Credit a top-up by the payment `pay_` and its id."""
    status = GatewayPaymentStatus.CAPTURED
    payment = GatewayPayment(f"pay_{topup.topup_id}", "", status, topup.amount)
    event = received("razorpay", payment, 0)
    ledger.carry_out(ApplyPayment("asha", topup.topup_id, "", payment, event))


def reported(ledger: Ledger, topup: Topup, number: int = 0, **fields: Any) -> EventReply:
    """Have the gateway report that it took 400 back, for the time being; `fields` change it."""
    given: dict[str, Any] = {
        "reversal_id": "rfnd_1",
        "kind": ReversalKind.REFUND,
        "payment_id": f"pay_{topup.topup_id}",
        "gateway_order_id": "",
        "amount": Money("INR", 400),
        "state": ReversalState.TAKEN,
        "is_final": False,
    }
    reversal = GatewayReversal(**(given | fields))
    event = received("razorpay", reversal, number)
    decision = ledger.carry_out(ApplyReversal("asha", topup.topup_id, reversal, event))
    assert isinstance(decision, Accepted)
    assert isinstance(decision.reply, EventReply)
    ledger.check()
    return decision.reply


def test_what_comes_back_to_a_full_wallet_waits_for_review() -> None:
    """What a wallet cannot hold is not lost: the report waits, and is applied once it fits."""
    ledger = Ledger()
    topup = started(ledger)
    captured(ledger, topup)
    reported(ledger, topup)
    captured(ledger, started(ledger, MAX_BALANCE_MINOR_UNITS - 600))
    assert ledger.wallets[ASHA].balance == MAX_BALANCE_MINOR_UNITS

    waiting = reported(ledger, topup, state=ReversalState.RETURNED, is_final=True)
    assert waiting.outcome is EventOutcome.NEEDS_REVIEW
    assert ledger.topups[topup.topup_id].reversals[0].is_debited

    ledger.carry_out(PayOrder("asha", "order-a", Money("INR", 400), key("PayWithWallet", 1), {}))
    applied = reported(ledger, topup, state=ReversalState.RETURNED, is_final=True)
    assert applied.outcome is EventOutcome.APPLIED
    assert ledger.wallets[ASHA].balance == MAX_BALANCE_MINOR_UNITS
