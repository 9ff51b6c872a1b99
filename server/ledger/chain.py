"""Names and digests: record ids, request fingerprints, and the hash chain of a wallet.

Digests are SHA-256 over canonical JSON: UTF-8, keys sorted, no white space, ASCII escapes, whole
numbers only. Anyone can recompute them in any language.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from server.ledger.commands import (
    AdjustWallet,
    CreateTopup,
    DismissEvent,
    PayOrder,
    RefundOrder,
    TieToTopup,
)
from server.ledger.money import Money
from server.ledger.records import Idempotency, Posting, Transaction, TransactionType, WalletKey

GENESIS_HASH: Final = "0" * 64
"""What stands for the hash before a wallet's first transaction."""

_TIME_CHARACTERS: Final = 10
_SEQUENCE_CHARACTERS: Final = 7
_DIGEST_CHARACTERS: Final = 9
_SUFFIX_CHARACTERS: Final = _SEQUENCE_CHARACTERS + _DIGEST_CHARACTERS
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_ALPHABET: Final = (
    "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: sorts as its value does
)


def entry_hash(transaction: Transaction) -> str:
    """Return the hash that `transaction` must carry, over its content and `previous_hash`.

    Covered is everything that an auditor relies on. Not covered are the caller's own notes
    (`metadata`), so that they can be encrypted anew or erased without breaking the chain.
    """
    return content_hash(
        amount=transaction.amount,
        balance_after=transaction.balance_after,
        create_time_ms=transaction.create_time_ms,
        currency_code=transaction.currency_code,
        customer_id=transaction.customer_id,
        gateway=transaction.gateway,
        gateway_payment_id=transaction.gateway_payment_id,
        gateway_reversal_id=transaction.gateway_reversal_id,
        order_id=transaction.order_id,
        postings=transaction.postings,
        previous_hash=transaction.previous_hash,
        refund_id=transaction.refund_id,
        sequence=transaction.sequence,
        topup_id=transaction.topup_id,
        transaction_id=transaction.transaction_id,
        transaction_type=transaction.type,
    )


def content_hash(
    *,
    amount: int,
    balance_after: int,
    create_time_ms: int,
    currency_code: str,
    customer_id: str,
    gateway: str,
    gateway_payment_id: str,
    gateway_reversal_id: str,
    order_id: str,
    postings: Sequence[Posting],
    previous_hash: str,
    refund_id: str,
    sequence: int,
    topup_id: str,
    transaction_id: str,
    transaction_type: TransactionType,
) -> str:
    """Return the hash of an entry with this content, which stands here as it is hashed."""
    return _digest(
        {
            "amount": amount,
            "balance_after": balance_after,
            "create_time_ms": create_time_ms,
            "currency_code": currency_code,
            "customer_id": customer_id,
            "gateway": gateway,
            "gateway_payment_id": gateway_payment_id,
            "gateway_reversal_id": gateway_reversal_id,
            "order_id": order_id,
            "postings": [[posting.account, posting.amount] for posting in postings],
            "previous_hash": previous_hash,
            "refund_id": refund_id,
            "sequence": sequence,
            "topup_id": topup_id,
            "transaction_id": transaction_id,
            "type": transaction_type,
        },
    )


def idempotency(command: PayOrder | RefundOrder | CreateTopup) -> Idempotency:
    """Return what a record keeps of the request that made it."""
    content: list[Any]
    match command:
        case PayOrder():
            content = [command.customer_id, command.order_id, _money(command.amount)]
        case RefundOrder():
            amount = _money(command.amount)
            content = [command.customer_id, command.order_id, amount, command.reason]
        case CreateTopup():
            order = command.pay_order
            content = [
                command.customer_id,
                _money(command.amount),
                command.gateway,
                command.method,
                None if order is None else [order.order_id, _money(order.amount)],
                command.return_url,
            ]
    content.append(dict(command.metadata))
    return Idempotency(command.idempotency_key, _digest(content))


def resolution_fingerprint(command: TieToTopup | AdjustWallet | DismissEvent) -> str:
    """Return the digest by which a repeat of what settled an event is known."""
    content: list[Any] = [type(command).__name__, command.event_key, command.by, command.why]
    match command:
        case TieToTopup():
            content += [command.customer_id, command.topup_id]
        case AdjustWallet():
            content += [command.customer_id, _money(command.amount)]
        case DismissEvent():
            pass
    return _digest(content)


def transaction_id(wallet: WalletKey, sequence: int, time_ms: int) -> str:
    """Return the id of a wallet's transaction; ids sort by time, then by sequence."""
    time = _base32_time(time_ms)
    return f"txn_{time}{_base32(sequence, _SEQUENCE_CHARACTERS)}{_base32_wallet(wallet)}"


def action_id(customer_id: str, what: str, version: int, time_ms: int) -> str:
    """Return the id of an operator's action on the record of this version.

    Ids sort by time and, behind their prefix, before those of the same time's transactions.
    """
    digest = hashlib.sha256(canonical([customer_id, what, version])).digest()
    place = _base32_time(time_ms) + _base32(0, _SEQUENCE_CHARACTERS)
    return f"act_{place}{_base32(int.from_bytes(digest[:8]), _DIGEST_CHARACTERS)}"


def refund_id(of_transaction_id: str) -> str:
    """Return the id of the refund that the transaction pays out."""
    return "ref_" + of_transaction_id.removeprefix("txn_")


def topup_id(idempotency: Idempotency, time_ms: int) -> str:
    """Return the id of the top-up that the request starts; ids sort by time."""
    digest = hashlib.sha256(canonical([*idempotency.key, idempotency.fingerprint])).digest()
    return "top_" + _base32_time(time_ms) + _base32(int.from_bytes(digest[:10]), _SUFFIX_CHARACTERS)


def first_id(prefix: str, time_ms: int) -> str:
    """Return what every id of a kind sorts after that was made at a time or later, and no other."""
    return prefix + _base32_time(max(0, time_ms))


def canonical(content: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Write a JSON value in the one way in which digests are taken of it."""
    return _CANONICAL.encode(content).encode()


def _money(money: Money | None) -> list[str | int] | None:
    return None if money is None else [money.currency_code, money.minor_units]


def _digest(content: Any) -> str:  # noqa: ANN401 - any JSON value
    return hashlib.sha256(canonical(content)).hexdigest()


@lru_cache(maxsize=16)
def _base32_time(time_ms: int) -> str:
    """Write a time, which a whole batch shares."""
    return _base32(time_ms, _TIME_CHARACTERS)


@lru_cache(maxsize=4_096)
def _base32_wallet(wallet: WalletKey) -> str:
    """Write what tells a wallet's ids from all others."""
    digest = hashlib.sha256(f"{wallet.customer_id}:{wallet.currency_code}".encode()).digest()
    return _base32(int.from_bytes(digest[:8]), _DIGEST_CHARACTERS)


def _base32(number: int, characters: int) -> str:
    """Write the low bits of `number` in exactly so many characters."""
    return "".join(
        _ALPHABET[(number >> (5 * place)) & 31] for place in range(characters - 1, -1, -1)
    )
