"""What must be true after a run: the record, the books, the orders and the gateway agree."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from chaos_record import Operation, Record, Sight

_CALLER = "order-service"


@dataclass(slots=True)
class Verdict:
    """What was found wrong; empty where all is well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    """Records that do not agree, or a history that went backwards."""

    @property
    def findings(self) -> list[str]:
        """Return all of it, each with its kind."""
        kinds = (("LOST", self.lost), ("DOUBLED", self.doubled), ("WRONG", self.other))
        return [f"{kind}: {text}" for kind, found in kinds for text in found]


async def check(record: Record, database: Any, captured: dict[str, int]) -> Verdict:
    """Hold everything against everything; `captured` is gateway payment -> minor units."""
    entries = await database.wallet_transactions.find().to_list(None)
    wallets = await database.wallets.find().to_list(None)
    orders = await database.orders.find().to_list(None)
    waiting = await database.gateway_events.find({"outcome": "NEEDS_REVIEW"}).to_list(None)
    verdict = Verdict()
    payments = [entry for entry in entries if entry["type"] == "PAYMENT"]
    refunds = [entry for entry in entries if entry["type"] == "REFUND"]
    topups = [entry for entry in entries if entry["type"] == "TOPUP"]
    _check_once(record.done("PayWithWallet"), payments, -1, verdict)
    _check_once(record.done("RefundToWallet"), refunds, 1, verdict)
    _check_credits(topups, captured, {one["gateway_payment_id"] for one in waiting}, verdict)
    if len(payments) + len(refunds) + len(topups) != len(entries):
        verdict.other.append("the ledger has entries that nobody asked for")
    _check_wallets(wallets, entries, verdict)
    _check_orders(orders, payments, refunds, verdict)
    _check_sights(record.sights, entries, verdict)
    return verdict


def _check_once(
    operations: list[Operation], entries: list[Any], sign: int, verdict: Verdict
) -> None:
    """Each acknowledged operation made one entry, any other one at most, and nobody else any."""
    by_key = defaultdict(list)
    for entry in entries:
        by_key[entry["idempotency_id"]].append(entry)
    for operation in operations:
        request = operation.request
        name = f"{operation.method} {request.idempotency_key}"
        made = by_key.pop(f"{_CALLER} {operation.method} {request.idempotency_key}", [])
        if len(made) > 1:
            verdict.doubled.append(name)
        if operation.answers and not made:
            verdict.lost.append(name)
        told = {answer.transaction.transaction_id for answer in operation.answers}
        if made and told - {entry["_id"] for entry in made}:
            verdict.other.append(f"{name}: its answers name {sorted(told)}")
        if any(entry["amount"] != sign * request.amount.minor_units for entry in made):
            verdict.other.append(f"{name}: another amount was booked")
    verdict.other += [f"nobody asked for {key}" for key in by_key]


def _check_credits(
    topups: list[Any], captured: dict[str, int], waiting: set[str], verdict: Verdict
) -> None:
    """What the gateway captured is credited once or kept for review, and nothing else is."""
    credited = Counter(entry["gateway_payment_id"] for entry in topups)
    verdict.doubled += [f"credit of {payment}" for payment, times in credited.items() if times > 1]
    verdict.lost += [
        f"credit of {payment}" for payment in captured if payment not in credited.keys() | waiting
    ]
    verdict.other += [
        f"credit of {entry['gateway_payment_id']}: {entry['amount']} was not captured"
        for entry in topups
        if captured.get(entry["gateway_payment_id"]) != entry["amount"]
    ]


def _check_wallets(wallets: list[Any], entries: list[Any], verdict: Verdict) -> None:
    """Balances are the sums of their entries, whose sequences have no gap."""
    by_wallet = defaultdict(list)
    for entry in entries:
        by_wallet[entry["customer_id"]].append(entry)
    for wallet in wallets:
        customer = wallet["customer_id"]
        own = by_wallet.pop(customer, [])
        if sorted(entry["sequence"] for entry in own) != list(range(1, wallet["sequence"] + 1)):
            verdict.other.append(f"wallet of {customer}: its sequence has a gap")
        if sum(entry["amount"] for entry in own) != wallet["balance"]:
            verdict.other.append(f"wallet of {customer}: the balance is not the sum of its entries")
    verdict.other += [f"entries of {customer} have no wallet" for customer in by_wallet]


def _check_orders(
    orders: list[Any], payments: list[Any], refunds: list[Any], verdict: Verdict
) -> None:
    """Each order names its payment, and as much refunded as the ledger has."""
    paid = {entry["order_id"]: entry["_id"] for entry in payments}
    if len(paid) != len(payments):
        verdict.doubled.append("an order is paid twice")
    recorded = {order["_id"]: order["wallet_transaction_id"] for order in orders}
    if recorded != paid:
        differing = sorted(dict(recorded.items() ^ paid.items()))
        verdict.other.append(f"orders and ledger differ: {differing[:5]}")
    refunded: Counter[str] = Counter()
    for entry in refunds:
        refunded[entry["order_id"]] += entry["amount"]
    for order in orders:
        listed = sum(refund["amount"] for refund in order.get("refunds") or [])
        if not order.get("refunded_amount", 0) == listed == refunded[order["_id"]]:
            verdict.other.append(f"order {order['_id']}: its refunds are not the ledger's")
        if refunded[order["_id"]] > order["amount"]:
            verdict.other.append(f"order {order['_id']}: more was refunded than paid")


def _check_sights(sights: list[Sight], entries: list[Any], verdict: Verdict) -> None:
    """No wallet was seen that never was, and none was seen older than somebody had seen it."""
    truth = {(entry["customer_id"], entry["sequence"]): entry["balance_after"] for entry in entries}
    verdict.other += [
        f"{sight.customer_id} was told a balance that never was, at {sight.sequence}"
        for sight in sights
        if truth.get((sight.customer_id, sight.sequence)) != sight.balance
    ]
    seen_by = iter(sorted(sights, key=lambda sight: sight.answered))
    seen = next(seen_by, None)
    latest: Counter[str] = Counter()
    reads = [sight for sight in sights if sight.is_read]
    for read in sorted(reads, key=lambda sight: sight.sent):
        while seen is not None and seen.answered < read.sent:
            latest[seen.customer_id] = max(latest[seen.customer_id], seen.sequence)
            seen = next(seen_by, None)
        newest = read.sequence if read.newest_sequence is None else read.newest_sequence
        if min(read.sequence, newest) < latest[read.customer_id]:
            verdict.other.append(
                f"{read.customer_id} went backwards from {latest[read.customer_id]} to "
                f"{read.sequence}, its history to {newest}"
            )
