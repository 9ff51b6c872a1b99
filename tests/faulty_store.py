"""A store in memory that has every fault, and what a commit path is tried on it with."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Any

from loaded_state import loaded_state
from server.commit.committer import CommitSettings, Committer
from server.commit.lane import RetryPolicy
from server.commit.port import (
    OutcomeUnknown,
    Snapshot,
    StoreUnavailable,
    WriteConflict,
    WriteRefused,
)
from server.ledger import chain
from server.ledger.commands import Command, Needs, PayOrder
from server.ledger.decisions import Decision
from server.ledger.money import Money
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    NO_METADATA,
    GatewayEvent,
    IdempotencyKey,
    Order,
    Topup,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.state import ChangeSet


class Fault(Enum):
    """What a commit can do instead of what it should."""

    CONFLICT = auto()
    """Another writer comes first."""
    UNAVAILABLE = auto()
    """It never reaches the store."""
    ANSWER_LOST = auto()
    """It is written, and nobody hears of it."""
    REQUEST_LOST = auto()
    """It is not written, and nobody hears of that."""


@dataclass(slots=True)
class MemoryStore:
    """Implements the commit path's port in memory, with the guarantees that MongoDB gives.

    A load is a snapshot. A commit is written whole or not at all, and only if every record that it
    changes still is what its snapshot read and no unique key is taken.
    """

    wallets: dict[WalletKey, Wallet] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    topups: dict[str, Topup] = field(default_factory=dict)
    events: dict[str, GatewayEvent] = field(default_factory=dict)
    transactions: dict[str, Transaction] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    """What the next commits do; when it is empty, what they should."""
    refuses: Callable[[ChangeSet], bool] = lambda _: False
    """Whether the changes are such that the store will never take them."""
    unreadable_orders: set[str] = field(default_factory=set)
    before_commit: Callable[[], Awaitable[Any]] | None = None
    commits: list[ChangeSet] = field(default_factory=list)
    """What was written, commit by commit."""
    loads: list[Needs] = field(default_factory=list)
    """What was asked for, load by load."""

    async def load(self, needs: Needs) -> Snapshot:
        """Return the records; see the port."""
        await asyncio.sleep(0)
        self.loads.append(needs)
        if needs.orders & self.unreadable_orders:
            raise ValueError("the amount is no number")
        state = loaded_state(
            needs,
            customers=needs.customers - {"stranger"},
            wallets=self.wallets,
            orders=self.orders,
            topups=self.topups,
            events=self.events,
            transactions=self.transactions.values(),
        )
        wallets, orders, topups, events = self._records()
        # An order that was not asked for is guarded as one that is absent.
        orders = {order: orders[order] for order in needs.orders & orders.keys()}
        return Snapshot(state, (wallets, orders, topups, events))

    def trust(self, snapshot: Snapshot, wallets: Iterable[Wallet]) -> None:
        """Take wallets as read; see the port."""
        snapshot.read[0].update({wallet.key: wallet for wallet in wallets})

    async def commit(self, snapshot: Snapshot, changes: ChangeSet) -> None:
        """Write everything or nothing; see the port."""
        await asyncio.sleep(0)
        if self.before_commit is not None:
            await self.before_commit()
        if self.refuses(changes):
            raise WriteRefused
        match self.faults.popleft() if self.faults else None:
            case Fault.CONFLICT:
                raise WriteConflict
            case Fault.UNAVAILABLE:
                raise StoreUnavailable
            case Fault.REQUEST_LOST:
                raise OutcomeUnknown
            case Fault.ANSWER_LOST:
                self._write(snapshot.read, changes)
                raise OutcomeUnknown
            case None:
                self._write(snapshot.read, changes)

    def _records(self) -> tuple[dict[Any, Any], ...]:
        return dict(self.wallets), dict(self.orders), dict(self.topups), dict(self.events)

    def _write(self, read: tuple[dict[Any, Any], ...], changes: ChangeSet) -> None:
        written: list[dict[Any, Any]]
        written = [changes.wallets, changes.orders, changes.topups, changes.events]
        for place, records in enumerate(self._records()):
            if any(read[place].get(key) is not records.get(key) for key in written[place]):
                raise WriteConflict
        transactions = {t.transaction_id: t for t in changes.transactions}
        keys = {t.idempotency.key for t in self.transactions.values() if t.idempotency}
        added = {t.idempotency.key for t in changes.transactions if t.idempotency}
        if transactions.keys() & self.transactions.keys() or added & keys:
            raise WriteConflict
        self.wallets |= changes.wallets
        self.orders |= changes.orders
        self.topups |= changes.topups
        self.events |= changes.events
        self.transactions |= transactions
        self.commits.append(changes)


@dataclass(slots=True)
class Notes:
    """What the commit path tells its observer."""

    batches: list[int] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)

    def batch_committed(self, decided: Sequence[tuple[Command, Decision]], seconds: float) -> None:
        """Note the size of a batch."""
        assert seconds >= 0
        self.batches.append(len(decided))

    def batch_retried(self, cause: str) -> None:
        """Note why a batch is tried again."""
        self.retries.append(cause)


class Gate:
    """Holds every commit until it is opened, and tells when one waits."""

    def __init__(self, store: MemoryStore) -> None:
        self.is_reached = asyncio.Event()
        self.is_open = asyncio.Event()
        store.before_commit = self._pass

    async def _pass(self) -> None:
        self.is_reached.set()
        await self.is_open.wait()


ONE_LANE = CommitSettings(lanes=1, retry=RetryPolicy(first_seconds=0.0001, most_seconds=0.001))
_numbers = count(1)


def store_with(balance: int, customer: str = "asha") -> MemoryStore:
    """Return a store in which a customer's wallet holds `balance`."""
    store = MemoryStore()
    give(store, balance, customer)
    return store


