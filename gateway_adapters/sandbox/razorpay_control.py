"""Control over the sandbox's Razorpay, for whoever reaches it: customers, banks, the dashboard.

    GET  /sandbox/orders
    GET  /sandbox/qr_codes
    POST /sandbox/orders/{id}/pay          {amount, method, authorize_only, late, fail_first,
                                            pending}
    POST /sandbox/orders/{id}/fail         {amount, method}
    POST /sandbox/payments/{id}/capture    {}
    POST /sandbox/payments/{id}/refund     {amount, fail}
    POST /sandbox/payments/{id}/dispute    {amount, phase}
    POST /sandbox/payments/{id}/dispute/{dispute id}/{win|lose|close|contest|query}    {}

`pay` and `fail` take the id of a QR code too, which is paid by UPI. A payment of an order by UPI
takes up its open intent, if there is one.

All fields of the JSON body are optional. `amount` is paid instead of the order's, or taken back
instead of all. `authorize_only`, also called `late`, leaves a payment authorized. `fail_first`
fails and then succeeds within one payment. `pending` tells nothing for now. What is authorized,
pending or failed is captured late by `capture`. `fail: true` lets a refund begin and then fail.

Each takes `duplicate`, `webhook` and `wait` besides: see `telling`.
"""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway_adapters.sandbox.control import control_field
from gateway_adapters.sandbox.razorpay_account import PaymentAttempt, RazorpayAccount
from gateway_adapters.sandbox.razorpay_entities import (
    Event,
    Payment,
    collection,
    dispute_entity,
    order_entity,
    qr_code_entity,
    refund_entity,
)
from gateway_adapters.sandbox.razorpay_fields import RazorpayError
from gateway_adapters.sandbox.razorpay_reversals import (
    bring_on_dispute,
    open_dispute,
    refund_from_dashboard,
)
from gateway_adapters.sandbox.razorpay_signing import RazorpaySigner
from gateway_adapters.sandbox.telling import Commit, Json, tell, telling_content_of

_METHODS: Final = ("card", "netbanking", "upi", "wallet")
_QR_CODE_METHODS: Final = ("upi",)
"""The first of them is taken where none is named."""


