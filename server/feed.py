"""The feed of what happened to wallets: its events, and the port that a store implements.

An event is derived from what the ledger has written anyway: an entry, a top-up that failed, or the
record of what a person did. So it is told if and only if it was committed, and nothing is written
for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from server.ledger.records import (
    OperatorAction,
    OperatorActionKind,
    Topup,
    Transaction,
    TransactionType,
    WalletState,
)


class WalletEventType(StrEnum):
    """What happened."""

    TOPUP_CREDITED = "TOPUP_CREDITED"
    TOPUP_FAILED = "TOPUP_FAILED"
    TOPUP_REVERSED = "TOPUP_REVERSED"
    TOPUP_REVERSAL_RETURNED = "TOPUP_REVERSAL_RETURNED"
    PAYMENT_MADE = "PAYMENT_MADE"
    REFUND_MADE = "REFUND_MADE"
    WALLET_ADJUSTED = "WALLET_ADJUSTED"
    WALLET_FROZEN = "WALLET_FROZEN"
    WALLET_THAWED = "WALLET_THAWED"


@dataclass(frozen=True, slots=True)
class WalletEvent:
    """Something that happened to a customer's wallet or top-up, once."""

    event_id: str
    """The same for every reader and every repeat."""
    type: WalletEventType
    customer_id: str
    currency_code: str
    create_time_ms: int
    transaction: Transaction | None = None
    """The entry that it stands for; None where no money moved."""
    topup: Topup | None = None
    """The top-up that failed, as it then was."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; empty values do not filter."""

    customer_id: str = ""
    types: frozenset[WalletEventType] = frozenset()

    def wants(self, event: WalletEvent) -> bool:
        """Tell whether an event of the customer is of a type that is wanted."""
        return not self.types or event.type in self.types


class Moment(NamedTuple):
    """A moment of the database: everything that was committed lies before or after it."""

    seconds: int
    increment: int


@dataclass(frozen=True, slots=True)
class LivePosition:
    """A place among the commits, as they follow one another."""

    token: bytes = b""
    """The database's own name of the place; empty where it is right after `moment`."""
    moment: Moment | None = None


@dataclass(frozen=True, slots=True)
class HistoryPosition:
    """A place in the ledger, as it was at a moment.

    Its ids are written as those of entries; what a person did stands among these by its own id.
    """

    first_id: str
    """Where the history starts; no record has it."""
    last_id: str
    """The record that was told last."""
    told: int = 0
    """How many records were told."""
    moment: Moment | None = None
    """None before the first page."""


Position = LivePosition | HistoryPosition


@dataclass(frozen=True, slots=True)
class Told:
    """The wanted events of one record, and the position after them."""

    events: tuple[WalletEvent, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Page:
    """What was read at once: perhaps nothing. `position` is the one after all of it."""

    told: Sequence[Told]
    position: Position


class PositionLost(Exception):
    """The database does not reach back to a position any more."""


class EventReader(Protocol):
    """Reads the events after a position, page by page."""

    async def next_page(self) -> Page:
        """Return what follows; waits a moment for it where there is nothing yet.

        After an error the next call goes on where the last page ended.

        Raises:
            PositionLost, StoreUnavailable.
        """

    async def close(self) -> None:
        """Let go of what the database keeps for this reader."""


class EventFeed(Protocol):
    """Where events are read from."""

    def reader(self, wanted: EventFilter, position: Position | None) -> EventReader:
        """Return a reader of what comes after a position; None: of what comes from now on."""


_TYPES = {
    TransactionType.TOPUP: WalletEventType.TOPUP_CREDITED,
    TransactionType.PAYMENT: WalletEventType.PAYMENT_MADE,
    TransactionType.REFUND: WalletEventType.REFUND_MADE,
    TransactionType.ADJUSTMENT: WalletEventType.WALLET_ADJUSTED,
}


def events_of(entry: Transaction) -> tuple[WalletEvent, ...]:
    """Return what happened by an entry: that money moved, and what it did to the wallet's state."""
    types = [_type_of(entry)]
    if entry.has_changed_state:
        is_frozen = entry.wallet_state is WalletState.FROZEN
        types.append(WalletEventType.WALLET_FROZEN if is_frozen else WalletEventType.WALLET_THAWED)
    return tuple(
        WalletEvent(
            _event_id(entry.transaction_id, kind),
            kind,
            entry.customer_id,
            entry.currency_code,
            entry.create_time_ms,
            transaction=entry,
        )
        for kind in types
    )


def failure_of(topup: Topup) -> WalletEvent:
    """Return that an attempt to pay a top-up failed."""
    kind = WalletEventType.TOPUP_FAILED
    event_id = f"{_event_id(topup.topup_id, kind)}_{topup.failure_version}"
    return WalletEvent(
        event_id,
        kind,
        topup.customer_id,
        topup.amount.currency_code,
        topup.update_time_ms,
        topup=topup,
    )


def state_change_of(action: OperatorAction) -> WalletEvent:
    """Return that a person froze or thawed a wallet, of an action that did."""
    is_freeze = action.kind is OperatorActionKind.FREEZE
    kind = WalletEventType.WALLET_FROZEN if is_freeze else WalletEventType.WALLET_THAWED
    return WalletEvent(
        _event_id(action.action_id, kind),
        kind,
        action.customer_id,
        action.currency_code,
        action.time_ms,
    )


def _type_of(entry: Transaction) -> WalletEventType:
    if entry.type is TransactionType.REVERSAL:
        is_taken = entry.amount < 0
        return (
            WalletEventType.TOPUP_REVERSED if is_taken else WalletEventType.TOPUP_REVERSAL_RETURNED
        )
    return _TYPES[entry.type]


def _event_id(record_id: str, kind: WalletEventType) -> str:
    return f"evt_{record_id.partition('_')[2]}_{kind.lower()}"
