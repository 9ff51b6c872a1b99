"""Metrics of money: what committed batches came to, and how much was moved.

They are counted once for a batch, after its commit: what is not durable is not counted. Where the
answer of a commit was lost, the next attempt finds the work done and counts it as a repeat.
"""

from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.ledger.commands import (
    ApplyPayment,
    Command,
    CreateTopup,
    ExpireTopup,
    PayOrder,
    RefundOrder,
    TieToTopup,
)
from server.ledger.decisions import Accepted, Decision, EventReply
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    PayOrderOutcome,
    Topup,
    TopupState,
    Transaction,
)

REPEATED: Final = "repeated"
"""The outcome of a request that was carried out before: it got the first answer again."""
DELAYS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
"""Bounds of what may take days, in seconds."""


class _Moved(NamedTuple):
    """What is added up of a batch's entries."""

    type: str
    direction: str
    """As the wallet sees it."""
    gateway: str
    currency: str


class _TopupEnd(NamedTuple):
    """What became of a top-up, and how the service came to know."""

    gateway: str
    outcome: str
    origin: str


class MoneyMetrics:
    """What top-ups, payments and refunds came to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._payments = Counter(
            "wallet_payments",
            "Payments of orders from the wallet, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self._refunds = Counter(
            "wallet_refunds",
            "Refunds into the wallet, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self._topups = Counter(
            "wallet_topups",
            "Steps of top-ups, by outcome, and by who told of it: a webhook, a lookup, a person.",
            ("gateway", "outcome", "origin"),
            registry=registry,
        )
        self._credit_delay = Histogram(
            "wallet_topup_credit_delay_seconds",
            "Time from the gateway's event to the credit, of credits that a webhook told of.",
            ("gateway",),
            buckets=DELAYS,
            registry=registry,
        )
        labels = ("type", "direction", "gateway", "currency")
        self._entries = Counter(
            "wallet_transactions", "Entries written to the ledger.", labels, registry=registry
        )
        self._moved = Counter(
            "wallet_transaction_minor_units",
            "Money that entries moved, in minor units of the currency.",
            labels,
            registry=registry,
        )

    def batch_committed(self, decided: Sequence[tuple[Command, Decision]]) -> None:
        """Count what a committed batch came to."""
        payments: Tally[str] = Tally()
        refunds: Tally[str] = Tally()
        for command, decision in decided:
            if isinstance(command, PayOrder):
                payments[_outcome(decision, "paid")] += 1
            elif isinstance(command, RefundOrder):
                refunds[_outcome(decision, "refunded")] += 1
            elif (end := _topup_end(command, decision)) is not None:
                self._topups.labels(*end).inc()
                if end.outcome == TopupState.CREDITED.lower():
                    self._note_credit(command, decision, payments)
        for counter, tally in ((self._payments, payments), (self._refunds, refunds)):
            for outcome, count in tally.items():
                counter.labels(outcome).inc(count)
        self._note_entries(decided)

    def _note_entries(self, decided: Sequence[tuple[Command, Decision]]) -> None:
        entries: Tally[_Moved] = Tally()
        moved: Tally[_Moved] = Tally()
        for _, decision in decided:
            if isinstance(decision, Accepted):
                for entry in decision.changes.transactions:
                    key = _moved(entry)
                    entries[key] += 1
                    moved[key] += abs(entry.amount)
        for key, count in entries.items():
            self._entries.labels(*key).inc(count)
            self._moved.labels(*key).inc(moved[key])

    def _note_credit(self, command: Command, decision: Decision, payments: Tally[str]) -> None:
        """Note how long a credit took, and the order that was paid in the same commit."""
        topup = _topup_of(decision)
        if topup is None:
            return
        if topup.pay_order_outcome is not None:
            payments[_order_outcome(topup.pay_order_outcome)] += 1
        if isinstance(command, ApplyPayment) and command.event.origin is EventOrigin.WEBHOOK:
            delay_ms = topup.update_time_ms - command.event.report_time_ms
            self._credit_delay.labels(topup.gateway).observe(max(0, delay_ms) / 1_000)


def _outcome(decision: Decision, done: str) -> str:
    if isinstance(decision, Accepted):
        return done if decision.changes else REPEATED
    return decision.reason.lower()


def _order_outcome(outcome: PayOrderOutcome) -> str:
    return "paid" if outcome.transaction_id else outcome.failure_reason.lower()


def _topup_end(command: Command, decision: Decision) -> _TopupEnd | None:
    """Say what a command made of a top-up; None where it made nothing of one."""
    if isinstance(command, CreateTopup):
        return _TopupEnd(command.gateway, _outcome(decision, "started"), "request")
    topup = _topup_of(decision)
    if topup is None or not isinstance(decision, Accepted) or not decision.changes:
        return None
    match command:
        case ApplyPayment():
            assert isinstance(decision.reply, EventReply)  # noqa: S101 - what this replies
            is_kept = decision.reply.outcome is EventOutcome.NEEDS_REVIEW
            if not is_kept and decision.reply.outcome is not EventOutcome.APPLIED:
                return None
            state = TopupState.NEEDS_REVIEW if is_kept else topup.state
            return _TopupEnd(topup.gateway, state.lower(), command.event.origin.lower())
        case TieToTopup():
            return _TopupEnd(topup.gateway, topup.state.lower(), "review")
        case ExpireTopup():
            return _TopupEnd(topup.gateway, topup.state.lower(), "time")
    return None


def _topup_of(decision: Decision) -> Topup | None:
    """Return the top-up that a decision speaks of, as it then is."""
    topup: Topup | None = None
    if isinstance(decision, Accepted):
        topup = getattr(decision.reply, "topup", None)
    return topup


def _moved(entry: Transaction) -> _Moved:
    direction = "in" if entry.amount > 0 else "out"
    return _Moved(entry.type.lower(), direction, entry.gateway, entry.currency_code)
