"""Which records tell of events: entries, top-ups that failed, and what operators did to wallets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from server.feed import (
    EventFilter,
    WalletEvent,
    WalletEventType,
    events_of,
    failure_of,
    state_change_of,
)
from server.ledger.records import OperatorActionKind, TransactionType, WalletState
from server.store import documents, limit_documents, schema
from server.store.connection import Document


@dataclass(frozen=True, slots=True)
class Source:
    """The records of a collection that tell of events."""

    collection: str
    operation: str
    """The change of the collection that is one."""
    telling: Document
    """Which records tell of any event."""
    by_type: Mapping[WalletEventType, Document]
    """Which of these tell of a type of event; those that are left out have none."""
    events_of: Callable[[Document], tuple[WalletEvent, ...]]
    id_prefix: str = ""
    """What the ids begin with, of records that stay: behind it they sort alike in all of these, and
    the past is read by them. Empty where the past is not kept."""

    def query(self, wanted: EventFilter) -> Document | None:
        """Return which records tell of what is wanted; None: none can."""
        query = dict(self.telling)
        if wanted.customer_id:
            query["customer_id"] = wanted.customer_id
        if wanted.types:
            either = [self.by_type[kind] for kind in sorted(wanted.types) if kind in self.by_type]
            if not either:
                return None
            query["$or"] = either
        return query


def _entry_events(document: Document) -> tuple[WalletEvent, ...]:
    return events_of(documents.read_transaction(document))


def _failures(document: Document) -> tuple[WalletEvent, ...]:
    return (failure_of(documents.read_topup(document)),)


def _state_changes(document: Document) -> tuple[WalletEvent, ...]:
    return (state_change_of(limit_documents.read_action(document)),)


SOURCES: Final = (
    Source(
        schema.TRANSACTIONS,
        "insert",
        {},
        {
            WalletEventType.TOPUP_CREDITED: {"type": TransactionType.TOPUP.value},
            WalletEventType.TOPUP_REVERSED: {
                "type": TransactionType.REVERSAL.value,
                "amount": {"$lt": 0},
            },
            WalletEventType.TOPUP_REVERSAL_RETURNED: {
                "type": TransactionType.REVERSAL.value,
                "amount": {"$gt": 0},
            },
            WalletEventType.PAYMENT_MADE: {"type": TransactionType.PAYMENT.value},
            WalletEventType.REFUND_MADE: {"type": TransactionType.REFUND.value},
            WalletEventType.WALLET_ADJUSTED: {"type": TransactionType.ADJUSTMENT.value},
            WalletEventType.WALLET_FROZEN: {
                "has_changed_state": True,
                "wallet_state": WalletState.FROZEN.value,
            },
            WalletEventType.WALLET_THAWED: {
                "has_changed_state": True,
                "wallet_state": WalletState.ACTIVE.value,
            },
        },
        _entry_events,
        id_prefix="txn_",
    ),
    Source(
        schema.TOPUPS,
        "replace",
        {"is_new_failure": True},
        {WalletEventType.TOPUP_FAILED: {}},
        _failures,
    ),
    Source(
        schema.ACTIONS,
        "insert",
        {"has_changed_state": True},
        {
            WalletEventType.WALLET_FROZEN: {"kind": OperatorActionKind.FREEZE.value},
            WalletEventType.WALLET_THAWED: {"kind": OperatorActionKind.UNFREEZE.value},
        },
        _state_changes,
        id_prefix="act_",
    ),
)
