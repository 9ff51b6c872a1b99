"""Stripe's intents and charges, read with suspicion: a value is what is documented, or Unreadable.

Source: https://docs.stripe.com/api/payment_intents/object and
https://docs.stripe.com/api/charges/object.

The payment's id in the ledger is the intent's, also where a charge, a refund or a dispute is told.
All of them name it; an intent has one successful charge at most; and what the credit recorded is
then what every later report says. So the intent is the gateway's order and its payment in one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from gateway_adapters.stripe.amounts import read_amount
from gateway_adapters.wire import JsonObject, Unreadable, as_object, display_text
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayPaymentStatus

INTENT_ID: Final = re.compile(r"pi_[A-Za-z0-9]{1,128}")
"""With this shape an id cannot change the path of a request."""
CHARGE_ID: Final = re.compile(r"(?:ch|py)_[A-Za-z0-9]{1,128}")
"""As INTENT_ID, for charges: of cards, and of everything else."""
_CLIENT_SECRET: Final = re.compile(r"[!-~]{1,255}")
_CLIENT_SECRET_MEMBER: Final = re.compile(rb'("client_secret"\s*:\s*)"(?:[^"\\]|\\.)*"', re.DOTALL)
_OBJECT_ID: Final = re.compile(r"[a-z]{1,16}_[A-Za-z0-9]{1,128}")
_TOPUP_ID: Final = re.compile(r"top_[0-9A-Za-z]{1,36}")
_LATEST_SECONDS: Final = 253_402_300_799
"""The last second of the year 9999."""

_STATUSES: Final[Mapping[str, GatewayPaymentStatus]] = MappingProxyType(
    {
        "requires_action": GatewayPaymentStatus.STARTED,
        "processing": GatewayPaymentStatus.PENDING,
        "requires_capture": GatewayPaymentStatus.AUTHORIZED,
        "succeeded": GatewayPaymentStatus.CAPTURED,
        "canceled": GatewayPaymentStatus.FAILED,
    }
)
_BEFORE_AN_ATTEMPT: Final = frozenset({"requires_payment_method", "requires_confirmation"})
"""An intent comes back to these after a failure, too: then it tells of its last error."""


@dataclass(frozen=True, slots=True)
class WireIntent:
    """A payment intent as Stripe tells it."""

    intent_id: str
    topup_id: str
    """The top-up that it was made for; empty where it is not one of ours."""
    status: str
    amount: Money
    """What the customer is asked for."""
    amount_received: Money
    failure_reason: str
    has_refunds: bool
    has_dispute: bool
    """Both are only told where Stripe was asked to add the charge."""
    client_secret: str = field(repr=False)
    """Empty where it is not told: then the customer's app cannot pay."""


def read_intent(entity: object) -> WireIntent:
    """Read a payment intent.

    Raises:
        Unreadable.
    """
    intent = as_object(entity, "The payment intent")
    charge = intent.get("latest_charge")
    charge = charge if isinstance(charge, dict) else {}
    return WireIntent(
        intent_id=identifier(intent.get("id"), "The intent's id", INTENT_ID),
        topup_id=_topup_id(intent),
        status=status_of(intent),
        amount=read_amount(intent, "amount"),
        amount_received=read_amount(intent, "amount_received", may_be_nothing=True),
        failure_reason=_failure_reason(intent),
        has_refunds=_is_more_than_nothing(charge.get("amount_refunded")),
        has_dispute=charge.get("disputed") is True,
        client_secret=_client_secret(intent),
    )


def without_client_secrets(body: bytes) -> bytes:
    """Return an intent's or an event's JSON as it came, but for the client secrets in it.

    Whoever has one of them can pay its intent, and Stripe writes it into every intent that it tells
    of, in webhooks too.
    """
    return _CLIENT_SECRET_MEMBER.sub(rb'\1"(not kept)"', body)


