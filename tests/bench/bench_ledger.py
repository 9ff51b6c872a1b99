"""Records as the service itself would make them: wallets with money, payments, waiting top-ups."""

from dataclasses import dataclass, replace
from typing import Final

from bench_requests import (
    CALLER,
    CURRENCY,
    PRICE_MINOR_UNITS,
    checkout_key,
    order_id,
)

from server.ledger import chain
from server.ledger.commands import PayOrder
from server.ledger.decide import decide
from server.ledger.decisions import Accepted, PaymentReply
from server.ledger.money import Money
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import (
    NO_METADATA,
    Idempotency,
    IdempotencyKey,
    Order,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
)
from server.ledger.state import State

GATEWAY: Final = "razorpay"
_BALANCE_MINOR_UNITS: Final = 10**12
_LIFETIME_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Funded:
    """A wallet with money in it."""

    wallet: Wallet
    transaction: Transaction
    topup: Topup


@dataclass(frozen=True, slots=True)
class Paid:
    """What one payment made."""

    reply: PaymentReply
    wallet: Wallet
    transaction: Transaction
    order: Order


def funded(customer_id: str, now_ms: int) -> Funded:
    """Return a wallet with its first entry, the credit of a top-up that no load uses up."""
    topup = waiting_topup(customer_id, f"order_{customer_id}", _BALANCE_MINOR_UNITS, now_ms)
    payment_id = f"pay_{customer_id}"
    wallet, transaction = post(
        empty_wallet(WalletKey(customer_id, CURRENCY), now_ms),
        TransactionType.TOPUP,
        _BALANCE_MINOR_UNITS,
        gateway_account(GATEWAY, CURRENCY),
        Cause(topup_id=topup.topup_id, gateway=GATEWAY, gateway_payment_id=payment_id),
        now_ms,
    )
    topup = replace(
        topup,
        state=TopupState.CREDITED,
        gateway_payment_id=payment_id,
        transaction_id=transaction.transaction_id,
    )
    return Funded(wallet, transaction, topup)


def paid(wallet: Wallet, number: int, now_ms: int) -> Paid:
    """Pay the order of this number from a wallet."""
    customer_id, order = wallet.customer_id, order_id(number)
    key = IdempotencyKey(CALLER, "PayWithWallet", checkout_key(number))
    state = State(
        customers={customer_id: True},
        wallets={customer_id: {CURRENCY: wallet}},
        orders={order: None},
        transactions_by_key={key: None},
    )
    amount = Money(CURRENCY, PRICE_MINOR_UNITS)
    decision = decide(state, PayOrder(customer_id, order, amount, key, NO_METADATA), now_ms)
    assert isinstance(decision, Accepted), decision
    assert isinstance(decision.reply, PaymentReply)
    changes = decision.changes
    return Paid(decision.reply, changes.wallets[0], changes.transactions[0], changes.orders[0])


def waiting_topup(customer_id: str, gateway_order_id: str, minor_units: int, now_ms: int) -> Topup:
    """Return a top-up whose payment the gateway has not reported yet, and is not asked about."""
    key = IdempotencyKey(CALLER, "InitiateTopup", gateway_order_id)
    idempotency = Idempotency(key, gateway_order_id)
    return Topup(
        topup_id=chain.topup_id(idempotency, now_ms),
        customer_id=customer_id,
        amount=Money(CURRENCY, minor_units),
        gateway=GATEWAY,
        method="card",
        state=TopupState.CREATED,
        gateway_order_id=gateway_order_id,
        gateway_payment_id="",
        transaction_id="",
        pay_order=None,
        pay_order_outcome=None,
        failure_reason="",
        checkout=None,
        reversals=(),
        return_url="",
        create_time_ms=now_ms,
        update_time_ms=now_ms,
        expire_time_ms=now_ms + _LIFETIME_MS,
        report_time_ms=0,
        poll_time_ms=None,
        poll_attempts=0,
        metadata=NO_METADATA,
        idempotency=idempotency,
        version=1,
    )
