"""`decide`: what a command does to the state it meets. All rules of money hang from here."""

from server.ledger import events, operators, orders, payments, reversals, review, tokens, topups
from server.ledger.commands import (
    AdjustWallet,
    ApplyPayment,
    ApplyReversal,
    ClaimToken,
    Command,
    CreateTopup,
    DismissEvent,
    ExpireTopup,
    FreezeWallet,
    OpenTopup,
    PayOrder,
    RecordEvent,
    RefundOrder,
    ReleaseToken,
    SetTier,
    TieToTopup,
    UnfreezeWallet,
)
from server.ledger.decisions import Decision
from server.ledger.state import State


def decide(state: State, command: Command, now_ms: int) -> Decision:
    """Decide `command` on `state` at `now_ms` (milliseconds since the epoch).

    The state is only read. What comes back is a reply with the changes that make it true, a reply
    without changes where the command was carried out before, or a rejection.
    """
    match command:
        case PayOrder():
            return orders.pay(state, command, now_ms)
        case RefundOrder():
            return orders.refund(state, command, now_ms)
        case CreateTopup():
            return topups.create(state, command, now_ms)
        case OpenTopup():
            return topups.open_for_payment(state, command, now_ms)
        case ClaimToken():
            return tokens.claim_token(state, command, now_ms)
        case ReleaseToken():
            return tokens.release_token(state, command)
        case ApplyPayment():
            return payments.apply_payment(state, command, now_ms)
        case ApplyReversal():
            return reversals.apply_reversal(state, command, now_ms)
        case ExpireTopup():
            return topups.expire(state, command, now_ms)
        case RecordEvent():
            return events.record_event(state, command, now_ms)
        case TieToTopup():
            return review.tie_to_topup(state, command, now_ms)
        case AdjustWallet():
            return review.adjust_wallet(state, command, now_ms)
        case DismissEvent():
            return review.dismiss(state, command, now_ms)
        case FreezeWallet():
            return operators.freeze(state, command, now_ms)
        case UnfreezeWallet():
            return operators.unfreeze(state, command, now_ms)
        case SetTier():
            return operators.set_tier(state, command, now_ms)
