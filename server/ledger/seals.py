"""Seals: a signed digest of all wallets' heads at the end of a day.

A wallet's chain proves that nobody altered one entry. Whoever can write the whole database could
alter an entry and recompute all hashes after it; the seals, kept elsewhere, prove that nobody did.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from server.ledger import chain
from server.ledger.books import Difference, RecordKind
from server.ledger.records import Transaction, WalletKey

_KIND: Final = "wallet-payment book seal 1"
"""Signed with the rest, so that a signature under something else cannot be taken for a seal's."""


@dataclass(frozen=True, slots=True)
class Head:
    """A wallet's last entry at the end of a day: it stands for all entries before it."""

    wallet: WalletKey
    sequence: int
    transaction_id: str
    hash: str


@dataclass(frozen=True, slots=True)
class Seal:
    """What is signed. It covers the heads of the wallets that moved since the seal before it."""

    date: str
    """The day that it closes, UTC, as in 2026-11-01."""
    previous_date: str
    """That of the seal before it; empty for the first."""
    previous_hash: str
    """The hash of the seal before it; GENESIS_HASH for the first."""
    heads: int
    """How many heads it covers."""
    heads_digest: str
    """SHA-256 over their lines."""
    make_time_ms: int


@dataclass(frozen=True, slots=True)
class SignedSeal:
    """A seal with its signature (Ed25519, in base64) over `seal_content`."""

    seal: Seal
    signature: str


def seal_content(seal: Seal) -> bytes:
    """Return the bytes that are signed: canonical JSON, as of the ledger's hashes."""
    return chain.canonical(
        {
            "date": seal.date,
            "heads": seal.heads,
            "heads_digest": seal.heads_digest,
            "kind": _KIND,
            "make_time_ms": seal.make_time_ms,
            "previous_date": seal.previous_date,
            "previous_hash": seal.previous_hash,
        }
    )


def seal_hash(seal: Seal) -> str:
    """Return what names the seal in the one after it."""
    return hashlib.sha256(seal_content(seal)).hexdigest()


def head_line(head: Head) -> bytes:
    """Return a head as its line, of which the digest is taken."""
    return (
        chain.canonical(
            [
                head.wallet.customer_id,
                head.wallet.currency_code,
                head.sequence,
                head.transaction_id,
                head.hash,
            ]
        )
        + b"\n"
    )


class HeadsDigest:
    """Counts and digests heads in their order."""

    def __init__(self) -> None:
        self.heads = 0
        self._digest = hashlib.sha256()

    def add(self, head: Head) -> None:
        """Take one more head."""
        self.heads += 1
        self._digest.update(head_line(head))

    def hex(self) -> str:
        """Return the digest so far."""
        return self._digest.hexdigest()


def check_signed(signed: SignedSeal, *, is_signed: bool) -> Iterator[Difference]:
    """Refuse a seal that the key did not sign."""
    if not is_signed:
        yield _of_seal(signed.seal, "is not signed by this key, or was altered after it was")


def check_order_of_seals(seals: Sequence[Seal], *, are_all: bool) -> Iterator[Difference]:
    """Check that each seal names the one before it.

    `are_all` says that the seals are all there are: then none may be missing between them or
    before the first.
    """
    known = {seal.date: seal for seal in seals}
    for seal in seals:
        before = known.get(seal.previous_date)
        if before is not None:
            if seal.previous_hash != seal_hash(before):
                what = f"follows another seal of {before.date} than the one that is here"
                yield _of_seal(seal, what)
        elif are_all and seal.previous_hash != chain.GENESIS_HASH:
            yield _of_seal(seal, f"follows the seal of {seal.previous_date}, which is missing")


def check_digest(seal: Seal, digest: HeadsDigest) -> Iterator[Difference]:
    """Check that the heads are those that were signed."""
    if (digest.heads, digest.hex()) != (seal.heads, seal.heads_digest):
        what = f"its {digest.heads} heads are not the {seal.heads} that were signed"
        yield _of_seal(seal, what)


def check_heads(
    seal: Seal, heads: Iterable[Head], entries: Mapping[str, Transaction]
) -> Iterator[Difference]:
    """Compare sealed heads with the entries that the ledger has by their ids."""
    for head in heads:
        entry = entries.get(head.transaction_id)
        what = f"entry {head.transaction_id}, the head of {head.sequence} entries,"
        if entry is None:
            yield _of_seal(seal, f"{what} is not in the ledger any more", head.wallet)
            continue
        wallet = WalletKey(entry.customer_id, entry.currency_code)
        if head != Head(wallet, entry.sequence, entry.transaction_id, entry.hash):
            what = f"{what} was sealed with hash {head.hash}, and has {entry.hash}: "
            yield _of_seal(seal, what + "it or one before it was rewritten", head.wallet)


def _of_seal(seal: Seal, what: str, wallet: WalletKey | None = None) -> Difference:
    return Difference(wallet or WalletKey("", ""), RecordKind.SEAL, seal.date, what)
