"""Razorpay: orders, checkout proofs and webhooks.

Source of the rules: https://razorpay.com/docs/api/ and
https://razorpay.com/docs/webhooks/validate-test/.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import aiohttp

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    InvalidTopup,
    LookupProof,
    NotImplementedHere,
    OtherProof,
    PaymentReport,
    Proof,
    ProofInvalid,
    RazorpayProof,
    WebhookEvent,
)
from gateway_adapters.razorpay.api import Answer, RazorpayApi, is_worth_a_retry, pause_before_retry
from gateway_adapters.razorpay.webhook import is_signed, read_webhook
from gateway_adapters.razorpay.wire import (
    ORDER_ID,
    PAYMENT_ID,
    JsonObject,
    Unreadable,
    WireOrder,
    WirePayment,
    items,
    read_order,
    read_payment,
)
from server.ledger.money import Money
from server.ledger.records import Checkout, GatewayPaymentStatus, Topup

_OFFERED_METHODS: Final = frozenset({"card", "netbanking", "upi"})
_KNOWN_METHODS: Final = frozenset({"google_pay", "apple_pay"})
_MIN_INR_MINOR_UNITS: Final = 100
_CAPTURE: Final = {
    "capture": "automatic",
    # A payment that is authorized late, up to five days after, is captured and so credited.
    "capture_options": {
        "automatic_expiry_period": 7200,
        "manual_expiry_period": 7200,
        "refund_speed": "normal",
    },
}
_ORDER_TRIES: Final = 2

_BEST_FIRST: Final = (
    GatewayPaymentStatus.CAPTURED,
    GatewayPaymentStatus.AUTHORIZED,
    GatewayPaymentStatus.PENDING,
    GatewayPaymentStatus.FAILED,
)
_ORDER_STATUSES: Final = ("paid", "attempted", "created")
"""Of several orders for one top-up the one that is furthest counts."""


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

    def __init__(self, session: aiohttp.ClientSession, settings: RazorpaySettings) -> None:
        self._settings = settings
        self._api = RazorpayApi(
            session,
            settings.api_url,
            settings.key_id,
            settings.key_secret,
            settings.timeout_seconds,
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
        if amount.currency_code == "INR" and amount.minor_units < _MIN_INR_MINOR_UNITS:
            raise InvalidTopup("amount", f"Must be at least {_MIN_INR_MINOR_UNITS} paise in INR.")

    async def open_topup(self, topup: Topup) -> Checkout:
        """Find the top-up's order or make one; see Gateway.

        Razorpay takes no idempotency key for orders. The receipt stands in for it: nothing is
        created before a lookup has found nothing, also between two tries.
        """
        for tries_left in reversed(range(_ORDER_TRIES)):
            order = await self._find_order(topup)
            if order is not None:
                return self._checkout(order)
            try:
                return self._checkout(await self._create_order(topup))
            except GatewayUnavailable as error:
                if tries_left == 0 or not is_worth_a_retry(error):
                    raise
            await pause_before_retry()
        raise AssertionError("The last try returns or raises.")

    async def check_proof(self, topup: Topup, proof: Proof) -> PaymentReport | None:
        """Check the proof, then ask Razorpay; see Gateway."""
        match proof:
            case OtherProof():
                raise _unfit(proof)
            case RazorpayProof():
                return await self._signed_payment(topup, proof)
            case LookupProof():
                return await self._best_payment(topup)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify the signature over the raw body, then read the event; see Gateway."""
        return read_webhook(headers, body, self._settings.webhook_secrets)

    async def _find_order(self, topup: Topup) -> WireOrder | None:
        answer = await self._api.get("/v1/orders", {"receipt": topup.topup_id})
        orders = [
            order
            for order in _read(answer, lambda content: [read_order(o) for o in items(content)])
            if order.receipt == topup.topup_id
        ]
        for order in orders:
            _check_order(topup, order)
        return min(orders, key=_order_rank, default=None)

    async def _create_order(self, topup: Topup) -> WireOrder:
        answer = await self._api.post(
            "/v1/orders",
            {
                "amount": topup.amount.minor_units,
                "currency": topup.amount.currency_code,
                "receipt": topup.topup_id,
                "notes": {"topup_id": topup.topup_id, "customer_id": topup.customer_id},
                "payment": _CAPTURE,
            },
        )
        order = _read(answer, read_order)
        _check_order(topup, order)
        return order

    def _checkout(self, order: WireOrder) -> Checkout:
        page = self._settings.checkout_url.rstrip("/")
        return Checkout(
            gateway_order_id=order.order_id,
            public_key=self._settings.key_id,
            url=f"{page}/{order.order_id}" if page else "",
        )

    async def _signed_payment(self, topup: Topup, proof: RazorpayProof) -> PaymentReport:
        """Check the signature over the stored order's id, whatever the customer's app says."""
        order_id = _order_id_of(topup)
        if PAYMENT_ID.fullmatch(proof.payment_id) is None:
            raise ProofInvalid("The payment id does not look like one of Razorpay's.")
        message = f"{order_id}|{proof.payment_id}".encode("ascii")
        if not is_signed(message, proof.signature, self._settings.key_secret):
            raise ProofInvalid("The signature does not fit the top-up's order and the payment.")
        answer = await self._api.get(f"/v1/payments/{proof.payment_id}")
        payment = _read(answer, read_payment).payment
        if payment.payment_id != proof.payment_id or payment.gateway_order_id != order_id:
            raise ProofInvalid("The payment does not belong to the top-up's order.")
        return PaymentReport(payment, answer.body)

    async def _best_payment(self, topup: Topup) -> PaymentReport | None:
        order_id = _order_id_of(topup)
        answer = await self._api.get(f"/v1/orders/{order_id}/payments")
        payments = [
            found
            for found in _read(answer, lambda content: [read_payment(p) for p in items(content)])
            if found.payment.gateway_order_id == order_id
        ]
        best = min(payments, key=_payment_rank, default=None)
        return None if best is None else PaymentReport(best.payment, answer.body)


