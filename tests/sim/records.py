"""The records in memory: what MongoDB promises, and what it does to those who come second.

A commit is written whole or not at all, and only if every record that it changes still is what was
read and no unique key is taken. It is seen by readers once it is durable; what is not yet durable
is lost when the primary changes. `tests/store_contract` holds it against the real one.
"""

from collections import deque
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace

from server.commit.port import WriteConflict
from server.ledger.records import (
    EventOutcome,
    GatewayEvent,
    OperatorAction,
    Order,
    Standing,
    Topup,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.state import ChangeSet

UniqueKey = tuple[str, ...]
"""The name of a unique index, and the values that nobody else may have."""


@dataclass(slots=True)
class Read:
    """What was read: the guards of the writes that follow."""

    wallet_versions: dict[WalletKey, int] = field(default_factory=dict)
    topup_versions: dict[str, int] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    standing_versions: dict[str, int] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)


@dataclass(slots=True)
class Records:
    """All records at one moment."""

    customers: set[str] = field(default_factory=set)
    wallets: dict[str, dict[str, Wallet]] = field(default_factory=dict)
    """Customer -> currency -> wallet."""
    transactions: dict[str, Transaction] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    topups: dict[str, Topup] = field(default_factory=dict)
    events: dict[str, GatewayEvent] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    actions: dict[str, OperatorAction] = field(default_factory=dict)
    unique: dict[UniqueKey, str] = field(default_factory=dict)
    """The unique indexes: which record has a key."""

    def wallet(self, key: WalletKey) -> Wallet | None:
        """Return a wallet, if there is one."""
        return self.wallets.get(key.customer_id, {}).get(key.currency_code)

    def transaction(self, key: UniqueKey) -> Transaction | None:
        """Return the transaction that has a unique key, if there is one."""
        found = self.unique.get(key)
        return None if found is None else self.transactions[found]

    def topup(self, key: UniqueKey) -> Topup | None:
        """Return the top-up that has a unique key, if there is one."""
        found = self.unique.get(key)
        return None if found is None else self.topups[found]

    def copy(self) -> "Records":
        """Return the same records in containers of their own."""
        found = copy(self)
        for name in self.__slots__:
            setattr(found, name, copy(getattr(self, name)))
        found.wallets = {customer: dict(mine) for customer, mine in self.wallets.items()}
        return found

    def write(self, changes: ChangeSet) -> None:
        """Write all changes."""
        for wallet in changes.wallets.values():
            self.wallets.setdefault(wallet.customer_id, {})[wallet.currency_code] = wallet
        for transaction in changes.transactions:
            self.transactions[transaction.transaction_id] = transaction
        for topup in changes.topups.values():
            self.topups[topup.topup_id] = _as_stored(topup)
        self.orders |= changes.orders
        self.events |= changes.events
        self.standings |= changes.standings
        self.actions |= {action.action_id: action for action in changes.actions}
        self.unique.update(unique_keys(changes))

    def check(self, read: Read, changes: ChangeSet) -> None:
        """Refuse what another writer has come before.

        Raises:
            WriteConflict.
        """
        for key, wallet in changes.wallets.items():
            there = self.wallet(key)
            if read.wallet_versions.get(key) != (there and there.version):
                raise WriteConflict(f"the wallet of {wallet.key} has changed")
        for topup_id in changes.topups:
            topup = self.topups.get(topup_id)
            if read.topup_versions.get(topup_id) != (topup and topup.version):
                raise WriteConflict(f"{topup_id} has changed")
        self._check_standings(read, changes)
        for order_id in changes.orders:
            if order_guard(read.orders.get(order_id)) != order_guard(self.orders.get(order_id)):
                raise WriteConflict(f"order {order_id} has changed")
        for event_key in changes.events:
            event = self.events.get(event_key)
            was_there = event_key in read.events
            if was_there != (event is not None) or (event and not _is_open(event)):
                raise WriteConflict(f"event {event_key} has changed")
        self._check_unique(changes)

    def _check_standings(self, read: Read, changes: ChangeSet) -> None:
        for customer in changes.standings:
            standing = self.standings.get(customer)
            if read.standing_versions.get(customer) != (standing and standing.version):
                raise WriteConflict(f"the standing of {customer} has changed")

    def _check_unique(self, changes: ChangeSet) -> None:
        taken: dict[UniqueKey, str] = {}
        for key, owner in unique_keys(changes):
            holder = self.unique.get(key) or taken.setdefault(key, owner)
            if holder != owner or owner in self.transactions:
                raise WriteConflict(f"{key} is taken by {holder}")


