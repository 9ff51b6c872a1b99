"""Wallets' tokens at Razorpay: a card payment of the order, made by the wallet's token.

Source of the rules: "Create a Payment" in
https://razorpay.com/docs/payments/payment-methods/apple-pay/s2s-integration and in
https://razorpay.com/docs/payments/payment-methods/cards/google-pay/s2s-integration/json.

Documented are the path, `method: "card"`, `app: {"name": "apple_pay"}`, an answer with
`razorpay_payment_id`, and errors whose `metadata` names the payment that was declined. Two things
are not, and take the nearest documented form:

- where a token goes that the merchant's own app got: under the app's name inside `app`, where
  Razorpay's own library for iOS puts what belongs to one app alone;
- `app: {"name": "google_pay"}` for a token: what is documented lets Razorpay's side ask for it.

The same pages name `email`, `contact` and the browser among the fields. This service knows none of
them; an account for which Razorpay insists on them gets its refusal.
"""

from typing import Final

from gateway_adapters.gateway import GatewayRefused, WalletToken
from gateway_adapters.razorpay.api import RazorpayApi, read
from gateway_adapters.razorpay.wire import PAYMENT_ID
from gateway_adapters.wire import JsonObject, Unreadable, member
from server.ledger.records import Topup

_PATH: Final = "/v1/payments/create/json"


async def create_payment(api: RazorpayApi, topup: Topup, token: WalletToken) -> str:
    """Hand the token on, byte for byte as it came; return the id of the payment that it made.

    It is sent once, whatever becomes of the answer. A payment that was made and declined is told
    as a refusal that names it; its id is returned, too.

    Raises:
        GatewayUnavailable, GatewayRefused: no payment was made.
    """
    content = {
        "amount": topup.amount.minor_units,
        "currency": topup.amount.currency_code,
        "order_id": topup.gateway_order_id,
        "method": "card",
        "app": {"name": token.method, token.method: {"token": token.token}},
    }
    try:
        answer = await api.post(_PATH, content)
    except GatewayRefused as refused:
        try:
            return _declined_payment_id(refused.content)
        except Unreadable:
            raise refused from None
    return read(answer, lambda made: _payment_id(made.get("razorpay_payment_id")))


def _declined_payment_id(content: JsonObject) -> str:
    return _payment_id(member(member(content, "error"), "metadata").get("payment_id"))


def _payment_id(value: object) -> str:
    if not isinstance(value, str) or PAYMENT_ID.fullmatch(value) is None:
        raise Unreadable("The answer names no payment.")
    return value
