"""Whatever the order in which a gateway's reports come, and however often: the same end."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from server.ledger.books import WalletProof
from server.ledger.commands import (
    AdjustWallet,
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    Needs,
    TieToTopup,
)
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, EventReply, TopupReply
from server.ledger.money import Money
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayEvent,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    IdempotencyKey,
    Order,
    OrderToPay,
    ReceivedEvent,
    ReversalKind,
    ReversalState,
    Topup,
    TopupState,
    Transaction,
    WalletKey,
    WalletState,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import State

CUSTOMER = "customer-1"
ORDER = "order-1"
AMOUNT = 1_000
Fact = GatewayPayment | GatewayReversal
Report = tuple[str, int, Fact]
"""Event id, when the gateway made it (seconds), what it says."""


def payment(
    status: GatewayPaymentStatus, payment_id: str = "pay_1", amount: int = AMOUNT
) -> GatewayPayment:
    """Return what the gateway says of the payment."""
    return GatewayPayment(payment_id, "order_gateway", status, Money("INR", amount))


def reversal(
    reversal_id: str, state: ReversalState, *, is_final: bool, amount: int = 400
) -> GatewayReversal:
    """Return what the gateway says of a refund or a dispute."""
    kind = ReversalKind.DISPUTE if reversal_id.startswith("disp") else ReversalKind.REFUND
    money = Money("INR", amount)
    return GatewayReversal(reversal_id, kind, "pay_1", "order_gateway", money, state, is_final)


AUTHORIZED = ("authorized", 10, payment(GatewayPaymentStatus.AUTHORIZED))
CAPTURED = ("captured", 11, payment(GatewayPaymentStatus.CAPTURED))
ORDER_PAID = ("order.paid", 11, payment(GatewayPaymentStatus.CAPTURED))
ANOTHER_AMOUNT = ("too little", 11, payment(GatewayPaymentStatus.CAPTURED, amount=900))
FAILED = ("failed", 9, payment(GatewayPaymentStatus.FAILED))
FAILED_AT_ONCE = ("failed at once", 10, payment(GatewayPaymentStatus.FAILED, "pay_0"))
REFUND_CREATED = ("refund", 12, reversal("rfnd_1", ReversalState.TAKEN, is_final=False))
REFUND_PROCESSED = ("refunded", 13, reversal("rfnd_1", ReversalState.TAKEN, is_final=True))
REFUND_FAILED = ("refund failed", 13, reversal("rfnd_1", ReversalState.RETURNED, is_final=True))
REFUND_REST = ("rest", 14, reversal("rfnd_2", ReversalState.TAKEN, is_final=True, amount=600))
DISPUTED = ("disputed", 15, reversal("disp_1", ReversalState.TAKEN, is_final=False, amount=1_000))
DISPUTE_WON = ("won", 16, reversal("disp_1", ReversalState.RETURNED, is_final=True, amount=1_000))
DISPUTE_LOST = ("lost", 16, reversal("disp_1", ReversalState.TAKEN, is_final=True, amount=1_000))

SEQUENCES: dict[str, tuple[Sequence[Report], TopupState, int, WalletState]] = {
    "paid": ((AUTHORIZED, CAPTURED, ORDER_PAID), TopupState.CREDITED, 1_000, WalletState.ACTIVE),
    "failed, then captured": (
        (FAILED, AUTHORIZED, CAPTURED, ORDER_PAID),
        TopupState.CREDITED,
        1_000,
        WalletState.ACTIVE,
    ),
    "failed, then on hold": (
        (FAILED, FAILED_AT_ONCE, AUTHORIZED),
        TopupState.PENDING,
        0,
        WalletState.ACTIVE,
    ),
    "refunded in part": (
        (AUTHORIZED, CAPTURED, REFUND_CREATED, REFUND_PROCESSED),
        TopupState.CREDITED,
        600,
        WalletState.ACTIVE,
    ),
    "refunded whole": (
        (CAPTURED, REFUND_CREATED, REFUND_PROCESSED, REFUND_REST),
        TopupState.REVERSED,
        0,
        WalletState.ACTIVE,
    ),
    "refund failed": (
        (CAPTURED, REFUND_CREATED, REFUND_FAILED),
        TopupState.CREDITED,
        1_000,
        WalletState.ACTIVE,
    ),
    "dispute won": (
        (CAPTURED, ORDER_PAID, DISPUTED, DISPUTE_WON),
        TopupState.CREDITED,
        1_000,
        WalletState.ACTIVE,
    ),
    "dispute lost": (
        (CAPTURED, DISPUTED, DISPUTE_LOST),
        TopupState.REVERSED,
        0,
        WalletState.ACTIVE,
    ),
    "refunded in part, and disputed": (
        (CAPTURED, REFUND_PROCESSED, DISPUTED, DISPUTE_LOST),
        TopupState.REVERSED,
        -400,
        WalletState.FROZEN,
    ),
}


class Ledger:
    """One customer's records, changed by decisions alone."""

    def __init__(self, pay_order: OrderToPay | None = None) -> None:
        self.state = State(customers={CUSTOMER: True}, wallets={CUSTOMER: {}}, orders={ORDER: None})
        self.entries: list[Transaction] = []
        self.now_ms = 1_000_000
        create = CreateTopup(
            customer_id=CUSTOMER,
            amount=Money("INR", AMOUNT),
            gateway="razorpay",
            method="upi",
            idempotency_key=IdempotencyKey("orders", "InitiateTopup", "key"),
            pay_order=pay_order,
            return_url="",
            metadata={},
            lifetime_ms=60_000,
            first_poll_ms=60_000,
        )
        decided = self.carry_out(create)
        assert isinstance(decided.reply, TopupReply)
        self.topup_id = decided.reply.topup.topup_id
        self.pay_order_id = pay_order.order_id if pay_order else ""

    def carry_out(self, command: Command) -> Accepted:
        """Decide a command, and apply what it changes."""
        needs = Needs()
        needs.add(command)
        for key in needs.topups_by_key:
            self.state.topups_by_key.setdefault(key, None)
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

    def report(self, report: Report) -> GatewayEvent:
        """Have a webhook come in; return its record."""
        event_id, seconds, fact = report
        event = ReceivedEvent(
            gateway="razorpay",
            event_id=event_id,
            event_type=event_id,
            body_digest=hashlib.sha256(event_id.encode()).hexdigest(),
            body=b"{}",
            origin=EventOrigin.WEBHOOK,
            receive_time_ms=self.now_ms,
            report_time_ms=seconds * 1_000,
        )
        if isinstance(fact, GatewayReversal):
            self.carry_out(ApplyReversal(CUSTOMER, self.topup_id, fact, event))
        else:
            self.carry_out(ApplyPayment(CUSTOMER, self.topup_id, self.pay_order_id, fact, event))
        recorded = self.state.events[event.key]
        assert recorded is not None
        return recorded

    @property
    def topup(self) -> Topup:
        """The top-up as it is."""
        topup = self.state.topups[self.topup_id]
        assert topup is not None
        return topup

    def end(self) -> tuple[object, ...]:
        """Return what must not depend on the order of reports; the books are proven first."""
        wallet = self.state.wallets[CUSTOMER].get("INR")
        proof = WalletProof(WalletKey(CUSTOMER, "INR"))
        assert [difference for entry in self.entries for difference in proof.check(entry)] == []
        if wallet is not None:
            assert list(proof.check_end(wallet)) == []
        order: Order | None = self.state.orders[ORDER]
        return (
            wallet and (wallet.balance, wallet.state),
            self.topup.state,
            self.topup.gateway_payment_id,
            self.topup.failure_reason,
            frozenset(self.topup.reversals),
            order and order.payment_state,
        )


