"""The rules of money themselves: whatever is asked in whatever order, none is made or lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaded_state import loaded_state
from server.ledger.books import WalletProof
from server.ledger.commands import (
    ApplyPayment,
    Command,
    CreateTopup,
    Needs,
    OpenTopup,
    PayOrder,
    RecordEvent,
    RefundOrder,
)
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, Decision, EventReply, PaymentReply, TopupReply
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.orders import MAX_REFUNDS_PER_ORDER
from server.ledger.records import (
    NO_METADATA,
    Checkout,
    EventOrigin,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    IdempotencyKey,
    Order,
    OrderPaymentState,
    OrderToPay,
    ReceivedEvent,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import State

NOW = 1_700_000_000_000
CUSTOMERS = ("asha", "ben")


@dataclass(slots=True)
class World:
    """All records there are, and the clock; commands are decided on what they say they need."""

    wallets: dict[WalletKey, Wallet] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    topups: dict[str, Topup] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    events: dict[str, Any] = field(default_factory=dict)
    now_ms: int = NOW

    def state_for(self, command: Command) -> State:
        """Return what a store would load for the command, and nothing else."""
        needs = Needs()
        needs.add(command)
        return loaded_state(
            needs,
            customers=CUSTOMERS,
            wallets=self.wallets,
            orders=self.orders,
            topups=self.topups,
            events=self.events,
            transactions=self.transactions,
        )

    def do(self, command: Command) -> Decision:
        """Decide a command and let its changes happen; the state it was decided on stays as is."""
        state = self.state_for(command)
        before = repr(state)
        decision = decide(state, command, self.now_ms)
        assert repr(state) == before
        if isinstance(decision, Accepted):
            changes = decision.changes
            self.wallets |= {wallet.key: wallet for wallet in changes.wallets}
            self.orders |= {order.order_id: order for order in changes.orders}
            self.topups |= {topup.topup_id: topup for topup in changes.topups}
            self.events |= {event.received.key: event for event in changes.events}
            self.transactions += changes.transactions
            state.apply(changes)
            assert all(
                state.wallet(wallet.key) == self.wallets[wallet.key] for wallet in changes.wallets
            )
        return decision

    def prove(self) -> None:
        """Check everything that must hold of the records, whatever happened."""
        ids = [transaction.transaction_id for transaction in self.transactions]
        assert len(set(ids)) == len(ids)
        for key, wallet in self.wallets.items():
            proof = WalletProof(key)
            mine = [
                t for t in self.transactions if WalletKey(t.customer_id, t.currency_code) == key
            ]
            assert [*(d for t in mine for d in proof.check(t)), *proof.check_end(wallet)] == []
            assert [t.transaction_id for t in mine] == sorted(t.transaction_id for t in mine)
            assert 0 <= wallet.balance <= MAX_BALANCE_MINOR_UNITS
        for order in self.orders.values():
            refunded = sum(refund.amount for refund in order.refunds)
            paid = [t for t in self.transactions if t.order_id == order.order_id]
            assert order.amount is not None
            assert refunded == order.refunded_amount <= order.amount
            assert [t.type for t in paid].count(TransactionType.PAYMENT) == 1
            assert sum(t.amount for t in paid) == refunded - order.amount
        for topup in self.topups.values():
            credited = [
                t
                for t in self.transactions
                if t.topup_id == topup.topup_id and t.type is TransactionType.TOPUP
            ]
            assert len(credited) == (topup.state is TopupState.CREDITED)
            assert sum(t.amount for t in credited) in {0, topup.amount.minor_units}


def key(number: object, method: str = "PayWithWallet") -> IdempotencyKey:
    """Return an idempotency key."""
    return IdempotencyKey("shop", method, str(number))


def pay(number: object, amount: int = 10, customer: str = "asha", order: str = "") -> PayOrder:
    """Return the command to pay an order."""
    return PayOrder(
        customer, order or f"order-{number}", Money("INR", amount), key(number), NO_METADATA
    )


def refund(
    number: object, order: str, amount: int | None = None, customer: str = "asha"
) -> RefundOrder:
    """Return the command to refund an order."""
    money = None if amount is None else Money("INR", amount)
    return RefundOrder(customer, order, money, key(number, "RefundToWallet"), "", NO_METADATA)


def create(
    number: object, amount: int = 100, customer: str = "asha", order: str = ""
) -> CreateTopup:
    """Return the command to start a top-up."""
    return CreateTopup(
        customer_id=customer,
        amount=Money("INR", amount),
        gateway="razorpay",
        method="upi",
        idempotency_key=key(number, "InitiateTopup"),
        pay_order=OrderToPay(order, Money("INR", 30)) if order else None,
        return_url="",
        metadata=NO_METADATA,
        first_poll_ms=60_000,
        lifetime_ms=1_000,
    )


def told(
    topup: Topup,
    status: GatewayPaymentStatus = GatewayPaymentStatus.CAPTURED,
    payment: str = "",
    event: str = "",
    **fields: Any,
) -> ApplyPayment:
    """Return the command that the gateway's word about a top-up's payment is."""
    payment_id = payment or f"pay_{topup.topup_id}"
    body = f"{topup.topup_id}{status}{payment_id}{fields}".encode()
    received = ReceivedEvent(
        gateway="razorpay",
        event_id=event or f"evt-{body.hex()}",
        event_type="payment",
        body_digest=body.hex(),
        body=body,
        origin=EventOrigin.WEBHOOK,
        receive_time_ms=NOW,
        report_time_ms=NOW,
    )
    given: dict[str, Any] = {
        "gateway_order_id": topup.gateway_order_id,
        "amount": topup.amount,
    } | fields
    order = topup.pay_order.order_id if topup.pay_order else ""
    word = GatewayPayment(payment_id=payment_id, status=status, **given)
    return ApplyPayment(topup.customer_id, topup.topup_id, order, word, received)


def opened(world: World, command: CreateTopup) -> Topup:
    """Start a top-up and open it for payment; return it as it then is."""
    decision = world.do(command)
    assert isinstance(decision, Accepted)
    assert isinstance(decision.reply, TopupReply)
    topup = decision.reply.topup
    checkout = Checkout(f"order_{topup.topup_id}", "rzp", "")
    world.do(OpenTopup(topup.customer_id, topup.topup_id, checkout))
    return world.topups[topup.topup_id]


def funded(amount: int = 100, customer: str = "asha") -> World:
    """Return a world in which a customer's wallet holds `amount`."""
    world = World()
    world.do(told(opened(world, create("funds", amount, customer))))
    return world


