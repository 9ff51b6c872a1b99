"""A UPI intent on a Razorpay order: the link that opens a payment app with everything filled in.

Source:
https://razorpay.com/docs/payments/payment-gateway/s2s-integration/payment-methods/upi/intent/.
"""

from dataclasses import dataclass
from typing import Final

import structlog

from gateway_adapters.gateway import GatewayRefused
from gateway_adapters.outbound import CredentialsRefused
from gateway_adapters.razorpay.api import RazorpayApi, read
from gateway_adapters.upi import InvalidIntent, read_intent_uri
from gateway_adapters.wire import JsonObject, Unreadable
from server.ledger.records import Topup

METHODS: Final = frozenset({"upi", "google_pay"})
"""What is paid so. In India, Google Pay is one of the apps that take such a link."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("razorpay")


@dataclass(frozen=True, slots=True)
class UpiPayer:
    """What Razorpay wants to know of a payer. This service does not, and names the shop."""

    email: str
    contact: str


async def ask_for_intent(api: RazorpayApi, topup: Topup, order_id: str, payer: UpiPayer) -> str:
    """Start a payment of the order by UPI; return its link.

    It is empty where Razorpay refuses, such as for an account that was not given this: the order
    can then still be paid by Razorpay Checkout. A repeat after a lost answer does no harm. It makes
    one more attempt that nobody pays, on the same order, and an order is paid once.

    Raises:
        GatewayUnavailable: there was no answer, or none with a link.
        GatewayRefused: the link does not ask for what the top-up is for.
    """
    content = {
        "amount": topup.amount.minor_units,
        "currency": topup.amount.currency_code,
        "order_id": order_id,
        "email": payer.email,
        "contact": payer.contact,
        "method": "upi",
        "upi": {"flow": "intent"},
    }
    try:
        answer = await api.post("/v1/payments/create/upi", content, is_idempotent=True)
    except (GatewayRefused, CredentialsRefused) as error:
        _log.warning("no UPI intent", topup_id=topup.topup_id, reason=str(error))
        return ""
    return checked_uri(read(answer, _link), topup)


def checked_uri(uri: str, topup: Topup) -> str:
    """Return a URI of Razorpay's as it came, if it asks for exactly what the top-up is for.

    Raises:
        GatewayRefused.
    """
    try:
        asked = read_intent_uri(uri)
    except InvalidIntent as error:
        raise GatewayRefused(
            f"Razorpay's UPI link for the top-up {topup.topup_id} cannot be used: "
            f"{error.field}: {error}"
        ) from None
    if asked.amount != topup.amount:
        raise GatewayRefused(
            f"Razorpay's UPI link asks for {asked.amount} and does not fit the top-up "
            f"{topup.topup_id} for {topup.amount}."
        )
    return uri


def _link(content: JsonObject) -> str:
    """Find the link: under `link`, or as the first step of `next` with the action `intent`."""
    link = content.get("link")
    steps = content.get("next")
    for step in steps if isinstance(steps, list) else ():
        if link is None and isinstance(step, dict) and step.get("action") == "intent":
            link = step.get("url")
    if not isinstance(link, str):
        raise Unreadable("There is no link.")
    return link
