"""Whether orders and top-ups agree with the ledger, and the ledger with them.

Both ways are needed: an entry whose order does not name it may have been invented, an order whose
entry is not there was paid by nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from server.ledger.books import Difference, RecordKind, differing
from server.ledger.records import (
    Order,
    OrderPaymentMethod,
    OrderPaymentState,
    Refund,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    WalletKey,
)

_CREDITED = frozenset({TopupState.CREDITED, TopupState.REVERSED})


class Owner(NamedTuple):
    """The record that an entry belongs to."""

    kind: RecordKind
    record_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What must hold of an entry: its owner names it by this id."""

    owner: Owner
    name: str


def claim(entry: Transaction) -> Claim | None:
    """Return which record must name the entry, and how; None for a person's adjustment."""
    match entry.type:
        case TransactionType.PAYMENT:
            return Claim(Owner(RecordKind.ORDER, entry.order_id), entry.transaction_id)
        case TransactionType.REFUND:
            return Claim(Owner(RecordKind.ORDER, entry.order_id), entry.refund_id)
        case TransactionType.TOPUP:
            return Claim(Owner(RecordKind.TOPUP, entry.topup_id), entry.transaction_id)
        case TransactionType.REVERSAL:
            return Claim(Owner(RecordKind.TOPUP, entry.topup_id), entry.gateway_reversal_id)
        case TransactionType.ADJUSTMENT:
            return None


@dataclass(slots=True)
class Lookups:
    """What records of the batch that an entry came with say of their entries."""

    named: dict[Owner, set[str]] = field(default_factory=dict)
    """What each order and top-up names; one that does not exist is no key."""
    adjustments: set[str] = field(default_factory=set)
    """Entries by which somebody settled an event."""


def check_entry(entry: Transaction, lookups: Lookups) -> Iterator[Difference]:
    """Compare an entry with the record that it belongs to."""
    claimed = claim(entry)
    if claimed is None:
        if entry.transaction_id not in lookups.adjustments:
            yield differing(entry, "no event was settled by this ADJUSTMENT", entry.amount)
        return
    kind, record_id = claimed.owner
    names = lookups.named.get(claimed.owner)
    if names is None:
        yield differing(entry, f"there is no {kind} {record_id} for it", entry.amount)
    elif claimed.name not in names:
        what = f"{kind} {record_id} does not name it as its {entry.type}"
        yield differing(entry, what, entry.amount)


def check_order(order: Order, entries: Mapping[str, Transaction]) -> Iterator[Difference]:
    """Compare an order that this service has written to with its entries."""
    if _is_paid_from_wallet(order):
        yield from _check_payment(order, entries.get(order.transaction_id))
    for refund in order.refunds:
        yield from _check_refund(order, refund, entries.get(refund.transaction_id))
    yield from _check_refunded_amount(order)


def check_topup(
    topup: Topup, entries: Mapping[str, Transaction], reversals: Iterable[Transaction]
) -> Iterator[Difference]:
    """Compare a top-up with its entries; `reversals` are its REVERSAL entries."""
    yield from _check_credit(topup, entries.get(topup.transaction_id))
    yield from _check_reversals(topup, reversals)
    outcome = topup.pay_order_outcome
    if topup.pay_order is None or outcome is None or not outcome.transaction_id:
        return
    entry, paid = entries.get(outcome.transaction_id), topup.pay_order.amount.minor_units
    if entry is None:
        what = f"its payment of {topup.pay_order.order_id} is not in the ledger: "
        yield _of_topup(topup, what + outcome.transaction_id, paid)
        return
    for what, minor_units in _unequal(
        f"its payment {entry.transaction_id}",
        ("type", TransactionType.PAYMENT, entry.type),
        ("order_id", topup.pay_order.order_id, entry.order_id),
        ("topup_id", topup.topup_id, entry.topup_id),
        ("amount", paid, -entry.amount),
    ):
        yield _of_topup(topup, what, minor_units)


def _is_paid_from_wallet(order: Order) -> bool:
    return bool(order.transaction_id) or order.payment_method is OrderPaymentMethod.WALLET


def _check_payment(order: Order, entry: Transaction | None) -> Iterator[Difference]:
    if entry is None:
        name = order.transaction_id or "none is named"
        yield _of_order(order, f"its payment is not in the ledger: {name}", order.amount)
        return
    if order.payment_state is None:
        what = f"payment_status does not say paid, and {entry.transaction_id} paid it"
        yield _of_order(order, what, entry.amount)
    elif order.payment_method is not OrderPaymentMethod.WALLET:
        yield _of_order(order, f"payment_method is not WALLET, and {entry.transaction_id} paid it")
    yield from _compare(order, entry, TransactionType.PAYMENT, order.amount)


def _check_refund(order: Order, refund: Refund, entry: Transaction | None) -> Iterator[Difference]:
    if entry is None:
        what = f"refund {refund.refund_id} is not in the ledger: {refund.transaction_id}"
        yield _of_order(order, what, refund.amount)
        return
    if entry.refund_id != refund.refund_id:
        what = f"refund {refund.refund_id} names {entry.transaction_id}, which is of "
        yield _of_order(order, what + (entry.refund_id or "none"))
    yield from _compare(order, entry, TransactionType.REFUND, refund.amount)


