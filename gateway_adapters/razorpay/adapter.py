"""Razorpay: orders, checkout proofs and webhooks.

Source of the rules: https://razorpay.com/docs/api/ and
https://razorpay.com/docs/webhooks/validate-test/.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    InvalidTopup,
    LookupProof,
    Movement,
    NotImplementedHere,
    OtherProof,
    PaymentReport,
    PaypalProof,
    Proof,
    ProofInvalid,
    RazorpayProof,
    WebhookEvent,
)
from gateway_adapters.razorpay.api import RazorpayApi, read
from gateway_adapters.razorpay.movements import movements, refunds_of
from gateway_adapters.razorpay.orders import open_order
from gateway_adapters.razorpay.webhook import is_signed, read_webhook
from gateway_adapters.razorpay.wire import (
    ORDER_ID,
    PAYMENT_ID,
    WirePayment,
    items,
    read_payment,
    read_payment_names,
)
from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    Topup,
)

_OFFERED_METHODS: Final = frozenset({"card", "netbanking", "upi"})
_INDIAN_METHODS: Final = frozenset({"netbanking", "upi"})
"""These are paid in INR alone."""
_KNOWN_METHODS: Final = frozenset({"google_pay", "apple_pay"})
_MIN_INR_MINOR_UNITS: Final = 100
_BEST_FIRST: Final = (
    GatewayPaymentStatus.CAPTURED,
    GatewayPaymentStatus.AUTHORIZED,
    GatewayPaymentStatus.PENDING,
    GatewayPaymentStatus.FAILED,
)


@dataclass(frozen=True, slots=True)
class RazorpaySettings:
    """An account at Razorpay. `webhook_secrets` has the current one first, then earlier ones."""

    api_url: str
    """Without `/v1`, such as `https://api.razorpay.com`."""
    key_id: str
    key_secret: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    checkout_url: str = ""
    """A page that takes the order's id as its last path segment; empty where there is none."""
    timeout_seconds: float = 3.0
    """For each request, in all."""

    def __post_init__(self) -> None:
        """Refuse blank secrets: with one of them anybody could sign."""
        if not self.key_secret or not all(self.webhook_secrets):
            raise ValueError("Razorpay's secrets must not be blank.")


