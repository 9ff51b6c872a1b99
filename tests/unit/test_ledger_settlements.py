"""The rules by which a person settles what could not be applied: no money twice, none invented."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from test_ledger_decide import NOW, World, create, funded, opened, outcome_of, reason_of, told

from server.ledger.commands import (
    AdjustWallet,
    ApplyReversal,
    DismissEvent,
    RecordEvent,
    TieToTopup,
)
from server.ledger.decisions import Accepted, Decision
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayEvent,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReceivedEvent,
    ReversalKind,
    ReversalState,
    Topup,
    TopupState,
    TransactionType,
    WalletKey,
    WalletState,
)
from server.ledger.rejection import Reason, Rejection

CAPTURED = GatewayPaymentStatus.CAPTURED
TAKEN, RETURNED = ReversalState.TAKEN, ReversalState.RETURNED
WALLET = WalletKey("asha", "INR")
Fact = GatewayPayment | GatewayReversal


def inr(minor_units: int) -> Money:
    """Return an amount in INR."""
    return Money("INR", minor_units)


def payment(status: GatewayPaymentStatus = CAPTURED, amount: int = 90) -> GatewayPayment:
    """Return a payment of an order that nobody knows."""
    return GatewayPayment("pay_1", "order_unknown", status, inr(amount))


def reversal(state: ReversalState = TAKEN, amount: int = 40) -> GatewayReversal:
    """Return a refund of that payment."""
    kind = ReversalKind.REFUND
    return GatewayReversal("rfnd_1", kind, "pay_1", "order_unknown", inr(amount), state, True)


def received(name: str) -> ReceivedEvent:
    """Return an event as it came in."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    origin = EventOrigin.WEBHOOK
    return ReceivedEvent("razorpay", name, "event", digest, b"{}", origin, NOW, NOW)


def kept(world: World, fact: Fact | None, name: str = "evt") -> str:
    """Have an event kept for review; return its key."""
    event = received(name)
    world.do(RecordEvent(event, EventOutcome.NEEDS_REVIEW, "unknown", fact))
    return event.key


def adjusted(world: World, key: str, amount: Money, customer: str = "asha") -> Decision:
    """Have a person move money for an event."""
    event: GatewayEvent = world.events[key]
    return world.do(AdjustWallet(key, event.settlement_key, customer, amount, "ravi", "because"))


def tied(world: World, key: str, topup: Topup) -> Decision:
    """Have a person credit a top-up with an event's payment."""
    event: GatewayEvent = world.events[key]
    payment_id = event.gateway_payment_id
    return world.do(
        TieToTopup(
            key, "razorpay", payment_id, topup.customer_id, topup.topup_id, "", "ravi", "because"
        )
    )


def balance(world: World) -> int:
    """Return what the wallet holds; 0 where there is none."""
    wallet = world.wallets.get(WALLET)
    return wallet.balance if wallet else 0


def test_a_payment_is_put_into_a_wallet_with_who_and_why() -> None:
    """An ADJUSTMENT against the gateway's account, of the payment or a part, settles the event."""
    world = World()
    key = kept(world, payment())

    decision = adjusted(world, key, inr(90))

    assert outcome_of(decision) is EventOutcome.RESOLVED
    [entry] = world.transactions
    assert (entry.type, entry.amount) == (TransactionType.ADJUSTMENT, 90)
    assert (entry.gateway, entry.gateway_payment_id) == ("razorpay", "pay_1")
    assert entry.metadata == {"by": "ravi", "why": "because"}
    assert [posting.account for posting in entry.postings][1] == "gateway:razorpay:INR"
    resolution = world.events[key].resolution
    assert (resolution.by, resolution.why) == ("ravi", "because")
    assert resolution.transaction_id == entry.transaction_id
    world.prove()