def _compare(
    order: Order, entry: Transaction, expected: TransactionType, amount: int | None
) -> Iterator[Difference]:
    """Compare an entry's values with the order's; `amount` is the order's own figure of it."""
    moved = -entry.amount if expected is TransactionType.PAYMENT else entry.amount
    for what, minor_units in _unequal(
        f"{expected} {entry.transaction_id}",
        ("type", expected, entry.type),
        ("order_id", order.order_id, entry.order_id),
        ("customer_id", order.customer_id, entry.customer_id),
        ("currency", order.currency_code, entry.currency_code),
        ("amount", amount, moved),
    ):
        yield _of_order(order, what, minor_units)


def _check_refunded_amount(order: Order) -> Iterator[Difference]:
    """Compare what the order says was refunded with its refunds.

    What the order service refunded by itself, of an order that it was paid for, is in the total
    only.
    """
    refunds = sum(refund.amount for refund in order.refunds)
    refunded = order.refunded_amount
    exact = _is_paid_from_wallet(order)
    if (refunded != refunds) if exact else (refunded < refunds):
        what = f"refunded_amount is {refunded}, its refunds sum to {refunds}"
        yield _of_order(order, what, refunded - refunds)
    if order.amount is not None and refunded > order.amount:
        what = f"refunded_amount is {refunded} of {order.amount}: more than was paid"
        yield _of_order(order, what, refunded - order.amount)
    elif exact and order.payment_state not in {None, _due_state(order)}:
        what = f"payment_status is {order.payment_state}, with {refunded} of {order.amount} "
        yield _of_order(order, what + f"refunded it is {_due_state(order)}")


def _due_state(order: Order) -> OrderPaymentState:
    if order.refunded_amount == 0:
        return OrderPaymentState.PAID
    if order.refunded_amount == order.amount:
        return OrderPaymentState.REFUNDED
    return OrderPaymentState.PARTIALLY_REFUNDED


def _check_credit(topup: Topup, entry: Transaction | None) -> Iterator[Difference]:
    amount = topup.amount.minor_units
    if topup.state not in _CREDITED:
        if topup.transaction_id:
            what = f"is {topup.state}, and names {topup.transaction_id} as its credit"
            yield _of_topup(topup, what, -amount)
        return
    if entry is None:
        name = topup.transaction_id or "none is named"
        yield _of_topup(topup, f"is {topup.state}, its credit is not in the ledger: {name}", amount)
        return
    for what, minor_units in _unequal(
        f"its credit {entry.transaction_id}",
        ("type", TransactionType.TOPUP, entry.type),
        ("topup_id", topup.topup_id, entry.topup_id),
        ("customer_id", topup.customer_id, entry.customer_id),
        ("currency", topup.amount.currency_code, entry.currency_code),
        ("amount", amount, entry.amount),
        ("gateway", topup.gateway, entry.gateway),
        ("gateway_payment_id", topup.gateway_payment_id, entry.gateway_payment_id),
    ):
        yield _of_topup(topup, what, minor_units)


def _check_reversals(topup: Topup, entries: Iterable[Transaction]) -> Iterator[Difference]:
    """Compare what each refund or dispute has debited with what its entries took."""
    taken: Counter[str] = Counter()
    for entry in entries:
        taken[entry.gateway_reversal_id] -= entry.amount
    debited = {
        reversal.reversal_id: reversal.amount if reversal.is_debited else 0
        for reversal in topup.reversals
    }
    for reversal_id in sorted(debited):
        recorded, proven = debited[reversal_id], taken[reversal_id]
        if recorded != proven:
            what = f"reversal {reversal_id} debited {recorded}, its entries took {proven}"
            yield _of_topup(topup, what, recorded - proven)
    total, amount = sum(debited.values()), topup.amount.minor_units
    if topup.state in _CREDITED and (topup.state is TopupState.REVERSED) != (total >= amount):
        yield _of_topup(topup, f"is {topup.state}, with {total} of {amount} debited")


def _unequal(
    by: str, *fields: tuple[str, str | int | None, str | int | None]
) -> Iterator[tuple[str, int | None]]:
    """Tell of fields (name, recorded, proven) those that differ, and by how much money."""
    for name, recorded, proven in fields:
        if recorded != proven:
            minor_units = None
            if isinstance(recorded, int) and isinstance(proven, int):
                minor_units = recorded - proven
            yield f"{name} is {recorded}, {proven} by {by}", minor_units


def _of_order(order: Order, what: str, minor_units: int | None = None) -> Difference:
    key = WalletKey(order.customer_id or "", order.currency_code or "")
    return Difference(key, RecordKind.ORDER, order.order_id, what, minor_units)


def _of_topup(topup: Topup, what: str, minor_units: int | None = None) -> Difference:
    key = WalletKey(topup.customer_id, topup.amount.currency_code)
    return Difference(key, RecordKind.TOPUP, topup.topup_id, what, minor_units)
