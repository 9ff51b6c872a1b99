"""Seals of the books: what is to be sealed, what was, and whether the ledger still agrees."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bson import Int64
from bson.datetime_ms import DatetimeMS

from server.commit.port import WriteConflict
from server.ledger import chain
from server.ledger.books import Difference
from server.ledger.records import Transaction, Wallet, WalletKey
from server.ledger.seals import (
    Head,
    HeadsDigest,
    Seal,
    SignedSeal,
    check_digest,
    check_heads,
    check_order_of_seals,
    check_signed,
    seal_hash,
)
from server.store import documents, schema
from server.store.books_lookups import readable_entries
from server.store.connection import Database, Document, find, store_errors, write
from server.told import ToldInWords

_BATCH: Final = 1_000
_AT_ONCE: Final = 20
_OVERLAP_MS: Final = 86_400_000
"""Wallets that moved up to a day before the seal before are covered once more: an entry may have
been written late, by a clock that was behind."""


class BooksDiffer(ToldInWords):
    """The books are not fit to be sealed; the message names what differs."""


class SealedAlready(ToldInWords):
    """Another seal took this place meanwhile."""

    def __init__(self) -> None:
        super().__init__("Another seal was made at the same time: run it again.")


@dataclass(frozen=True, slots=True)
class SealToCheck:
    """A seal, wherever it was kept, with a way to its heads."""

    signed: SignedSeal
    is_signed: bool
    """Whether the signature is that of the key that is trusted."""
    heads: Callable[[], AsyncIterator[list[Head]]]


async def check_seals(
    database: Database, seals: Sequence[SealToCheck], *, are_all: bool, start: int = 0
) -> AsyncIterator[list[Difference]]:
    """Compare the ledger with seals in the order of their dates; yield what differs of each.

    The ledger's chains have to be proven besides: then a head that is as it was sealed proves all
    entries before it. `start` seals are passed over.
    """
    in_order = [to_check.signed.seal for to_check in seals]
    misplaced = list(check_order_of_seals(in_order, are_all=are_all))
    for to_check in seals[start:]:
        seal = to_check.signed.seal
        differences = [one for one in misplaced if one.record_id == seal.date]
        differences += check_signed(to_check.signed, is_signed=to_check.is_signed)
        if to_check.is_signed:
            digest = HeadsDigest()
            async for batch in to_check.heads():
                for head in batch:
                    digest.add(head)
                differences += check_heads(seal, batch, await _entries_of(database, batch))
            differences += check_digest(seal, digest)
        yield differences


class MongoSeals:
    """The seals that are kept beside the books, and what the next one covers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[SignedSeal]:
        """Return all seals in the order of their dates."""
        found = await find(self._database, schema.SEALS, {}, sort={"_id": 1})
        return [_read_seal(document) for document in found]

    async def heads(self, seal: Seal) -> AsyncIterator[list[Head]]:
        """Go through the heads that a seal covers."""
        query = {"seal_hash": seal_hash(seal)}
        cursor = self._database[schema.SEAL_HEADS].find(query, batch_size=1).sort("_id", 1)
        with store_errors():
            async for document in cursor:
                yield [Head(WalletKey(*head[:2]), *head[2:]) for head in document["heads"]]

    async def heads_to_seal(self, since_ms: int, end_ms: int) -> AsyncIterator[list[Head]]:
        """Go through the wallets that moved since `since_ms`, each as it was before `end_ms`.

        Raises:
            BooksDiffer: a head does not fit its wallet or itself.
        """
        moved = {"update_time": {"$gte": DatetimeMS(since_ms - _OVERLAP_MS)}}
        cursor = self._database[schema.WALLETS].find(moved, batch_size=_BATCH)
        cursor = cursor.sort([("customer_id", 1), ("currency", 1)])
        with store_errors():
            while batch := await cursor.to_list(_AT_ONCE):
                wallets = [documents.read_wallet(document) for document in batch]
                heads = await asyncio.gather(*(self._head(wallet, end_ms) for wallet in wallets))
                yield [head for head in heads if head is not None]

    async def store(self, signed: SignedSeal, heads: Iterable[Sequence[Head]]) -> None:
        """Keep a seal with its heads; it counts once it is there itself.

        Raises:
            SealedAlready: another one of this date or after the same seal was faster.
        """
        name = seal_hash(signed.seal)
        for number, part in enumerate(heads):
            document = {
                "_id": f"{name}:{number:08}",
                "seal_hash": name,
                "heads": [[*head.wallet, Int64(head.sequence), *_ids(head)] for head in part],
            }
            await write(self._database, schema.SEAL_HEADS, "insert", [document])
        try:
            await write(self._database, schema.SEALS, "insert", [_seal_document(signed)])
        except WriteConflict:
            with store_errors():
                await self._database[schema.SEAL_HEADS].delete_many({"seal_hash": name})
            raise SealedAlready from None

    async def _head(self, wallet: Wallet, end_ms: int) -> Head | None:
        """Return a wallet's last entry before `end_ms`; None where it had none yet."""
        found = await find(
            self._database,
            schema.TRANSACTIONS,
            {
                "customer_id": wallet.customer_id,
                "currency": wallet.currency_code,
                "create_time": {"$lt": DatetimeMS(end_ms)},
            },
            sort={"sequence": -1},
            limit=1,
        )
        entry = documents.read_transaction(found[0]) if found else None
        is_at_end = wallet.update_time_ms < end_ms
        if is_at_end and (entry.hash if entry else "") != wallet.head_hash:
            raise BooksDiffer(_not_fit(wallet, "is not the end of its entries"))
        if entry is None:
            return None
        if chain.entry_hash(entry) != entry.hash:
            raise BooksDiffer(_not_fit(wallet, f"has an altered entry, {entry.transaction_id}"))
        return Head(wallet.key, entry.sequence, entry.transaction_id, entry.hash)


def _not_fit(wallet: Wallet, how: str) -> str:
    return (
        f"Nothing was sealed: the {wallet.currency_code} wallet of customer {wallet.customer_id} "
        f"{how}. `wallet-payment books verify` names all that differs."
    )


def _ids(head: Head) -> tuple[str, str]:
    return head.transaction_id, head.hash


async def _entries_of(database: Database, heads: Sequence[Head]) -> dict[str, Transaction]:
    query: Document = {"_id": {"$in": [head.transaction_id for head in heads]}}
    found = readable_entries(await find(database, schema.TRANSACTIONS, query))
    return {entry.transaction_id: entry for entry in found}


def _seal_document(signed: SignedSeal) -> Document:
    seal = signed.seal
    return {
        "_id": seal.date,
        **asdict(seal),
        "heads": Int64(seal.heads),
        "make_time_ms": Int64(seal.make_time_ms),
        "signature": signed.signature,
    }


def _read_seal(document: Document) -> SignedSeal:
    seal = Seal(
        date=document["date"],
        previous_date=document["previous_date"],
        previous_hash=document["previous_hash"],
        heads=int(document["heads"]),
        heads_digest=document["heads_digest"],
        make_time_ms=int(document["make_time_ms"]),
    )
    return SignedSeal(seal, document["signature"])
