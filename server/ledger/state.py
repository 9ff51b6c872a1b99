"""What commands are decided on, and what decisions change."""

from dataclasses import dataclass, field

from server.ledger.limits import NO_LIMITS, OPEN_TOPUP_STATES, Limits, WalletLimits
from server.ledger.records import (
    GatewayEvent,
    GatewayPaymentKey,
    IdempotencyKey,
    OperatorAction,
    Order,
    Standing,
    Topup,
    Transaction,
    Wallet,
    WalletKey,
)


@dataclass(frozen=True, slots=True)
class Changes:
    """The records that a decision writes, each as it is afterwards. Transactions are new."""

    wallets: tuple[Wallet, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    orders: tuple[Order, ...] = ()
    topups: tuple[Topup, ...] = ()
    events: tuple[GatewayEvent, ...] = ()
    standings: tuple[Standing, ...] = ()
    actions: tuple[OperatorAction, ...] = ()
    """New ones."""

    def __bool__(self) -> bool:
        """Tell whether anything changes."""
        return bool(
            self.wallets
            or self.transactions
            or self.orders
            or self.topups
            or self.events
            or self.standings,
        )


@dataclass(slots=True)
class State:
    """The records that a batch of commands was loaded with, brought forward decision by decision.

    Whatever was asked for is a key here; None says that there is no such record. A record that
    nobody loaded is a KeyError, never an absent one.
    """

    customers: dict[str, bool] = field(default_factory=dict)
    wallets: dict[str, dict[str, Wallet]] = field(default_factory=dict)
    """Customer -> currency -> wallet."""
    orders: dict[str, Order | None] = field(default_factory=dict)
    topups: dict[str, Topup | None] = field(default_factory=dict)
    transactions_by_key: dict[IdempotencyKey, Transaction | None] = field(default_factory=dict)
    topups_by_key: dict[IdempotencyKey, Topup | None] = field(default_factory=dict)
    credits: dict[GatewayPaymentKey, str | None] = field(default_factory=dict)
    """A gateway's payment -> the top-up that it was credited for, or a person's entry."""
    events: dict[str, GatewayEvent | None] = field(default_factory=dict)
    limits: Limits = NO_LIMITS
    """Those of the settings, under which the commands are decided."""
    standings: dict[str, Standing | None] = field(default_factory=dict)
    open_topups: dict[str, dict[str, Topup]] = field(default_factory=dict)
    """Customer -> top-up id -> the top-up, of all that can still be paid."""

    def limits_of(self, key: WalletKey) -> WalletLimits | None:
        """Return the limits of a wallet; None where it has none."""
        if not self.limits:
            return None
        return self.limits.of(self.standings[key.customer_id], key.currency_code)

    def wallet(self, key: WalletKey) -> Wallet | None:
        """Return the customer's wallet in the currency, or None before its first credit."""
        return self.wallets[key.customer_id].get(key.currency_code)

    def apply(self, changes: Changes) -> None:
        """Bring the state forward by what a decision changed."""
        for wallet in changes.wallets:
            self.wallets[wallet.customer_id][wallet.currency_code] = wallet
        for transaction in changes.transactions:
            if transaction.idempotency is not None:
                self.transactions_by_key[transaction.idempotency.key] = transaction
                key = GatewayPaymentKey(transaction.gateway, transaction.gateway_payment_id)
                if transaction.idempotency.key == key.credit_key:
                    self.credits[key] = transaction.topup_id or transaction.transaction_id
        for order in changes.orders:
            self.orders[order.order_id] = order
        for topup in changes.topups:
            self.topups[topup.topup_id] = topup
            self.topups_by_key[topup.idempotency.key] = topup
            if topup.customer_id in self.open_topups:
                self._note_open(topup)
        for event in changes.events:
            self.events[event.received.key] = event
        for standing in changes.standings:
            self.standings[standing.customer_id] = standing

    def _note_open(self, topup: Topup) -> None:
        is_open = self.open_topups[topup.customer_id]
        if topup.state in OPEN_TOPUP_STATES:
            is_open[topup.topup_id] = topup
        else:
            is_open.pop(topup.topup_id, None)


@dataclass(slots=True)
class ChangeSet:
    """The changes of a whole batch: the last version of each record, and every transaction."""

    wallets: dict[WalletKey, Wallet] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    topups: dict[str, Topup] = field(default_factory=dict)
    events: dict[str, GatewayEvent] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    actions: list[OperatorAction] = field(default_factory=list)

    def add(self, changes: Changes) -> None:
        """Add what one decision changed; a later version of a record replaces an earlier one."""
        for wallet in changes.wallets:
            self.wallets[wallet.key] = wallet
        self.transactions.extend(changes.transactions)
        for order in changes.orders:
            self.orders[order.order_id] = order
        for topup in changes.topups:
            self.topups[topup.topup_id] = topup
        for event in changes.events:
            self.events[event.received.key] = event
        for standing in changes.standings:
            self.standings[standing.customer_id] = standing
        self.actions.extend(changes.actions)

    def __bool__(self) -> bool:
        """Tell whether anything changes."""
        return bool(
            self.wallets
            or self.transactions
            or self.orders
            or self.topups
            or self.events
            or self.standings,
        )
