"""A ledger with one top-up, for tests that go through its life step by step."""

import itertools
from dataclasses import replace
from typing import Any

from checked_ledger import Ledger, key, received
from server.ledger.commands import (
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    OpenTopup,
)
from server.ledger.decisions import Accepted
from server.ledger.limits import NO_LIMITS, Limits
from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
    Topup,
    WalletKey,
)
from server.ledger.rejection import Reason, Rejection

NOW = 1_700_000_000_000
TAKEN, RETURNED = ReversalState.TAKEN, ReversalState.RETURNED
AUTHORIZED, CAPTURED = GatewayPaymentStatus.AUTHORIZED, GatewayPaymentStatus.CAPTURED
FAILED, STARTED = GatewayPaymentStatus.FAILED, GatewayPaymentStatus.STARTED
_numbers = itertools.count(10)


def inr(minor_units: int) -> Money:
    """Return an amount in INR."""
    return Money("INR", minor_units)


def create(number: int = 1, **changes: Any) -> CreateTopup:
    """Return the start of a top-up of 100 that has a minute, and is asked about after ten."""
    command = CreateTopup(
        customer_id="asha",
        amount=inr(100),
        gateway="razorpay",
        method="upi",
        idempotency_key=key("InitiateTopup", number),
        pay_order=None,
        return_url="https://shop.example/",
        metadata={"cart": "1"},
        lifetime_ms=60_000,
        first_poll_ms=10_000,
    )
    return replace(command, **changes)


class World:
    """A ledger with one top-up, which is open for payment."""

    def __init__(self, *, is_open: bool = True, limits: Limits = NO_LIMITS, **changes: Any) -> None:
        self.ledger = Ledger(limits)
        decision = self.ledger.carry_out(create(**changes))
        assert isinstance(decision, Accepted)
        [self.topup_id] = self.ledger.topups
        if is_open:
            self.do(OpenTopup("asha", self.topup_id, Checkout("order_1", "", "")))

    @property
    def topup(self) -> Topup:
        """The top-up as it now is."""
        return self.ledger.topups[self.topup_id]

    @property
    def balance(self) -> int:
        """What the wallet holds."""
        wallet = self.ledger.wallets.get(WalletKey("asha", "INR"))
        return wallet.balance if wallet else 0

    def now(self, **changes: Any) -> None:
        """Make the top-up something else."""
        self.ledger.topups[self.topup_id] = replace(self.topup, **changes)

    def do(self, command: Command) -> Any:
        """Carry out a command a second later; return what it is answered with."""
        self.ledger.now_ms += 1_000
        decision = self.ledger.carry_out(command)
        self.ledger.check()
        return decision.reply if isinstance(decision, Accepted) else decision

    def told(
        self, status: GatewayPaymentStatus, at: int = 0, payment_id: str = "pay_1", **more: Any
    ) -> tuple[EventOutcome, str]:
        """Have the gateway tell of a payment; return what became of that, and why."""
        given: dict[str, Any] = {"gateway_order_id": "order_1", "amount": inr(100)} | more
        payment = GatewayPayment(payment_id=payment_id, status=status, **given)
        order = self.topup.pay_order.order_id if self.topup.pay_order else ""
        event = replace(received("razorpay", payment, next(_numbers)), report_time_ms=NOW + at)
        reply = self.do(ApplyPayment("asha", self.topup_id, order, payment, event))
        assert reply.topup == self.topup
        return reply.outcome, self.ledger.events[event.key].reason

    def taken(
        self, amount: int, state: ReversalState = TAKEN, reversal_id: str = "rfnd_1", **more: Any
    ) -> tuple[EventOutcome, str]:
        """Have the gateway tell of a refund; return what became of that, and why."""
        given: dict[str, Any] = {"payment_id": "pay_1", "is_final": False} | more
        money = Money(given.pop("currency_code", "INR"), amount)
        reversal = GatewayReversal(
            reversal_id=reversal_id,
            kind=ReversalKind.REFUND,
            gateway_order_id="",
            amount=money,
            state=state,
            **given,
        )
        event = received("razorpay", reversal, next(_numbers))
        reply = self.do(ApplyReversal("asha", self.topup_id, reversal, event))
        return reply.outcome, self.ledger.events[event.key].reason


def refused(world: World, command: Command) -> tuple[Reason, dict[str, str]]:
    """Return why a command is refused, and its values."""
    rejection = world.do(command)
    assert isinstance(rejection, Rejection)
    return rejection.reason, dict(rejection.metadata)


def world_is_full(what: str) -> str:
    """Return what is said of a wallet that can hold no more."""
    return f"{what} the wallet over what a wallet can hold."
