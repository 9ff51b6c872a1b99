"""A body of every event that a gateway documents, as `docs/reference/events.md` goes through them.

All are about one payment of 1,000 minor units; what is taken back of it is 400.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway_adapters.gateway import Fact, WebhookEvent
from gateway_adapters.paypal import events as paypal
from gateway_adapters.razorpay import events as razorpay
from gateway_adapters.razorpay.webhook import read_webhook
from gateway_adapters.stripe import events as stripe

Json = dict[str, Any]
SECRET: Final = "secret"
TOPUP_ID: Final = "top_01JD8Z6Q7M0123456789ABCDEF"

READ_EVENTS: Final[Mapping[str, frozenset[str]]] = {
    "razorpay": frozenset(razorpay.READERS),
    "paypal": frozenset(paypal.READERS),
    "stripe": frozenset(stripe.READERS),
}
"""The events that each adapter says it reads."""


@dataclass(frozen=True)
class Sample:
    """An event of one kind; `variant` tells it from others of that kind."""

    kind: str
    content: Json
    variant: str = ""

    @property
    def title(self) -> str:
        """What stands in the table."""
        return f"`{self.kind}`, {self.variant}" if self.variant else f"`{self.kind}`"


def fact_of(gateway: str, sample: Sample) -> Fact | None:
    """Return what the gateway's adapter reads in an event."""
    return _READ[gateway](sample).fact


def _razorpay(sample: Sample) -> WebhookEvent:
    payload = {name: {"entity": entity} for name, entity in sample.content.items()}
    body = json.dumps({"event": sample.kind, "payload": payload}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return read_webhook({"x-razorpay-signature": signature}, body, [SECRET])


def _paypal(sample: Sample) -> WebhookEvent:
    event = {"id": "WH-1", "event_type": sample.kind, "resource": sample.content}
    return paypal.read_event(json.dumps(event).encode()).event


def _stripe(sample: Sample) -> WebhookEvent:
    event = {"id": "evt_1", "object": "event", "type": sample.kind, "created": 1_700_000_000}
    return stripe.read_event(json.dumps(event | {"data": {"object": sample.content}}).encode())


_READ: Final = {"razorpay": _razorpay, "paypal": _paypal, "stripe": _stripe}

_MONEY: Final = {"amount": 1_000, "currency": "INR"}
_PAYMENT: Final = {"id": "pay_1", "order_id": "order_1", "notes": [], **_MONEY}
_ORDER: Final = {"id": "order_1", "receipt": TOPUP_ID, "status": "paid", **_MONEY}
_PART: Final = {"payment_id": "pay_1", "amount": 400, "currency": "INR"}


def _paid(status: str) -> Json:
    return {"payment": _PAYMENT | {"status": status}}


def _rupees(status: str) -> Json:
    return {"refund": {"id": "rfnd_1", "status": status} | _PART, **_paid("captured")}


def _disputed(status: str, deducted: int = 0) -> Json:
    dispute = {"id": "disp_1", "status": status, "amount_deducted": deducted} | _PART
    return {"dispute": dispute, **_paid("captured")}


_RAZORPAY: Final = (
    Sample("payment.authorized", _paid("authorized")),
    Sample("payment.authorized", _paid("captured"), "captured by now"),
    Sample("payment.captured", _paid("captured")),
    Sample("order.paid", _paid("captured") | {"order": _ORDER}),
    Sample("qr_code.credited", _paid("captured") | {"qr_code": {"id": "qr_1", "notes": []}}),
    Sample("payment.failed", _paid("failed")),
    Sample("refund.created", _rupees("pending")),
    Sample("refund.created", _rupees("failed"), "failed by now"),
    Sample("refund.processed", _rupees("processed")),
    Sample("refund.failed", _rupees("failed")),
    Sample("payment.dispute.created", _disputed("open")),
    Sample("payment.dispute.under_review", _disputed("under_review")),
    Sample("payment.dispute.action_required", _disputed("open")),
    Sample("payment.dispute.won", _disputed("won")),
    Sample("payment.dispute.lost", _disputed("lost", 400)),
    Sample("payment.dispute.closed", _disputed("closed"), "nothing deducted"),
    Sample("payment.dispute.closed", _disputed("closed", 400), "deducted"),
    *(
        Sample(kind, {})
        for kind in (
            "refund.speed_changed",
            "qr_code.created",
            "qr_code.closed",
            "payment.downtime.started",
            "payment.downtime.updated",
            "payment.downtime.resolved",
        )
    ),
)


def _usd(value: str) -> Json:
    return {"currency_code": "USD", "value": value}


def _link(relation: str, path: str) -> list[Json]:
    return [{"rel": relation, "href": f"https://api.paypal.com{path}"}]


_UNIT: Final = {"amount": _usd("10.00"), "custom_id": TOPUP_ID}


def _capture(status: str) -> Json:
    links = _link("up", "/v2/checkout/orders/ORDER1")
    return {"id": "CAPTURE1", "status": status, "links": links, **_UNIT}


def _dollars(status: str) -> Json:
    links = _link("up", "/v2/payments/captures/CAPTURE1")
    return {"id": "REFUND1", "status": status, "amount": _usd("4.00"), "links": links}


def _case(status: str, outcome: str = "") -> Json:
    return {
        "dispute_id": "PP-D-1",
        "status": status,
        "create_time": "2026-11-01T09:00:00.000Z",
        "dispute_amount": _usd("4.00"),
        "disputed_transactions": [{"seller_transaction_id": "CAPTURE1"}],
    } | ({"dispute_outcome": {"outcome_code": outcome}} if outcome else {})


_PAYPAL: Final = (
    Sample(
        "CHECKOUT.ORDER.APPROVED", {"id": "ORDER1", "status": "APPROVED", "purchase_units": [_UNIT]}
    ),
    Sample("CHECKOUT.PAYMENT-APPROVAL.REVERSED", {"order_id": "ORDER1"}),
    Sample("PAYMENT.CAPTURE.COMPLETED", _capture("COMPLETED")),
    Sample("PAYMENT.CAPTURE.PENDING", _capture("PENDING")),
    Sample("PAYMENT.CAPTURE.DENIED", _capture("DECLINED")),
    Sample("PAYMENT.CAPTURE.DECLINED", _capture("DECLINED")),
    Sample("PAYMENT.CAPTURE.REFUNDED", _dollars("COMPLETED")),
    Sample("PAYMENT.CAPTURE.REVERSED", _dollars("COMPLETED")),
    Sample("PAYMENT.REFUND.PENDING", _dollars("PENDING")),
    Sample("PAYMENT.REFUND.FAILED", _dollars("FAILED")),
    Sample("CUSTOMER.DISPUTE.CREATED", _case("OPEN")),
    Sample("CUSTOMER.DISPUTE.UPDATED", _case("UNDER_REVIEW")),
    Sample("CUSTOMER.DISPUTE.RESOLVED", _case("RESOLVED", "RESOLVED_SELLER_FAVOUR"), "won"),
    Sample("CUSTOMER.DISPUTE.RESOLVED", _case("RESOLVED", "RESOLVED_BUYER_FAVOUR"), "lost (1)"),
    Sample("CUSTOMER.DISPUTE.RESOLVED", _case("RESOLVED", "SOMETHING_NEW"), "of unknown outcome"),
    *(
        Sample(kind, {})
        for kind in (
            "CHECKOUT.ORDER.COMPLETED",
            "PAYMENT.AUTHORIZATION.CREATED",
            "PAYMENT.AUTHORIZATION.VOIDED",
        )
    ),
)


def _intent(status: str, received: int = 0) -> Json:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1_000,
        "amount_received": received,
        "currency": "inr",
        "metadata": {"topup_id": TOPUP_ID},
        "status": status,
    }


