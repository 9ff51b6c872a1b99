"""Properties of `decide`: what must hold after every step, whatever the steps are.

In the suite the steps are always the same. `make properties` draws new ones, many more.
"""

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
    FreezeWallet,
    OpenTopup,
    PayOrder,
    RecordEvent,
    RefundOrder,
    SetTier,
    TieToTopup,
    UnfreezeWallet,
)
from server.ledger.decisions import (
    Accepted,
    Decision,
)
from server.ledger.limits import Limits, WalletLimits
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
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.usage import Period, period_start_ms

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


TIERS = {
    "default": {
        "INR": WalletLimits(
            min_topup=2,
            max_balance=700,
            daily_topup=600,
            monthly_topup=900,
            daily_spend=150,
            monthly_spend=300,
            daily_payment_count=3,
        )
    },
    "verified": {"INR": WalletLimits(daily_topup=1_500, daily_spend=400)},
}


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
        """Have a person freeze a wallet, also one that owes, or lift the freeze."""
        wallet = self.wallet(place)
        is_to_freeze = wallet.freeze_cause is not FreezeCause.OPERATOR
        command = FreezeWallet if is_to_freeze else UnfreezeWallet
        self.do(command(*wallet.key, "ravi", "for a property"))

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


class LimitedHistory(AnyHistory):
    """The same with limits on: whatever happens, what customers ask for stays within them."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger.limits = Limits(TIERS)
        self.tiers: dict[str, str] = {}

    @rule(customer=st.sampled_from(CUSTOMERS), tier=st.sampled_from(("", "verified", "gone")))
    def set_tier(self, customer: str, tier: str) -> None:
        """Have a person give a customer another tier."""
        self.do(SetTier(customer, tier, "ravi", "for a property"))

    def do(self, command: Command) -> Decision:
        """Carry a command out, and check what it has let through."""
        decision = super().do(command)
        if isinstance(decision, Accepted):
            for entry in decision.changes.transactions:
                if entry.type is TransactionType.PAYMENT:
                    key = WalletKey(entry.customer_id, entry.currency_code)
                    self.check_spent(key, entry.create_time_ms)
            if isinstance(command, CreateTopup) and decision.changes:
                self.check_started(command)
        return decision

    def limits_of(self, key: WalletKey) -> WalletLimits:
        """Return the limits that a wallet has by its tier."""
        standing = self.ledger.standings.get(key.customer_id)
        is_verified = standing is not None and standing.tier == "verified"
        return TIERS["verified" if is_verified else "default"].get(
            key.currency_code, WalletLimits()
        )

    def entries(self, key: WalletKey, kind: TransactionType, start_ms: int) -> list[int]:
        """Return the amounts of a wallet's entries of a kind since a time, without a sign."""
        return [
            abs(one.amount)
            for one in self.ledger.entries
            if (one.customer_id, one.currency_code, one.type) == (*key, kind)
            and one.create_time_ms >= start_ms
        ]

    def check_spent(self, key: WalletKey, time_ms: int) -> None:
        """Check, entry by entry, that no more was paid than may be."""
        limits = self.limits_of(key)
        today = self.entries(key, TransactionType.PAYMENT, period_start_ms(Period.DAY, time_ms))
        month_ms = period_start_ms(Period.MONTH, time_ms)
        this_month = self.entries(key, TransactionType.PAYMENT, month_ms)
        assert limits.daily_spend is None or sum(today) <= limits.daily_spend
        assert limits.monthly_spend is None or sum(this_month) <= limits.monthly_spend
        assert limits.daily_payment_count is None or len(today) <= limits.daily_payment_count

    def check_started(self, command: CreateTopup) -> None:
        """Check that what is credited and what is open, the new one too, is within the limits."""
        key = WalletKey(command.customer_id, command.amount.currency_code)
        limits, wallet = self.limits_of(key), self.ledger.wallets.get(key)
        time_ms = max(self.ledger.now_ms, wallet.update_time_ms if wallet else 0)
        is_open = sum(
            one.amount.minor_units
            for one in self.ledger.open_topups(key.customer_id).values()
            if one.amount.currency_code == key.currency_code
        )
        day_ms = period_start_ms(Period.DAY, time_ms)
        month_ms = period_start_ms(Period.MONTH, time_ms)
        today = sum(self.entries(key, TransactionType.TOPUP, day_ms)) + is_open
        this_month = sum(self.entries(key, TransactionType.TOPUP, month_ms)) + is_open
        held = max(wallet.balance if wallet else 0, 0) + is_open
        assert limits.min_topup is None or command.amount.minor_units >= limits.min_topup
        assert limits.daily_topup is None or today <= limits.daily_topup
        assert limits.monthly_topup is None or this_month <= limits.monthly_topup
        assert limits.max_balance is None or held <= limits.max_balance


def test_limits_hold_in_any_history() -> None:
    """No payment and no start of a top-up passes a limit, whatever is captured beyond."""
    run_state_machine_as_test(LimitedHistory, settings=bounded(100))


def test_every_step_of_any_history_keeps_what_must_hold() -> None:
    """Conservation, caps, once-only, chains, freezing, and rejections that change nothing."""
    run_state_machine_as_test(AnyHistory, settings=bounded(300))
