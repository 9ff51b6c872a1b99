"""What a store would load, of records in memory."""

from collections.abc import Container, Iterable, Mapping

from server.ledger.commands import Needs
from server.ledger.records import (
    GatewayEvent,
    GatewayPaymentKey,
    Order,
    Topup,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.state import State


def loaded_state(
    needs: Needs,
    *,
    customers: Container[str],
    wallets: Mapping[WalletKey, Wallet],
    orders: Mapping[str, Order],
    topups: Mapping[str, Topup],
    events: Mapping[str, GatewayEvent],
    transactions: Iterable[Transaction],
) -> State:
    """Return what is needed, and nothing else."""
    entries = list(transactions)
    by_key = {entry.idempotency.key: entry for entry in entries if entry.idempotency}
    topups_by_key = {topup.idempotency.key: topup for topup in topups.values()}
    credits_ = {
        GatewayPaymentKey(entry.gateway, entry.gateway_payment_id): (
            entry.topup_id or entry.transaction_id
        )
        for entry in entries
        if entry.type is TransactionType.TOPUP
        or (entry.gateway_payment_id and not entry.gateway_reversal_id)
    }
    return State(
        customers={customer: customer in customers for customer in needs.customers},
        wallets={
            customer: {
                key.currency_code: wallet
                for key, wallet in wallets.items()
                if key.customer_id == customer
            }
            for customer in needs.wallets_of
        },
        orders={order: orders.get(order) for order in needs.orders},
        topups={topup: topups.get(topup) for topup in needs.topups},
        transactions_by_key={key: by_key.get(key) for key in needs.transactions_by_key},
        topups_by_key={key: topups_by_key.get(key) for key in needs.topups_by_key},
        credits={payment: credits_.get(payment) for payment in needs.credits},
        events={event: events.get(event) for event in needs.events},
    )
