"""Bugs that are planted to see that they are found; the last four were real, and found here."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from server.commit import lane
from server.commit.committer import Committer
from server.commit.errors import CommitError
from server.commit.port import OutcomeUnknown, Snapshot, WriteRefused
from server.ledger import chain, events, payments, posting, reversals, topups
from server.ledger.commands import ApplyPayment, Command, Needs, PayOrder, RecordEvent, RefundOrder
from server.ledger.decide import decide
from server.ledger.decisions import Decision, Reply
from server.ledger.limits import WalletLimits, refuse_topup
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayPaymentStatus,
    Reversal,
    Wallet,
    WalletKey,
)
from server.ledger.rejection import Rejection
from server.ledger.state import ChangeSet, State
from server.poller import Poller
from sim import records, store
from sim.links import FaultyLink
from sim.records import Database, Read, Records, Write
from sim.store import SimulatedStore

Patch = tuple[Any, str, Any]
"""Where, the name of what is replaced, and by what."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have the service (or what it relies upon of its store) a bug, as long as this lasts."""
    with ExitStack() as patches:
        for target, attribute, replacement in BUGS[name]():
            patches.enter_context(mock.patch.object(target, attribute, replacement))
        yield


def _seen_before_applied() -> list[Patch]:
    """Mark an event as seen in a commit of its own, then apply it."""
    submit = Committer.submit

    async def mark_then_apply(
        self: Committer, command: Command, timeout_seconds: float | None = None
    ) -> Reply:
        if isinstance(command, ApplyPayment) and command.event.origin is EventOrigin.WEBHOOK:
            seen = RecordEvent(command.event, EventOutcome.APPLIED, "")
            reply = await submit(self, seen, timeout_seconds)
            if getattr(reply, "outcome", None) is EventOutcome.DUPLICATE:
                return reply
            event = replace(command.event, origin=EventOrigin.LOOKUP, event_id="applied")
            command = replace(command, event=event)
        return await submit(self, command, timeout_seconds)

    return [(Committer, "submit", mark_then_apply)]


def _key_forgotten_on_retry() -> list[Patch]:
    """Decide a repeat without the record of its key."""

    def decide_anew(state: State, command: Command, now_ms: int) -> Decision:
        if isinstance(command, PayOrder | RefundOrder):
            key = command.idempotency_key
            if state.transactions_by_key[key] is not None:
                other = key._replace(key=f"{key.key}, again at {now_ms}")
                state.transactions_by_key.setdefault(other, None)
                command = replace(command, idempotency_key=other)
        return decide(state, command, now_ms)

    return [(lane, "decide", decide_anew)]


def _refund_cap_outside() -> list[Patch]:
    """Rely on what was refunded of an order when it was first read, and guard nothing of it."""
    load_orders = store._load_orders  # noqa: SLF001
    refunded: dict[tuple[int, str], int] = {}

    def load_outside(found: Records, needs: Needs, state: State, read: Read) -> None:
        load_orders(found, needs, state, read)
        for order_id, order in state.orders.items():
            if order is not None and order.payment_state is not None:
                amount = refunded.setdefault((id(found), order_id), order.refunded_amount)
                state.orders[order_id] = replace(order, refunded_amount=amount)

    loads = [load_outside if load is load_orders else load for load in store.LOADS]
    return [(store, "LOADS", loads), (records, "order_guard", lambda order: order is not None)]


def _wallet_guard_dropped() -> list[Patch]:
    """Write wallets and entries over what others have written meanwhile."""
    commit, unique_keys = Database.commit, records.unique_keys

    def unguarded(self: Database, read: Read, changes: ChangeSet) -> Write:
        for key in changes.wallets:
            wallet = self.durable.wallet(key)
            if wallet is not None:
                read.wallet_versions[key] = wallet.version
        return commit(self, read, changes)

    def without_sequences(changes: ChangeSet) -> Iterator[tuple[tuple[str, ...], str]]:
        return (found for found in unique_keys(changes) if found[0][0] != "sequence")

    return [(Database, "commit", unguarded), (records, "unique_keys", without_sequences)]