def _back(kind: str, status: str, *moved: int) -> Json:
    return {
        "id": f"{kind}_1",
        "amount": 400,
        "balance_transactions": [{"amount": one, "currency": "inr"} for one in moved],
        "charge": "ch_1",
        "currency": "inr",
        "payment_intent": "pi_1",
        "status": status,
    }


def _charge_dispute(name: str, status: str, *moved: int, variant: str = "") -> Sample:
    return Sample(f"charge.dispute.{name}", _back("du", status, *moved), variant)


_STRIPE: Final = (
    Sample("payment_intent.succeeded", _intent("succeeded", 1_000)),
    Sample("payment_intent.amount_capturable_updated", _intent("requires_capture")),
    Sample("payment_intent.processing", _intent("processing")),
    Sample("payment_intent.payment_failed", _intent("requires_payment_method")),
    Sample("payment_intent.canceled", _intent("canceled")),
    Sample("refund.created", _back("re", "pending")),
    Sample("refund.updated", _back("re", "succeeded")),
    Sample("refund.updated", _back("re", "failed"), "failed or canceled"),
    Sample("charge.refund.updated", _back("re", "succeeded")),
    Sample("refund.failed", _back("re", "failed")),
    _charge_dispute("created", "needs_response", -400),
    _charge_dispute("created", "warning_needs_response", variant="an inquiry"),
    _charge_dispute("updated", "under_review", -400),
    _charge_dispute("funds_withdrawn", "needs_response", -400),
    _charge_dispute("funds_reinstated", "won", -400, 400),
    _charge_dispute("closed", "won", -400, variant="won"),
    _charge_dispute("closed", "lost", -400, variant="lost"),
    *(
        Sample(kind, {})
        for kind in (
            "payment_intent.created",
            "payment_intent.requires_action",
            "payment_intent.partially_funded",
            "charge.succeeded",
            "charge.failed",
            "charge.pending",
            "charge.captured",
            "charge.updated",
            "charge.expired",
            "charge.refunded",
        )
    ),
)

SAMPLES: Final[Mapping[str, Sequence[Sample]]] = {
    "razorpay": _RAZORPAY,
    "paypal": _PAYPAL,
    "stripe": _STRIPE,
}
