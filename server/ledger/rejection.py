"""How the ledger says no."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a command is refused; part of the contract (`ErrorReason` in the protos).

    EVENT_NOT_FOUND, EVENT_SETTLED, EVENT_MISFIT and WALLET_NOT_FOUND answer operators' commands
    alone and never leave by an RPC.
    """

    CUSTOMER_NOT_FOUND = "CUSTOMER_NOT_FOUND"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    TOPUP_NOT_FOUND = "TOPUP_NOT_FOUND"
    ORDER_ALREADY_PAID = "ORDER_ALREADY_PAID"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    WALLET_FROZEN = "WALLET_FROZEN"
    ORDER_NOT_PAID = "ORDER_NOT_PAID"
    ORDER_MISMATCH = "ORDER_MISMATCH"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    REFUND_EXCEEDS_PAYMENT = "REFUND_EXCEEDS_PAYMENT"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    TOPUP_STATE = "TOPUP_STATE"
    PROOF_INVALID = "PROOF_INVALID"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    EVENT_NOT_FOUND = "EVENT_NOT_FOUND"
    EVENT_SETTLED = "EVENT_SETTLED"
    EVENT_MISFIT = "EVENT_MISFIT"
    WALLET_NOT_FOUND = "WALLET_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A command that was refused. It changed nothing and is not remembered."""

    reason: Reason
    message: str
    """What happened, why, and what to do, in a sentence or two for a person."""
    metadata: Mapping[str, str]
    """Every value that the message names."""
