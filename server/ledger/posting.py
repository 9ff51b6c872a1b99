"""The one place where money moves: a new entry at the end of a wallet's ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from server.ledger import chain
from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.ledger.records import (
    NO_METADATA,
    FreezeCause,
    Idempotency,
    Posting,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.usage import Usage

MAY_OWE: Final = frozenset({TransactionType.REVERSAL, TransactionType.ADJUSTMENT})
"""What a gateway took, by its report or settled by a person: it may bring a wallet below zero."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What an entry is for: the records that it belongs to and the request that made it."""

    order_id: str = ""
    topup_id: str = ""
    gateway: str = ""
    gateway_payment_id: str = ""
    gateway_reversal_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)
    idempotency: Idempotency | None = None


def wallet_account(wallet: WalletKey) -> str:
    """Name the ledger account of a wallet."""
    return f"wallet:{wallet.customer_id}:{wallet.currency_code}"


def gateway_account(gateway: str, currency_code: str) -> str:
    """Name the ledger account of what a gateway brought in."""
    return f"gateway:{gateway}:{currency_code}"


def orders_account(currency_code: str) -> str:
    """Name the ledger account of what was paid for orders."""
    return f"orders:{currency_code}"


def empty_wallet(key: WalletKey, now_ms: int) -> Wallet:
    """Return the wallet that a customer has before its first credit: none is stored yet."""
    return Wallet(
        customer_id=key.customer_id,
        currency_code=key.currency_code,
        balance=0,
        state=WalletState.ACTIVE,
        freeze_cause=FreezeCause.NONE,
        sequence=0,
        head_hash=chain.GENESIS_HASH,
        create_time_ms=now_ms,
        update_time_ms=now_ms,
        version=0,
    )


def post(
    wallet: Wallet,
    transaction_type: TransactionType,
    amount: int,
    counter_account: str,
    cause: Cause,
    now_ms: int,
) -> tuple[Wallet, Transaction]:
    """Move `amount` minor units (signed: positive into the wallet) against `counter_account`.

    The caller has checked that the wallet may and can; here it is asserted, on the values
    themselves, because a mistake would be somebody's money.
    """
    balance = wallet.balance + amount
    assert amount != 0, "an entry moves money"
    assert balance <= MAX_BALANCE_MINOR_UNITS, "a balance fits 64 bits"
    may_owe = transaction_type in MAY_OWE
    assert amount > 0 or balance >= 0 or may_owe, "only a gateway takes more than there is"
    key = wallet.key
    postings = (Posting(wallet_account(key), amount), Posting(counter_account, -amount))
    assert sum(posting.amount for posting in postings) == 0, "postings sum to zero"
    sequence = wallet.sequence + 1
    # A clock behind the one that wrote the last entry must not turn the ledger's order around.
    time_ms = max(now_ms, wallet.update_time_ms)
    transaction_id = chain.transaction_id(key, sequence, time_ms)
    state, freeze_cause = _freeze_or_thaw(wallet, balance)
    is_refund = transaction_type is TransactionType.REFUND
    refund_id = chain.refund_id(transaction_id) if is_refund else ""
    entry_hash = chain.content_hash(
        amount=amount,
        balance_after=balance,
        create_time_ms=time_ms,
        currency_code=wallet.currency_code,
        customer_id=wallet.customer_id,
        gateway=cause.gateway,
        gateway_payment_id=cause.gateway_payment_id,
        gateway_reversal_id=cause.gateway_reversal_id,
        order_id=cause.order_id,
        postings=postings,
        previous_hash=wallet.head_hash,
        refund_id=refund_id,
        sequence=sequence,
        topup_id=cause.topup_id,
        transaction_id=transaction_id,
        transaction_type=transaction_type,
    )
    transaction = Transaction(
        transaction_id=transaction_id,
        customer_id=wallet.customer_id,
        currency_code=wallet.currency_code,
        type=transaction_type,
        amount=amount,
        balance_after=balance,
        sequence=sequence,
        postings=postings,
        order_id=cause.order_id,
        topup_id=cause.topup_id,
        refund_id=refund_id,
        gateway=cause.gateway,
        gateway_payment_id=cause.gateway_payment_id,
        gateway_reversal_id=cause.gateway_reversal_id,
        previous_hash=wallet.head_hash,
        hash=entry_hash,
        create_time_ms=time_ms,
        metadata=cause.metadata,
        wallet_state=state,
        idempotency=cause.idempotency,
        has_changed_state=state is not wallet.state,
    )
    wallet = Wallet(
        customer_id=wallet.customer_id,
        currency_code=wallet.currency_code,
        balance=balance,
        state=state,
        freeze_cause=freeze_cause,
        sequence=sequence,
        head_hash=entry_hash,
        create_time_ms=wallet.create_time_ms,
        update_time_ms=time_ms,
        version=wallet.version + 1,
        usage=counted(wallet.usage, transaction_type, amount, time_ms),
    )
    return wallet, transaction


def counted(usage: Usage, transaction_type: TransactionType, amount: int, time_ms: int) -> Usage:
    """Return what went through a wallet after an entry: top-ups and payments count, both gross.

    A refund does not give back what was spent, nor a reversal what was topped up.
    """
    if transaction_type is TransactionType.PAYMENT:
        return usage.with_payment(-amount, time_ms)
    if transaction_type is TransactionType.TOPUP:
        return usage.with_topup(amount, time_ms)
    return usage


def _freeze_or_thaw(wallet: Wallet, balance: int) -> tuple[WalletState, FreezeCause]:
    """Return the state with this balance: who owes spends nothing until it is settled."""
    if balance < 0 and wallet.state is WalletState.ACTIVE:
        return WalletState.FROZEN, FreezeCause.DEBT
    if balance >= 0 and wallet.freeze_cause is FreezeCause.DEBT:
        return WalletState.ACTIVE, FreezeCause.NONE
    return wallet.state, wallet.freeze_cause
