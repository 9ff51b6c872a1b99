"""All records of a ledger for the tests of its properties, checked after every command."""

import hashlib
import os
import pickle
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from server.feed import WalletEvent, WalletEventType, events_of, state_change_of
from server.ledger.agreement import Lookups, Owner, check_entry, check_order, check_topup
from server.ledger.books import RecordKind, WalletProof, add_postings, check_accounts
from server.ledger.commands import (
    AdjustWallet,
    ApplyPayment,
    ApplyReversal,
    Command,
    DismissEvent,
    Needs,
    TieToTopup,
)
from server.ledger.decide import decide
from server.ledger.decisions import (
    Accepted,
    Decision,
    EventReply,
    PaymentReply,
    RefundReply,
    Reply,
    StandingReply,
    TokenReply,
    TopupReply,
    WalletReply,
)
from server.ledger.limits import NO_LIMITS, OPEN_TOPUP_STATES, Limits
from server.ledger.money import MAX_BALANCE_MINOR_UNITS
from server.ledger.posting import MAY_OWE
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    FreezeCause,
    IdempotencyKey,
    Order,
    OrderPaymentMethod,
    ReceivedEvent,
    Standing,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
    WalletKey,
    WalletState,
)
from server.ledger.rejection import Reason, Rejection
from server.ledger.state import Changes, State

EXAMPLES = int(os.environ.get("WALLET_PROPERTY_EXAMPLES", "0"))
"""How many histories to draw anew; 0 takes the few that the suite always takes."""


