"""The rules of a wallet's token: it counts for one top-up, and one at a time is on its way.

A token is as good as money, and the gateway may be handed it once. Who may hand it on is decided
here, in one commit, whatever number of servers are asked at the same moment. The record of a claim
has the token's digest, and never the token.
"""

from dataclasses import replace
from typing import Final

from server.ledger.commands import ClaimToken, ReleaseToken
from server.ledger.decisions import Accepted, Decision, TokenReply, TopupReply
from server.ledger.events import topup_not_found
from server.ledger.records import (
    EventOutcome,
    GatewayEvent,
    TokenClaim,
    Topup,
    TopupState,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State

TOKEN_WAIT_MS: Final = 30_000
"""So long another token has to wait for a gateway that has not answered: longer than all requests
that hand one on may take, so that by then the gateway shows the payment, or never heard of it."""

_CREDITED_BEFORE: Final = frozenset({TopupState.CREDITED, TopupState.REVERSED})


def claim_token(state: State, command: ClaimToken, now_ms: int) -> Decision:
    """Decide whether the token may be handed on for the top-up, by whoever asks."""
    topup = state.topups[command.topup_id]
    if topup is None or topup.customer_id != command.customer_id:
        return topup_not_found(command.customer_id, command.topup_id)
    earlier = state.events[command.event.key]
    if earlier is not None and earlier.topup_id != topup.topup_id:
        return Rejection(
            Reason.PROOF_INVALID,
            f"The token was used for another top-up than {topup.topup_id}. Ask the customer to pay "
            "again.",
            {"topup_id": topup.topup_id},
        )
    is_waiting = now_ms < topup.token_time_ms + TOKEN_WAIT_MS
    if is_waiting or topup.state in _CREDITED_BEFORE:
        return Accepted(TokenReply(TokenClaim.WAITING, topup), Changes())
    if not topup.is_payable:
        return not_payable(topup)
    topup = replace(topup, token_time_ms=now_ms, version=topup.version + 1)
    if earlier is not None:
        return Accepted(TokenReply(TokenClaim.REPEATED, topup), Changes(topups=(topup,)))
    claimed = GatewayEvent(
        received=command.event,
        outcome=EventOutcome.APPLIED,
        reason="",
        customer_id=topup.customer_id,
        topup_id=topup.topup_id,
        gateway_order_id=topup.gateway_order_id,
        gateway_payment_id="",
        amount=topup.amount,
        apply_time_ms=now_ms,
    )
    changes = Changes(topups=(topup,), events=(claimed,))
    return Accepted(TokenReply(TokenClaim.NEW, topup), changes)


def release_token(state: State, command: ReleaseToken) -> Decision:
    """Let the next token be handed on, unless one was meanwhile."""
    topup = state.topups[command.topup_id]
    if topup is None or topup.customer_id != command.customer_id:
        return topup_not_found(command.customer_id, command.topup_id)
    if topup.token_time_ms != command.token_time_ms:
        return Accepted(TopupReply(topup), Changes())
    topup = replace(topup, token_time_ms=0, version=topup.version + 1)
    return Accepted(TopupReply(topup), Changes(topups=(topup,)))


def not_payable(topup: Topup) -> Rejection:
    """Refuse what would make a customer pay a top-up that waits for no payment."""
    return Rejection(
        Reason.TOPUP_STATE,
        f"Top-up {topup.topup_id} is {topup.state} and cannot be paid now. Ask for a lookup, or "
        "start a new one.",
        {"topup_id": topup.topup_id, "state": topup.state},
    )
