"""Control over the sandbox's PayPal, for whoever reaches it: customers, banks, the dashboard.

    GET  /sandbox/paypal/orders
    POST /sandbox/paypal/orders/{id}/approve       {capture, amount}
    POST /sandbox/paypal/orders/{id}/deny          {}
    POST /sandbox/paypal/captures/{id}/settle      {decline}
    POST /sandbox/paypal/captures/{id}/refund      {amount, fail}
    POST /sandbox/paypal/captures/{id}/reverse     {amount}
    POST /sandbox/paypal/captures/{id}/dispute     {amount}
    POST /sandbox/paypal/disputes/{id}/{contest|win|lose|accept|cancel}    {}

All fields of the JSON body are optional; amounts are texts such as "12.34". `capture` is what
becomes of the capture that follows an approval: COMPLETED, PENDING or DECLINED, or the issue that
it is refused with: INSTRUMENT_DECLINED or PAYER_ACTION_REQUIRED. `amount` is captured instead of
the order's, or goes back instead of all. `settle` ends a pending capture. `fail: true` lets a
refund begin and then fail. A dispute that is lost brings a reversal, and one that is accepted a
refund, unless all was given back already.

Each takes `duplicate`, `webhook` and `wait` besides: see `telling`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from aiohttp import web

from gateway_adapters.sandbox.control import control_field
from gateway_adapters.sandbox.paypal_account import (
    CAPTURE_STATUSES,
    REFUSALS,
    PaypalAccount,
    found,
    new_id,
    now,
)
from gateway_adapters.sandbox.paypal_entities import (
    Dispute,
    Event,
    Refund,
    capture_entity,
    dispute_entity,
    refund_entity,
)
from gateway_adapters.sandbox.paypal_events import (
    approved_events,
    capture_events,
    dispute_events,
    order_content,
    refund_events,
    voided_events,
)
from gateway_adapters.sandbox.paypal_fields import PaypalError, value_field
from gateway_adapters.sandbox.paypal_signing import PaypalSigner
from gateway_adapters.sandbox.telling import Commit, Json, tell, telling_content_of

_OUTCOMES: Final = {
    "win": "RESOLVED_SELLER_FAVOUR",
    "lose": "RESOLVED_BUYER_FAVOUR",
    "accept": "ACCEPTED",
    "cancel": "CANCELED_BY_BUYER",
}


class PaypalControl:
    """The control endpoints of one account."""

    def __init__(self, account: PaypalAccount, commit: Commit, signer: PaypalSigner) -> None:
        self._account = account
        self._commit = commit
        self._signer = signer
        self._base_url = signer.base_url

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        order = "/sandbox/paypal/orders/{order_id}"
        capture = "/sandbox/paypal/captures/{capture_id}"
        return [
            web.get("/sandbox/paypal/orders", self.list_orders),
            web.post(f"{order}/approve", self.approve),
            web.post(f"{order}/deny", self.deny),
            web.post(f"{capture}/settle", self.settle),
            web.post(f"{capture}/refund", self.refund),
            web.post(f"{capture}/reverse", self.reverse),
            web.post(f"{capture}/dispute", self.dispute),
            web.post("/sandbox/paypal/disputes/{dispute_id}/{step}", self.bring_on_dispute),
        ]

    async def list_orders(self, _request: web.Request) -> web.Response:
        """List all orders, newest first."""
        orders = [self._order(order_id) for order_id in reversed(self._account.orders)]
        return web.json_response({"items": orders})

    async def approve(self, request: web.Request) -> web.Response:
        """Approve an order as its customer."""
        content = await telling_content_of(request)
        order_id = request.match_info["order_id"]
        next_capture: str = control_field(content, "capture", "COMPLETED")
        if next_capture not in CAPTURE_STATUSES | REFUSALS:
            raise PaypalError("INVALID_PARAMETER_VALUE")
        value = _value(content, self._account.order(order_id).currency)
        order = self._account.approve(order_id, next_capture, value)
        events = approved_events(self._account, order, self._base_url)
        return await self._tell(events, content, {"order": self._order(order_id)})

    async def deny(self, request: web.Request) -> web.Response:
        """Take the approval of an order back."""
        content = await telling_content_of(request)
        order = self._account.void(request.match_info["order_id"])
        return await self._tell(voided_events(order), content, {"order": self._order(order.id)})

    async def settle(self, request: web.Request) -> web.Response:
        """End a pending capture."""
        content = await telling_content_of(request)
        is_declined: bool = control_field(content, "decline", False)
        status = "DECLINED" if is_declined else "COMPLETED"
        capture = self._account.settle(request.match_info["capture_id"], status)
        events = capture_events(capture, self._base_url)
        entity = capture_entity(capture, self._base_url)
        return await self._tell(events, content, {"capture": entity})

    async def refund(self, request: web.Request) -> web.Response:
        """Refund a capture from the dashboard."""
        content = await telling_content_of(request)
        is_failing: bool = control_field(content, "fail", False)
        refund = self._make_refund(request, content, is_reversal=False)
        if not is_failing:
            return await self._tell_refund(refund, content, refund)
        failed = self._account.fail_refund(refund.id)
        return await self._tell_refund(failed, content, replace(refund, status="PENDING"), failed)

    async def reverse(self, request: web.Request) -> web.Response:
        """Take the money of a capture back, as PayPal does by itself."""
        content = await telling_content_of(request)
        refund = self._make_refund(request, content, is_reversal=True)
        return await self._tell_refund(refund, content, refund)

    async def dispute(self, request: web.Request) -> web.Response:
        """Dispute a capture as its customer."""
        content = await telling_content_of(request)
        capture = found(self._account.captures.get(request.match_info["capture_id"]))
        dispute = Dispute(
            id=f"PP-D-{new_id()}",
            capture_id=capture.id,
            custom_id=capture.custom_id,
            value=_value(content, capture.currency) or capture.value,
            currency=capture.currency,
            status="OPEN",
            outcome="",
            create_time=now(),
        )
        return await self._tell_dispute(dispute, content, [])

    async def bring_on_dispute(self, request: web.Request) -> web.Response:
        """Bring a dispute a step further, or to its end."""
        content = await telling_content_of(request)
        dispute = found(self._account.disputes.get(request.match_info["dispute_id"]))
        step = request.match_info["step"]
        if dispute.status == "RESOLVED" or step not in {"contest", *_OUTCOMES}:
            raise PaypalError("ACTION_NOT_ALLOWED")
        if step == "contest":
            contested = replace(dispute, status="UNDER_REVIEW")
            return await self._tell_dispute(contested, content, [])
        events: list[Event] = []
        left = self._account.remaining(self._account.captures[dispute.capture_id])
        back = min(Decimal(dispute.value), left)
        if step in {"lose", "accept"} and back > 0:
            refund, _ = self._account.refund(
                dispute.capture_id, f"{back:f}", is_reversal=step == "lose"
            )
            events = refund_events(refund, self._base_url)
        resolved = replace(dispute, status="RESOLVED", outcome=_OUTCOMES[step])
        return await self._tell_dispute(resolved, content, events)

    def _order(self, order_id: str) -> Json:
        return order_content(self._account, order_id, self._base_url)

    def _make_refund(self, request: web.Request, content: Json, *, is_reversal: bool) -> Refund:
        capture = found(self._account.captures.get(request.match_info["capture_id"]))
        value = _value(content, capture.currency)
        refund, _ = self._account.refund(capture.id, value, is_reversal=is_reversal)
        return refund

    async def _tell_refund(self, refund: Refund, content: Json, *told: Refund) -> web.Response:
        events = [event for one in told for event in refund_events(one, self._base_url)]
        entity = refund_entity(refund, self._base_url)
        return await self._tell(events, content, {"refund": entity})

    async def _tell_dispute(
        self, dispute: Dispute, content: Json, events: Sequence[Event]
    ) -> web.Response:
        self._account.disputes[dispute.id] = dispute
        told = [*dispute_events(dispute, self._base_url), *events]
        entity = dispute_entity(dispute, self._base_url)
        return await self._tell(told, content, {"dispute": entity})

    async def _tell(self, events: Sequence[Event], content: Json, answer: Json) -> web.Response:
        """Keep what happened, and send the webhooks."""
        return await tell(self._commit, self._signer.webhooks(events), content, answer)


def _value(content: Json, currency: str) -> str | None:
    return value_field(content["amount"], currency) if "amount" in content else None
