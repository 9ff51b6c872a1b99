"""A store with its ports, and the commands that its tests write records by."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from server.commit.port import Snapshot, Store
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
from server.ledger.decisions import Accepted, Reply, TopupReply
from server.ledger.limits import NO_LIMITS, Limits
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    Checkout,
    EventOrigin,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    IdempotencyKey,
    Order,
    ReceivedEvent,
    Topup,
)
from server.ledger.state import ChangeSet
from server.queries import PollSchedule, Queries

GATEWAY = "razorpay"
NOW_MS = 1_700_000_000_000
NEVER_MS = 4_000_000_000_000
"""When top-ups are polled that no test about polling shall meet."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Stores:
    """The ports, as two servers have them on one database."""

    store: Store
    other_store: Store
    queries: Queries
    schedule: PollSchedule
    other_schedule: PollSchedule
    add_customer: Callable[[str], Awaitable[None]]
    put_order: Callable[[Order], Awaitable[None]]
    """Record or change an order as the order service does."""

    async def customer(self, balance: int = 0, currency: str = "INR") -> str:
        """Return a new customer, whose wallet holds `balance` by a top-up."""
        customer_id = unique("customer")
        await self.add_customer(customer_id)
        if balance:
            await self.credited(customer_id, balance, currency)
        return customer_id

    async def credited(self, customer_id: str, amount: int, currency: str = "INR") -> Topup:
        """Return a top-up that was opened and credited."""
        topup = await self.opened(customer_id, amount=Money(currency, amount))
        await self.carry_out(captured(topup))
        return await self.reloaded(topup)

    async def opened(self, customer_id: str, **fields: Any) -> Topup:
        """Return a top-up that can be paid."""
        topup = await self.started(customer_id, **fields)
        await self.carry_out(opening(topup))
        return await self.reloaded(topup)

    async def started(self, customer_id: str, **fields: Any) -> Topup:
        """Return a top-up that the gateway has not heard of yet."""
        reply = await self.carry_out(topup_request(customer_id, **fields))
        assert isinstance(reply, TopupReply)
        return reply.topup

    async def reloaded(self, topup: Topup) -> Topup:
        """Return a top-up as it is now."""
        found = await self.queries.topup(topup.customer_id, topup.topup_id)
        assert found is not None
        return found

    async def carry_out(self, command: Command, store: Store | None = None) -> Reply:
        """Load, decide and commit a command that has to be accepted."""
        store = store or self.store
        prepared = await prepare(store, command)
        await prepared.commit()
        return prepared.reply


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that is loaded and decided, and not yet committed."""

    store: Store
    snapshot: Snapshot
    reply: Reply
    """To its last command."""
    changes: ChangeSet

    async def commit(self, changes: ChangeSet | None = None) -> None:
        """Commit it, or other changes under its guards."""
        await self.store.commit(self.snapshot, self.changes if changes is None else changes)


async def prepare(store: Store, *commands: Command, limits: Limits = NO_LIMITS) -> Prepared:
    """Load commands and decide them one after another; each has to be accepted."""
    snapshot = await load(store, *commands, limits=limits)
    changes, reply = ChangeSet(), None
    for command in commands:
        decision = decide(snapshot.state, command, NOW_MS)
        assert isinstance(decision, Accepted), decision
        snapshot.state.apply(decision.changes)
        changes.add(decision.changes)
        reply = decision.reply
    assert reply is not None
    return Prepared(store, snapshot, reply, changes)


async def load(store: Store, *commands: Command, limits: Limits = NO_LIMITS) -> Snapshot:
    """Load what commands need."""
    needs = Needs(has_limits=bool(limits))
    for command in commands:
        needs.add(command)
    snapshot = await store.load(needs)
    snapshot.state.limits = limits
    return snapshot


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{next(_numbers)}"


def unique_key(method: str = "PayWithWallet") -> IdempotencyKey:
    """Return a key that no other request uses."""
    return IdempotencyKey("shop", method, unique("key"))


def payment(customer_id: str, amount: int = 10, order_id: str = "", **fields: Any) -> PayOrder:
    """Return the command to pay an order."""
    given: dict[str, Any] = {
        "customer_id": customer_id,
        "order_id": order_id or unique("order"),
        "amount": Money("INR", amount),
        "idempotency_key": unique_key(),
        "metadata": {"note": "three"},
    }
    return PayOrder(**given | fields)


def refund(customer_id: str, order_id: str, amount: int) -> RefundOrder:
    """Return the command to refund an order."""
    key = unique_key("RefundToWallet")
    return RefundOrder(customer_id, order_id, Money("INR", amount), key, "returned", NO_METADATA)


def topup_request(customer_id: str, **fields: Any) -> CreateTopup:
    """Return the command to start a top-up."""
    given: dict[str, Any] = {
        "customer_id": customer_id,
        "amount": Money("INR", 100),
        "gateway": GATEWAY,
        "method": "card",
        "idempotency_key": unique_key("InitiateTopup"),
        "pay_order": None,
        "return_url": "",
        "metadata": NO_METADATA,
        "lifetime_ms": 900_000,
        "first_poll_ms": NEVER_MS - NOW_MS,
    }
    return CreateTopup(**given | fields)


def opening(topup: Topup, gateway_order_id: str = "") -> OpenTopup:
    """Return the command to open a top-up."""
    order_id = gateway_order_id or unique("gateway-order")
    checkout = Checkout(order_id, "public", f"https://pay.example/{order_id}")
    return OpenTopup(topup.customer_id, topup.topup_id, checkout)


def captured(topup: Topup, payment_id: str = "", event_id: str = "") -> ApplyPayment:
    """Return the command to apply a captured payment by webhook."""
    paid = GatewayPayment(
        payment_id or unique("payment"),
        topup.gateway_order_id,
        GatewayPaymentStatus.CAPTURED,
        topup.amount,
    )
    return ApplyPayment(topup.customer_id, topup.topup_id, "", paid, event(event_id))


def kept_event(event_id: str = "") -> RecordEvent:
    """Return the command to keep an event for review."""
    outcome = EventOutcome.NEEDS_REVIEW
    stray = GatewayPayment(unique("payment"), "", GatewayPaymentStatus.CAPTURED, Money("INR", 5))
    return RecordEvent(event(event_id), outcome, "no top-up", stray)


def event(event_id: str = "") -> ReceivedEvent:
    """Return an event as it came."""
    return ReceivedEvent(
        gateway=GATEWAY,
        event_id=event_id or unique("event"),
        event_type="payment.captured",
        body_digest="d" * 64,
        body=b"{}",
        origin=EventOrigin.WEBHOOK,
        receive_time_ms=NOW_MS,
        report_time_ms=NOW_MS,
    )


def recorded_order(customer_id: str, amount: int = 10, order_id: str = "") -> Order:
    """Return an unpaid order as the order service records it."""
    return Order(
        order_id=order_id or unique("order"),
        customer_id=customer_id,
        amount=amount,
        currency_code="INR",
        payment_state=None,
        payment_method=None,
        transaction_id="",
        refunded_amount=0,
        refunds=(),
        pay_time_ms=None,
    )