def reason_of(decision: Decision) -> Reason:
    """Return why a command was rejected."""
    assert isinstance(decision, Rejection)
    return decision.reason


def outcome_of(decision: Decision) -> EventOutcome:
    """Return what became of an event."""
    assert isinstance(decision, Accepted)
    assert isinstance(decision.reply, EventReply)
    return decision.reply.outcome


AMOUNTS = st.integers(1, 60)
NUMBERS = st.integers(0, 6)
ORDERS = st.sampled_from(["order-a", "order-b", "order-c"])
STEPS = st.lists(
    st.one_of(
        st.builds(pay, NUMBERS, AMOUNTS, st.sampled_from(CUSTOMERS), ORDERS),
        st.builds(
            refund, NUMBERS, ORDERS, st.none() | AMOUNTS, st.sampled_from((*CUSTOMERS, "nobody"))
        ),
        st.builds(create, NUMBERS, AMOUNTS, st.sampled_from(CUSTOMERS), ORDERS | st.just("")),
        st.tuples(
            st.sampled_from(["open", *GatewayPaymentStatus]),
            st.integers(0, 5),
            st.sampled_from(["pay_1", "pay_2", "pay_3"]),
            st.sampled_from([0, 0, 0, 1]),
        ),
        st.integers(-5_000, 5_000),
    ),
    min_size=5,
    max_size=50,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_money_is_conserved_whatever_happens(steps: Sequence[Any]) -> None:
    """Any sequence of commands, repeats, lies and clock jumps leaves books that agree."""
    world = World()
    for step in steps:
        match step:
            case int():
                world.now_ms += step
            case (what, place, payment, lie):
                topups = sorted(world.topups)
                if not topups:
                    continue
                topup = world.topups[topups[place % len(topups)]]
                if what == "open":
                    checkout = Checkout(f"order_{topup.topup_id}", "rzp", "")
                    world.do(OpenTopup(topup.customer_id, topup.topup_id, checkout))
                else:
                    amount = Money("INR", topup.amount.minor_units + lie)
                    world.do(told(topup, what, f"{payment}-{place}", amount=amount))
            case command:
                decision = world.do(command)
                if isinstance(decision, Rejection):
                    assert world.do(command) == decision
        world.prove()


@given(STEPS)
@settings(max_examples=50, deadline=None)
def test_a_repeat_changes_nothing(steps: Sequence[Any]) -> None:
    """Whatever was carried out gives its entry again when it is asked for again, and no change."""
    world = funded(1_000)
    commands = [step for step in steps if isinstance(step, PayOrder | RefundOrder | CreateTopup)]
    answers = [(command, world.do(command)) for command in commands]
    before = repr(world)

    for command, first in answers:
        again = world.do(command)
        if isinstance(first, Accepted):
            assert isinstance(again, Accepted)
            assert not again.changes
            if isinstance(first.reply, PaymentReply):
                assert isinstance(again.reply, PaymentReply)
                assert again.reply.transaction == first.reply.transaction
                assert again.reply.payment == first.reply.payment
                assert again.reply.wallet.balance == first.reply.wallet.balance
    assert repr(world) == before or any(isinstance(first, Rejection) for _, first in answers)


def test_a_clock_that_goes_back_does_not_turn_the_ledger_around() -> None:
    """Entries keep their order, by id and by time, when the clock jumps back."""
    world = funded(100)
    for number in range(5):
        world.now_ms -= 10_000
        world.do(pay(number))

    times = [transaction.create_time_ms for transaction in world.transactions]
    assert times == sorted(times)
    world.prove()


def test_a_payment_of_the_last_penny_leaves_zero() -> None:
    """A wallet can be emptied exactly, and not by one more."""
    world = funded(100)

    assert reason_of(world.do(pay(1, 101))) is Reason.INSUFFICIENT_FUNDS
    assert isinstance(world.do(pay(2, 100)), Accepted)
    assert reason_of(world.do(pay(3, 1))) is Reason.INSUFFICIENT_FUNDS
    assert world.wallets[WalletKey("asha", "INR")].balance == 0


def test_a_frozen_wallet_takes_money_and_spends_none() -> None:
    """Payments from a frozen wallet are refused; credits and refunds go in, and it stays frozen."""
    world = funded(100)
    world.do(pay("before", 40))
    wallet = world.wallets[WalletKey("asha", "INR")]
    world.wallets[wallet.key] = replace(wallet, state=WalletState.FROZEN)

    assert reason_of(world.do(pay(1))) is Reason.WALLET_FROZEN
    assert isinstance(world.do(refund(2, "order-before")), Accepted)
    topup = opened(world, create(3, 30, order="order-new"))
    assert outcome_of(world.do(told(topup))) is EventOutcome.APPLIED
    credited = world.topups[topup.topup_id]
    assert credited.pay_order_outcome is not None
    assert credited.pay_order_outcome.failure_reason == Reason.WALLET_FROZEN
    frozen = world.wallets[wallet.key]
    assert (frozen.balance, frozen.state) == (130, WalletState.FROZEN)


def test_a_wallet_is_made_by_its_first_credit_and_not_before() -> None:
    """A payment without a wallet is refused and makes none; a gateway-paid order's refund does."""
    world = World()

    assert reason_of(world.do(pay(1))) is Reason.INSUFFICIENT_FUNDS
    assert world.wallets == {}
    assert reason_of(world.do(pay(1, customer="nobody"))) is Reason.CUSTOMER_NOT_FOUND


def test_a_balance_stays_within_64_bits() -> None:
    """A credit over the largest balance waits for review, and such a refund is refused."""
    world = funded(100)
    world.do(pay(1, 100))
    wallet = world.wallets[WalletKey("asha", "INR")]
    world.wallets[wallet.key] = replace(wallet, balance=MAX_BALANCE_MINOR_UNITS - 99)

    assert reason_of(world.do(refund(2, "order-1"))) is Reason.LIMIT_EXCEEDED
    topup = opened(world, create(3, 100))
    assert outcome_of(world.do(told(topup))) is EventOutcome.NEEDS_REVIEW
    assert isinstance(world.do(refund(4, "order-1", 99)), Accepted)
    assert world.wallets[wallet.key].balance == MAX_BALANCE_MINOR_UNITS


def test_an_order_has_a_bounded_number_of_refunds() -> None:
    """The refund after the last one allowed is LIMIT_EXCEEDED."""
    world = funded(1_000)
    world.do(pay("o", 1_000))
    for number in range(MAX_REFUNDS_PER_ORDER):
        assert isinstance(world.do(refund(number, "order-o", 1)), Accepted)

    assert reason_of(world.do(refund("more", "order-o", 1))) is Reason.LIMIT_EXCEEDED
    assert world.orders["order-o"].payment_state is OrderPaymentState.PARTIALLY_REFUNDED


@pytest.mark.parametrize(
    ("fields", "outcome", "state"),
    [
        ({"amount": Money("INR", 99)}, EventOutcome.NEEDS_REVIEW, TopupState.NEEDS_REVIEW),
        ({"amount": Money("JPY", 100)}, EventOutcome.NEEDS_REVIEW, TopupState.NEEDS_REVIEW),
        ({"gateway_order_id": "order_x"}, EventOutcome.NEEDS_REVIEW, TopupState.NEEDS_REVIEW),
        # Whoever leaves the order out has named the top-up itself, by what only we set.
        ({"gateway_order_id": ""}, EventOutcome.APPLIED, TopupState.CREDITED),
        ({}, EventOutcome.APPLIED, TopupState.CREDITED),
    ],
    ids=str,
)
def test_only_a_capture_that_fits_is_credited(
    fields: dict[str, Any], outcome: EventOutcome, state: TopupState
) -> None:
    """A capture of another amount, currency or gateway's order waits for a person."""
    world = World()
    topup = opened(world, create(1))

    assert outcome_of(world.do(told(topup, **fields))) is outcome
    assert world.topups[topup.topup_id].state is state
    assert len(world.transactions) == (state is TopupState.CREDITED)
    (event,) = world.events.values()
    assert event.outcome is outcome
    assert bool(event.reason) == (outcome is EventOutcome.NEEDS_REVIEW)


@pytest.mark.parametrize("status", list(GatewayPaymentStatus))
def test_after_the_credit_nothing_more_is_credited(status: GatewayPaymentStatus) -> None:
    """Whatever the gateway says after the credit, of this payment or another, pays nothing more."""
    world = World()
    topup = opened(world, create(1))
    world.do(told(topup))

    world.do(told(topup, status, event="later"))
    world.do(told(topup, status, payment="pay_other"))

    assert len(world.transactions) == 1
    assert world.topups[topup.topup_id].state is TopupState.CREDITED
    assert world.wallets[WalletKey("asha", "INR")].balance == 100


@pytest.mark.parametrize("state", [TopupState.EXPIRED, TopupState.FAILED, TopupState.NEEDS_REVIEW])
def test_money_that_comes_late_is_credited(state: TopupState) -> None:
    """A top-up that had failed, expired or waited for review is credited by a capture that fits."""
    world = World()
    topup = opened(world, create(1))
    world.topups[topup.topup_id] = replace(topup, state=state)

    assert outcome_of(world.do(told(topup))) is EventOutcome.APPLIED
    assert world.wallets[WalletKey("asha", "INR")].balance == 100


def test_a_reversed_top_up_is_not_credited_again() -> None:
    """The capture of a top-up that the gateway took back later stays a duplicate."""
    world = World()
    topup = opened(world, create(1))
    world.do(told(topup))
    credited = world.topups[topup.topup_id]
    world.topups[topup.topup_id] = replace(credited, state=TopupState.REVERSED)

    assert outcome_of(world.do(told(topup, event="again"))) is EventOutcome.DUPLICATE
    assert len(world.transactions) == 1


def test_one_payment_is_credited_to_one_top_up() -> None:
    """A payment that was credited for one top-up waits for review at another one."""
    world = World()
    first, second = opened(world, create(1)), opened(world, create(2))
    world.do(told(first, payment="pay_1"))

    assert outcome_of(world.do(told(second, payment="pay_1"))) is EventOutcome.NEEDS_REVIEW
    assert world.topups[second.topup_id].state is TopupState.NEEDS_REVIEW
    assert len(world.transactions) == 1


def test_an_event_that_waits_for_review_may_still_take_effect() -> None:
    """Recorded for review at first, an event is applied when it comes again and fits."""
    world = World()
    topup = opened(world, create(1))
    command = told(topup)
    world.do(RecordEvent(command.event, EventOutcome.NEEDS_REVIEW, "unknown"))

    assert outcome_of(world.do(command)) is EventOutcome.APPLIED
    assert outcome_of(world.do(command)) is EventOutcome.DUPLICATE
    assert world.events[command.event.key].outcome is EventOutcome.APPLIED
    assert len(world.transactions) == 1


def test_a_top_up_is_opened_once() -> None:
    """The second order at the gateway does not replace the first, nor reopen what is credited."""
    world = World()
    topup = opened(world, create(1))

    world.do(OpenTopup("asha", topup.topup_id, Checkout("order_second", "rzp", "")))
    assert world.topups[topup.topup_id].gateway_order_id == topup.gateway_order_id
    world.do(told(topup))
    world.do(OpenTopup("asha", topup.topup_id, Checkout("order_third", "rzp", "")))
    assert world.topups[topup.topup_id].state is TopupState.CREDITED


@pytest.mark.parametrize(("told_ms", "expire_ms"), [(NOW + 5, NOW + 5), (None, None)])
def test_the_gateway_may_say_when_the_time_is_over(
    told_ms: int | None, expire_ms: int | None
) -> None:
    """Its word replaces ours; where it says nothing, ours stays."""
    world = World()
    decision = world.do(create(1))
    assert isinstance(decision, Accepted)
    assert isinstance(decision.reply, TopupReply)
    topup = decision.reply.topup

    checkout = Checkout("qr_1", "", "", expire_time_ms=told_ms)
    world.do(OpenTopup("asha", topup.topup_id, checkout))

    assert world.topups[topup.topup_id].expire_time_ms == (expire_ms or topup.expire_time_ms)


@pytest.mark.parametrize("command", [OpenTopup("ben", "", Checkout("order_x", "rzp", ""))])
def test_another_customers_top_up_is_not_found(command: OpenTopup) -> None:
    """A command for a top-up with another customer finds none, and neither does the credit."""
    world = World()
    topup = opened(world, create(1))

    strange = replace(told(topup), customer_id="ben")
    assert reason_of(world.do(strange)) is Reason.TOPUP_NOT_FOUND
    opening = replace(command, topup_id=topup.topup_id)
    assert reason_of(world.do(opening)) is Reason.TOPUP_NOT_FOUND
    assert world.transactions == []
