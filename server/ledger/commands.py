"""The commands of the ledger, in the imperative, and what each needs to be decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    EventMoney,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentKey,
    GatewayReversal,
    IdempotencyKey,
    OrderToPay,
    ReceivedEvent,
    settlement_key,
)


@dataclass(frozen=True, slots=True)
class PayOrder:
    """Pay an order from the customer's wallet."""

    customer_id: str
    order_id: str
    amount: Money
    idempotency_key: IdempotencyKey
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """Give `amount` of an order's payment back into the wallet; None means all that remains."""

    customer_id: str
    order_id: str
    amount: Money | None
    idempotency_key: IdempotencyKey
    reason: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CreateTopup:
    """Record a top-up before the gateway hears of it."""

    customer_id: str
    amount: Money
    gateway: str
    method: str
    idempotency_key: IdempotencyKey
    pay_order: OrderToPay | None
    return_url: str
    metadata: Mapping[str, str]
    lifetime_ms: int
    """How long the customer has to pay; a setting, not a part of the request."""
    first_poll_ms: int
    """After how long the gateway is asked for the first time; a setting too."""


@dataclass(frozen=True, slots=True)
class OpenTopup:
    """Record that the gateway has an order for the top-up, which can be paid now."""

    customer_id: str
    topup_id: str
    checkout: Checkout


@dataclass(frozen=True, slots=True)
class ClaimToken:
    """Tie a wallet's token to the one top-up that it counts for, before it is handed on.

    `event` is named by the token's digest; the token itself is not in it.
    """

    customer_id: str
    topup_id: str
    event: ReceivedEvent


@dataclass(frozen=True, slots=True)
class ReleaseToken:
    """Note that the gateway has answered the token that was handed on since `token_time_ms`."""

    customer_id: str
    topup_id: str
    token_time_ms: int


@dataclass(frozen=True, slots=True)
class ApplyPayment:
    """Let what the gateway says of a top-up's payment take effect.

    `pay_order_id` is the top-up's own, which never changes; it tells which order has to be loaded
    with it, and is empty where there is none.
    """

    customer_id: str
    topup_id: str
    pay_order_id: str
    payment: GatewayPayment
    event: ReceivedEvent

    @property
    def payment_key(self) -> GatewayPaymentKey:
        """What names the payment."""
        return GatewayPaymentKey(self.event.gateway, self.payment.payment_id)


@dataclass(frozen=True, slots=True)
class ApplyReversal:
    """Let a refund or dispute at the gateway take effect on the wallet that its payment filled."""

    customer_id: str
    topup_id: str
    reversal: GatewayReversal
    event: ReceivedEvent

    @property
    def settlement_key(self) -> IdempotencyKey:
        """What names the entry by which a person has settled that the money was taken, if so."""
        return settlement_key(self.event.gateway, EventMoney.TAKEN, self.reversal.reversal_id)


@dataclass(frozen=True, slots=True)
class ExpireTopup:
    """Note that the time to pay a top-up is over; money that still comes is credited."""

    customer_id: str
    topup_id: str


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """Keep an event that no top-up can take: it changes nothing, or a person has to review it."""

    event: ReceivedEvent
    outcome: EventOutcome
    reason: str
    fact: GatewayPayment | GatewayReversal | None = None
    """What it says of money; None where it says nothing."""


@dataclass(frozen=True, slots=True)
class TieToTopup:
    """Credit a top-up with the captured payment of an event that was kept for review."""

    event_key: str
    gateway: str
    payment_id: str
    """The event's own, which never change; they tell what has to be loaded."""
    customer_id: str
    topup_id: str
    pay_order_id: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class AdjustWallet:
    """Settle an event that was kept for review by moving `amount` (signed) into a wallet."""

    event_key: str
    settlement_key: IdempotencyKey | None
    """The event's own, which never changes; it tells what has to be loaded."""
    customer_id: str
    amount: Money
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class DismissEvent:
    """Settle an event that was kept for review without moving money."""

    event_key: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class FreezeWallet:
    """Let a wallet spend nothing until a person unfreezes it."""

    customer_id: str
    currency_code: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class UnfreezeWallet:
    """Let a wallet that a person froze spend again."""

    customer_id: str
    currency_code: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class SetTier:
    """Give a customer's wallets the limits of a tier; the empty one is the default."""

    customer_id: str
    tier: str
    by: str
    why: str


Command = (
    PayOrder
    | RefundOrder
    | CreateTopup
    | OpenTopup
    | ClaimToken
    | ReleaseToken
    | ApplyPayment
    | ApplyReversal
    | ExpireTopup
    | RecordEvent
    | TieToTopup
    | AdjustWallet
    | DismissEvent
    | FreezeWallet
    | UnfreezeWallet
    | SetTier
)


