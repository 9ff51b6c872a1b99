"""Control over the sandbox's Stripe, for whoever reaches it: customers, banks, the dashboard.

    GET  /sandbox/stripe/intents
    POST /sandbox/stripe/intents/{id}/pay        {status, amount}
    POST /sandbox/stripe/intents/{id}/fail       {}
    POST /sandbox/stripe/intents/{id}/settle     {}
    POST /sandbox/stripe/intents/{id}/cancel     {}
    POST /sandbox/stripe/intents/{id}/refund     {amount, status}
    POST /sandbox/stripe/intents/{id}/dispute    {amount, inquiry}
    POST /sandbox/stripe/refunds/{id}/{succeeded|failed|canceled}             {}
    POST /sandbox/stripe/disputes/{id}/{contest|escalate|win|lose|close}      {}

All fields of the JSON body are optional; amounts are whole numbers, as in Stripe's API. The status
of `pay` is succeeded, processing or requires_capture; `settle` and `fail` end what is processing.
The status of `refund` is succeeded or pending. An `inquiry` takes no money until it is escalated.

Each takes `duplicate`, `webhook` and `wait` besides: see `telling`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from aiohttp import web

from gateway_adapters.sandbox.control import (
    ControlError,
    control_field,
)
from gateway_adapters.sandbox.stripe_account import StripeAccount
from gateway_adapters.sandbox.stripe_entities import (
    Event,
    dispute_entity,
    intent_entity,
    refund_entity,
)
from gateway_adapters.sandbox.stripe_fields import MAX_AMOUNT
from gateway_adapters.sandbox.stripe_reversals import (
    bring_on_dispute,
    bring_on_refund,
    open_dispute,
    refund,
)
from gateway_adapters.sandbox.stripe_signing import StripeSigner
from gateway_adapters.sandbox.telling import Commit, Json, tell, telling_content_of

_PAID_STATUSES: Final = ("succeeded", "processing", "requires_capture")
_REFUND_STATUSES: Final = ("succeeded", "pending")


class StripeControl:
    """The control endpoints of one account."""

    def __init__(self, account: StripeAccount, commit: Commit, signer: StripeSigner) -> None:
        self._account = account
        self._commit = commit
        self._signer = signer

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        intent = "/sandbox/stripe/intents/{intent_id}"
        return [
            web.get("/sandbox/stripe/intents", self.list_intents),
            web.post(f"{intent}/pay", self.pay),
            web.post(f"{intent}/fail", self.fail),
            web.post(f"{intent}/settle", self.settle),
            web.post(f"{intent}/cancel", self.cancel),
            web.post(f"{intent}/refund", self.refund),
            web.post(f"{intent}/dispute", self.dispute),
            web.post("/sandbox/stripe/refunds/{refund_id}/{status}", self.bring_on_refund),
            web.post("/sandbox/stripe/disputes/{dispute_id}/{step}", self.bring_on_dispute),
        ]

    async def list_intents(self, _request: web.Request) -> web.Response:
        """List all intents, newest first."""
        intents = reversed(self._account.intents.values())
        return web.json_response({"data": [intent_entity(intent) for intent in intents]})

    async def pay(self, request: web.Request) -> web.Response:
        """Pay an intent as its customer."""
        content = await telling_content_of(request)
        status = _one_of(content, _PAID_STATUSES)
        events = self._account.pay(request.match_info["intent_id"], status, _amount(content))
        return await self._tell_intent(request, content, events)

    async def fail(self, request: web.Request) -> web.Response:
        """Fail to pay an intent as its customer."""
        content = await telling_content_of(request)
        events = self._account.fail(request.match_info["intent_id"])
        return await self._tell_intent(request, content, events)

    async def settle(self, request: web.Request) -> web.Response:
        """Let what is processing succeed, as the bank does."""
        content = await telling_content_of(request)
        events = self._account.settle(request.match_info["intent_id"])
        return await self._tell_intent(request, content, events)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel an intent from the dashboard."""
        content = await telling_content_of(request)
        events = self._account.cancel(request.match_info["intent_id"])
        return await self._tell_intent(request, content, events)

    async def refund(self, request: web.Request) -> web.Response:
        """Refund an intent's charge from the dashboard."""
        content = await telling_content_of(request)
        status = _one_of(content, _REFUND_STATUSES)
        made, events = refund(self._account, self._charge_id(request), _amount(content), status)
        return await self._tell(events, content, {"refund": refund_entity(made)})

    async def bring_on_refund(self, request: web.Request) -> web.Response:
        """End a refund, as the bank does."""
        content = await telling_content_of(request)
        refund_id, status = request.match_info["refund_id"], request.match_info["status"]
        made, events = bring_on_refund(self._account, refund_id, status)
        return await self._tell(events, content, {"refund": refund_entity(made)})

    async def dispute(self, request: web.Request) -> web.Response:
        """Dispute an intent's charge as its customer."""
        content = await telling_content_of(request)
        is_inquiry: bool = control_field(content, "inquiry", False)
        dispute, events = open_dispute(
            self._account, self._charge_id(request), _amount(content), is_inquiry=is_inquiry
        )
        return await self._tell(events, content, {"dispute": dispute_entity(dispute)})

    async def bring_on_dispute(self, request: web.Request) -> web.Response:
        """Bring a dispute a step further."""
        content = await telling_content_of(request)
        dispute_id, step = request.match_info["dispute_id"], request.match_info["step"]
        dispute, events = bring_on_dispute(self._account, dispute_id, step)
        return await self._tell(events, content, {"dispute": dispute_entity(dispute)})

    def _charge_id(self, request: web.Request) -> str:
        return self._account.intent(request.match_info["intent_id"]).charge_id

    async def _tell_intent(
        self, request: web.Request, content: Json, events: Sequence[Event]
    ) -> web.Response:
        intent = self._account.intent(request.match_info["intent_id"])
        return await self._tell(events, content, {"intent": intent_entity(intent)})

    async def _tell(self, events: Sequence[Event], content: Json, answer: Json) -> web.Response:
        """Keep what happened, and send the webhooks."""
        return await tell(self._commit, self._signer.webhooks(events), content, answer)


def _amount(content: Json) -> int | None:
    if "amount" not in content:
        return None
    amount: int = control_field(content, "amount", 0)
    if not 0 < amount <= MAX_AMOUNT:
        raise ControlError(f"amount must be from 1 to {MAX_AMOUNT}.", "amount")
    return amount


def _one_of(content: Json, statuses: Sequence[str]) -> str:
    status: str = control_field(content, "status", statuses[0])
    if status not in statuses:
        raise ControlError(f"status must be one of {', '.join(statuses)}.", "status")
    return status