class Razorpay:
    """The Gateway for Razorpay. The session stays its owner's, who closes it."""

    name = "razorpay"
    tells_client_secret = False

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: RazorpaySettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds that only go forward.

        Raises:
            ValueError: the API's URL is neither https nor on this machine.
        """
        self._settings = settings
        self._api = RazorpayApi(
            session,
            settings.api_url,
            settings.key_id,
            settings.key_secret,
            settings.timeout_seconds,
            clock,
        )

    def check_topup(self, amount: Money, method: str) -> None:
        """Refuse what Razorpay cannot do; see Gateway."""
        if method in _KNOWN_METHODS:
            raise NotImplementedHere(
                f"The method {method} is not offered through Razorpay yet. Use card, netbanking "
                "or upi."
            )
        if method not in _OFFERED_METHODS:
            raise InvalidTopup("method", "Must be one of card, netbanking, upi.")
        if method in _INDIAN_METHODS and amount.currency_code != "INR":
            raise InvalidTopup("amount", f"Must be in INR for the method {method}.")
        if amount.currency_code == "INR" and amount.minor_units < _MIN_INR_MINOR_UNITS:
            raise InvalidTopup("amount", f"Must be at least {_MIN_INR_MINOR_UNITS} paise in INR.")

    async def open_topup(self, topup: Topup) -> Checkout:
        """Find the top-up's order or make one; see Gateway."""
        order = await open_order(self._api, topup)
        page = self._settings.checkout_url.rstrip("/")
        return Checkout(
            gateway_order_id=order.order_id,
            public_key=self._settings.key_id,
            url=f"{page}/{order.order_id}" if page else "",
        )

    async def check_proof(self, topup: Topup, proof: Proof) -> PaymentReport | None:
        """Check the proof, then ask Razorpay; see Gateway."""
        match proof:
            case PaypalProof():
                raise _unfit("paypal")
            case OtherProof():
                raise _unfit(proof.kind)
            case RazorpayProof():
                return await self._signed_payment(topup, proof)
            case LookupProof():
                return await self._best_payment(topup)

    async def capture(self, topup: Topup, payment: GatewayPayment) -> PaymentReport:
        """Capture an authorized payment; see Gateway.

        A repeat does no harm: Razorpay refuses it, and then says what the payment is.
        """
        payment_id, amount = payment.payment_id, payment.amount
        if payment.gateway_order_id != topup.gateway_order_id:
            raise GatewayRefused("The payment does not belong to the top-up's order.")
        if PAYMENT_ID.fullmatch(payment_id) is None:
            raise GatewayRefused("The payment id does not look like one of Razorpay's.")
        path = f"/v1/payments/{payment_id}"
        content = {"amount": amount.minor_units, "currency": amount.currency_code}
        refusal: GatewayRefused | None = None
        try:
            answer = await self._api.post(f"{path}/capture", content, is_idempotent=True)
        except GatewayRefused as error:
            refusal = error
            answer = await self._api.get(path)
        found = read(answer, read_payment)
        if found.payment.payment_id != payment_id:
            raise GatewayUnavailable("Razorpay's answer is about another payment.")
        if refusal is not None and found.payment.status is GatewayPaymentStatus.AUTHORIZED:
            raise refusal
        return await self._report(found, answer.body)

    async def order_of(self, payment_id: str) -> str:
        """Return the order of a payment, empty also where Razorpay has no such payment."""
        if PAYMENT_ID.fullmatch(payment_id) is None:
            return ""
        try:
            answer = await self._api.get(f"/v1/payments/{payment_id}")
        except GatewayRefused:
            return ""
        return read(answer, read_payment_names)[1]

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify the signature over the raw body, then read the event; see Gateway."""
        return read_webhook(headers, body, self._settings.webhook_secrets)

    def movements(self, start_time_ms: int, end_time_ms: int) -> AsyncIterator[Movement]:
        """Go through Razorpay's own books; see Gateway."""
        return movements(self._api, start_time_ms, end_time_ms)

    async def _signed_payment(self, topup: Topup, proof: RazorpayProof) -> PaymentReport:
        """Check the signature over the stored order's id, whatever the customer's app says."""
        order_id = _order_id_of(topup)
        if PAYMENT_ID.fullmatch(proof.payment_id) is None:
            raise ProofInvalid("The payment id does not look like one of Razorpay's.")
        message = f"{order_id}|{proof.payment_id}".encode("ascii")
        if not is_signed(message, proof.signature, self._settings.key_secret):
            raise ProofInvalid("The signature does not fit the top-up's order and the payment.")
        answer = await self._api.get(f"/v1/payments/{proof.payment_id}")
        found = read(answer, read_payment)
        payment = found.payment
        if payment.payment_id != proof.payment_id or payment.gateway_order_id != order_id:
            raise ProofInvalid("The payment does not belong to the top-up's order.")
        return await self._report(found, answer.body)

    async def _best_payment(self, topup: Topup) -> PaymentReport | None:
        order_id = _order_id_of(topup)
        answer = await self._api.get(f"/v1/orders/{order_id}/payments")
        payments = [
            found
            for found in read(answer, lambda content: [read_payment(p) for p in items(content)])
            if found.payment.gateway_order_id == order_id
        ]
        best = min(payments, key=_payment_rank, default=None)
        return None if best is None else await self._report(best, answer.body)

    async def _report(self, found: WirePayment, body: bytes) -> PaymentReport:
        """Add to a payment what was refunded of it: its webhooks may have been lost."""
        reversals: tuple[GatewayReversal, ...] = ()
        if found.has_refunds:
            reversals = await refunds_of(self._api, found.payment)
        return PaymentReport(found.payment, body, reversals)


def _order_id_of(topup: Topup) -> str:
    """Return the stored order's id, in the shape in which it is safe in a path."""
    if ORDER_ID.fullmatch(topup.gateway_order_id) is None:
        raise ProofInvalid("Razorpay has no order for the top-up yet.")
    return topup.gateway_order_id


def _unfit(kind: str) -> NotImplementedHere | ProofInvalid:
    """Say why Razorpay does not take such a proof."""
    if kind in _KNOWN_METHODS:
        return NotImplementedHere(
            f"A proof of kind {kind} is not taken yet. Send Razorpay's proof or ask for a lookup."
        )
    return ProofInvalid(
        f"The top-up is paid through Razorpay, and a proof of kind {kind} does not fit. Send "
        "Razorpay's proof or ask for a lookup."
    )


def _payment_rank(found: WirePayment) -> tuple[int, int, str]:
    """Sort by what counts; the first capture is the one that pays, the last failure the news."""
    status = found.payment.status
    time = found.create_time_seconds
    is_captured = status is GatewayPaymentStatus.CAPTURED
    return _BEST_FIRST.index(status), time if is_captured else -time, found.payment.payment_id