@dataclass(slots=True)
class Needs:
    """The names of the records that commands need to be decided; it grows with each command."""

    has_limits: bool = False
    """Whether wallets have limits, by which a wallet's customer's standing is needed with it."""
    customers: set[str] = field(default_factory=set)
    """Customers whose existence is asked for."""
    wallets_of: set[str] = field(default_factory=set)
    """Customers whose wallets are needed, in every currency."""
    orders: set[str] = field(default_factory=set)
    own_orders: set[str] = field(default_factory=set)
    """Of these orders, those that a command pays: where one is recorded already, the store refuses
    to record it as a new one."""
    topups: set[str] = field(default_factory=set)
    transactions_by_key: set[IdempotencyKey] = field(default_factory=set)
    topups_by_key: set[IdempotencyKey] = field(default_factory=set)
    own_keys: set[IdempotencyKey] = field(default_factory=set)
    """Of these keys, those under which the command itself writes whatever it writes: where one is
    taken already, the store refuses the write."""
    credits: set[GatewayPaymentKey] = field(default_factory=set)
    """Gateways' payments of which is asked whether they were credited."""
    events: set[str] = field(default_factory=set)
    standings_of: set[str] = field(default_factory=set)
    """Customers whose standing is needed also where wallets have no limits."""
    open_topups_of: set[str] = field(default_factory=set)
    """Customers whose top-ups are needed, all that can still be paid."""
    unwritten: set[str] = field(default_factory=set)
    """Customers of whom a command relies on what it does not write, so that no commit finds out
    whether that still is as it was remembered."""

    def add(self, command: Command) -> None:
        """Add what `command` needs."""
        match command:
            case PayOrder():
                self._add_of_order(command)
                self.own_orders.add(command.order_id)
            case RefundOrder():
                self._add_of_order(command)
            case CreateTopup():
                self.customers.add(command.customer_id)
                self.topups_by_key.add(command.idempotency_key)
                self.own_keys.add(command.idempotency_key)
                self._add_limits_of_topup(command.customer_id)
            case OpenTopup() | ReleaseToken() | ExpireTopup():
                self.topups.add(command.topup_id)
            case FreezeWallet() | UnfreezeWallet() | SetTier():
                self._add_for_operator(command)
            case ClaimToken():
                self.topups.add(command.topup_id)
                self.events.add(command.event.key)
            case ApplyPayment():
                self.topups.add(command.topup_id)
                self.wallets_of.add(command.customer_id)
                self.credits.add(command.payment_key)
                self.events.add(command.event.key)
                self._add_credit(command.customer_id, command.pay_order_id)
            case ApplyReversal():
                self.topups.add(command.topup_id)
                self.wallets_of.add(command.customer_id)
                self.events.add(command.event.key)
                self.transactions_by_key.add(command.settlement_key)
            case RecordEvent():
                self.events.add(command.event.key)
            case TieToTopup():
                self.events.add(command.event_key)
                self.topups.add(command.topup_id)
                self.wallets_of.add(command.customer_id)
                self.credits.add(GatewayPaymentKey(command.gateway, command.payment_id))
                self._add_credit(command.customer_id, command.pay_order_id)
            case AdjustWallet():
                self.events.add(command.event_key)
                self.customers.add(command.customer_id)
                self.wallets_of.add(command.customer_id)
                if command.settlement_key is not None:
                    self.transactions_by_key.add(command.settlement_key)
            case DismissEvent():
                self.events.add(command.event_key)

    def standings(self) -> set[str]:
        """Return the customers whose standing is needed: with limits, of each wallet."""
        return self.standings_of | self.wallets_of if self.has_limits else self.standings_of

    def _add_of_order(self, command: PayOrder | RefundOrder) -> None:
        self.customers.add(command.customer_id)
        self.wallets_of.add(command.customer_id)
        self.orders.add(command.order_id)
        self.transactions_by_key.add(command.idempotency_key)
        self.own_keys.add(command.idempotency_key)

    def _add_limits_of_topup(self, customer_id: str) -> None:
        """Add what the limits of a top-up are checked by; it writes no wallet."""
        if self.has_limits:
            self.wallets_of.add(customer_id)
            self.open_topups_of.add(customer_id)
            self.unwritten.add(customer_id)

    def _add_for_operator(self, command: FreezeWallet | UnfreezeWallet | SetTier) -> None:
        """Add the wallets, for a tier with whether the customer exists and which tier it has."""
        self.wallets_of.add(command.customer_id)
        if isinstance(command, SetTier):
            self.customers.add(command.customer_id)
            self.standings_of.add(command.customer_id)
            self.unwritten.add(command.customer_id)

    def _add_credit(self, customer_id: str, pay_order_id: str) -> None:
        """Add the order that a credit pays; the wallet that it is paid from may be a new one."""
        if pay_order_id:
            self.orders.add(pay_order_id)
            if self.has_limits:
                self.unwritten.add(customer_id)


def lane_key(command: Command) -> str:
    """Return the text by which commands are spread over lanes: the customer, where there is one."""
    match command:
        case RecordEvent():
            return command.event.key
        case DismissEvent():
            return command.event_key
        case _:
            return command.customer_id
