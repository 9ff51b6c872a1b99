"""Proof of the books: recompute a wallet from its entries and name everything that differs."""

from collections.abc import Iterator
from dataclasses import dataclass

from server.ledger import chain
from server.ledger.records import Transaction, Wallet, WalletKey


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the books say and that is not so."""

    wallet: WalletKey
    transaction_id: str
    """The entry that differs; empty where it is the wallet itself."""
    what: str
    """What differs, with both values, for a person."""


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
            yield self._differs(
                entry, f"sequence {entry.sequence} follows {self.sequence}: entries are missing"
            )
        if entry.previous_hash != self.head_hash:
            yield self._differs(
                entry, "previous_hash is not the hash of the entry before it in this wallet"
            )
        if chain.entry_hash(entry) != entry.hash:
            yield self._differs(entry, "hash does not fit the entry: a stored value was altered")
        if sum(posting.amount for posting in entry.postings) != 0:
            yield self._differs(entry, "postings do not sum to zero")
        if entry.balance_after != self.balance + entry.amount:
            yield self._differs(
                entry,
                f"balance_after is {entry.balance_after}, and {self.balance} with {entry.amount} "
                f"gives {self.balance + entry.amount}",
            )
        self.balance += entry.amount
        self.sequence = entry.sequence
        self.head_hash = entry.hash

    def check_end(self, wallet: Wallet | None) -> Iterator[Difference]:
        """Compare the cached wallet with what its entries add up to."""
        if wallet is None:
            yield Difference(self.key, "", "entries without a wallet")
            return
        for name, cached, proven in (
            ("balance", wallet.balance, self.balance),
            ("sequence", wallet.sequence, self.sequence),
            ("head_hash", wallet.head_hash, self.head_hash),
        ):
            if cached != proven:
                yield Difference(
                    self.key, "", f"{name} is {cached} in the wallet, {proven} by its entries"
                )

    def _differs(self, entry: Transaction, what: str) -> Difference:
        return Difference(self.key, entry.transaction_id, what)
