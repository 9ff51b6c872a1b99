"""Top-ups across two worlds: the ledger here, the money at the gateway.

No transaction spans both, so that every step can be repeated: what is about to be asked of a
gateway is recorded first, what the gateway answers is applied as a command, and whatever stops in
between is taken up again by the next request with the same key, the webhook, or a lookup.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

import structlog

from gateway_adapters.gateway import (
    ApplePayProof,
    Fact,
    Gateway,
    GatewayError,
    GooglePayProof,
    LookupProof,
    MalformedEvent,
    Movement,
    PaymentReport,
    Proof,
    SignatureInvalid,
    WalletToken,
    WebhookEvent,
    WebhookSource,
)
from gateway_adapters.single_flight import SingleFlight
from server.commit.committer import Submitter
from server.commit.errors import Rejected
from server.ledger.commands import (
    ApplyPayment,
    ApplyReversal,
    Command,
    CreateTopup,
    ExpireTopup,
    OpenTopup,
    RecordEvent,
)
from server.ledger.decisions import EventReply, TopupReply
from server.ledger.events import topup_not_found
from server.ledger.records import (
    EventOrigin,
    EventOutcome,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    ReceivedEvent,
    Topup,
    TopupState,
)
from server.ledger.rejection import Reason, Rejection
from server.queries import Queries
from server.wallet_tokens import GoodToken, WalletTokens

_log: structlog.stdlib.BoundLogger = structlog.get_logger("topups")


class UnknownGateway(Exception):
    """There is no gateway of this name on this server."""

    def __init__(self, gateway: str) -> None:
        super().__init__(gateway)
        self.gateway = gateway


@dataclass(frozen=True, slots=True)
class WebhookReceipt:
    """What became of a webhook."""

    outcome: EventOutcome
    event_id: str


_REFUSALS: Final[Mapping[type[Exception], str]] = {
    SignatureInvalid: "signature_invalid",
    MalformedEvent: "malformed",
}
"""What becomes of a webhook that is refused. Any other failed, and its gateway sends it again."""

_UNDER_WAY: Final = frozenset({GatewayPaymentStatus.PENDING, GatewayPaymentStatus.AUTHORIZED})
"""What the gateway says of a payment that may still be captured: its top-up is not dead."""


class Topups:
    """Starts top-ups, and brings what gateways say of them into the ledger."""

    def __init__(
        self,
        committer: Submitter,
        queries: Queries,
        gateways: Mapping[str, Gateway],
        callbacks: Mapping[str, WebhookSource],
        wallet_tokens: WalletTokens,
        now_ms: Callable[[], int],
        webhook_came: Callable[[str, str], None],
    ) -> None:
        """`callbacks` are the sources of webhooks that are no gateways, by name.

        `webhook_came` is told of each webhook: its source, and what became of it.
        """
        self._committer = committer
        self._queries = queries
        self._gateways = gateways
        self._callbacks = callbacks
        self._wallet_tokens = wallet_tokens
        self._now_ms = now_ms
        self._webhook_came = webhook_came
        self._opening: dict[str, asyncio.Task[Topup]] = {}
        self._paying: SingleFlight[tuple[str, str], Topup] = SingleFlight()

    async def initiate(self, command: CreateTopup, timeout_seconds: float | None) -> Topup:
        """Record the top-up, then order it at the gateway; a repeat goes on where it stopped.

        A client secret is kept nowhere: a repeat gets it from the gateway again, or an error where
        the gateway does not answer, since without it the customer could not pay.

        Raises:
            UnknownGateway, GatewayError, CommitError.
        """
        gateway = self._gateway(command.gateway)
        gateway.check_topup(command.amount, command.method)
        topup = await self._topup_after(command, timeout_seconds)
        is_open = topup.state is TopupState.CREATED or topup.is_payable
        knows_how_to_pay = topup.checkout is not None and not gateway.tells_client_secret
        if not is_open or knows_how_to_pay:
            return topup
        # One order at the gateway, also for two requests with one key at the same moment; and it
        # is recorded even when nobody waits for the answer any more.
        opening = self._opening.get(topup.topup_id)
        if opening is None:
            opening = asyncio.create_task(self._open(gateway, topup))
            self._opening[topup.topup_id] = opening
            opening.add_done_callback(lambda _: self._opening.pop(topup.topup_id, None))
        return await asyncio.shield(opening)

    async def verify(
        self,
        customer_id: str,
        topup_id: str,
        proof: Proof | WalletToken,
        timeout_seconds: float | None,
    ) -> Topup:
        """Check the proof, ask the gateway, and apply its answer; return the top-up as it then is.

        A wallet's token is handed on to the gateway first.

        Raises:
            UnknownGateway, GatewayError, CommitError, StoreUnavailable.
        """
        topup = await self._queries.topup(customer_id, topup_id)
        if topup is None:
            raise Rejected(topup_not_found(customer_id, topup_id))
        if topup.state in {TopupState.CREDITED, TopupState.REVERSED}:
            return topup
        if topup.checkout is None:
            raise Rejected(
                Rejection(
                    Reason.TOPUP_STATE,
                    f"The gateway has no order for top-up {topup_id} yet. Repeat InitiateTopup "
                    "with its idempotency key, which goes on with it.",
                    {"topup_id": topup_id, "state": topup.state},
                )
            )
        gateway = self._gateway(topup.gateway)
        if isinstance(proof, GooglePayProof | ApplePayProof):
            good = await self._wallet_tokens.verified(gateway, topup, proof)
            # One call for the same token at the same moment; it goes on where nobody waits for it.
            return await self._paying.share((topup_id, good.digest), lambda: self._pay(good))
        report = await gateway.check_proof(topup, proof)
        if report is None:
            return topup
        topup = await self._apply(topup, report, timeout_seconds)
        return await self._capture_if_authorized(gateway, topup, report.payment, timeout_seconds)

    async def bring_up_to_date(self, topup: Topup) -> None:
        """Ask the gateway what it has for a top-up, apply that, and expire what is dead.

        Raises:
            UnknownGateway, GatewayError, CommitError.
        """
        gateway = self._gateway(topup.gateway)
        is_under_way = False
        if topup.checkout is not None:
            report = await gateway.check_proof(topup, LookupProof())
            if report is not None:
                is_under_way = report.payment.status in _UNDER_WAY
                topup = await self._apply(topup, report, None)
                topup = await self._capture_if_authorized(gateway, topup, report.payment, None)
        if self._now_ms() >= topup.expire_time_ms and not is_under_way:
            await self._topup_after(ExpireTopup(topup.customer_id, topup.topup_id), None)

    async def take_webhook(
        self,
        gateway_name: str,
        headers: Mapping[str, str],
        body: bytes,
        receive_time_ms: int | None,
        timeout_seconds: float | None,
    ) -> WebhookReceipt:
        """Verify a webhook, and let it take effect in the commit that records it.

        Raises:
            UnknownGateway, GatewayError, CommitError, StoreUnavailable.
        """
        source = self._callbacks.get(gateway_name) or self._gateway(gateway_name)
        try:
            event = await source.read_webhook(headers, body)
            receipt = await self._let_take_effect(
                gateway_name, event, body, receive_time_ms, timeout_seconds
            )
        except Exception as error:
            self._webhook_came(gateway_name, _REFUSALS.get(type(error), "failed"))
            raise
        self._webhook_came(gateway_name, receipt.outcome.lower())
        return receipt

    async def _let_take_effect(
        self,
        gateway_name: str,
        event: WebhookEvent,
        body: bytes,
        receive_time_ms: int | None,
        timeout_seconds: float | None,
    ) -> WebhookReceipt:
        now_ms = self._now_ms()
        received = ReceivedEvent(
            gateway=gateway_name,
            event_id=event.event_id,
            event_type=event.event_type,
            body_digest=event.signed_digest or hashlib.sha256(body).hexdigest(),
            body=body if event.kept_body is None else event.kept_body,
            origin=EventOrigin.WEBHOOK,
            receive_time_ms=now_ms if receive_time_ms is None else receive_time_ms,
            report_time_ms=now_ms if event.report_time_ms is None else event.report_time_ms,
        )
        command = await self._command_of(gateway_name, event, received)
        reply = await self._committer.submit(command, timeout_seconds)
        assert isinstance(reply, EventReply)  # noqa: S101 - what these commands reply
        if isinstance(command, ApplyPayment) and reply.topup is not None:
            gateway = self._gateway(gateway_name)
            await self._capture_if_authorized(
                gateway, reply.topup, command.payment, timeout_seconds
            )
        return WebhookReceipt(reply.outcome, event.event_id)

    async def take_movement(self, gateway_name: str, movement: Movement) -> EventOutcome | None:
        """Let a line of a gateway's own books take effect, as its lost webhook would have.

        None says that no top-up here is concerned: nothing is kept of what others were paid.

        Raises:
            UnknownGateway, GatewayError, CommitError, StoreUnavailable.
        """
        gateway, fact = self._gateway(gateway_name), movement.fact
        subject, state = _named(fact)
        event_id, event_type = f"books:{subject}:{state}", f"books.{state.lower()}"
        event = WebhookEvent(event_id, event_type, fact, movement.time_ms)
        topup = await self._topup_of(gateway, event, fact)
        if topup is None:
            return None
        body = json.dumps(asdict(fact), sort_keys=True).encode()
        received = ReceivedEvent(
            gateway=gateway_name,
            event_id=event_id,
            event_type=event_type,
            body_digest=hashlib.sha256(body).hexdigest(),
            body=body,
            origin=EventOrigin.LOOKUP,
            receive_time_ms=self._now_ms(),
            report_time_ms=movement.time_ms,
        )
        whole = replace(fact, gateway_order_id=fact.gateway_order_id or topup.gateway_order_id)
        reply = await self._committer.submit(_command_on(topup, whole, received), None)
        assert isinstance(reply, EventReply)  # noqa: S101 - what these commands reply
        return reply.outcome

    async def close(self) -> None:
        """Wait for the gateway orders and payments that are just being made."""
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        await self._paying.close()

    def _gateway(self, name: str) -> Gateway:
        gateway = self._gateways.get(name)
        if gateway is None:
            raise UnknownGateway(name)
        return gateway

    async def _open(self, gateway: Gateway, topup: Topup) -> Topup:
        checkout = await gateway.open_topup(topup)
        kept = replace(checkout, client_secret="")
        opened = await self._topup_after(
            OpenTopup(topup.customer_id, topup.topup_id, kept), timeout_seconds=None
        )
        if opened.checkout is None or opened.gateway_order_id != checkout.gateway_order_id:
            return opened  # Another order was recorded first, and this secret is not its.
        return replace(opened, checkout=checkout)

    async def _pay(self, good: GoodToken) -> Topup:
        report = await self._wallet_tokens.pay(good)
        topup = await self._apply(good.topup, report, None)
        return await self._capture_if_authorized(good.gateway, topup, report.payment, None)

    async def _topup_after(self, command: Command, timeout_seconds: float | None) -> Topup:
        """Carry out a command and return the top-up as it is then."""
        reply = await self._committer.submit(command, timeout_seconds)
        assert isinstance(reply, TopupReply | EventReply)  # noqa: S101 - what these reply
        assert reply.topup is not None  # noqa: S101 - each of these commands names one
        return reply.topup

    async def _command_of(
        self, source: str, event: WebhookEvent, received: ReceivedEvent
    ) -> Command:
        """Find the top-up that the event speaks of, and say what is to be done."""
        fact = event.fact
        if fact is None:
            reason = f"Events of type {event.event_type} change nothing here."
            return RecordEvent(received, EventOutcome.IGNORED, reason)
        topup = await self._topup_of(self._gateway(source), event, fact)
        if topup is not None:
            order_id = fact.gateway_order_id or topup.gateway_order_id
            return _command_on(topup, replace(fact, gateway_order_id=order_id), received)
        moved_money = (
            isinstance(fact, GatewayReversal) or fact.status is not GatewayPaymentStatus.FAILED
        )
        return RecordEvent(
            received,
            EventOutcome.NEEDS_REVIEW if moved_money else EventOutcome.IGNORED,
            f"No top-up was started for the gateway's order {fact.gateway_order_id or 'none'}.",
            fact,
        )

    async def _topup_of(self, gateway: Gateway, event: WebhookEvent, fact: Fact) -> Topup | None:
        """Find the top-up by the gateway's order, by our id on it, or by the payment alone."""
        topup = None
        if fact.gateway_order_id:
            topup = await self._queries.topup_of_gateway_order(gateway.name, fact.gateway_order_id)
        if topup is None and event.topup_id:
            topup = await self._queries.topup_by_id(gateway.name, event.topup_id)
        if not fact.gateway_order_id and not event.topup_id:
            topup = await self._topup_of_payment(gateway, fact.payment_id)
        return topup

    async def _topup_of_payment(self, gateway: Gateway, payment_id: str) -> Topup | None:
        """Find the top-up of a payment that is told without its order.

        It was credited before, or the gateway knows what it was for. Where the gateway cannot be
        asked, the webhook is not taken and comes again.
        """
        topup = await self._queries.topup_of_payment(gateway.name, payment_id)
        if topup is not None:
            return topup
        order_id = await gateway.order_of(payment_id)
        if not order_id:
            return None
        return await self._queries.topup_of_gateway_order(gateway.name, order_id)

    async def _capture_if_authorized(
        self,
        gateway: Gateway,
        topup: Topup,
        payment: GatewayPayment,
        timeout_seconds: float | None,
    ) -> Topup:
        """Capture what is only on hold; where that fails now, the poller does it later."""
        is_on_hold = payment.status is GatewayPaymentStatus.AUTHORIZED
        if not is_on_hold or topup.state is not TopupState.PENDING:
            return topup
        try:
            report = await gateway.capture(topup, payment)
        except GatewayError as error:
            _log.warning("not captured yet", topup_id=topup.topup_id, cause=type(error).__name__)
            return topup
        return await self._apply(topup, report, timeout_seconds)

    async def _apply(
        self, topup: Topup, report: PaymentReport, timeout_seconds: float | None
    ) -> Topup:
        """Let what the gateway answered take effect: the payment, then what was taken back."""
        facts: tuple[Fact, ...] = (report.payment, *report.reversals)
        for fact in facts:
            command = _command_on(topup, fact, _lookup(topup, fact, report, self._now_ms()))
            topup = await self._topup_after(command, timeout_seconds)
        return topup


