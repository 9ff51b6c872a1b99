"""The sandbox's Razorpay is handed wallets' tokens, and charges the card behind them.

    POST /v1/payments/create/json    {amount, currency, order_id, method: "card", app}
    POST /sandbox/tokens             {outcome, times}

`app` is `{"name": "google_pay", "google_pay": {"token"}}`, or the same with `apple_pay`. What the
cards' bank says of the next tokens is their `outcome`: `captured`, which it is without being asked,
`authorized`, `pending` or `declined`.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from gateway_adapters.sandbox.control import ControlError, content_of, control_field
from gateway_adapters.sandbox.razorpay_account import PaymentAttempt, RazorpayAccount
from gateway_adapters.sandbox.razorpay_entities import Payment
from gateway_adapters.sandbox.razorpay_fields import RazorpayError
from gateway_adapters.sandbox.razorpay_signing import RazorpaySigner
from gateway_adapters.sandbox.telling import Commit

CAPTURED: Final = "captured"
_OUTCOMES: Final = (CAPTURED, "authorized", "pending", "declined")
_WALLETS: Final = ("google_pay", "apple_pay")
_MAX_TIMES: Final = 100


class RazorpayTokens:
    """The routes by which an account is handed tokens."""

    def __init__(self, account: RazorpayAccount, commit: Commit, signer: RazorpaySigner) -> None:
        self._account = account
        self._commit = commit
        self._signer = signer
        self._next: list[str] = []

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        return [
            web.post("/v1/payments/create/json", self.create_payment),
            web.post("/sandbox/tokens", self.decide),
        ]

    async def decide(self, request: web.Request) -> web.Response:
        """Say what becomes of the next tokens."""
        content = await content_of(request)
        outcome: str = control_field(content, "outcome", CAPTURED)
        times: int = control_field(content, "times", 1)
        if outcome not in _OUTCOMES:
            raise ControlError(f"outcome must be one of {', '.join(_OUTCOMES)}.", "outcome")
        if not 1 <= times <= _MAX_TIMES:
            raise ControlError(f"times must be from 1 to {_MAX_TIMES}.", "times")
        self._next = [outcome] * times
        return web.json_response({"next": self._next})

    async def create_payment(self, request: web.Request) -> web.Response:
        """Charge the card behind a token."""
        content = await content_of(request)
        order = self._account.order(str(content.get("order_id")))
        _check_token(content)
        if (content.get("amount"), content.get("currency")) != (order.amount, order.currency):
            raise RazorpayError("Payment amount is different from your order amount", "amount")
        outcome = self._next.pop() if self._next else CAPTURED
        if outcome == "declined":
            payment, events = self._account.fail(order.id, PaymentAttempt())
            await self._commit(self._signer.webhooks(events), 1)
            return _declined(payment)
        attempt = PaymentAttempt(
            is_authorized_only=outcome == "authorized", is_pending=outcome == "pending"
        )
        payment, events = self._account.pay(order.id, attempt)
        await self._commit(self._signer.webhooks(events), 1)
        return web.json_response({"razorpay_payment_id": payment.id})


def _check_token(content: Mapping[str, Any]) -> None:
    app = content.get("app")
    if content.get("method") != "card" or not isinstance(app, dict):
        raise RazorpayError("The selected method is invalid.", "method")
    if app.get("name") not in _WALLETS:
        raise RazorpayError("The selected app is invalid.", "app")
    extra = app.get(app["name"])
    token = extra.get("token") if isinstance(extra, dict) else None
    if not isinstance(token, str) or not token:
        raise RazorpayError("The token is required.", "app")


def _declined(payment: Payment) -> web.Response:
    """Refuse as the card's bank does; the error names the payment that was made."""
    error = {
        "code": "BAD_REQUEST_ERROR",
        "description": "Your payment was declined by the bank.",
        "source": "issuer_bank",
        "step": "payment_authorization",
        "reason": "payment_failed",
        "metadata": {"payment_id": payment.id, "order_id": payment.order_id},
    }
    return web.json_response({"error": error}, status=HTTPStatus.BAD_REQUEST)