def bounded(examples: int) -> settings:
    """Return how long a property is looked at."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=bool(EXAMPLES),
    )


CUSTOMERS = ("asha", "ben")


class Ledger:
    """All records there are; commands are decided on what they say they need, and nothing else."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.limits = limits
        self.standings: dict[str, Standing] = {}
        self.wallets: dict[WalletKey, Wallet] = {}
        self.orders: dict[str, Order] = {}
        self.topups: dict[str, Topup] = {}
        self.events: dict[str, Any] = {}
        self.entries: list[Transaction] = []
        self.feed: list[WalletEvent] = []
        """What the event feed tells of entries and operators, as it happened."""
        self.adjusted: Counter[WalletKey] = Counter()
        self.refunded_elsewhere: Counter[str] = Counter()
        self.proofs: dict[WalletKey, WalletProof] = {}
        self.now_ms = 1_700_000_000_000

    def load(self, command: Command) -> State:
        """Return what a store would load for the command."""
        needs = Needs(has_limits=bool(self.limits))
        needs.add(command)
        by_key = {one.idempotency.key: one for one in self.entries if one.idempotency}
        topups_by_key = {one.idempotency.key: one for one in self.topups.values()}
        credited = {
            payment: entry.topup_id or entry.transaction_id
            for payment in needs.credits
            if (entry := by_key.get(payment.credit_key))
        }
        state = State(
            customers={one: one in CUSTOMERS for one in needs.customers},
            wallets={one: {} for one in needs.wallets_of},
            orders={one: self.orders.get(one) for one in needs.orders},
            topups={one: self.topups.get(one) for one in needs.topups},
            transactions_by_key={one: by_key.get(one) for one in needs.transactions_by_key},
            topups_by_key={one: topups_by_key.get(one) for one in needs.topups_by_key},
            credits={one: credited.get(one) for one in needs.credits},
            events={one: self.events.get(one) for one in needs.events},
            limits=self.limits,
            standings={one: self.standings.get(one) for one in needs.standings()},
            open_topups={one: self.open_topups(one) for one in needs.open_topups_of},
        )
        for key, wallet in self.wallets.items():
            if key.customer_id in needs.wallets_of:
                state.wallets[key.customer_id][key.currency_code] = wallet
        return state

    def open_topups(self, customer: str) -> dict[str, Topup]:
        """Return a customer's top-ups that can still be paid."""
        return {
            one.topup_id: one
            for one in self.topups.values()
            if one.customer_id == customer and one.state in OPEN_TOPUP_STATES
        }

    def carry_out(self, command: Command) -> Decision:
        """Decide a command, which must leave its state as it is, and let its changes happen."""
        state = self.load(command)
        before = pickle.dumps(state)
        decision = decide(state, command, self.now_ms)
        assert decide(state, command, self.now_ms) == decision, "the same state, the same decision"
        assert pickle.dumps(state) == before, "deciding changes nothing"
        if isinstance(decision, Accepted):
            self._check_step(state, decision.changes)
            self._take(decision.changes)
            if isinstance(command, AdjustWallet) and decision.changes:
                key = WalletKey(command.customer_id, command.amount.currency_code)
                self.adjusted[key] += command.amount.minor_units
            self._check_repeat(command, decision)
        return decision

    def _check_step(self, state: State, changes: Changes) -> None:
        """Check that wallets move by just their new entries, and versions by one."""
        moved: Counter[WalletKey] = Counter()
        for entry in changes.transactions:
            assert sum(posting.amount for posting in entry.postings) == 0
            moved[WalletKey(entry.customer_id, entry.currency_code)] += entry.amount
        is_by_operator = bool(changes.actions)
        assert is_by_operator or {wallet.key for wallet in changes.wallets} == set(moved)
        for wallet in changes.wallets:
            before = state.wallet(wallet.key)
            assert wallet.balance == (before.balance if before else 0) + moved[wallet.key]
        for topup in changes.topups:
            known = state.topups.get(topup.topup_id)
            assert topup.version == (known.version if known else 0) + 1

    def _take(self, changes: Changes) -> None:
        self.wallets |= {one.key: one for one in changes.wallets}
        self.orders |= {one.order_id: one for one in changes.orders}
        self.topups |= {one.topup_id: one for one in changes.topups}
        self.events |= {one.received.key: one for one in changes.events}
        self.standings |= {one.customer_id: one for one in changes.standings}
        for entry in changes.transactions:
            key = WalletKey(entry.customer_id, entry.currency_code)
            proof = self.proofs.setdefault(key, WalletProof(key))
            assert list(proof.check(entry)) == []
            self.feed += events_of(entry)
        self.entries += changes.transactions
        self.feed += [state_change_of(one) for one in changes.actions if one.has_changed_state]

    def _check_repeat(self, command: Command, first: Accepted) -> None:
        """Check that the same command again moves no money, and tells what it told first."""
        again = decide(self.load(command), command, self.now_ms + 1)
        if isinstance(again, Rejection):
            assert isinstance(command, TieToTopup | AdjustWallet | DismissEvent)
            assert again.reason is Reason.EVENT_SETTLED
            return
        assert not again.changes.transactions + again.changes.wallets + again.changes.orders
        if isinstance(command, ApplyPayment | ApplyReversal):
            if command.event.origin is EventOrigin.WEBHOOK:
                assert isinstance(again.reply, EventReply)
                assert again.reply.outcome is EventOutcome.DUPLICATE
                assert not again.changes
        else:
            assert not again.changes
            assert told(again.reply) == told(first.reply)

    def check(self) -> None:
        """Check everything that must hold of the records, whatever happened."""
        accounts: Counter[str] = Counter()
        balances: Counter[str] = Counter()
        for entry in self.entries:
            add_postings(accounts, entry)
        for wallet in self.wallets.values():
            self._check_wallet(wallet)
            balances[wallet.currency_code] += wallet.balance
        assert list(check_accounts(accounts, balances)) == []
        self._check_once()
        self._check_agreement()

    def _check_wallet(self, wallet: Wallet) -> None:
        assert list(self.proofs[wallet.key].check_end(wallet)) == []
        assert wallet.balance == self._balance_by_records(wallet.key)
        assert wallet.balance <= MAX_BALANCE_MINOR_UNITS
        is_debt, is_below = wallet.freeze_cause is FreezeCause.DEBT, wallet.balance < 0
        assert (wallet.state is WalletState.FROZEN) == (wallet.freeze_cause is not FreezeCause.NONE)
        assert is_debt == (is_below and wallet.freeze_cause is not FreezeCause.OPERATOR)
        mine = [one for one in self.entries if is_of(one, wallet.key)]
        assert [one.sequence for one in mine] == list(range(1, len(mine) + 1))
        assert [one.create_time_ms for one in mine] == sorted(one.create_time_ms for one in mine)
        assert [one.transaction_id for one in mine] == sorted(one.transaction_id for one in mine)
        assert not is_below or any(one.type in MAY_OWE for one in mine)
        self._check_feed(wallet)

    def _check_feed(self, wallet: Wallet) -> None:
        """Check that ids tell the order, and that a wallet is frozen and thawed in turn."""
        mine = [
            one for one in self.feed if WalletKey(one.customer_id, one.currency_code) == wallet.key
        ]
        places = [one.event_id.removeprefix("evt_")[:26] for one in mine]
        assert places == sorted(places)
        assert len({one.event_id for one in mine}) == len(mine)
        frozen, thawed = WalletEventType.WALLET_FROZEN, WalletEventType.WALLET_THAWED
        states = [one.type for one in mine if one.type in {frozen, thawed}]
        assert states == [(frozen, thawed)[place % 2] for place in range(len(states))]
        assert (states[-1:] == [frozen]) == (wallet.state is WalletState.FROZEN)

    def _balance_by_records(self, key: WalletKey) -> int:
        """Add up what a wallet holds from top-ups, orders and adjustments, without its entries."""
        balance = self.adjusted[key]
        for topup in self.topups.values():
            if (topup.customer_id, topup.amount.currency_code) == key:
                if topup.state in {TopupState.CREDITED, TopupState.REVERSED}:
                    balance += topup.amount.minor_units
                balance -= sum(one.amount for one in topup.reversals if one.is_debited)
        for order in self.orders.values():
            if (order.customer_id, order.currency_code) == key:
                balance += sum(refund.amount for refund in order.refunds)
                if order.payment_method is OrderPaymentMethod.WALLET and order.amount:
                    balance -= order.amount
        return balance

    def _check_once(self) -> None:
        """Check that what must happen once has not happened twice."""
        for names in (
            [one.transaction_id for one in self.entries],
            [one.idempotency.key for one in self.entries if one.idempotency],
            [one.order_id for one in self.entries if one.type is TransactionType.PAYMENT],
            [one.topup_id for one in self.entries if one.type is TransactionType.TOPUP],
            [
                (one.gateway, one.gateway_payment_id)
                for one in self.entries
                if one.type is TransactionType.TOPUP
            ],
        ):
            assert len(set(names)) == len(names)

    def _check_agreement(self) -> None:
        """Check that orders and top-ups agree with the entries, as `books verify` does."""
        by_id = {one.transaction_id: one for one in self.entries}
        lookups = Lookups(
            adjustments={
                one.resolution.transaction_id for one in self.events.values() if one.resolution
            }
        )
        for order in self.orders.values():
            names = {order.transaction_id, *(refund.refund_id for refund in order.refunds)}
            lookups.named[Owner(RecordKind.ORDER, order.order_id)] = names
            if order.transaction_id or order.refunds:
                assert list(check_order(order, by_id)) == []
            assert order.refunded_amount <= (order.amount or 0)
        for topup in self.topups.values():
            names = {topup.transaction_id, *(one.reversal_id for one in topup.reversals)}
            lookups.named[Owner(RecordKind.TOPUP, topup.topup_id)] = names
            taken = [one for one in self.entries if one.type is TransactionType.REVERSAL]
            mine = [one for one in taken if one.topup_id == topup.topup_id]
            assert list(check_topup(topup, by_id, mine)) == []
        for entry in self.entries:
            assert list(check_entry(entry, lookups)) == []