class RazorpayControl:
    """The control endpoints of one account."""

    def __init__(self, account: RazorpayAccount, commit: Commit, signer: RazorpaySigner) -> None:
        self._account = account
        self._commit = commit
        self._signer = signer

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        payment = "/sandbox/payments/{payment_id}"
        return [
            web.get("/sandbox/orders", self.list_orders),
            web.get("/sandbox/qr_codes", self.list_qr_codes),
            web.post("/sandbox/orders/{payable_id}/pay", self.pay),
            web.post("/sandbox/orders/{payable_id}/fail", self.fail),
            web.post(f"{payment}/capture", self.capture),
            web.post(f"{payment}/refund", self.refund),
            web.post(f"{payment}/dispute", self.dispute),
            web.post(f"{payment}/dispute/{{dispute_id}}/{{step}}", self.bring_on_dispute),
        ]

    async def list_orders(self, _request: web.Request) -> web.Response:
        """List all orders, newest first."""
        orders = reversed(self._account.orders.values())
        return web.json_response(collection([order_entity(order) for order in orders]))

    async def list_qr_codes(self, _request: web.Request) -> web.Response:
        """List all QR codes, newest first."""
        qr_codes = reversed(self._account.qr_codes.values())
        return web.json_response(collection([qr_code_entity(qr_code) for qr_code in qr_codes]))

    async def pay(self, request: web.Request) -> web.Response:
        """Pay an order or a QR code as its customer."""
        payable_id = self._known_payable(request)
        content = await telling_content_of(request)
        payment, events = self._account.pay(payable_id, self._attempt(payable_id, content))
        return await self._tell(events, content, self._paid(payment))

    async def fail(self, request: web.Request) -> web.Response:
        """Fail to pay an order or a QR code as its customer."""
        payable_id = self._known_payable(request)
        content = await telling_content_of(request)
        payment, events = self._account.fail(payable_id, self._attempt(payable_id, content))
        return await self._tell(events, content, self._paid(payment))

    async def capture(self, request: web.Request) -> web.Response:
        """Capture a payment late, as its bank and Razorpay do."""
        payment_id = self._known_payment(request)
        content = await telling_content_of(request)
        payment, events = self._account.capture_late(payment_id)
        return await self._tell(events, content, self._paid(payment))

    async def refund(self, request: web.Request) -> web.Response:
        """Refund a payment from the dashboard."""
        payment_id = self._known_payment(request)
        content = await telling_content_of(request)
        is_failing: bool = control_field(content, "fail", False)
        made, events = refund_from_dashboard(
            self._account, payment_id, _named(content, "amount"), is_failing=is_failing
        )
        return await self._tell(events, content, {"refund": refund_entity(made)})

    async def dispute(self, request: web.Request) -> web.Response:
        """Dispute a payment as its customer."""
        payment_id = self._known_payment(request)
        content = await telling_content_of(request)
        fields = _named(content, "amount", "phase")
        dispute, events = open_dispute(self._account, payment_id, fields)
        return await self._tell(events, content, {"dispute": dispute_entity(dispute)})

    async def bring_on_dispute(self, request: web.Request) -> web.Response:
        """Bring a dispute a step further."""
        payment_id = self._known_payment(request)
        content = await telling_content_of(request)
        dispute_id, step = request.match_info["dispute_id"], request.match_info["step"]
        dispute, events = bring_on_dispute(self._account, payment_id, dispute_id, step)
        return await self._tell(events, content, {"dispute": dispute_entity(dispute)})

    def _known_payable(self, request: web.Request) -> str:
        payable_id = request.match_info["payable_id"]
        if payable_id not in self._account.orders and payable_id not in self._account.qr_codes:
            raise RazorpayError("The id provided does not exist", "", HTTPStatus.NOT_FOUND)
        return payable_id

    def _known_payment(self, request: web.Request) -> str:
        payment_id = request.match_info["payment_id"]
        if payment_id not in self._account.payments:
            raise RazorpayError("The id provided does not exist", "", HTTPStatus.NOT_FOUND)
        return payment_id

    def _attempt(self, payable_id: str, content: Json) -> PaymentAttempt:
        """Read how the customer pays."""
        is_qr_code = payable_id in self._account.qr_codes
        methods = _QR_CODE_METHODS if is_qr_code else _METHODS
        method: str = control_field(content, "method", methods[0])
        if method not in methods:
            raise RazorpayError(f"method must be one of {', '.join(methods)}.", "method")
        is_authorized_only: bool = control_field(content, "authorize_only", False)
        is_late: bool = control_field(content, "late", False)
        return PaymentAttempt(
            method=method,
            amount=content.get("amount"),
            is_authorized_only=is_authorized_only or is_late,
            is_failing_first=control_field(content, "fail_first", False),
            is_pending=control_field(content, "pending", False),
        )

    def _paid(self, payment: Payment) -> Json:
        """Return what Checkout gives to an app; a QR code is paid without one."""
        if payment.qr_code_id:
            return {"qr_code_id": payment.qr_code_id, "payment_id": payment.id}
        answer = {"order_id": payment.order_id, "payment_id": payment.id}
        if payment.status not in {"created", "failed"}:
            answer["signature"] = self._signer.proof(payment.order_id, payment.id)
        return answer

    async def _tell(self, events: Sequence[Event], content: Json, answer: Json) -> web.Response:
        """Keep what happened, and send the webhooks."""
        return await tell(self._commit, self._signer.webhooks(events), content, answer)


def _named(content: Json, *names: str) -> Json:
    """Return the fields that the account is to see."""
    return {name: content[name] for name in names if name in content}