_Read = TypeVar("_Read")


def _read(answer: Answer, reader: Callable[[JsonObject], _Read]) -> _Read:
    """Read an answer; one that cannot be read is as good as none."""
    try:
        return reader(answer.content)
    except Unreadable:
        raise GatewayUnavailable("Razorpay's answer cannot be read.") from None


def _check_order(topup: Topup, order: WireOrder) -> None:
    """Make sure that the customer pays what the top-up is for."""
    if order.amount != topup.amount or order.receipt != topup.topup_id:
        raise GatewayRefused(
            f"Razorpay's order {order.order_id} is for {order.amount} and does not fit the "
            f"top-up {topup.topup_id} for {topup.amount}."
        )


def _order_id_of(topup: Topup) -> str:
    """Return the stored order's id, in the shape in which it is safe in a path."""
    if ORDER_ID.fullmatch(topup.gateway_order_id) is None:
        raise ProofInvalid("Razorpay has no order for the top-up yet.")
    return topup.gateway_order_id


def _unfit(proof: OtherProof) -> NotImplementedHere | ProofInvalid:
    """Say why Razorpay does not take such a proof."""
    if proof.kind in _KNOWN_METHODS:
        return NotImplementedHere(
            f"A proof of kind {proof.kind} is not taken yet. Send Razorpay's proof or ask for a "
            "lookup."
        )
    return ProofInvalid(
        f"The top-up is paid through Razorpay, and a proof of kind {proof.kind} does not fit. "
        "Send Razorpay's proof or ask for a lookup."
    )


def _order_rank(order: WireOrder) -> tuple[int, int, str]:
    """Sort the order that is furthest first, then the oldest."""
    is_known = order.status in _ORDER_STATUSES
    progress = _ORDER_STATUSES.index(order.status) if is_known else len(_ORDER_STATUSES)
    return progress, order.create_time_seconds, order.order_id


def _payment_rank(found: WirePayment) -> tuple[int, int, str]:
    """Sort by what counts; the first capture is the one that pays, the last failure the news."""
    status = found.payment.status
    time = found.create_time_seconds
    is_captured = status is GatewayPaymentStatus.CAPTURED
    return _BEST_FIRST.index(status), time if is_captured else -time, found.payment.payment_id
