"""What must be true of the records, after every durable commit and at the end.

It keeps a small model of its own, fed by what becomes durable and by what really happened at the
gateway, and never asks the service.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from server.ledger.books import WalletProof
from server.ledger.limits import NO_LIMITS
from server.ledger.records import (
    EventOutcome,
    GatewayEvent,
    IdempotencyKey,
    Order,
    OrderPaymentState,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.state import ChangeSet
from sim.account import CAPTURED, TAKEN, TELL_CAPTURE, Account
from sim.limits import LIMITED, LimitModel
from sim.world import World

PAID: Final = OrderPaymentState.PAID
_CREDITED: Final = frozenset({TopupState.CREDITED, TopupState.REVERSED})
_KEPT: Final = frozenset({EventOutcome.NEEDS_REVIEW, EventOutcome.RESOLVED})


class Oracle:
    """Watches one history."""

    def __init__(self, world: World, account: Account) -> None:
        self._world = world
        self._account = account
        self.customers: set[str] = set()
        self.wallets: dict[WalletKey, Wallet] = {}
        self.orders: dict[str, Order] = {}
        self.topups: dict[str, Topup] = {}
        self.events: dict[str, GatewayEvent] = {}
        self.by_key: dict[IdempotencyKey, tuple[str, str]] = {}
        """Idempotency key -> fingerprint and record, of all that is durable."""
        self.credits: Counter[str] = Counter()
        """The gateway's payment -> how often it was credited."""
        self.reversed: Counter[str] = Counter()
        """The gateway's reversal -> what the ledger has moved for it, signed."""
        self.proofs: dict[WalletKey, WalletProof] = {}
        """The end of each wallet's chain of entries, as far as they were checked."""
        self._books: Counter[str] = Counter()
        """Currency -> what its wallets hold, less what they must hold by all other records."""
        self.limits = LimitModel(LIMITED if world.plan.has_limits else NO_LIMITS)
        self.changed: Callable[[], None] = lambda: None
        """Is called after every entry, and after every commit."""

    def committed(self, changes: ChangeSet) -> None:
        """Check everything that a commit changed, entry by entry, then as a whole."""
        if self._world.is_over:
            return
        for entry in changes.transactions:
            self._check_entry(entry, changes)
            self.changed()
        self._check_limits(changes)
        for topup in changes.topups.values():
            self._check_topup(topup)
        for order in changes.orders.values():
            self._check_order(order)
        for wallet in changes.wallets.values():
            self._check_wallet(wallet)
        for event in changes.events.values():
            self._check_event(event, changes)
        if {entry_key(entry) for entry in changes.transactions} != set(changes.wallets):
            self._broken("a wallet changes by its entries", f"{list(changes.wallets)}")
        if any(self._books.values()):
            self._broken("money is conserved", f"wallets hold too much: {dict(self._books)}")
        self.changed()

    def _check_entry(self, entry: Transaction, changes: ChangeSet) -> None:
        proof = self.proofs.setdefault(entry_key(entry), WalletProof(entry_key(entry)))
        for difference in proof.check(entry):
            self._broken("the chain of entries holds", f"{entry.transaction_id}: {difference.what}")
        if entry.idempotency is not None:
            self._take_key(
                entry.idempotency.key, entry.idempotency.fingerprint, entry.transaction_id
            )
        if passed := self.limits.entry(entry):
            self._broken("no payment passes a limit", passed)
        match entry.type:
            case TransactionType.PAYMENT:
                self._check_payment(entry, changes)
            case TransactionType.REFUND:
                self._check_refund(entry, changes)
            case TransactionType.TOPUP:
                self._check_credit(entry, changes)
            case TransactionType.REVERSAL:
                self._check_reversal(entry)
            case TransactionType.ADJUSTMENT:
                self._check_adjustment(entry, changes)

    def _check_payment(self, entry: Transaction, changes: ChangeSet) -> None:
        before, after = self.orders.get(entry.order_id), changes.orders[entry.order_id]
        if before is not None and before.payment_state is not None:
            by = before.transaction_id
            self._broken("an order is paid once", f"{entry.order_id} was already, by {by}")
        if entry.balance_after < 0:
            self._broken("nobody pays what is not there", f"{entry}")
        if (after.transaction_id, after.amount) != (entry.transaction_id, -entry.amount):
            self._broken("an order and its entry agree", f"{after}, {entry}")
        self._books[entry.currency_code] += after.amount or 0
        self.orders[entry.order_id] = replace(after, payment_state=PAID, refunded_amount=0)

    def _check_refund(self, entry: Transaction, changes: ChangeSet) -> None:
        before, after = self.orders[entry.order_id], changes.orders[entry.order_id]
        refund = next((one for one in after.refunds if one.refund_id == entry.refund_id), None)
        if refund is None or refund.amount != entry.amount:
            self._broken("a refund and its entry agree", f"{after}, {entry}")
            return
        refunded = before.refunded_amount + entry.amount
        if before.payment_state is None or refunded > (before.amount or 0):
            self._broken("refunds never exceed their payment", f"{before}, {entry}")
        self._books[entry.currency_code] -= refund.amount
        self.orders[entry.order_id] = replace(before, refunded_amount=refunded)

    def _check_credit(self, entry: Transaction, changes: ChangeSet) -> None:
        payment = self._account.payments.get(entry.gateway_payment_id)
        topup = changes.topups.get(entry.topup_id)
        if payment is None or payment.status is not CAPTURED:
            self._broken("only what was captured is credited", f"{entry}")
            return
        if (payment.amount.currency_code, payment.amount.minor_units) != (
            entry.currency_code,
            entry.amount,
        ):
            self._broken("what was captured is credited", f"{payment}, {entry}")
        if topup is None or topup.transaction_id != entry.transaction_id:
            self._broken("a top-up and its credit agree", f"{topup}, {entry}")
        self._credit(payment.payment_id)
        self._books[entry.currency_code] -= payment.amount.minor_units

    def _check_reversal(self, entry: Transaction) -> None:
        reversal = self._account.reversals.get(entry.gateway_reversal_id)
        if reversal is None or reversal.payment_id != entry.gateway_payment_id:
            self._broken("only what the gateway takes is debited", f"{entry}")
            return
        if not self.credits[reversal.payment_id]:
            self._broken("only what was credited is taken back", f"{entry}")
        self.reversed[reversal.reversal_id] += entry.amount
        if self.reversed[reversal.reversal_id] not in {0, -reversal.amount.minor_units}:
            self._broken("a reversal is debited once", f"{reversal}, {entry}")
        self._books[entry.currency_code] -= entry.amount

    def _check_adjustment(self, entry: Transaction, changes: ChangeSet) -> None:
        settled = [
            event
            for event in changes.events.values()
            if event.resolution and event.resolution.transaction_id == entry.transaction_id
        ]
        if len(settled) != 1:
            self._broken("an adjustment settles one event", f"{entry}")
        self._credit(entry.gateway_payment_id)
        self._books[entry.currency_code] -= entry.amount

    def _credit(self, payment_id: str) -> None:
        self.credits[payment_id] += 1
        if self.credits[payment_id] > 1:
            self._broken("a captured payment is credited once", payment_id)

    def _check_wallet(self, wallet: Wallet) -> None:
        proof = self.proofs.get(wallet.key) or WalletProof(wallet.key)
        for difference in proof.check_end(wallet):
            self._broken("a balance is the sum of its entries", f"{wallet.key}: {difference.what}")
        if (wallet.state is WalletState.FROZEN) != (wallet.balance < 0):
            self._broken("frozen if and only if below zero", f"{wallet}")
        before = self.wallets.get(wallet.key)
        self._books[wallet.currency_code] += wallet.balance - (before.balance if before else 0)
        self.wallets[wallet.key] = wallet

    def _check_topup(self, topup: Topup) -> None:
        if topup.topup_id not in self.topups:
            key, fingerprint = topup.idempotency.key, topup.idempotency.fingerprint
            self._take_key(key, fingerprint, topup.topup_id)
        before = self.topups.get(topup.topup_id)
        if before is not None and before.state in _CREDITED and topup.state not in _CREDITED:
            self._broken("credited stays credited", f"{before}, {topup}")
        if topup.state in _CREDITED and not self.credits[topup.gateway_payment_id]:
            self._broken("a credited top-up has its entry", f"{topup}")
        self.topups[topup.topup_id] = topup

    def _check_limits(self, changes: ChangeSet) -> None:
        """Check new top-ups against the limits, with all that are open after the commit."""
        topups = self.topups | changes.topups
        for topup in changes.topups.values():
            self.limits.note(topup)
            if topup.topup_id in self.topups:
                continue
            key = WalletKey(topup.customer_id, topup.amount.currency_code)
            wallets = [one[key] for one in (self.wallets, changes.wallets) if key in one]
            if passed := self.limits.started(topup, topups.values(), wallets):
                self._broken("no start of a top-up passes a limit", passed)

    def _check_order(self, order: Order) -> None:
        by_entries = self.orders.get(order.order_id)
        if by_entries is None or by_entries.refunded_amount != order.refunded_amount:
            self._broken("an order is the sum of its entries", f"{order}, {by_entries}")
        self.orders[order.order_id] = order

    def _check_event(self, event: GatewayEvent, changes: ChangeSet) -> None:
        key, payment_id = event.received.key, event.gateway_payment_id
        is_known = key in self.events
        self.events[key] = event
        if event.received.event_type not in TELL_CAPTURE:
            return
        credited_here = any(
            entry.gateway_payment_id == payment_id and entry.type is TransactionType.TOPUP
            for entry in changes.transactions
        )
        is_right = {
            EventOutcome.APPLIED: credited_here,
            EventOutcome.DUPLICATE: self.credits[payment_id] > 0,
            EventOutcome.NEEDS_REVIEW: True,
            EventOutcome.RESOLVED: is_known,
            EventOutcome.IGNORED: False,
        }
        if not is_right[event.outcome]:
            self._broken("an event and its effect come together", f"{key} is {event.outcome}")

    def _take_key(self, key: IdempotencyKey, fingerprint: str, record_id: str) -> None:
        if key in self.by_key:
            self._broken("a key is carried out once", f"{key}: {self.by_key[key]}, {record_id}")
        self.by_key[key] = (fingerprint, record_id)

    def is_accounted(self, payment_id: str) -> bool:
        """Tell whether a captured payment is credited, or kept for a person."""
        return self.credits[payment_id] > 0 or any(
            event.gateway_payment_id == payment_id and event.outcome in _KEPT
            for event in self.events.values()
        )

    def unaccounted(self) -> Iterator[str]:
        """Go through what the gateway has and the ledger does not, yet."""
        for payment in self._account.payments.values():
            if payment.status is CAPTURED and not self.is_accounted(payment.payment_id):
                yield payment.payment_id
        for reversal in self._account.reversals.values():
            if not self.credits[reversal.payment_id]:
                continue
            expected = -reversal.amount.minor_units if reversal.state is TAKEN else 0
            is_kept = self._is_kept(reversal.reversal_id)
            if self.reversed[reversal.reversal_id] != expected and not is_kept:
                yield reversal.reversal_id

    def _is_kept(self, reversal_id: str) -> bool:
        """Tell whether a report of a reversal was kept for a person."""
        return any(
            event.outcome in _KEPT and f'"{reversal_id}"'.encode() in event.received.body
            for event in self.events.values()
        )

    def _broken(self, rule: str, what: str) -> None:
        self._world.broken(rule, what)


def entry_key(entry: Transaction) -> WalletKey:
    """Return the wallet of an entry."""
    return WalletKey(entry.customer_id, entry.currency_code)
