"""What the sandbox's Stripe signs: its webhooks."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway_adapters.sandbox.stripe_account import new_id, now_seconds
from gateway_adapters.sandbox.stripe_entities import Event, envelope
from gateway_adapters.sandbox.webhooks import Webhook

USER_AGENT: Final = "Stripe/1.0 (+https://stripe.com/docs/webhooks)"


@dataclass(frozen=True, slots=True)
class StripeSigner:
    """The endpoint's secret. Without one no webhooks are sent."""

    webhook_secret: str = field(repr=False)

    def webhooks(self, events: Sequence[Event]) -> list[Webhook]:
        """Write the events down as they will be sent."""
        if not self.webhook_secret:
            return []
        return [self._webhook(event) for event in events]

    def headers(self, webhook: Webhook) -> dict[str, str]:
        """Return the headers of a webhook that is sent now: Stripe signs the time of each try."""
        return {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": USER_AGENT,
            "Stripe-Signature": self.signature(webhook.body, now_seconds()),
        }

    def signature(self, body: str, seconds: int) -> str:
        """Return the header that signs a body at a time."""
        message = f"{seconds}.{body}".encode()
        signature = hmac.new(self.webhook_secret.encode(), message, hashlib.sha256).hexdigest()
        return f"t={seconds},v1={signature}"

    def _webhook(self, event: Event) -> Webhook:
        event_id, seconds = new_id("evt"), now_seconds()
        return Webhook(event_id, json.dumps(envelope(event, event_id, seconds)), event.name)
