"""What a gateway tells of one top-up, and that the end does not depend on the order of telling.

A story is a gateway's own events, read by its adapter from their real bodies, with the end that
they have to come to. Each gateway has its stories in `unit/test_<gateway>_permutations.py`.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from gateway_adapters.gateway import WebhookEvent
from server.ledger.books import WalletProof
from server.ledger.commands import ApplyPayment, ApplyReversal, Command, CreateTopup, Needs
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, EventReply, TopupReply
from server.ledger.money import Money
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayReversal,
    IdempotencyKey,
    Order,
    OrderToPay,
    ReceivedEvent,
    Topup,
    TopupState,
    Transaction,
    WalletKey,
    WalletState,
)
from server.ledger.state import State

CUSTOMER, ORDER = "customer-1", "order-1"
ACTIVE, FROZEN = WalletState.ACTIVE, WalletState.FROZEN


@dataclass(frozen=True)
class Story:
    """Events in the order in which they happened, and the end of it."""

    amount: Money
    """What the top-up is for."""
    events: tuple[WebhookEvent, ...]
    state: TopupState
    wallet: tuple[int, WalletState] | None
    """Its balance and state; None where nothing was ever paid."""


@dataclass(frozen=True)
class End:
    """What must not depend on the order of events."""

    wallet: tuple[int, WalletState] | None
    state: TopupState
    gateway_payment_id: str
    failure_reason: str
    reversals: frozenset[object]
    order_state: object


class Ledger:
    """One customer's records, changed by decisions alone."""

    def __init__(self, amount: Money, pay_order: OrderToPay | None = None) -> None:
        self.amount = amount
        self.state = State(customers={CUSTOMER: True}, wallets={CUSTOMER: {}}, orders={ORDER: None})
        self.entries: list[Transaction] = []
        self.now_ms = 1_000_000
        create = CreateTopup(
            customer_id=CUSTOMER,
            amount=amount,
            gateway="gateway",
            method="card",
            idempotency_key=IdempotencyKey("orders", "InitiateTopup", "key"),
            pay_order=pay_order,
            return_url="",
            metadata={},
            lifetime_ms=60_000,
            first_poll_ms=60_000,
        )
        decided = self._carry_out(create)
        assert isinstance(decided.reply, TopupReply)
        self.topup_id = decided.reply.topup.topup_id
        self.pay_order_id = pay_order.order_id if pay_order else ""

    def take(self, event: WebhookEvent) -> EventOutcome:
        """Have a webhook come in; return what becomes of it."""
        assert event.fact is not None
        assert event.report_time_ms is not None
        received = ReceivedEvent(
            gateway="gateway",
            event_id=event.event_id,
            event_type=event.event_type,
            body_digest=hashlib.sha256(repr(event).encode()).hexdigest(),
            body=b"{}",
            origin=EventOrigin.WEBHOOK,
            receive_time_ms=self.now_ms,
            report_time_ms=event.report_time_ms,
        )
        command: Command
        if isinstance(event.fact, GatewayReversal):
            command = ApplyReversal(CUSTOMER, self.topup_id, event.fact, received)
        else:
            command = ApplyPayment(CUSTOMER, self.topup_id, self.pay_order_id, event.fact, received)
        reply = self._carry_out(command).reply
        assert isinstance(reply, EventReply)
        return reply.outcome

    def end(self) -> End:
        """Return where it all stands; the books are proven first."""
        wallet = self.state.wallets[CUSTOMER].get(self.amount.currency_code)
        proof = WalletProof(WalletKey(CUSTOMER, self.amount.currency_code))
        assert [difference for entry in self.entries for difference in proof.check(entry)] == []
        if wallet is not None:
            assert list(proof.check_end(wallet)) == []
        order: Order | None = self.state.orders[ORDER]
        topup: Topup | None = self.state.topups[self.topup_id]
        assert topup is not None
        return End(
            None if wallet is None else (wallet.balance, wallet.state),
            topup.state,
            topup.gateway_payment_id,
            topup.failure_reason,
            frozenset(topup.reversals),
            order and order.payment_state,
        )

    def _carry_out(self, command: Command) -> Accepted:
        """Decide a command, and apply what it changes."""
        needs = Needs()
        needs.add(command)
        for key in needs.topups_by_key:
            self.state.topups_by_key.setdefault(key, None)
        for key in needs.transactions_by_key:
            self.state.transactions_by_key.setdefault(key, None)
        for event in needs.events:
            self.state.events.setdefault(event, None)
        for payment_key in needs.credits:
            self.state.credits.setdefault(payment_key, None)
        self.now_ms += 1
        decision = decide(self.state, command, self.now_ms)
        assert isinstance(decision, Accepted), decision
        self.state.apply(decision.changes)
        self.entries.extend(decision.changes.transactions)
        return decision


def check_every_order(story: Story) -> None:
    """Tell a story in all orders, each with one of its events told twice: the end is its own."""
    expected = _end_of(story.amount, story.events)
    assert (expected.state, expected.wallet) == (story.state, story.wallet)
    for repeated in story.events:
        for events in itertools.permutations((*story.events, repeated)):
            assert _end_of(story.amount, events) == expected, _names(events)


def check_every_order_pays(story: Story) -> None:
    """Tell a story of a top-up that pays an order, in all orders: it is paid in each."""
    pay_order = OrderToPay(ORDER, story.amount)
    expected = _end_of(story.amount, story.events, pay_order)
    assert expected.order_state == "PAID"
    for events in itertools.permutations(story.events):
        assert _end_of(story.amount, events, pay_order) == expected, _names(events)


def _end_of(
    amount: Money, events: Iterable[WebhookEvent], pay_order: OrderToPay | None = None
) -> End:
    ledger = Ledger(amount, pay_order)
    for event in events:
        ledger.take(event)
    return ledger.end()


def _names(events: Iterable[WebhookEvent]) -> list[str]:
    return [f"{event.event_type} {event.event_id}" for event in events]