@pytest.mark.parametrize("amount", [inr(91), inr(0), inr(-1), Money("USD", 90)], ids=str)
def test_a_payment_gives_no_more_than_what_came(amount: Money) -> None:
    """More than the payment, nothing, less than nothing or another currency are refused."""
    world = World()
    key = kept(world, payment())

    assert reason_of(adjusted(world, key, amount)) is Reason.EVENT_MISFIT
    assert world.events[key].outcome is EventOutcome.NEEDS_REVIEW
    assert world.transactions == []


def test_a_reversal_takes_its_own_amount_also_below_zero() -> None:
    """What the gateway took is taken, freezes the wallet, and never becomes a credit."""
    world = funded(10)
    key = kept(world, reversal())
    for amount in (inr(40), inr(-41), inr(0)):
        assert reason_of(adjusted(world, key, amount)) is Reason.EVENT_MISFIT

    assert outcome_of(adjusted(world, key, inr(-40))) is EventOutcome.RESOLVED

    assert balance(world) == -30
    assert world.wallets[WALLET].state is WalletState.FROZEN
    assert world.transactions[-1].gateway_reversal_id == "rfnd_1"


def test_what_came_back_is_put_into_a_wallet_that_still_owes() -> None:
    """A credit that leaves a debt is a credit: the wallet owes less, and stays frozen."""
    world = funded(10)
    adjusted(world, kept(world, reversal()), inr(-40))
    back = kept(world, reversal(RETURNED), "back")

    assert outcome_of(adjusted(world, back, inr(20))) is EventOutcome.RESOLVED

    assert (balance(world), world.wallets[WALLET].state) == (-10, WalletState.FROZEN)


@pytest.mark.parametrize(
    "fact",
    [
        None,
        payment(GatewayPaymentStatus.AUTHORIZED),
        payment(GatewayPaymentStatus.PENDING),
        payment(GatewayPaymentStatus.FAILED),
        reversal(),
        reversal(RETURNED),
    ],
    ids=["nothing", "authorized", "pending", "failed", "taken", "returned"],
)
def test_only_a_captured_payment_is_credited_to_a_top_up(fact: Fact | None) -> None:
    """Neither a refund nor a payment that is under way credits anybody, though its amount fits."""
    world = World()
    amount = fact.amount.minor_units if fact else 90
    topup = opened(world, create(1, amount))
    key = kept(world, fact)

    assert reason_of(tied(world, key, topup)) is Reason.EVENT_MISFIT
    assert world.transactions == []
    assert world.topups[topup.topup_id].state is TopupState.PENDING


@pytest.mark.parametrize("status", [one for one in GatewayPaymentStatus if one is not CAPTURED])
def test_a_payment_that_did_not_come_in_is_put_into_no_wallet(status: GatewayPaymentStatus) -> None:
    """No money has moved, so that none is moved here; the event can be dismissed."""
    world = World()
    key = kept(world, payment(status))

    assert reason_of(adjusted(world, key, inr(90))) is Reason.EVENT_MISFIT
    assert outcome_of(world.do(DismissEvent(key, "ravi", "because"))) is EventOutcome.RESOLVED
    assert world.transactions == []


def in_a_wallet(world: World, key: str) -> Decision:
    """Settle an event by putting its payment into a wallet."""
    return adjusted(world, key, inr(90))


def in_a_top_up(world: World, key: str) -> Decision:
    """Settle an event by crediting a top-up with its payment."""
    return tied(world, key, opened(world, create(f"tie-{len(world.topups)}", 90)))


@pytest.mark.parametrize("first", [in_a_wallet, in_a_top_up])
@pytest.mark.parametrize("second", [in_a_wallet, in_a_top_up])
def test_one_payment_is_settled_once_however_many_events_tell_of_it(
    first: Callable[[World, str], Decision], second: Callable[[World, str], Decision]
) -> None:
    """`payment.captured` and `order.paid` both wait: whichever is settled, the other gives none."""
    world = World()
    keys = [kept(world, payment(), name) for name in ("payment.captured", "order.paid")]

    assert outcome_of(first(world, keys[0])) is EventOutcome.RESOLVED
    assert isinstance(second(world, keys[1]), Rejection)

    assert balance(world) == 90
    assert outcome_of(world.do(DismissEvent(keys[1], "ravi", "settled"))) is EventOutcome.RESOLVED


