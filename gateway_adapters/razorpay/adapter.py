"""Razorpay: orders and QR codes, checkout proofs, wallets' tokens and webhooks.

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
    PaymentReport,
    PaypalProof,
    Proof,
    ProofInvalid,
    RazorpayProof,
    WalletToken,
    WebhookEvent,
)
from gateway_adapters.razorpay import orders, qr_codes, upi_intents
from gateway_adapters.razorpay.api import RazorpayApi, read
from gateway_adapters.razorpay.movements import movements, refunds_of
from gateway_adapters.razorpay.tokens import create_payment
from gateway_adapters.razorpay.upi_intents import UpiPayer
from gateway_adapters.razorpay.webhook import is_signed, read_webhook
from gateway_adapters.razorpay.wire import (
    ORDER_ID,
    PAYMENT_ID,
    QR_CODE_ID,
    WirePayment,
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

_OFFERED_METHODS: Final = frozenset({"card", "netbanking", "upi", qr_codes.METHOD})
_INDIAN_METHODS: Final = frozenset({"netbanking", "upi", qr_codes.METHOD})
"""These are paid in INR alone."""
_WALLETS: Final = frozenset({"google_pay", "apple_pay"})
"""These are paid with tokens, where this service can verify them. In INR, Google Pay is UPI."""
_MIN_INR_MINOR_UNITS: Final = 100
_BEST_FIRST: Final = (
    GatewayPaymentStatus.CAPTURED,
    GatewayPaymentStatus.AUTHORIZED,
    GatewayPaymentStatus.PENDING,
    GatewayPaymentStatus.STARTED,
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
    upi_payer: UpiPayer | None = None
    """Who stands in for the payer of a UPI intent; None where none is asked for."""
    wallets: frozenset[str] = frozenset()
    """The methods of the wallets whose tokens this service can verify."""
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
        now_seconds: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds that only go forward, `now_seconds` those since the epoch.

        Raises:
            ValueError: the API's URL is neither https nor on this machine.
        """
        self._settings = settings
        self._now_seconds = now_seconds
        self._api = RazorpayApi(
            session,
            settings.api_url,
            settings.key_id,
            settings.key_secret,
            settings.timeout_seconds,
            clock,
        )

    @property
    def is_cut_off(self) -> bool:
        """Whether it did not answer lately and is left alone for a while."""
        return self._api.is_cut_off

    def check_topup(self, amount: Money, method: str) -> None:
        """Refuse what Razorpay cannot do; see Gateway."""
        if method not in _OFFERED_METHODS | _WALLETS:
            offered = ", ".join(sorted(_OFFERED_METHODS | _WALLETS))
            raise InvalidTopup("method", f"Must be one of {offered}.")
        is_upi = _is_google_pay_in_rupees(method, amount)
        if method in _WALLETS - self._settings.wallets and not is_upi:
            raise NotImplementedHere(
                f"The method {method} in {amount.currency_code} is not set up on this server."
            )
        if method in _INDIAN_METHODS and amount.currency_code != "INR":
            raise InvalidTopup("amount", f"Must be in INR for the method {method}.")
        if amount.currency_code == "INR" and amount.minor_units < _MIN_INR_MINOR_UNITS:
            raise InvalidTopup("amount", f"Must be at least {_MIN_INR_MINOR_UNITS} paise in INR.")

    async def open_topup(self, topup: Topup) -> Checkout:
        """Find the top-up's order or QR code, or make one; see Gateway."""
        if topup.method == qr_codes.METHOD:
            return await qr_codes.open_qr_code(self._api, topup, self._now_seconds())
        order = await orders.open_order(self._api, topup)
        payer = self._settings.upi_payer
        uri = ""
        is_upi = topup.method in upi_intents.METHODS and topup.amount.currency_code == "INR"
        if is_upi and payer is not None:
            uri = await upi_intents.ask_for_intent(self._api, topup, order.order_id, payer)
        page = self._settings.checkout_url.rstrip("/")
        return Checkout(
            gateway_order_id=order.order_id,
            public_key=self._settings.key_id,
            url=f"{page}/{order.order_id}" if page else "",
            upi_intent_uri=uri,
        )

    async def check_proof(self, topup: Topup, proof: Proof) -> PaymentReport | None:
        """Check the proof, then ask Razorpay; see Gateway."""
        match proof:
            case PaypalProof():
                raise ProofInvalid(
                    "The top-up is paid through Razorpay, and PayPal's proof does not fit. Send "
                    "Razorpay's proof or ask for a lookup."
                )
            case RazorpayProof():
                return await self._signed_payment(topup, proof)
            case LookupProof():
                return await self._best_payment(topup)

    def check_token(self, topup: Topup, token: WalletToken) -> None:
        """Refuse a token of another method than the top-up's; see TokenGateway."""
        _order_id_of(topup)
        if topup.method != token.method:
            raise ProofInvalid(
                f"The top-up is paid by {topup.method}, and a token of {token.method} does not fit."
            )
        if _is_google_pay_in_rupees(topup.method, topup.amount):
            raise ProofInvalid("In INR Google Pay pays by UPI, without a token. Ask for a lookup.")

    async def pay_with_token(self, topup: Topup, token: WalletToken) -> PaymentReport:
        """Hand on a token; see TokenGateway. A card that is declined is a payment that failed."""
        payment_id = await create_payment(self._api, topup, token)
        report = await self._payment_of_order(topup, payment_id)
        if report is None:
            raise GatewayUnavailable("Razorpay's answer is about another payment.")
        return report

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
        """Return a payment's order or QR code; empty also where there is no such payment."""
        if PAYMENT_ID.fullmatch(payment_id) is None:
            return ""
        try:
            answer = await self._api.get(f"/v1/payments/{payment_id}")
        except GatewayRefused:
            return ""
        order_id = read(answer, read_payment_names)[1]
        return order_id or await qr_codes.qr_code_of(self._api, payment_id)

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify the signature over the raw body, then read the event; see Gateway."""
        return read_webhook(headers, body, self._settings.webhook_secrets)

    def movements(self, start_time_ms: int, end_time_ms: int) -> AsyncIterator[Movement]:
        """Go through Razorpay's own books; see Gateway."""
        return movements(self._api, start_time_ms, end_time_ms)

    async def _signed_payment(self, topup: Topup, proof: RazorpayProof) -> PaymentReport:
        """Check the signature over the stored order's id, whatever the customer's app says."""
        if _has_qr_code(topup):
            raise ProofInvalid(
                "The top-up is paid by a QR code, for which Razorpay gives no proof. Ask for a "
                "lookup."
            )
        order_id = _order_id_of(topup)
        if PAYMENT_ID.fullmatch(proof.payment_id) is None:
            raise ProofInvalid("The payment id does not look like one of Razorpay's.")
        message = f"{order_id}|{proof.payment_id}".encode("ascii")
        if not is_signed(message, proof.signature, self._settings.key_secret):
            raise ProofInvalid("The signature does not fit the top-up's order and the payment.")
        report = await self._payment_of_order(topup, proof.payment_id)
        if report is None:
            raise ProofInvalid("The payment does not belong to the top-up's order.")
        return report

    async def _payment_of_order(self, topup: Topup, payment_id: str) -> PaymentReport | None:
        """Ask for a payment; None where it is not one of the top-up's order."""
        answer = await self._api.get(f"/v1/payments/{payment_id}")
        found = read(answer, read_payment)
        payment = found.payment
        if (payment.payment_id, payment.gateway_order_id) != (payment_id, topup.gateway_order_id):
            return None
        return await self._report(found, answer.body)

    async def _best_payment(self, topup: Topup) -> PaymentReport | None:
        if _has_qr_code(topup):
            payments, body = await qr_codes.payments_of(self._api, topup.gateway_order_id)
        else:
            payments, body = await orders.payments_of(self._api, _order_id_of(topup))
        best = min(payments, key=_payment_rank, default=None)
        return None if best is None else await self._report(best, body)

    async def _report(self, found: WirePayment, body: bytes) -> PaymentReport:
        """Add to a payment what was refunded of it: its webhooks may have been lost."""
        reversals: tuple[GatewayReversal, ...] = ()
        if found.has_refunds:
            reversals = await refunds_of(self._api, found.payment)
        return PaymentReport(found.payment, body, reversals)


def _has_qr_code(topup: Topup) -> bool:
    """Tell whether a QR code stands for the top-up's order; its id is then safe in a path."""
    return QR_CODE_ID.fullmatch(topup.gateway_order_id) is not None


def _order_id_of(topup: Topup) -> str:
    """Return the stored order's id, in the shape in which it is safe in a path."""
    if ORDER_ID.fullmatch(topup.gateway_order_id) is None:
        raise ProofInvalid("Razorpay has no order for the top-up yet.")
    return topup.gateway_order_id


def _is_google_pay_in_rupees(method: str, amount: Money) -> bool:
    """Tell whether Google Pay pays by UPI: its cards, and so its tokens, are for the rest."""
    return (method, amount.currency_code) == ("google_pay", "INR")


def _payment_rank(found: WirePayment) -> tuple[int, int, str]:
    """Sort by what counts; the first capture is the one that pays, the last failure the news."""
    status = found.payment.status
    time = found.create_time_seconds
    is_captured = status is GatewayPaymentStatus.CAPTURED
    return _BEST_FIRST.index(status), time if is_captured else -time, found.payment.payment_id