def is_of(entry: Transaction, key: WalletKey) -> bool:
    """Tell whether an entry is a wallet's."""
    return (entry.customer_id, entry.currency_code) == key


def told(reply: Reply) -> tuple[object, ...]:
    """Return what a caller is told: of a wallet all but its record's own fields."""
    match reply:
        case PaymentReply(payment, transaction, wallet):
            return payment, transaction, visible(wallet)
        case RefundReply(refund, payment, transaction, wallet):
            return refund, payment, transaction, visible(wallet)
        case TopupReply(topup):
            return (topup,)
        case WalletReply(wallet):
            return visible(wallet)
        case StandingReply(standing):
            return (standing,)
        case EventReply() | TokenReply():
            return ()


def visible(wallet: Wallet) -> tuple[object, ...]:
    """Return what a caller sees of a wallet."""
    return wallet.key, wallet.balance, wallet.state, wallet.sequence, wallet.update_time_ms


def received(
    gateway: str, content: object, number: int, origin: EventOrigin = EventOrigin.WEBHOOK
) -> ReceivedEvent:
    """Return an event: the same for the same content and number."""
    body = f"{content} {number}".encode()
    digest = hashlib.sha256(body).hexdigest()
    made = 1_700_000_000_000 + 1_000 * number
    return ReceivedEvent(gateway, digest[:8], "report", digest, body, origin, made, made)


def key(method: str, number: int) -> IdempotencyKey:
    """Return an idempotency key."""
    return IdempotencyKey("shop", method, str(number))
