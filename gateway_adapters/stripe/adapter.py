"""Stripe: payment intents, lookups, captures and webhooks.

Source of the rules: https://docs.stripe.com/api/payment_intents and
https://docs.stripe.com/payments/paymentintents/lifecycle.

A customer's app confirms an intent with the publishable key and the intent's client secret; Stripe
then takes the money by itself. The secret is told to whoever starts the top-up, and taken out of
everything that is kept.
Google Pay and Apple Pay are cards to Stripe, whose own libraries handle their tokens. A top-up's
intent is asked for under the top-up's id, for which Stripe gives the same one for 24 hours. A later
repeat makes another one, of which the customer never heard, since the answer to the first was lost.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import aiohttp

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    InvalidTopup,
    LookupProof,
    Movement,
    PaymentReport,
    Proof,
    ProofInvalid,
    WebhookEvent,
)
from gateway_adapters.outbound import Answer
from gateway_adapters.stripe.amounts import NotCharged, to_amount
from gateway_adapters.stripe.api import StripeApi, read
from gateway_adapters.stripe.events import read_event
from gateway_adapters.stripe.movements import disputes_of, movements, refunds_of
from gateway_adapters.stripe.settings import StripeSettings
from gateway_adapters.stripe.signature import verify
from gateway_adapters.stripe.wire import (
    CHARGE_ID,
    INTENT_ID,
    payment_of,
    read_charge_names,
    read_intent,
    without_client_secrets,
)
from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    GatewayPayment,
    GatewayPaymentStatus,
    GatewayReversal,
    Topup,
)

_METHODS: Final = frozenset({"card", "google_pay", "apple_pay"})
_INTENTS: Final = "/v1/payment_intents"
_WITH_CHARGE: Final[Mapping[str, str]] = MappingProxyType({"expand[]": "latest_charge"})


class Stripe:
    """The Gateway for Stripe. The session stays its owner's, who closes it."""

    name = "stripe"
    tells_client_secret = True

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: StripeSettings,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` tells the time, in seconds since the epoch; `clock`'s seconds only go forward.

        Raises:
            ValueError: the API's URL is neither https nor on this machine.
        """
        self._settings = settings
        self._now = now
        self._api = StripeApi(session, settings, clock)

    @property
    def is_cut_off(self) -> bool:
        """Whether it did not answer lately and is left alone for a while."""
        return self._api.is_cut_off

    def check_topup(self, amount: Money, method: str) -> None:
        """Refuse what Stripe cannot do; see Gateway."""
        if method not in _METHODS:
            raise InvalidTopup("method", f"Must be one of {', '.join(sorted(_METHODS))}.")
        try:
            to_amount(amount)
        except NotCharged as error:
            raise InvalidTopup("amount", str(error)) from None

    async def open_topup(self, topup: Topup) -> Checkout:
        """Make the top-up's intent, or get the one that was made; see Gateway."""
        if topup.gateway_order_id:
            answer = await self._api.get(f"{_INTENTS}/{_intent_id_of(topup)}")
        else:
            answer = await self._create(topup)
        intent = read(answer, read_intent)
        is_another = intent.intent_id != (topup.gateway_order_id or intent.intent_id)
        if is_another or intent.amount != topup.amount or intent.topup_id != topup.topup_id:
            raise GatewayRefused(
                f"Stripe's intent {intent.intent_id} is for {intent.amount} and does not fit the "
                f"top-up {topup.topup_id} for {topup.amount}."
            )
        page = self._settings.checkout_url.rstrip("/")
        return Checkout(
            gateway_order_id=intent.intent_id,
            public_key=self._settings.publishable_key,
            url=f"{page}/{intent.intent_id}" if page else "",
            client_secret=intent.client_secret,
        )

    async def check_proof(self, topup: Topup, proof: Proof) -> PaymentReport | None:
        """Ask Stripe: what its library tells the customer's app proves nothing; see Gateway."""
        if not isinstance(proof, LookupProof):
            raise ProofInvalid("The top-up is paid through Stripe. Ask for a lookup.")
        path = f"{_INTENTS}/{_intent_id_of(topup)}"
        return await self._report(topup, await self._api.get(path, _WITH_CHARGE))

    async def capture(self, topup: Topup, payment: GatewayPayment) -> PaymentReport:
        """Capture an authorized payment; see Gateway.

        A repeat does no harm, so that it needs no idempotency key: Stripe refuses it, and then says
        what the payment is.
        """
        path = f"{_INTENTS}/{_intent_id_of(topup)}"
        if payment.payment_id != topup.gateway_order_id:
            raise GatewayRefused("The payment does not belong to the top-up's intent.")
        fields = {**_WITH_CHARGE, "amount_to_capture": str(to_amount(payment.amount))}
        refusal: GatewayRefused | None = None
        try:
            answer = await self._api.post(f"{path}/capture", fields)
        except GatewayRefused as error:
            refusal = error
            answer = await self._api.get(path, _WITH_CHARGE)
        report = await self._report(topup, answer)
        is_done = report is not None and (
            report.payment.status is not GatewayPaymentStatus.AUTHORIZED
        )
        if report is None or (refusal is not None and not is_done):
            raise refusal or GatewayUnavailable("Stripe's answer tells of no payment.")
        return report

    async def order_of(self, payment_id: str) -> str:
        """Return the intent of a charge; an intent is its own order."""
        if INTENT_ID.fullmatch(payment_id) is not None:
            return payment_id
        if CHARGE_ID.fullmatch(payment_id) is None:
            return ""
        try:
            answer = await self._api.get(f"/v1/charges/{payment_id}")
        except GatewayRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return ""
            raise
        return read(answer, read_charge_names)[1]

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify the signature over the raw body, then read the event; see Gateway."""
        verify(headers, body, self._settings.webhook_secrets, int(self._now()))
        event = read_event(body)
        fact = event.fact
        if isinstance(fact, GatewayReversal) and not fact.gateway_order_id:
            # It names the charge alone, and the credit recorded the intent.
            intent_id = await self.order_of(fact.payment_id)
            payment_id = intent_id or fact.payment_id
            fact = replace(fact, payment_id=payment_id, gateway_order_id=intent_id)
        return replace(event, fact=fact, kept_body=without_client_secrets(body))

    def movements(self, start_time_ms: int, end_time_ms: int) -> AsyncIterator[Movement]:
        """Go through Stripe's own books; see Gateway."""
        return movements(self._api, start_time_ms, end_time_ms)

    async def _create(self, topup: Topup) -> Answer:
        """Ask for the top-up's intent, which Stripe makes once for its id."""
        return await self._api.post(
            _INTENTS,
            {
                "amount": str(to_amount(topup.amount)),
                "currency": topup.amount.currency_code.lower(),
                "payment_method_types[]": "card",
                "metadata[topup_id]": topup.topup_id,
                "metadata[customer_id]": topup.customer_id,
            },
            idempotency_key=topup.topup_id,
        )

    async def _report(self, topup: Topup, answer: Answer) -> PaymentReport | None:
        """Read an intent, and add what was taken back of it: its webhooks may have been lost."""
        intent = read(answer, read_intent)
        if intent.intent_id != topup.gateway_order_id:
            raise GatewayUnavailable("Stripe's answer is about another payment.")
        payment = payment_of(intent)
        if payment is None:
            return None
        reversals: tuple[GatewayReversal, ...] = ()
        if intent.has_refunds:
            reversals = await refunds_of(self._api, intent.intent_id)
        if intent.has_dispute:
            reversals += await disputes_of(self._api, intent.intent_id)
        return PaymentReport(payment, without_client_secrets(answer.body), reversals)


def _intent_id_of(topup: Topup) -> str:
    """Return the stored intent's id, in the shape in which it is safe in a path."""
    if INTENT_ID.fullmatch(topup.gateway_order_id) is None:
        raise ProofInvalid("Stripe has no intent for the top-up yet.")
    return topup.gateway_order_id