def test_one_refund_is_settled_once_however_many_events_tell_of_it() -> None:
    """`refund.created` and `refund.processed` both wait: the refund is taken once."""
    world = funded(100)
    keys = [kept(world, reversal(), name) for name in ("refund.created", "refund.processed")]
    adjusted(world, keys[0], inr(-40))

    assert reason_of(adjusted(world, keys[1], inr(-40))) is Reason.EVENT_MISFIT
    assert balance(world) == 60


def test_what_a_person_credited_is_not_credited_by_its_top_up_later() -> None:
    """The order becomes known after all: its payment waits for review, and is credited no more."""
    world = World()
    topup = opened(world, create(1, 90))
    adjusted(
        world, kept(world, replace(payment(), gateway_order_id=topup.gateway_order_id)), inr(90)
    )

    late = world.do(told(topup, payment="pay_1"))

    assert outcome_of(late) is EventOutcome.NEEDS_REVIEW
    assert balance(world) == 90


@pytest.mark.parametrize("state", [TAKEN, RETURNED])
def test_what_a_person_debited_is_not_debited_by_its_top_up_later(state: ReversalState) -> None:
    """A later report of a refund that was settled by hand goes to a person, whatever it says."""
    world = World()
    topup = opened(world, create(1, 90))
    world.do(told(topup, payment="pay_1"))
    adjusted(world, kept(world, reversal()), inr(-40))

    report = replace(reversal(state), gateway_order_id=topup.gateway_order_id)
    late = world.do(ApplyReversal("asha", topup.topup_id, report, received("late")))

    assert outcome_of(late) is EventOutcome.NEEDS_REVIEW
    assert balance(world) == 50


def test_a_top_up_takes_a_payment_that_fits_and_no_other() -> None:
    """Another amount, or a top-up that is credited already, is refused and stays waiting."""
    world = World()
    key = kept(world, payment())
    small, credited = opened(world, create(1, 80)), opened(world, create(2, 50))
    world.do(told(credited, payment="pay_2"))

    for topup in (small, credited):
        assert reason_of(tied(world, key, topup)) is Reason.TOPUP_STATE
    assert world.topups[small.topup_id].state is TopupState.PENDING
    assert world.events[key].outcome is EventOutcome.NEEDS_REVIEW

    fitting = opened(world, create(3, 90))
    assert outcome_of(tied(world, key, fitting)) is EventOutcome.RESOLVED
    settled = world.topups[fitting.topup_id]
    assert (settled.state, settled.gateway_payment_id) == (TopupState.CREDITED, "pay_1")
    assert world.events[key].resolution.topup_id == fitting.topup_id


def test_an_event_is_settled_once_and_has_to_exist() -> None:
    """Whoever comes second hears that it is settled; an unknown key, that there is none."""
    world = World()
    key = kept(world, payment())
    assert isinstance(world.do(DismissEvent(key, "ravi", "because")), Accepted)

    assert reason_of(world.do(DismissEvent(key, "asha", "too"))) is Reason.EVENT_SETTLED
    assert reason_of(adjusted(world, key, inr(90))) is Reason.EVENT_SETTLED
    assert reason_of(world.do(DismissEvent("unknown", "ravi", "x"))) is Reason.EVENT_NOT_FOUND


def test_an_unknown_customer_and_a_full_wallet_take_nothing() -> None:
    """The event stays waiting where nobody can be credited."""
    world = funded(MAX_BALANCE_MINOR_UNITS - 50)
    key = kept(world, payment())

    assert reason_of(adjusted(world, key, inr(90), "nobody")) is Reason.CUSTOMER_NOT_FOUND
    assert reason_of(adjusted(world, key, inr(90))) is Reason.EVENT_MISFIT
    assert world.events[key].outcome is EventOutcome.NEEDS_REVIEW