def order_guard(order: Order | None) -> tuple[object, ...] | None:
    """Return what a decision relies upon of an order, which the order service may change."""
    if order is None:
        return None
    return (
        order.customer_id,
        order.amount,
        order.currency_code,
        order.payment_state,
        order.refunded_amount,
    )


def unique_keys(changes: ChangeSet) -> Iterator[tuple[UniqueKey, str]]:
    """Go through the unique keys that the changed records have, each with its record."""
    for entry in changes.transactions:
        owner = entry.transaction_id
        yield ("transaction", owner), owner
        sequence = (entry.customer_id, entry.currency_code, str(entry.sequence))
        yield ("sequence", *sequence), owner
        if entry.idempotency is not None:
            yield ("transaction's key", *entry.idempotency.key), owner
        if entry.type is TransactionType.TOPUP:
            yield ("credited payment", entry.gateway, entry.gateway_payment_id), owner
    for topup in changes.topups.values():
        yield ("top-up's key", *topup.idempotency.key), topup.topup_id
        if topup.gateway_order_id:
            yield ("gateway's order", topup.gateway, topup.gateway_order_id), topup.topup_id


@dataclass(slots=True, eq=False)
class Write:
    """A commit that has been made, and may still be lost with its primary."""

    changes: ChangeSet
    is_durable: bool = False
    is_lost: bool = False


class Database:
    """A replica set: the primary's records, and those that are durable."""

    def __init__(self) -> None:
        self.durable = Records()
        self._local = Records()
        self._waiting: deque[Write] = deque()
        self.watch: Callable[[ChangeSet], None] = lambda _: None
        """Is told every commit once it is durable, in their order."""

    def commit(self, read: Read, changes: ChangeSet) -> Write:
        """Write on the primary; readers see it once it is durable.

        Raises:
            WriteConflict: another writer came first; nothing was written.
        """
        self._local.check(read, changes)
        self._local.write(changes)
        write = Write(changes)
        self._waiting.append(write)
        return write

    def claim(self, topup: Topup, next_time_ms: int | None) -> Write | None:
        """Put a top-up off to its next time, unless it has changed since it was read."""
        stored = self._local.topups.get(topup.topup_id)
        if stored is None or stored.version != topup.version:
            return None
        claimed = replace(
            stored,
            poll_time_ms=next_time_ms,
            poll_attempts=stored.poll_attempts + 1,
            version=stored.version + 1,
        )
        read = Read(topup_versions={topup.topup_id: topup.version})
        return self.commit(read, ChangeSet(topups={topup.topup_id: claimed}))

    def settle(self, write: Write) -> bool:
        """Make a write durable, and all before it; return whether it still is there."""
        while not (write.is_durable or write.is_lost):
            first = self._waiting.popleft()
            first.is_durable = True
            self.durable.write(first.changes)
            self.watch(first.changes)
        return write.is_durable

    def change_primary(self) -> int:
        """Elect another primary: what was not durable is lost; return how many writes that is."""
        lost = len(self._waiting)
        for write in self._waiting:
            write.is_lost = True
        self._waiting.clear()
        self._local = self.durable.copy()
        return lost

    def insert(
        self, customers: set[str] | None = None, orders: dict[str, Order] | None = None
    ) -> None:
        """Put records of other services in."""
        for records in (self._local, self.durable):
            records.customers |= customers or set()
            records.orders |= orders or {}


def _is_open(event: GatewayEvent) -> bool:
    return event.outcome is EventOutcome.NEEDS_REVIEW


def _as_stored(topup: Topup) -> Topup:
    """Leave out what is told and never kept, and how often was asked where nobody asks again."""
    if topup.poll_time_ms is None and topup.poll_attempts:
        topup = replace(topup, poll_attempts=0)
    if topup.checkout is not None and topup.checkout.client_secret:
        topup = replace(topup, checkout=replace(topup.checkout, client_secret=""))
    return topup