def _new_order_overwritten() -> list[Patch]:
    """Write an order that was taken to be new over the one that is there."""
    commit = Database.commit

    def unguarded(self: Database, read: Read, changes: ChangeSet) -> Write:
        for order_id in changes.orders:
            order = self.durable.orders.get(order_id)
            if order is not None:
                read.orders.setdefault(order_id, order)
        return commit(self, read, changes)

    return [(Database, "commit", unguarded)]


def _unknown_is_failed() -> list[Patch]:
    """Take a commit without an answer for one that failed."""
    commit = SimulatedStore.commit

    async def commit_or_fail(self: SimulatedStore, snapshot: Snapshot, changes: ChangeSet) -> None:
        try:
            await commit(self, snapshot, changes)
        except OutcomeUnknown as error:
            raise WriteRefused from error

    return [(SimulatedStore, "commit", commit_or_fail)]


def _unknown_is_not_reloaded() -> list[Patch]:
    """Decide anew after a commit without an answer, and do not load again."""
    load, commit = SimulatedStore.load, SimulatedStore.commit
    kept: dict[SimulatedStore, Snapshot] = {}

    async def load_kept(self: SimulatedStore, needs: Needs) -> Snapshot:
        return kept.pop(self, None) or await load(self, needs)

    async def commit_and_keep(self: SimulatedStore, snapshot: Snapshot, changes: ChangeSet) -> None:
        try:
            await commit(self, snapshot, changes)
        except OutcomeUnknown:
            kept[self] = snapshot
            raise

    return [(SimulatedStore, "load", load_kept), (SimulatedStore, "commit", commit_and_keep)]


def _credit_on_authorized() -> list[Patch]:
    """Credit a payment that is only on hold."""
    apply_payment = payments.apply_payment

    def credit_early(state: State, command: ApplyPayment, now_ms: int) -> Decision:
        if command.payment.status is GatewayPaymentStatus.AUTHORIZED:
            captured = replace(command.payment, status=GatewayPaymentStatus.CAPTURED)
            command = replace(command, payment=captured)
        return apply_payment(state, command, now_ms)

    return [(payments, "apply_payment", credit_early)]


def _no_credit_check() -> list[Patch]:
    """Credit a payment without asking whether it was credited before."""
    unique_keys, credit = records.unique_keys, payments.credit_captured

    def without_credits(changes: ChangeSet) -> Iterator[tuple[tuple[str, ...], str]]:
        return (found for found in unique_keys(changes) if found[0][0] != "credited payment")

    def credit_again(state: State, topup: Any, payment: Any, _: Any, now_ms: int) -> Any:
        return credit(state, topup, payment, None, now_ms)

    return [
        (payments, "_CREDITED_BEFORE", frozenset()),
        (payments, "credit_captured", credit_again),
        (records, "unique_keys", without_credits),
    ]


def _answered_before_durable() -> list[Patch]:
    """Take the primary's word for a write, as write concern 1 does."""
    arrive = FaultyLink._arrive  # noqa: SLF001

    def arrive_and_answer(
        self: FaultyLink,
        what: str,
        work: Callable[[], Write | None],
        outcome: "asyncio.Future[bool]",
    ) -> None:
        def work_and_answer() -> Write | None:
            write = work()
            if write is not None and not outcome.done():
                outcome.set_result(True)
            return write

        arrive(self, what, work_and_answer, outcome)

    return [(FaultyLink, "_arrive", arrive_and_answer)]


def _told_before_committed() -> list[Patch]:
    """Tell callers what was decided before it is committed."""
    decide_all = lane.Lane._decide_all  # noqa: SLF001

    def decide_and_tell(self: Any, batch: Any, state: State) -> Any:
        decided = decide_all(self, batch, state)
        for pending, outcome in zip(batch, decided.outcomes, strict=True):
            if not pending.outcome.done() and not isinstance(outcome, CommitError):
                pending.outcome.set_result(outcome)
        return decided

    return [(lane.Lane, "_decide_all", decide_and_tell)]


