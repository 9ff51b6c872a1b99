"""An account at the sandbox's Stripe: its intents and their charges, and what is allowed."""

import hashlib
import json
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from gateway_adapters.sandbox.stripe_entities import (
    Charge,
    Dispute,
    Event,
    Intent,
    Refund,
    intent_entity,
)
from gateway_adapters.sandbox.stripe_fields import (
    Form,
    StripeError,
    amount_field,
    charged_amount_field,
    currency_field,
    metadata_field,
    missing,
)

DECLINED: Final = "Your card was declined."
_ID_CHARACTERS: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 24
_PAYABLE: Final = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})


@dataclass(slots=True)
class StripeAccount:
    """Owns the records. Changes are made at once or not at all."""

    intents: dict[str, Intent] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return {
            "intents": [asdict(intent) for intent in self.intents.values()],
            "charges": [asdict(charge) for charge in self.charges.values()],
            "refunds": [asdict(refund) for refund in self.refunds.values()],
            "disputes": [asdict(dispute) for dispute in self.disputes.values()],
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take over what was kept."""
        self.intents = {one["id"]: Intent(**one) for one in content.get("intents", [])}
        self.charges = {one["id"]: Charge(**one) for one in content.get("charges", [])}
        self.refunds = {one["id"]: Refund(**one) for one in content.get("refunds", [])}
        self.disputes = {one["id"]: Dispute(**one) for one in content.get("disputes", [])}

    def intent(self, intent_id: str) -> Intent:
        """Return the intent.

        Raises:
            StripeError: there is none.
        """
        if intent_id not in self.intents:
            raise missing(intent_id)
        return self.intents[intent_id]

    def charge(self, charge_id: str) -> Charge:
        """Return the charge.

        Raises:
            StripeError: there is none.
        """
        if charge_id not in self.charges:
            raise missing(charge_id)
        return self.charges[charge_id]

    def create_intent(self, form: Form, idempotency_key: str) -> Intent:
        """Make an intent, or return the one that was made with the same key and request.

        Raises:
            StripeError.
        """
        fingerprint = hashlib.sha256(json.dumps(sorted(form.items())).encode()).hexdigest()
        earlier = (one for one in self.intents.values() if one.idempotency_key == idempotency_key)
        made = next(earlier, None) if idempotency_key else None
        if made is not None and made.fingerprint != fingerprint:
            raise StripeError(
                "Keys for idempotent requests can only be used with the same parameters.",
                kind="idempotency_error",
            )
        if made is not None:
            return made
        intent_id = new_id("pi")
        intent = Intent(
            id=intent_id,
            amount=charged_amount_field(form),
            currency=currency_field(form),
            metadata=metadata_field(form),
            capture_method=form.get("capture_method", "automatic_async"),
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            created=now_seconds(),
            client_secret=new_id(f"{intent_id}_secret"),
        )
        self.intents[intent.id] = intent
        return intent

    def pay(self, intent_id: str, status: str, amount: int | None) -> list[Event]:
        """Let the customer pay: it succeeds, is processing, or waits for its capture.

        `amount` is charged instead of the intent's, only to test what then happens.

        Raises:
            StripeError: it cannot be paid any more.
        """
        intent = self._payable(intent_id)
        if status == "succeeded" and intent.capture_method == "manual":
            status = "requires_capture"
        charge = Charge(
            id=new_id("ch"),
            intent_id=intent.id,
            amount=intent.amount if amount is None else amount,
            currency=intent.currency,
            created=now_seconds(),
            status="pending" if status == "processing" else "succeeded",
        )
        self.charges[charge.id] = charge
        intent = replace(intent, charge_id=charge.id, error="")
        if status == "succeeded":
            return self._capture(intent, charge.amount)
        names = {"processing": "processing", "requires_capture": "amount_capturable_updated"}
        return self._now(replace(intent, status=status), names[status])

    def fail(self, intent_id: str) -> list[Event]:
        """Let an attempt fail; the intent can still be paid.

        Raises:
            StripeError: it cannot be paid any more.
        """
        intent = self.intent(intent_id)
        if intent.status != "processing":
            intent = self._payable(intent_id)
        charge = self.charges.get(intent.charge_id) or Charge(
            new_id("ch"), intent.id, intent.amount, intent.currency, now_seconds()
        )
        self.charges[charge.id] = replace(charge, status="failed")
        failed = replace(
            intent, status="requires_payment_method", charge_id=charge.id, error=DECLINED
        )
        return self._now(failed, "payment_failed")

    def settle(self, intent_id: str) -> list[Event]:
        """Let what was processing succeed.

        Raises:
            StripeError: it is not processing.
        """
        intent = self.intent(intent_id)
        if intent.status != "processing":
            raise unexpected_state(intent)
        return self._capture(intent, self.charges[intent.charge_id].amount)

    def capture(self, intent_id: str, form: Form) -> tuple[Intent, list[Event]]:
        """Take the money that is on hold, or a part of it.

        Raises:
            StripeError: there is none, or less.
        """
        intent = self.intent(intent_id)
        if intent.status != "requires_capture":
            raise unexpected_state(intent)
        amount = amount_field(form, "amount_to_capture", intent.amount)
        if not 0 < amount <= intent.amount:
            raise StripeError("Amount to capture is too large.", "amount_too_large")
        events = self._capture(intent, amount)
        return self.intents[intent_id], events

    def cancel(self, intent_id: str) -> list[Event]:
        """Let the merchant cancel what was not paid.

        Raises:
            StripeError: it was paid, or canceled before.
        """
        intent = self.intent(intent_id)
        if intent.status not in _PAYABLE | {"requires_capture"}:
            raise unexpected_state(intent)
        canceled = replace(intent, status="canceled", cancellation_reason="abandoned")
        return self._now(canceled, "canceled")

    def _payable(self, intent_id: str) -> Intent:
        intent = self.intent(intent_id)
        if intent.status not in _PAYABLE:
            raise unexpected_state(intent)
        return intent

    def _capture(self, intent: Intent, amount: int) -> list[Event]:
        charge = self.charges[intent.charge_id]
        self.charges[charge.id] = replace(
            charge, status="succeeded", is_captured=True, amount_captured=amount
        )
        return self._now(replace(intent, status="succeeded", amount_received=amount), "succeeded")

    def _now(self, intent: Intent, event: str) -> list[Event]:
        self.intents[intent.id] = intent
        return [Event(f"payment_intent.{event}", intent_entity(intent))]


def unexpected_state(intent: Intent) -> StripeError:
    """Say that an intent's status does not allow what was asked for."""
    return StripeError(
        f"This PaymentIntent could not be changed because it has a status of {intent.status}.",
        "payment_intent_unexpected_state",
    )


def new_id(prefix: str) -> str:
    """Return an id in Stripe's shape, such as `pi_3MtwBwLkdIwHu7ix28a3tqPa`."""
    return f"{prefix}_{''.join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))}"


def now_seconds() -> int:
    """Return the time as Stripe tells it."""
    return int(time.time())
