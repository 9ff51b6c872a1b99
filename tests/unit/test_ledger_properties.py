"""Properties of `decide`: what must hold after every step, whatever the steps are.

In the suite the steps are always the same. `make properties` draws new ones, many more.
"""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from checked_ledger import CUSTOMERS, Ledger, bounded, key, received
from server.ledger.commands import (
    AdjustWallet,
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    DismissEvent,
    ExpireTopup,
    OpenTopup,
    PayOrder,
    RecordEvent,
    RefundOrder,
    TieToTopup,
)
from server.ledger.decisions import (
    Decision,
)
from server.ledger.money import MAX_BALANCE_MINOR_UNITS, Money
from server.ledger.records import (
    Checkout,
    EventOrigin,
    EventOutcome,
    FreezeCause,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    Order,
    OrderPaymentMethod,
    OrderPaymentState,
    OrderToPay,
    ReversalKind,
    ReversalState,
    Topup,
    Wallet,
    WalletState,
)

ORDERS = ("order-a", "order-b", "order-c", "open", "by-gateway", "spoilt")
HUGE = MAX_BALANCE_MINOR_UNITS
WHO = st.sampled_from((*CUSTOMERS * 4, "nobody"))
WHICH_ORDER = st.sampled_from(ORDERS)
AMOUNT = st.sampled_from((1, 2, 10, 50, 99, 100, 100, 500, HUGE - 100, HUGE))
CURRENCY = st.sampled_from(("INR", "INR", "INR", "JPY"))
NUMBER = st.integers(0, 5)
KEY = st.integers(0, 15)
PAYMENT = st.sampled_from(("pay_1", "pay_2", "pay_3"))
ORIGIN = st.sampled_from(EventOrigin)


