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
    """The endpoint's secret. Without one no webhooks are sent.

    A webhook is signed once, when it happens: other than Stripe's own, its retries keep that time.
    """

    webhook_secret: str = field(repr=False)

    def webhooks(self, events: Sequence[Event]) -> list[Webhook]:
        """Write the events down as they will be sent, signed."""
        if not self.webhook_secret:
            return []
        return [self._webhook(event) for event in events]

    def signature(self, body: str, seconds: int) -> str:
        """Return the header that signs a body at a time."""
        message = f"{seconds}.{body}".encode()
        signature = hmac.new(self.webhook_secret.encode(), message, hashlib.sha256).hexdigest()
        return f"t={seconds},v1={signature}"

    def _webhook(self, event: Event) -> Webhook:
        event_id, seconds = new_id("evt"), now_seconds()
        body = json.dumps(envelope(event, event_id, seconds))
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": USER_AGENT,
            "Stripe-Signature": self.signature(body, seconds),
        }
        return Webhook(event_id, body, headers, event.name)
