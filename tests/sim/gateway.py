"""The adapter of the simulated gateway, over wires that lose requests and answers."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    LookupProof,
    Movement,
    PaymentReport,
    Proof,
    ProofInvalid,
    SignatureInvalid,
    WebhookEvent,
)
from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalKind,
    ReversalState,
    Topup,
)
from sim.account import (
    AUTHORIZED,
    CAPTURED,
    FAILED,
    GATEWAY,
    Account,
    PaymentHere,
    signature_of,
)
from sim.world import Fault, World

Answer = TypeVar("Answer")

_BEST_FIRST = (CAPTURED, AUTHORIZED, GatewayPaymentStatus.PENDING, FAILED)


class SimulatedGateway:
    """Implements `Gateway` for one server."""

    name = GATEWAY
    tells_client_secret = False
    is_cut_off = False

    def __init__(self, world: World, account: Account, who: str, *, tells_time: bool) -> None:
        """`tells_time` says whether the gateway's reports carry the time they were made at."""
        self._world = world
        self._account = account
        self._who = who
        self._tells_time = tells_time

    def check_topup(self, amount: Money, method: str) -> None:
        """Take everything; see Gateway."""

    async def open_topup(self, topup: Topup) -> Checkout:
        """Find the top-up's order or make one; see Gateway.

        Two servers that look at the same moment make two; the ledger keeps one of them.
        """
        order_id = await self._ask("find order", lambda: self._account.order_for(topup.topup_id))
        if order_id is None:
            order_id = await self._ask(
                "make order", lambda: self._account.make_order(topup.topup_id, topup.amount)
            )
        return Checkout(order_id, "public", f"https://gateway.example/{order_id}")

    async def check_proof(self, topup: Topup, proof: Proof) -> PaymentReport | None:
        """Ask for the order's payments; see Gateway."""
        if not isinstance(proof, LookupProof):
            raise ProofInvalid("Only lookups are taken.")
        return await self._ask("payments of order", lambda: self._best(topup.gateway_order_id))

    async def capture(self, topup: Topup, payment: GatewayPayment) -> PaymentReport:
        """Capture an authorized payment; see Gateway."""

        def work() -> PaymentReport:
            here = self._account.payments[payment.payment_id]
            if here.status is AUTHORIZED and here.amount == payment.amount:
                self._account.bring(here, CAPTURED)
            return self._report(here)

        return await self._ask(f"capture {payment.payment_id} for {topup.topup_id}", work)

    async def order_of(self, payment_id: str) -> str:
        """Return the order of a payment; see Gateway."""
        return await self._ask("order of", lambda: self._account.payments[payment_id].order_id)

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify the signature, then read the event; see Gateway."""
        if headers["signature"] != signature_of(body):
            raise SignatureInvalid("The signature does not fit.")
        event = json.loads(body)
        fact: GatewayPayment | GatewayReversal | None = None
        if told := event.get("payment"):
            fact = GatewayPayment(
                told["payment_id"],
                told["order_id"],
                GatewayPaymentStatus(told["status"]),
                Money(told["currency"], told["amount"]),
            )
        elif told := event.get("reversal"):
            fact = GatewayReversal(
                told["reversal_id"],
                ReversalKind(told["kind"]),
                told["payment_id"],
                told["order_id"],
                Money(told["currency"], told["amount"]),
                ReversalState(told["state"]),
                told["is_final"],
            )
        return WebhookEvent(
            event_id=headers["event-id"],
            event_type=event["type"],
            fact=fact,
            report_time_ms=event["time"] * 1_000 if self._tells_time else None,
            topup_id=event.get("topup_id", ""),
        )

    async def movements(self, start_time_ms: int, end_time_ms: int) -> AsyncIterator[Movement]:
        """Go through the account's books; see Gateway."""
        found = [
            Movement(payment.told(), payment.capture_time_ms)
            for payment in self._account.payments.values()
            if payment.capture_time_ms is not None
        ] + [
            Movement(reversal.told(), reversal.time_ms)
            for reversal in self._account.reversals.values()
        ]
        for movement in found:
            if start_time_ms <= movement.time_ms < end_time_ms:
                yield movement

    def _best(self, order_id: str) -> PaymentReport | None:
        """Return the payment that counts: the first captured, else the newest of the best kind."""
        payments = self._account.payments_of(order_id)
        for status in _BEST_FIRST:
            of_status = [payment for payment in payments if payment.status is status]
            if of_status:
                return self._report(of_status[0 if status is CAPTURED else -1])
        return None

    def _report(self, payment: PaymentHere) -> PaymentReport:
        reversals = tuple(
            self._account.reversals[one].told(payment.order_id) for one in payment.reversals
        )
        body = f"{payment.payment_id} {payment.status} {payment.amount}".encode()
        return PaymentReport(payment.told(), body, reversals)

    async def _ask(self, what: str, work: Callable[[], Answer]) -> Answer:
        world, who = self._world, self._who
        world.note(who, f"asks the gateway: {what}")
        if world.happens(Fault.GATEWAY_REFUSES, 0.01, who):
            raise GatewayRefused("The gateway does not want to.")
        return await world.carry(
            who,
            work,
            GatewayUnavailable("The gateway does not answer."),
            request=not world.happens(Fault.GATEWAY_AWAY, 0.05, who),
            answer=not world.happens(Fault.GATEWAY_ANSWER_LOST, 0.05, who),
        )
