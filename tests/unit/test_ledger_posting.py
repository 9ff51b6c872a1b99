"""The one place where money moves, at its bounds."""

from dataclasses import replace

import pytest

from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.ledger.posting import Cause, empty_wallet, gateway_account, post
from server.ledger.records import FreezeCause, TransactionType, Wallet, WalletKey, WalletState

EMPTY = empty_wallet(WalletKey("asha", "INR"), 5)
ACCOUNT = gateway_account("razorpay", "INR")


def moved(wallet: Wallet, kind: TransactionType, amount: int) -> Wallet:
    """Return a wallet after an entry."""
    return post(wallet, kind, amount, ACCOUNT, Cause(), 7)[0]


def test_a_wallets_first_entry_is_its_first() -> None:
    """Sequence and version begin at one; a wallet that nothing moved has neither."""
    empty = empty_wallet(WalletKey("asha", "INR"), 5)
    assert (empty.balance, empty.sequence, empty.version) == (0, 0, 0)
    first = moved(empty, TransactionType.TOPUP, 1)
    assert (first.balance, first.sequence, first.version) == (1, 1, 1)
    assert (first.create_time_ms, first.update_time_ms) == (5, 7)


def test_who_owes_may_pay_back_in_pennies() -> None:
    """A credit is taken although the wallet stays below zero, and frozen, until it no longer is."""
    owing = moved(EMPTY, TransactionType.REVERSAL, -2)
    assert (owing.state, owing.freeze_cause) == (WalletState.FROZEN, FreezeCause.DEBT)
    less = moved(owing, TransactionType.TOPUP, 1)
    assert (less.balance, less.state) == (-1, WalletState.FROZEN)
    free = moved(less, TransactionType.TOPUP, 1)
    assert (free.balance, free.state, free.freeze_cause) == (
        *(0, WalletState.ACTIVE),
        FreezeCause.NONE,
    )


def test_what_an_operator_has_frozen_does_not_thaw_by_itself() -> None:
    """Debt neither takes the operator's place nor ends what the operator began."""
    frozen = replace(EMPTY, state=WalletState.FROZEN, freeze_cause=FreezeCause.OPERATOR)
    for amount in (-2, 5):
        frozen = moved(frozen, TransactionType.ADJUSTMENT, amount)
        assert (frozen.state, frozen.freeze_cause) == (WalletState.FROZEN, FreezeCause.OPERATOR)


@pytest.mark.parametrize(
    ("balance", "kind", "amount"),
    [
        (5, TransactionType.TOPUP, 0),
        (5, TransactionType.PAYMENT, -6),
        (MAX_BALANCE_MINOR_UNITS, TransactionType.TOPUP, 1),
    ],
)
def test_a_mistake_above_moves_no_money(balance: int, kind: TransactionType, amount: int) -> None:
    """An entry of nothing, below zero, or over 64 bits is never made, whoever asks for it."""
    with pytest.raises(AssertionError):
        moved(replace(EMPTY, balance=balance), kind, amount)


@pytest.mark.parametrize(
    ("balance", "kind", "amount"),
    [
        (6, TransactionType.PAYMENT, -6),
        (MAX_BALANCE_MINOR_UNITS - 1, TransactionType.TOPUP, 1),
        (0, TransactionType.REVERSAL, -1),
        (0, TransactionType.ADJUSTMENT, -1),
    ],
)
def test_what_is_at_a_bound_is_moved(balance: int, kind: TransactionType, amount: int) -> None:
    """To zero, to 64 bits, and below zero by what a gateway took."""
    assert moved(replace(EMPTY, balance=balance), kind, amount).balance == balance + amount