def end_of(reports: Iterable[Report], pay_order: OrderToPay | None = None) -> tuple[object, ...]:
    """Have reports come in, in this order; return the end."""
    ledger = Ledger(pay_order)
    for report in reports:
        ledger.report(report)
    return ledger.end()


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_order_of_reports_with_every_repeat_has_the_same_end(name: str) -> None:
    """All permutations, each with one of its reports told twice, end as the true order does."""
    reports, state, balance, wallet_state = SEQUENCES[name]
    expected = end_of(reports)
    assert expected[1] is state
    assert expected[0] in {(balance, wallet_state), None}
    assert (expected[0] is None) == (balance == 0 and state is TopupState.PENDING)

    for repeated in reports:
        for order in itertools.permutations((*reports, repeated)):
            assert end_of(order) == expected, [event_id for event_id, _, _ in order]


@pytest.mark.parametrize("name", ["paid", "refunded in part", "dispute won", "dispute lost"])
def test_an_order_paid_with_the_top_up_stays_paid_in_every_order(name: str) -> None:
    """The order is paid by the credit also when its reversal was heard of first."""
    reports = SEQUENCES[name][0]
    pay_order = OrderToPay(ORDER, Money("INR", AMOUNT))
    expected = end_of(reports, pay_order)

    assert expected[-1] == "PAID"
    for order in itertools.permutations(reports):
        assert end_of(order, pay_order) == expected, [event_id for event_id, _, _ in order]