def payment_of(intent: WireIntent) -> GatewayPayment | None:
    """Return the payment that an intent tells of; None where nobody has tried to pay yet.

    A status that nobody has documented is PENDING: nothing is paid by guess.
    """
    if intent.status not in _BEFORE_AN_ATTEMPT:
        return payment_as(intent, _STATUSES.get(intent.status, GatewayPaymentStatus.PENDING))
    return payment_as(intent, GatewayPaymentStatus.FAILED) if intent.failure_reason else None


def payment_as(intent: WireIntent, status: GatewayPaymentStatus) -> GatewayPayment:
    """Return an intent's payment with a status; what counts as captured is what was received."""
    is_captured = status is GatewayPaymentStatus.CAPTURED
    return GatewayPayment(
        payment_id=intent.intent_id,
        gateway_order_id=intent.intent_id,
        status=status,
        amount=intent.amount_received if is_captured else intent.amount,
        failure_reason=intent.failure_reason if status is GatewayPaymentStatus.FAILED else "",
    )


def read_captured_charge(entity: object) -> GatewayPayment | None:
    """Read a charge; None where it moved no money: it failed, is pending or waits for capture.

    Raises:
        Unreadable.
    """
    charge = as_object(entity, "The charge")
    if status_of(charge) != "succeeded" or charge.get("captured") is not True:
        return None
    payment_id, intent_id = read_charge_names(charge)
    return GatewayPayment(
        payment_id=intent_id or payment_id,
        gateway_order_id=intent_id,
        status=GatewayPaymentStatus.CAPTURED,
        amount=read_amount(charge, "amount_captured", may_be_nothing=True),
    )


def read_charge_names(charge: JsonObject) -> tuple[str, str]:
    """Return a charge's id and that of its intent, which is empty where there is none.

    Raises:
        Unreadable.
    """
    charge_id = identifier(charge.get("id"), "The charge's id", CHARGE_ID)
    return charge_id, reference(charge, "payment_intent", INTENT_ID)


def reference(entity: JsonObject, name: str, pattern: re.Pattern[str]) -> str:
    """Return the id of what an entity refers to; empty where it refers to nothing.

    Stripe writes the id, or the whole object where it was asked to.

    Raises:
        Unreadable.
    """
    value = entity.get(name)
    if isinstance(value, dict):
        value = value.get("id")
    return "" if value is None else identifier(value, f"`{name}`", pattern)


def identifier(value: object, what: str, pattern: re.Pattern[str] = _OBJECT_ID) -> str:
    """Return a value that has to be an id.

    Raises:
        Unreadable.
    """
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise Unreadable(f"{what} does not look like one.")
    return value


def status_of(entity: JsonObject) -> str:
    """Return what state an entity says it is in; empty where it says none."""
    status = entity.get("status")
    return status if isinstance(status, str) else ""


def created_ms(entity: JsonObject) -> int | None:
    """Return `created` in milliseconds since the epoch; None where it is missing or no time."""
    value = entity.get("created")
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value * 1000 if 0 < value <= _LATEST_SECONDS else None


def _topup_id(intent: JsonObject) -> str:
    """Return the top-up that the metadata names: without the secret key nobody can set them."""
    metadata = intent.get("metadata")
    value = metadata.get("topup_id") if isinstance(metadata, dict) else None
    return value if isinstance(value, str) and _TOPUP_ID.fullmatch(value) else ""


def _client_secret(intent: JsonObject) -> str:
    value = intent.get("client_secret")
    return value if isinstance(value, str) and _CLIENT_SECRET.fullmatch(value) else ""


def _failure_reason(intent: JsonObject) -> str:
    """Say why it failed, in Stripe's words for people where there are any."""
    error = intent.get("last_payment_error")
    if isinstance(error, dict):
        told = display_text(error.get("message")) or display_text(error.get("code"))
        return told or "Stripe gave no reason."
    reason = display_text(intent.get("cancellation_reason"))
    return f"The payment was canceled at Stripe: {reason}." if reason else ""


def _is_more_than_nothing(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