class AnyHistory(RuleBasedStateMachine):
    """Whatever callers, gateways and operators may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.commands: list[Command] = []

    @initialize(funds=st.lists(st.tuples(WHO, AMOUNT), min_size=2, max_size=4))
    def begin(self, funds: list[tuple[str, int]]) -> None:
        """Have orders that are open, paid elsewhere, and spoilt; and wallets with money in them."""
        paid_elsewhere = OrderPaymentState.PARTIALLY_REFUNDED
        for order_id, amount, state, refunded in (
            ("open", 100, None, 0),
            ("by-gateway", 500, paid_elsewhere, 100),
            ("spoilt", None, paid_elsewhere, 0),
        ):
            self.ledger.orders[order_id] = Order(
                order_id=order_id,
                customer_id="asha",
                amount=amount,
                currency_code="INR",
                payment_state=state,
                payment_method=OrderPaymentMethod.GATEWAY if state else None,
                transaction_id="",
                refunded_amount=refunded,
                refunds=(),
                pay_time_ms=None,
            )
        for number, (customer, amount) in enumerate(funds):
            self.create(customer, amount, "INR", 100 + number, None, 1, "razorpay")
        for place in range(len(self.ledger.topups)):
            self.capture(place)

    def do(self, command: Command) -> Decision:
        """Carry a command out and remember it."""
        self.commands.append(command)
        return self.ledger.carry_out(command)

    def topup(self, place: int) -> Topup:
        """Return one of the top-ups."""
        return self.ledger.topups[sorted(self.ledger.topups)[place % len(self.ledger.topups)]]

    def wallet(self, place: int) -> Wallet:
        """Return one of the wallets."""
        wallets = self.ledger.wallets
        return wallets[sorted(wallets)[place % len(wallets)]]

    @rule(
        customer=WHO,
        amount=AMOUNT,
        currency=CURRENCY,
        number=KEY,
        order=st.none() | WHICH_ORDER,
        part=AMOUNT,
        gateway=st.sampled_from(("razorpay", "razorpay", "paypal")),
    )
    def create(
        self,
        customer: str,
        amount: int,
        currency: str,
        number: int,
        order: str | None,
        part: int,
        gateway: str,
    ) -> None:
        """Start a top-up."""
        self.do(
            CreateTopup(
                customer_id=customer,
                amount=Money(currency, amount),
                gateway=gateway,
                method="upi",
                idempotency_key=key("InitiateTopup", number),
                pay_order=OrderToPay(order, Money("INR", part)) if order else None,
                return_url="",
                metadata={},
                lifetime_ms=1_000,
                first_poll_ms=100,
            )
        )

    @precondition(lambda self: self.ledger.topups)
    @rule(place=NUMBER, gateway_order=st.sampled_from(("order_1", "order_2")))
    def open(self, place: int, gateway_order: str) -> None:
        """Open a top-up for payment."""
        topup = self.topup(place)
        self.do(OpenTopup(topup.customer_id, topup.topup_id, Checkout(gateway_order, "key", "")))

    @precondition(lambda self: self.ledger.topups)
    @rule(
        place=NUMBER,
        status=st.sampled_from((*GatewayPaymentStatus, GatewayPaymentStatus.CAPTURED)),
        payment_id=PAYMENT,
        lie=st.sampled_from((0, 0, 0, 0, 1, -1)),
        gateway_order=st.sampled_from(("", "", "order_1", "order_2")),
        number=NUMBER,
        origin=ORIGIN,
    )
    def report_payment(
        self,
        place: int,
        status: GatewayPaymentStatus,
        payment_id: str,
        lie: int,
        gateway_order: str,
        number: int,
        origin: EventOrigin,
    ) -> None:
        """Have the gateway say something of a payment, also what does not fit."""
        topup = self.topup(place)
        amount = Money(topup.amount.currency_code, topup.amount.minor_units + lie)
        payment = GatewayPayment(payment_id, gateway_order, status, amount)
        event = received(topup.gateway, payment, number, origin)
        order = topup.pay_order.order_id if topup.pay_order else ""
        self.do(ApplyPayment(topup.customer_id, topup.topup_id, order, payment, event))

    @precondition(lambda self: self.ledger.topups)
    @rule(
        place=NUMBER,
        reversal_id=st.sampled_from(("rfnd_1", "rfnd_2", "disp_1")),
        payment_id=PAYMENT,
        is_of_credit=st.booleans(),
        part=st.sampled_from((1, 2, 3)),
        state=st.sampled_from(ReversalState),
        is_final=st.booleans(),
        number=NUMBER,
        origin=ORIGIN,
    )
    def report_reversal(
        self,
        place: int,
        reversal_id: str,
        payment_id: str,
        is_of_credit: bool,
        part: int,
        state: ReversalState,
        is_final: bool,
        number: int,
        origin: EventOrigin,
    ) -> None:
        """Have the gateway take money back or return it, also before it brought any."""
        topup = self.topup(place)
        if is_of_credit and topup.gateway_payment_id:
            payment_id = topup.gateway_payment_id
        amount = max(1, topup.amount.minor_units // part)
        kind = ReversalKind.DISPUTE if reversal_id == "disp_1" else ReversalKind.REFUND
        money = Money(topup.amount.currency_code, amount)
        reversal = GatewayReversal(reversal_id, kind, payment_id, "", money, state, is_final)
        event = received(topup.gateway, reversal, number, origin)
        self.do(ApplyReversal(topup.customer_id, topup.topup_id, reversal, event))

    @precondition(lambda self: self.ledger.topups)
    @rule(place=NUMBER)
    def capture(self, place: int) -> None:
        """Have a top-up paid as it should be."""
        payment_id = f"pay_of_{self.topup(place).topup_id}"
        captured = GatewayPaymentStatus.CAPTURED
        self.report_payment(place, captured, payment_id, 0, "", 0, EventOrigin.WEBHOOK)

    @precondition(lambda self: self.ledger.topups)
    @rule(
        place=NUMBER,
        part=st.sampled_from((1, 2)),
        state=st.sampled_from(ReversalState),
        name=NUMBER,
    )
    def reverse(self, place: int, part: int, state: ReversalState, name: int) -> None:
        """Have a credited top-up taken back, or returned, for the time being."""
        self.report_reversal(
            place, f"rfnd_{name}", "", True, part, state, False, name, EventOrigin.WEBHOOK
        )

    @precondition(lambda self: self.reversed())
    @rule(place=NUMBER, state=st.sampled_from(ReversalState), is_final=st.booleans())
    def turn_reversal(self, place: int, state: ReversalState, is_final: bool) -> None:
        """Have what is known of a reversal turn, or become final."""
        topups = self.reversed()
        topup = topups[place % len(topups)]
        known = topup.reversals[place % len(topup.reversals)]
        money = Money(topup.amount.currency_code, known.amount)
        name, kind, payment_id = known.reversal_id, known.kind, known.payment_id
        reversal = GatewayReversal(name, kind, payment_id, "", money, state, is_final)
        event = received(topup.gateway, reversal, len(self.commands))
        self.do(ApplyReversal(topup.customer_id, topup.topup_id, reversal, event))

    def reversed(self) -> list[Topup]:
        """Return the top-ups of which something was taken or returned."""
        return [one for _, one in sorted(self.ledger.topups.items()) if one.reversals]

    @precondition(lambda self: self.ledger.topups)
    @rule(place=NUMBER)
    def expire(self, place: int) -> None:
        """Have a top-up's time be over, or not yet."""
        topup = self.topup(place)
        self.do(ExpireTopup(topup.customer_id, topup.topup_id))

    @rule(customer=WHO, order=WHICH_ORDER, amount=AMOUNT, currency=CURRENCY, number=KEY)
    def pay(self, customer: str, order: str, amount: int, currency: str, number: int) -> None:
        """Pay an order."""
        money = Money(currency, amount)
        self.do(PayOrder(customer, order, money, key("PayWithWallet", number), {}))

    @precondition(lambda self: self.ledger.wallets)
    @rule(place=NUMBER, part=st.sampled_from((1, 2, 10)), number=st.integers(20, 60))
    def pay_what_there_is(self, place: int, part: int, number: int) -> None:
        """Pay a new order with a part of a wallet, or with all that it holds."""
        wallet = self.wallet(place)
        amount = max(1, wallet.balance // part)
        self.pay(*(wallet.customer_id, f"order-{number}", amount, wallet.currency_code, number))

    @rule(customer=WHO, order=WHICH_ORDER, amount=st.none() | AMOUNT, number=KEY)
    def refund(self, customer: str, order: str, amount: int | None, number: int) -> None:
        """Refund an order."""
        money = None if amount is None else Money("INR", amount)
        self.do(RefundOrder(customer, order, money, key("RefundToWallet", number), "", {}))

    @rule(place=NUMBER, part=st.sampled_from((1, 2, 3)), number=st.integers(20, 60))
    def refund_what_is_paid(self, place: int, part: int, number: int) -> None:
        """Refund a part of a paid order, or all that remains of it."""
        paid = sorted(one.order_id for one in self.ledger.orders.values() if one.payment_state)
        order = self.ledger.orders[paid[place % len(paid)]]
        amount = max(1, (order.amount or 0) // part)
        self.refund(order.customer_id or "", order.order_id, amount if part > 1 else None, number)

    @rule(payment_id=PAYMENT, amount=AMOUNT, number=NUMBER)
    def keep_for_review(self, payment_id: str, amount: int, number: int) -> None:
        """Have an event come that belongs to no top-up."""
        event = received("razorpay", (payment_id, amount), number)
        money, outcome = Money("INR", amount), EventOutcome.NEEDS_REVIEW
        stray = GatewayPayment(payment_id, "", GatewayPaymentStatus.CAPTURED, money)
        self.do(RecordEvent(event, outcome, "unknown", stray))

    @precondition(lambda self: self.ledger.events)
    @rule(
        place=NUMBER,
        how=st.sampled_from(("tie", "credit", "debit", "dismiss")),
        customer=WHO,
        amount=AMOUNT,
        topup_place=NUMBER,
    )
    def settle(self, place: int, how: str, customer: str, amount: int, topup_place: int) -> None:
        """Have a person settle an event, or try to."""
        events = [
            one
            for _, one in sorted(self.ledger.events.items())
            if one.outcome is EventOutcome.NEEDS_REVIEW or place == 0
        ] or list(self.ledger.events.values())
        event = events[place % len(events)]
        name, gateway = event.received.key, event.received.gateway
        mine = {one.topup_id: one for one in self.ledger.topups.values() if one.gateway == gateway}
        if how == "tie" and mine:
            topup = mine[sorted(mine)[topup_place % len(mine)]]
            order = topup.pay_order.order_id if topup.pay_order else ""
            payment_id, owner = event.gateway_payment_id, topup.customer_id
            self.do(
                TieToTopup(name, gateway, payment_id, owner, topup.topup_id, order, "asha", "why")
            )
        elif how in {"credit", "debit"}:
            money = Money("INR", amount if how == "credit" else -amount)
            self.do(AdjustWallet(name, event.settlement_key, customer, money, "asha", "why"))
        else:
            self.do(DismissEvent(name, "asha", "why"))

    @precondition(lambda self: self.ledger.wallets)
    @rule(place=NUMBER)
    def freeze_or_thaw(self, place: int) -> None:
        """Have a person freeze a wallet, or thaw one that owes nothing."""
        wallet = self.wallet(place)
        if wallet.freeze_cause is FreezeCause.NONE:
            wallet = replace(wallet, state=WalletState.FROZEN, freeze_cause=FreezeCause.OPERATOR)
        elif wallet.balance >= 0:
            wallet = replace(wallet, state=WalletState.ACTIVE, freeze_cause=FreezeCause.NONE)
        self.ledger.wallets[wallet.key] = replace(wallet, version=wallet.version + 1)

    @rule(by_ms=st.sampled_from((-5_000, 1, 500, 2_000, 86_400_000)))
    def clock(self, by_ms: int) -> None:
        """Let time pass, or jump back."""
        self.ledger.now_ms += by_ms

    @precondition(lambda self: self.commands)
    @rule(place=st.integers(0, 49))
    def again(self, place: int) -> None:
        """Repeat an earlier command, however long ago it was."""
        self.ledger.carry_out(self.commands[place % len(self.commands)])

    @invariant()
    def everything_holds(self) -> None:
        """Check all records after each step."""
        self.ledger.check()


def test_every_step_of_any_history_keeps_what_must_hold() -> None:
    """Conservation, caps, once-only, chains, freezing, and rejections that change nothing."""
    run_state_machine_as_test(AnyHistory, settings=bounded(300))