@pytest.mark.parametrize(
    "report", [REFUND_CREATED, REFUND_PROCESSED, DISPUTED], ids=lambda report: report[0]
)
def test_a_reversal_of_a_payment_that_waits_for_review_waits_too(report: Report) -> None:
    """A person may have put that payment into a wallet: whoever did has to hear of it."""
    ledger = Ledger()
    kept = ledger.report(ANOTHER_AMOUNT)
    assert kept.outcome is EventOutcome.NEEDS_REVIEW
    key = kept.received.key
    ledger.carry_out(AdjustWallet(key, CUSTOMER, Money("INR", 900), "asha", "paid less"))

    event = ledger.report(report)

    assert event.outcome is EventOutcome.NEEDS_REVIEW
    assert "take this out" in event.reason
    assert ledger.report(report) == event
    assert ledger.state.wallets[CUSTOMER]["INR"].balance == 900


def test_a_reversal_that_waited_is_debited_once_its_top_up_is_credited() -> None:
    """What was noted while the top-up waited for review takes effect with the credit."""
    ledger = Ledger()
    ledger.report(ANOTHER_AMOUNT)
    ledger.report(REFUND_PROCESSED)

    ledger.report(CAPTURED)

    assert ledger.state.wallets[CUSTOMER]["INR"].balance == AMOUNT - 400
    assert ledger.report(REFUND_PROCESSED).outcome is EventOutcome.DUPLICATE


def test_a_person_is_told_what_was_taken_back_before_the_payment_was_heard_of() -> None:
    """The reason of a payment for review names what its gateway has taken back already."""
    ledger = Ledger()
    ledger.report(REFUND_PROCESSED)
    assert "taken back 400 minor units" in ledger.report(ANOTHER_AMOUNT).reason


def test_a_repeat_of_what_settled_an_event_is_told_that_it_was_done() -> None:
    """An operator's command whose answer was lost is not refused by its own effect."""
    ledger = Ledger()
    key = ledger.report(ANOTHER_AMOUNT).received.key
    command = AdjustWallet(key, CUSTOMER, Money("INR", 900), "asha", "paid less")
    ledger.carry_out(command)

    again = ledger.carry_out(command)

    assert again.reply == EventReply(EventOutcome.RESOLVED, None)
    assert not again.changes
    for other in (
        replace(command, amount=Money("INR", 901)),
        replace(command, customer_id="somebody-else"),
        replace(command, why="another reason"),
        TieToTopup(key, "razorpay", "pay_1", CUSTOMER, ledger.topup_id, "", "asha", "paid less"),
    ):
        refused = decide(ledger.state, other, 0)
        assert isinstance(refused, Rejection)
        assert refused.reason is Reason.EVENT_SETTLED
