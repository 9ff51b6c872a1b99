"""What deciding a command gives: its changes with a reply, or a rejection."""

from dataclasses import dataclass

from server.ledger.records import (
    EventOutcome,
    Order,
    Refund,
    Standing,
    TokenClaim,
    Topup,
    Transaction,
    Wallet,
)
from server.ledger.rejection import Rejection
from server.ledger.state import Changes


@dataclass(frozen=True, slots=True)
class PaymentReply:
    """An order's payment, its entry, and the wallet right after it."""

    payment: Order
    transaction: Transaction
    wallet: Wallet


@dataclass(frozen=True, slots=True)
class RefundReply:
    """A refund, the payment and the wallet right after it, and its entry."""

    refund: Refund
    payment: Order
    transaction: Transaction
    wallet: Wallet


@dataclass(frozen=True, slots=True)
class TopupReply:
    """A top-up as it now is."""

    topup: Topup


@dataclass(frozen=True, slots=True)
class EventReply:
    """What became of an event; `topup` as it now is, where the event belongs to one."""

    outcome: EventOutcome
    topup: Topup | None


@dataclass(frozen=True, slots=True)
class TokenReply:
    """What may be done with a wallet's token now, and the top-up as it now is."""

    claim: TokenClaim
    topup: Topup


@dataclass(frozen=True, slots=True)
class WalletReply:
    """A wallet as it now is."""

    wallet: Wallet


@dataclass(frozen=True, slots=True)
class StandingReply:
    """What limits a customer now has."""

    standing: Standing


Reply = (
    PaymentReply | RefundReply | TopupReply | EventReply | TokenReply | WalletReply | StandingReply
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A command that holds; `changes` is empty for one that was carried out before."""

    reply: Reply
    changes: Changes


Decision = Accepted | Rejection
