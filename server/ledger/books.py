"""Proof of the books: recompute a wallet from its entries and name everything that differs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from server.ledger import chain
from server.ledger.posting import MAY_OWE, gateway_account, orders_account, wallet_account
from server.ledger.records import (
    Posting,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)


class RecordKind(StrEnum):
    """The kinds of records that can differ."""

    WALLET = "wallet"
    TRANSACTION = "transaction"
    ORDER = "order"
    TOPUP = "topup"
    ACCOUNT = "account"
    SEAL = "seal"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the books say and that is not so."""

    wallet: WalletKey
    """Whose wallet it is about; empty texts where it is about none."""
    kind: RecordKind
    record_id: str
    """The record that differs: an entry's, order's or top-up's id, a wallet's account, a date."""
    what: str
    """What differs, with both values, for a person."""
    minor_units: int | None = None
    """How much money is in question: what is recorded less what is proven. None where the
    difference is not one of money."""

    @property
    def transaction_id(self) -> str:
        """The entry that differs; empty where it is another record."""
        return self.record_id if self.kind is RecordKind.TRANSACTION else ""


@dataclass(slots=True)
class WalletProof:
    """Walks one wallet's entries in the order of their sequence, keeping only the running end."""

    key: WalletKey
    balance: int = 0
    sequence: int = 0
    head_hash: str = chain.GENESIS_HASH

    def check(self, entry: Transaction) -> Iterator[Difference]:
        """Compare an entry with those before it, and go on from what it says."""
        if entry.sequence != self.sequence + 1:
            yield differing(
                entry, f"sequence {entry.sequence} follows {self.sequence}: entries are missing"
            )
        if entry.previous_hash != self.head_hash:
            yield differing(
                entry, "previous_hash is not the hash of the entry before it in this wallet"
            )
        if chain.entry_hash(entry) != entry.hash:
            yield differing(entry, "hash does not fit the entry: a stored value was altered")
        if entry.postings != _postings(entry):
            yield _unbalanced(entry)
        if entry.balance_after != self.balance + entry.amount:
            yield differing(
                entry,
                f"balance_after is {entry.balance_after}, and {self.balance} with {entry.amount} "
                f"gives {self.balance + entry.amount}",
                entry.balance_after - self.balance - entry.amount,
            )
        if entry.amount < 0 and entry.balance_after < 0 and not _may_owe(entry):
            yield differing(
                entry,
                f"a {entry.type} of {entry.amount} leaves {entry.balance_after}: it takes more "
                "than there is",
                entry.balance_after,
            )
        self.balance = entry.balance_after
        self.sequence = entry.sequence
        self.head_hash = entry.hash

    def check_end(self, wallet: Wallet | None) -> Iterator[Difference]:
        """Compare the cached wallet with the end of its entries."""
        account = wallet_account(self.key)
        if wallet is None:
            yield Difference(
                self.key, RecordKind.WALLET, account, "entries without a wallet", -self.balance
            )
            return
        for name, cached, proven, minor_units in (
            ("balance", wallet.balance, self.balance, wallet.balance - self.balance),
            ("sequence", wallet.sequence, self.sequence, None),
            ("head_hash", wallet.head_hash, self.head_hash, None),
        ):
            if cached != proven:
                what = f"{name} is {cached} in the wallet, {proven} by its entries"
                yield Difference(self.key, RecordKind.WALLET, account, what, minor_units)
        if self.balance < 0 and wallet.state is WalletState.ACTIVE:
            what = f"is {wallet.state} with {self.balance} by its entries: who owes is frozen"
            yield Difference(self.key, RecordKind.WALLET, account, what, self.balance)


def add_postings(accounts: Counter[str], entry: Transaction) -> None:
    """Add an entry to the accounts' totals; all wallets of a currency are one account there."""
    own = wallet_account(WalletKey(entry.customer_id, entry.currency_code))
    for posting in entry.postings:
        account = posting.account
        accounts[wallets_account(entry.currency_code) if account == own else account] += (
            posting.amount
        )


def wallets_account(currency_code: str) -> str:
    """Name the total of all wallets' accounts."""
    return f"wallets:{currency_code}"


def check_accounts(accounts: Counter[str], balances: Counter[str]) -> Iterator[Difference]:
    """Compare the accounts' totals: each currency sums to zero, its wallets to what they hold."""
    sums: Counter[str] = Counter()
    for account, total in accounts.items():
        sums[account.rpartition(":")[2]] += total
    for currency, total in sorted(sums.items()):
        if total != 0:
            what = f"all postings of {currency} sum to {total}, not to zero"
            yield Difference(WalletKey("", currency), RecordKind.ACCOUNT, currency, what, total)
    for currency, held in sorted(balances.items()):
        account = wallets_account(currency)
        if accounts[account] != held:
            what = f"postings on wallets sum to {accounts[account]}, the wallets hold {held}"
            off = accounts[account] - held
            yield Difference(WalletKey("", currency), RecordKind.ACCOUNT, account, what, off)


def imbalance(accounts: Counter[str], balances: Counter[str]) -> dict[str, int]:
    """Return, for each currency, what the wallets hold less what came in and was not spent: 0."""
    sums: Counter[str] = Counter()
    for account, total in accounts.items():
        currency = account.rpartition(":")[2]
        if account != wallets_account(currency):
            sums[currency] += total
    return {currency: balances[currency] + sums[currency] for currency in {*sums, *balances}}


def differing(entry: Transaction, what: str, minor_units: int | None = None) -> Difference:
    """Say what differs of an entry."""
    key = WalletKey(entry.customer_id, entry.currency_code)
    return Difference(key, RecordKind.TRANSACTION, entry.transaction_id, what, minor_units)


def _postings(entry: Transaction) -> tuple[Posting, Posting]:
    """Return the postings that an entry must have."""
    own = wallet_account(WalletKey(entry.customer_id, entry.currency_code))
    if entry.type in {TransactionType.PAYMENT, TransactionType.REFUND}:
        other = orders_account(entry.currency_code)
    else:
        other = gateway_account(entry.gateway, entry.currency_code)
    return Posting(own, entry.amount), Posting(other, -entry.amount)


def _unbalanced(entry: Transaction) -> Difference:
    total = sum(posting.amount for posting in entry.postings)
    if total != 0:
        return differing(entry, f"postings sum to {total}, not to zero", total)
    written = ", ".join(f"{posting.account} {posting.amount}" for posting in entry.postings)
    due = ", ".join(f"{posting.account} {posting.amount}" for posting in _postings(entry))
    return differing(entry, f"postings are {written}; a {entry.type} of {entry.amount} has {due}")


def _may_owe(entry: Transaction) -> bool:
    return entry.type in MAY_OWE
