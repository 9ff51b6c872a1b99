"""Large books for tests and measurements, by the ledger's own decisions, written in bulk."""

import hashlib
from collections.abc import Iterator
from typing import Final

from server.ledger.commands import (
    ApplyPayment,
    Command,
    CreateTopup,
    Needs,
    PayOrder,
    RefundOrder,
)
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, TopupReply
from server.ledger.money import Money
from server.ledger.records import (
    NO_METADATA,
    EventOrigin,
    GatewayPayment,
    GatewayPaymentStatus,
    IdempotencyKey,
    ReceivedEvent,
)
from server.ledger.state import ChangeSet, State
from server.store import documents, order_documents, schema
from server.store.connection import Database, Document

ENTRIES_OF_A_ROUND: Final = 5
"""A top-up, three payments and a refund."""
_NOW_MS: Final = 1_700_000_000_000
_BATCH: Final = 5_000


async def write_bulk_books(
    database: Database, wallets: int, rounds: int, *, hot_rounds: int = 0
) -> int:
    """Write wallets of so many rounds each, one of `hot_rounds`; return how many entries it was."""
    waiting: dict[str, list[Document]] = {name: [] for name in _COLLECTIONS}
    written = 0
    for number in range(wallets + 1):
        for changes in _rounds(f"bulk-{number:07}", rounds if number else hot_rounds):
            written += len(changes.transactions)
            for name, rows in _rows(changes).items():
                waiting[name] += rows
            for name, rows in waiting.items():
                if len(rows) >= _BATCH:
                    await database[name].insert_many(rows, ordered=False)
                    waiting[name] = []
    for name, rows in waiting.items():
        if rows:
            await database[name].insert_many(rows, ordered=False)
    return written


_COLLECTIONS: Final = (schema.WALLETS, schema.TRANSACTIONS, schema.ORDERS, schema.TOPUPS)


def _rows(changes: ChangeSet) -> dict[str, list[Document]]:
    return {
        schema.WALLETS: [documents.wallet_document(one) for one in changes.wallets.values()],
        schema.TRANSACTIONS: [documents.transaction_document(one) for one in changes.transactions],
        schema.ORDERS: [order_documents.order_document(one) for one in changes.orders.values()],
        schema.TOPUPS: [documents.topup_document(one) for one in changes.topups.values()],
    }


def _rounds(customer_id: str, rounds: int) -> Iterator[ChangeSet]:
    """Live through a customer's rounds; the wallet comes with the last of them."""
    state = State(customers={customer_id: True}, wallets={customer_id: {}})
    for number in range(rounds):
        changes = ChangeSet()
        for command in _round(state, f"{customer_id}-{number}", customer_id):
            _know_nothing(state, command)
            decision = decide(state, command, _NOW_MS + number)
            assert isinstance(decision, Accepted), decision
            state.apply(decision.changes)
            changes.add(decision.changes)
            if isinstance(decision.reply, TopupReply):
                state.topups[customer_id] = decision.reply.topup
        if number < rounds - 1:
            changes.wallets.clear()
        yield changes
        state.orders.clear()
        state.transactions_by_key.clear()


def _round(state: State, name: str, customer_id: str) -> Iterator[Command]:
    """Top up, pay three orders, get a part of the last back."""
    amount, price = Money("INR", 1_000), Money("INR", 100)
    key = IdempotencyKey("shop", "InitiateTopup", name)
    yield CreateTopup(
        customer_id, amount, "razorpay", "upi", key, None, "", NO_METADATA, 60_000, 60_000
    )
    topup = state.topups[customer_id]
    assert topup is not None
    payment = GatewayPayment(f"pay_{name}", "", GatewayPaymentStatus.CAPTURED, amount)
    digest = hashlib.sha256(name.encode()).hexdigest()
    event = ReceivedEvent(
        "razorpay", name, "captured", digest, b"", EventOrigin.LOOKUP, _NOW_MS, _NOW_MS
    )
    yield ApplyPayment(customer_id, topup.topup_id, "", payment, event)
    for number in range(3):
        order_id, key = f"order-{name}-{number}", IdempotencyKey("shop", "Pay", f"{name}-{number}")
        yield PayOrder(customer_id, order_id, price, key, NO_METADATA)
    key = IdempotencyKey("shop", "Refund", name)
    yield RefundOrder(customer_id, order_id, Money("INR", 40), key, "late", NO_METADATA)


def _know_nothing(state: State, command: Command) -> None:
    """Say of all that a command needs and that is not there that it does not exist."""
    needs = Needs()
    needs.add(command)
    state.orders |= dict.fromkeys(needs.orders - state.orders.keys())
    state.transactions_by_key |= dict.fromkeys(
        needs.transactions_by_key - state.transactions_by_key.keys()
    )
    state.topups_by_key |= dict.fromkeys(needs.topups_by_key - state.topups_by_key.keys())
    state.credits |= dict.fromkeys(needs.credits - state.credits.keys())
    state.events |= dict.fromkeys(needs.events - state.events.keys())
