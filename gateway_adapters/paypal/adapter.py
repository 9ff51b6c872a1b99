"""PayPal: orders, captures, checkout proofs and webhooks.

Source of the rules: https://developer.paypal.com/docs/api/orders/v2/ and
https://developer.paypal.com/docs/api/payments/v2/.

A customer approves an order at PayPal; the money moves when it is then captured. PayPal does a
request once for each request id: for six hours with orders, for 45 days with payments. A top-up's
order is asked for under the top-up's id. A later repeat makes another order, of which the customer
never heard, since the answer to the first one was lost.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
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
    WebhookEvent,
)
from gateway_adapters.outbound import Answer
from gateway_adapters.paypal.amounts import CURRENCIES, NotExact, to_value
from gateway_adapters.paypal.api import PaypalApi, issues, read, unreadable
from gateway_adapters.paypal.certificates import Certificates
from gateway_adapters.paypal.disputes import LostDispute, loss_without_refund
from gateway_adapters.paypal.events import PaypalEvent, read_event, taken_by_dispute
from gateway_adapters.paypal.orders import (
    ALREADY_CAPTURED,
    METHODS,
    check_order,
    declined_report,
    order_request,
    report_of,
)
from gateway_adapters.paypal.reporting import movements
from gateway_adapters.paypal.settings import PaypalSettings
from gateway_adapters.paypal.signature import verify
from gateway_adapters.paypal.wire import (
    REFUNDED_STATUSES,
    RESOURCE_ID,
    order_of_resource,
    read_order,
)
from server.ledger.money import Money
from server.ledger.records import (
    Checkout,
    GatewayPayment,
    GatewayReversal,
    Topup,
)

_KNOWN_METHODS: Final = frozenset({"google_pay", "apple_pay"})
_REFUND_SHOWS_MS: Final = 24 * 3_600_000
"""After so long a lost dispute whose refund PayPal does not show had none. An event that is not
accepted PayPal goes on to send for three days."""
_ASK_AGAIN_SECONDS: Final = 300.0


class Paypal:
    """The Gateway for PayPal. The session stays its owner's, who closes it."""

    name = "paypal"
    tells_client_secret = False

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: PaypalSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` tells the time; `clock` gives seconds that only go forward.

        Raises:
            ValueError: `api_url` is not https, or there is no root to trust.
        """
        self._settings = settings
        self._now = now
        self._api = PaypalApi(session, settings, clock)
        self._certificates = Certificates(session, settings, now=now, clock=clock)

    @property
    def is_cut_off(self) -> bool:
        """Whether it did not answer lately and is left alone for a while."""
        return self._api.is_cut_off

    def check_topup(self, amount: Money, method: str) -> None:
        """Refuse what PayPal cannot do; see Gateway."""
        if method in _KNOWN_METHODS:
            raise NotImplementedHere(
                f"The method {method} is not offered through PayPal. Use paypal or card."
            )
        if method not in METHODS:
            raise InvalidTopup("method", "Must be one of card, paypal.")
        if amount.currency_code not in CURRENCIES:
            raise InvalidTopup(
                "amount.currency_code",
                f"PayPal cannot receive {amount.currency_code}. Must be one of "
                f"{', '.join(sorted(CURRENCIES))}.",
            )
        try:
            to_value(amount)
        except NotExact as error:
            raise InvalidTopup("amount", str(error)) from None

    async def open_topup(self, topup: Topup) -> Checkout:
        """Make the top-up's order, or get the one that was made; see Gateway."""
        answer = await self._api.post(
            "/v2/checkout/orders", order_request(topup, self._settings), topup.topup_id
        )
        order = read(answer, read_order)
        check_order(topup, order)
        return Checkout(order.order_id, self._settings.client_id, order.checkout_url)

    async def check_proof(self, topup: Topup, proof: Proof) -> PaymentReport | None:
        """Check that it is the top-up's order that was approved, then ask PayPal; see Gateway."""
        match proof:
            case PaypalProof():
                if proof.order_id != _order_id_of(topup):
                    raise ProofInvalid("The order is not the one that was made for the top-up.")
                return await self._look_up(topup)
            case LookupProof():
                return await self._look_up(topup)
            case _:
                raise ProofInvalid(
                    "The top-up is paid through PayPal. Send PayPal's proof or ask for a lookup."
                )

    async def capture(self, topup: Topup, payment: GatewayPayment) -> PaymentReport:
        """Capture the order that the customer approved; see Gateway.

        Each approval has a request id of its own, so that a customer who was declined and approved
        again in another way is not told of the first time once more. Two captures are kept apart by
        the order, which PayPal captures once.
        """
        order_id = _order_id_of(topup)
        request_id = f"{topup.topup_id}-capture-{topup.report_time_ms}"
        path = f"/v2/checkout/orders/{order_id}/capture"
        try:
            answer = await self._api.post(path, {}, request_id)
        except GatewayRefused as refused:
            declined = declined_report(topup, payment, refused)
            if declined is not None:
                return declined
            if ALREADY_CAPTURED not in issues(refused):
                raise
            answer = await self._api.get(f"/v2/checkout/orders/{order_id}")
        report = _report(topup, answer)
        if report is None:
            raise unreadable()
        return report

    async def order_of(self, payment_id: str) -> str:
        """Return the order of a capture; see Gateway."""
        capture = await self._capture(payment_id)
        return "" if capture is None else order_of_resource(capture.content)

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify the signature over the raw body, then read the event; see Gateway."""
        await verify(headers, body, self._settings.webhook_id, self._certificates)
        return await self._completed(read_event(body))

    def movements(self, start_time_ms: int, end_time_ms: int) -> AsyncIterator[Movement]:
        """Go through PayPal's own books; see Gateway, and `reporting` for what they leave out."""
        return movements(self._api, start_time_ms, end_time_ms)

    async def _look_up(self, topup: Topup) -> PaymentReport | None:
        """Ask for the order. One that nobody approved in time is gone: nothing was paid."""
        answer = await self._found(f"/v2/checkout/orders/{_order_id_of(topup)}")
        return None if answer is None else _report(topup, answer)

    async def _completed(self, told: PaypalEvent) -> WebhookEvent:
        """Add what the event leaves out and PayPal can be asked for."""
        event, fact = told.event, told.event.fact
        if isinstance(fact, GatewayPayment) and event.topup_id and not fact.gateway_order_id:
            order_id = await self.order_of(fact.payment_id)
            return replace(event, fact=replace(fact, gateway_order_id=order_id))
        if isinstance(fact, GatewayReversal) and told.lost is not None:
            untold = await self._untold(told.lost, fact.payment_id)
            if untold.minor_units > 0:
                self._wait_for_refund(event)
                return taken_by_dispute(event, untold)
        return event

    async def _untold(self, lost: LostDispute, capture_id: str) -> Money:
        """Return what of a lost dispute no refund tells; all where PayPal knows no such capture.

        Where PayPal has the order no more, the capture tells whether there was any refund.
        """
        capture = await self._capture(capture_id)
        if capture is None:
            return lost.amount
        order_id = order_of_resource(capture.content)
        order = await self._found(f"/v2/checkout/orders/{order_id}") if order_id else None
        if order is not None:
            return read(order, lambda content: loss_without_refund(lost, capture_id, content))
        is_refunded = capture.content.get("status") in REFUNDED_STATUSES
        return Money(lost.amount.currency_code, 0) if is_refunded else lost.amount

    def _wait_for_refund(self, event: WebhookEvent) -> None:
        """Have PayPal tell again of a dispute that was lost just now: its refund may show late.

        Booked at once, the dispute would be debited, and its refund once more. What is disputed has
        been held back since the dispute began.

        Raises:
            GatewayUnavailable.
        """
        age_ms = self._now().timestamp() * 1_000 - (event.report_time_ms or 0)
        if age_ms < _REFUND_SHOWS_MS:
            raise GatewayUnavailable(
                "PayPal does not show yet what the lost dispute gave back.", _ASK_AGAIN_SECONDS
            )

    async def _capture(self, capture_id: str) -> Answer | None:
        """Ask for a capture; None where there is none that is ours."""
        if RESOURCE_ID.fullmatch(capture_id) is None:
            return None
        return await self._found(f"/v2/payments/captures/{capture_id}")

    async def _found(self, path: str) -> Answer | None:
        """Ask for a resource; None where PayPal has none of that name."""
        try:
            return await self._api.get(path)
        except GatewayRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise


def _order_id_of(topup: Topup) -> str:
    """Return the stored order's id, in the shape in which it is safe in a path."""
    if RESOURCE_ID.fullmatch(topup.gateway_order_id) is None:
        raise ProofInvalid("PayPal has no order for the top-up yet.")
    return topup.gateway_order_id


def _report(topup: Topup, answer: Answer) -> PaymentReport | None:
    order = read(answer, read_order)
    if order.order_id != topup.gateway_order_id:
        raise unreadable()
    return report_of(order, answer)