def _debited_each_time() -> list[Patch]:
    """Debit a reversal each time that it is reported."""

    def always_new(_: Reversal, __: Any) -> bool:
        return False

    def not_debited(self: Any, reversal: Reversal) -> Any:
        return with_reversal(self, replace(reversal, is_debited=False))

    with_reversal = reversals._with_reversal  # noqa: SLF001
    return [
        (reversals, "_says_nothing_new", always_new),
        (reversals, "_with_reversal", not_debited),
    ]


def _never_thawed() -> list[Patch]:
    """Leave a wallet frozen that owes nothing any more."""
    freeze_or_thaw = posting._freeze_or_thaw  # noqa: SLF001

    def freeze(wallet: Wallet, balance: int) -> Any:
        if balance >= 0:
            return wallet.state, wallet.freeze_cause
        return freeze_or_thaw(wallet, balance)

    return [(posting, "_freeze_or_thaw", freeze)]


def _nobody_asks() -> list[Patch]:
    """Ask the gateway nothing: what no webhook told is never known."""

    async def forget(self: Poller, topup: Any) -> None:
        """Ask nobody."""

    return [(Poller, "_ask", forget)]


def _review_dropped() -> list[Patch]:
    """Record what cannot be applied as ignored, and tell nobody."""
    record = events._record  # noqa: SLF001

    def ignore(command: Any, effect: events.Effect, now_ms: int) -> Any:
        if effect.outcome is EventOutcome.NEEDS_REVIEW:
            effect = replace(effect, outcome=EventOutcome.IGNORED)
        return record(command, effect, now_ms)

    return [(events, "_record", ignore)]


def _open_topups_uncounted() -> list[Patch]:
    """Check the start of a top-up against the limits without those that are open."""

    def without_open(
        limits: WalletLimits | None,
        key: WalletKey,
        wallet: Wallet | None,
        _: Any,
        amount: int,
        now_ms: int,
    ) -> Rejection | None:
        return refuse_topup(limits, key, wallet, (), amount, now_ms)

    return [(topups, "refuse_topup", without_open)]


def _torn_load() -> list[Patch]:
    """Read each collection at a moment of its own. Found here."""

    async def load_part_by_part(self: Any, needs: Needs) -> Snapshot:
        state, read = State(), Read()
        records_now = self._database.durable
        await asyncio.gather(
            *(
                self._link.read("load", lambda part=part: part(records_now, needs, state, read))
                for part in store.LOADS
            )
        )
        return Snapshot(state, read)

    return [(SimulatedStore, "load", load_part_by_part)]


def _failed_after_unknown() -> list[Patch]:
    """Tell that nothing was done, after an attempt without an answer. Found here."""

    def fail(_: Any, told: type[CommitError], cause: Exception) -> CommitError:
        failure = told()
        failure.__cause__ = cause
        return failure

    return [(lane, "_failure", fail)]


def _refused_by_own_effect() -> list[Patch]:
    """Refuse what settled an event when it comes again. Found here."""
    numbers = itertools.count()
    return [(chain, "resolution_fingerprint", lambda _: f"unlike any other: {next(numbers)}")]


def _taken_back_from_nobody() -> list[Patch]:
    """Note what is taken back of a payment for review, and tell nobody. Found here."""
    return [(reversals, "_by_hand", lambda _, __: "")]


BUGS: Final[dict[str, Callable[[], list[Patch]]]] = {
    bug.__name__.strip("_").replace("_", "-"): bug
    for bug in (
        _seen_before_applied,
        _key_forgotten_on_retry,
        _refund_cap_outside,
        _wallet_guard_dropped,
        _new_order_overwritten,
        _unknown_is_failed,
        _unknown_is_not_reloaded,
        _credit_on_authorized,
        _no_credit_check,
        _answered_before_durable,
        _told_before_committed,
        _debited_each_time,
        _never_thawed,
        _nobody_asks,
        _review_dropped,
        _open_topups_uncounted,
        _torn_load,
        _failed_after_unknown,
        _refused_by_own_effect,
        _taken_back_from_nobody,
    )
}
"""Every bug by its name; its docstring says what it does."""
