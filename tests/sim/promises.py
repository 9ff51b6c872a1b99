"""What must be true of every answer: what was told to anybody is so, and stays so."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from server.ledger import chain
from server.ledger.commands import CreateTopup, PayOrder, RefundOrder
from server.ledger.records import IdempotencyKey, WalletKey
from server.ledger.rejection import Reason
from sim.oracle import Oracle
from sim.world import World

KeyedCommand = PayOrder | RefundOrder | CreateTopup


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call under way."""

    command: KeyedCommand
    fingerprint: str
    right: set[Reason | None] = field(default_factory=set)
    """The refusals that would have been right at some moment of it; None stands for none."""


class Promises:
    """Watches the answers of one history."""

    def __init__(self, world: World, oracle: Oracle) -> None:
        self._world = world
        self._oracle = oracle
        oracle.changed = self._changed
        self._open: set[OpenCall] = set()
        self._unsettled: Counter[IdempotencyKey] = Counter()
        """Idempotency key -> calls of it that nobody knows the end of."""
        self._not_done: set[IdempotencyKey] = set()
        """Keys of which the caller was told that nothing was done, and that were not used since."""
        self._told: dict[IdempotencyKey, bytes] = {}
        self._floors: defaultdict[str, int] = defaultdict(int)

    def begin(self, command: KeyedCommand) -> OpenCall:
        """Note that a call begins."""
        call = OpenCall(command, chain.idempotency(command).fingerprint)
        call.right |= self._answers(call)
        self._open.add(call)
        self._unsettled[command.idempotency_key] += 1
        self._not_done.discard(command.idempotency_key)
        return call

    def lost(self, call: OpenCall) -> None:
        """Note a call of which nobody knows the end."""
        self._open.discard(call)

    def refused(self, call: OpenCall, reason: Reason) -> None:
        """Check a refusal: it was right at some moment between the request and the answer."""
        self._settled(call)
        call.right |= self._answers(call)
        if reason not in call.right:
            right = sorted(str(one) for one in call.right)
            self._broken("a refusal holds", f"{call.command} was refused: {reason}, not {right}")

    def told_nothing_done(self, call: OpenCall) -> None:
        """Note that the caller was told that nothing was done: it may use another key now."""
        self._settled(call)
        key = call.command.idempotency_key
        if not self._unsettled[key] and key not in self._told:
            self._not_done.add(key)
            self._check_not_done()

    def acknowledged(self, call: OpenCall, record_id: str, answer: bytes) -> None:
        """Check an answer: it is durable, of this very request, and the same each time."""
        self._settled(call)
        key = call.command.idempotency_key
        recorded = self._oracle.by_key.get(key)
        if recorded != (call.fingerprint, record_id):
            self._broken("acknowledged is durable", f"{key} was told {record_id}, found {recorded}")
        first = self._told.setdefault(key, answer)
        if first != answer:
            self._broken("a repeat tells the same", f"{key}: {first!r}, then {answer!r}")

    def webhook_acknowledged(self, event_key: str, payment_id: str | None) -> None:
        """Check a webhook's answer: it is durable, and so is the effect of a capture."""
        if event_key not in self._oracle.events:
            self._broken("an acknowledged event is recorded", event_key)
        if payment_id is not None and not self._oracle.is_accounted(payment_id):
            self._broken("an acknowledged capture has its effect", f"{event_key}, {payment_id}")

    def tell(self, name: str, value: int) -> None:
        """Note what somebody was told: no read that begins after it may tell less."""
        self._floors[name] = max(self._floors[name], value)

    def floor(self, name: str) -> int:
        """Return the least that a read may tell that begins now."""
        return self._floors[name]

    def read(self, name: str, floor: int, found: int) -> None:
        """Check what was read against the floor from before."""
        if found < floor:
            self._broken("reads never go backwards", f"{name} was {floor}, then read as {found}")
        self.tell(name, found)

    def _settled(self, call: OpenCall) -> None:
        self._open.discard(call)
        self._unsettled[call.command.idempotency_key] -= 1

    def _changed(self) -> None:
        for call in self._open:
            call.right |= self._answers(call)
        self._check_not_done()

    def _check_not_done(self) -> None:
        for key in self._not_done & self._oracle.by_key.keys():
            self._broken("nothing done is nothing done", f"{key} is in the ledger")

    def _answers(self, call: OpenCall) -> set[Reason | None]:
        """Return the refusals that are right at this moment; None stands for none."""
        refusal, command = self._refusal(call), call.command
        if refusal is not None or isinstance(command, RefundOrder):
            return {refusal}
        if command.idempotency_key in self._oracle.by_key:
            return {None}
        key = WalletKey(command.customer_id, command.amount.currency_code)
        wallet, topups = self._oracle.wallets.get(key), self._oracle.topups.values()
        is_near = self._oracle.limits.may_refuse(command, wallet, topups, self._world.now_ms)
        return {None, Reason.LIMIT_EXCEEDED} if is_near else {None}

    def _refusal(self, call: OpenCall) -> Reason | None:
        """Say how a command has to be refused at this moment; None where it has to be accepted."""
        command = call.command
        recorded = self._oracle.by_key.get(command.idempotency_key)
        if recorded is not None:
            return None if recorded[0] == call.fingerprint else Reason.IDEMPOTENCY_KEY_REUSED
        if command.customer_id not in self._oracle.customers:
            return Reason.CUSTOMER_NOT_FOUND
        match command:
            case PayOrder():
                return self._refusal_to_pay(command)
            case RefundOrder():
                return self._refusal_to_refund(command)
            case CreateTopup():
                return None

    def _refusal_to_pay(self, command: PayOrder) -> Reason | None:
        order, amount = self._oracle.orders.get(command.order_id), command.amount
        if order is not None and order.customer_id != command.customer_id:
            return Reason.ORDER_MISMATCH
        if order is not None and order.payment_state is not None:
            return Reason.ORDER_ALREADY_PAID
        if order is not None and order.currency_code != amount.currency_code:
            return Reason.CURRENCY_MISMATCH
        if order is not None and order.amount != amount.minor_units:
            return Reason.ORDER_MISMATCH
        proof = self._oracle.proofs.get(WalletKey(command.customer_id, amount.currency_code))
        balance = proof.balance if proof else 0
        if balance < 0:
            return Reason.WALLET_FROZEN
        return Reason.INSUFFICIENT_FUNDS if balance < amount.minor_units else None

    def _refusal_to_refund(self, command: RefundOrder) -> Reason | None:
        order = self._oracle.orders.get(command.order_id)
        if order is None:
            return Reason.ORDER_NOT_FOUND
        if order.customer_id != command.customer_id:
            return Reason.ORDER_MISMATCH
        if order.payment_state is None:
            return Reason.ORDER_NOT_PAID
        if command.amount is not None and command.amount.currency_code != order.currency_code:
            return Reason.CURRENCY_MISMATCH
        remaining = (order.amount or 0) - order.refunded_amount
        asked = remaining if command.amount is None else command.amount.minor_units
        return Reason.REFUND_EXCEEDS_PAYMENT if asked > remaining or not remaining else None

    def _broken(self, rule: str, what: str) -> None:
        self._world.broken(rule, what)
