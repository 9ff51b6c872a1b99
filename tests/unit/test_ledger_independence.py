"""What must not matter: the order and number of a gateway's reports, and other customers."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from checked_ledger import Ledger, bounded, key, received
from server.ledger.commands import (
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    PayOrder,
    RefundOrder,
)
from server.ledger.decisions import (
    Accepted,
    TopupReply,
)
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    IdempotencyKey,
    OrderToPay,
    ReversalKind,
    ReversalState,
    WalletKey,
)

NUMBER = st.integers(0, 5)
Report = tuple[int, GatewayPayment | GatewayReversal]
"""When the gateway made it, in seconds, and what it says."""


@st.composite
def lives_of_a_payment(draw: st.DrawFn) -> tuple[list[Report], list[Report]]:
    """Return what a gateway says of a top-up's payments, in order, and as it may come in."""
    money = Money("INR", 1_000)
    facts: list[GatewayPayment | GatewayReversal] = [
        GatewayPayment(f"pay_{number}", "order_1", GatewayPaymentStatus.FAILED, money, "declined")
        for number in range(draw(st.integers(0, 2)))
    ]
    facts += [
        GatewayPayment("pay_9", "order_1", status, money)
        for status in (GatewayPaymentStatus.PENDING, GatewayPaymentStatus.AUTHORIZED)
        if draw(st.booleans())
    ]
    if draw(st.booleans()):
        captured = GatewayPayment("pay_9", "order_1", GatewayPaymentStatus.CAPTURED, money)
        facts += [captured] * draw(st.integers(1, 2))
        for number in range(draw(st.integers(0, 3))):
            kind, name = draw(st.sampled_from(ReversalKind)), f"taken_{number}"
            part = Money("INR", draw(st.sampled_from((1, 400, 600, 1_000))))
            ends = draw(st.none() | st.sampled_from(ReversalState))
            taken = GatewayReversal(
                name, kind, "pay_9", "order_1", part, ReversalState.TAKEN, is_final=False
            )
            facts.append(taken)
            if ends is not None:
                facts.append(replace(taken, state=ends, is_final=True))
    reports = list(enumerate(facts))
    again = draw(st.lists(st.sampled_from(reports), max_size=3)) if reports else []
    return reports, draw(st.permutations(reports + again))


def end_of(reports: Iterable[Report]) -> tuple[object, ...]:
    """Have reports about one top-up come in; return the end that their order must not change."""
    ledger = Ledger()
    command = CreateTopup(
        *("asha", Money("INR", 1_000), "razorpay", "upi", key("InitiateTopup", 1)),
        pay_order=OrderToPay("order-a", Money("INR", 300)),
        return_url="",
        metadata={},
        lifetime_ms=1_000,
        first_poll_ms=100,
    )
    ledger.carry_out(command)
    (topup_id,) = ledger.topups
    for seconds, fact in reports:
        event = received("razorpay", fact, seconds)
        report: Command
        if isinstance(fact, GatewayReversal):
            report = ApplyReversal("asha", topup_id, fact, event)
        else:
            report = ApplyPayment("asha", topup_id, "order-a", fact, event)
        ledger.carry_out(report)
        ledger.check()
    topup, wallet = ledger.topups[topup_id], ledger.wallets.get(WalletKey("asha", "INR"))
    return (
        wallet and (wallet.balance, wallet.state, wallet.freeze_cause),
        (topup.state, topup.gateway_payment_id, topup.failure_reason),
        frozenset(topup.reversals),
        "order-a" in ledger.orders,
    )


@given(lives_of_a_payment())
@bounded(300)
def test_reports_in_any_order_and_number_have_one_end(
    lives: tuple[list[Report], list[Report]],
) -> None:
    """However a gateway's reports come, top-up, wallet and order end as in the true order."""
    in_order, as_they_came = lives

    assert end_of(as_they_came) == end_of(in_order)


COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("credit"), st.sampled_from((10, 100)), NUMBER),
        st.tuples(st.just("pay"), st.sampled_from((10, 100)), NUMBER),
        st.tuples(st.just("refund"), st.sampled_from((5, 10)), NUMBER),
    ),
    max_size=12,
)


def live(ledger: Ledger, customer: str, step: tuple[str, int, int]) -> None:
    """Take one step of a customer's life; names are the customer's own."""
    what, amount, number = step
    money, order_id = Money("INR", amount), f"{customer}-{number}"
    name = IdempotencyKey(customer, what, str(number))
    if what == "pay":
        ledger.carry_out(PayOrder(customer, order_id, money, name, {}))
    elif what == "refund":
        ledger.carry_out(RefundOrder(customer, order_id, money, name, "", {}))
    else:
        created = ledger.carry_out(
            CreateTopup(customer, money, "razorpay", "upi", name, None, "", {}, 1_000, 100)
        )
        if isinstance(created, Accepted) and isinstance(created.reply, TopupReply):
            topup = created.reply.topup
            status = GatewayPaymentStatus.CAPTURED
            payment = GatewayPayment(f"pay_{order_id}", "", status, topup.amount)
            event = received("razorpay", payment, 0)
            ledger.carry_out(ApplyPayment(customer, topup.topup_id, "", payment, event))


@given(COMMANDS, COMMANDS, st.data())
@bounded(150)
def test_customers_do_not_feel_each_other(
    ashas: Sequence[tuple[str, int, int]],
    bens: Sequence[tuple[str, int, int]],
    data: st.DataObject,
) -> None:
    """However two customers' commands are mixed, each ends as if alone, to the last hash."""
    turns = data.draw(st.permutations(["asha"] * len(ashas) + ["ben"] * len(bens)))
    left = {"asha": iter(ashas), "ben": iter(bens)}
    mixed, alone = Ledger(), Ledger()

    for customer in turns:
        live(mixed, customer, next(left[customer]))
    for customer, steps in (("asha", ashas), ("ben", bens)):
        for step in steps:
            live(alone, customer, step)

    assert mixed.wallets == alone.wallets
    assert mixed.orders == alone.orders
    assert mixed.topups == alone.topups