def give(store: MemoryStore, balance: int, customer: str) -> None:
    """Put a wallet into the store, made by one top-up."""
    wallet, credit = post(
        store.wallets.get(WalletKey(customer, "INR"))
        or empty_wallet(WalletKey(customer, "INR"), 0),
        TransactionType.TOPUP,
        balance,
        gateway_account("razorpay", "INR"),
        Cause(topup_id=f"top_{customer}", gateway="razorpay", gateway_payment_id=f"pay_{customer}"),
        0,
    )
    store.wallets[wallet.key] = wallet
    store.transactions[credit.transaction_id] = credit


def payment(
    amount: int = 10, *, key: str = "", order: str = "", customer: str = "asha", **fields: Any
) -> PayOrder:
    """Return the command to pay a new order."""
    number = next(_numbers)
    return PayOrder(
        customer_id=customer,
        order_id=order or f"order-{number}",
        amount=Money("INR", amount),
        idempotency_key=IdempotencyKey("shop", "PayWithWallet", key or f"key-{number}"),
        **{"metadata": NO_METADATA} | fields,
    )


def committer(store: MemoryStore, notes: Notes, settings: CommitSettings = ONE_LANE) -> Committer:
    """Return a committer on the store, with a clock that stands still and waits at full length."""
    return Committer(store, notes, settings, now_ms=lambda: 1_000, jitter=lambda: 1.0)


def balance(store: MemoryStore, customer: str = "asha") -> int:
    """Return what the wallet holds, after proving it by its entries."""
    wallet = store.wallets[WalletKey(customer, "INR")]
    mine = [t for t in store.transactions.values() if t.customer_id == customer]
    entries = sorted(mine, key=lambda entry: entry.sequence)
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert sum(entry.amount for entry in entries) == wallet.balance
    before = chain.GENESIS_HASH
    for entry in entries:
        assert entry.previous_hash == before
        before = entry.hash
    assert wallet.head_hash == before
    return wallet.balance