def _command_on(topup: Topup, fact: Fact, received: ReceivedEvent) -> ApplyPayment | ApplyReversal:
    """Make the command that lets a fact take effect on its top-up."""
    if isinstance(fact, GatewayReversal):
        return ApplyReversal(topup.customer_id, topup.topup_id, fact, received)
    order_id = topup.pay_order.order_id if topup.pay_order else ""
    return ApplyPayment(topup.customer_id, topup.topup_id, order_id, fact, received)


def _lookup(topup: Topup, fact: Fact, report: PaymentReport, now_ms: int) -> ReceivedEvent:
    """Return the event that an answer is recorded as, where it has to be."""
    subject, state = _named(fact)
    return ReceivedEvent(
        gateway=topup.gateway,
        event_id=f"lookup:{subject}:{state}",
        event_type=f"lookup.{state.lower()}",
        body_digest=hashlib.sha256(report.body).hexdigest(),
        body=report.body,
        origin=EventOrigin.LOOKUP,
        receive_time_ms=now_ms,
        report_time_ms=now_ms,
    )


def _named(fact: Fact) -> tuple[str, str]:
    """Return the gateway's id of what a fact tells of, and the state that it tells."""
    if isinstance(fact, GatewayReversal):
        return fact.reversal_id, fact.state.value
    return fact.payment_id, fact.status.value
