"""What the sandbox's Razorpay signs: webhooks, and the proofs that Checkout hands out."""

import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway_adapters.sandbox.razorpay_account import new_id
from gateway_adapters.sandbox.razorpay_entities import Event, envelope
from gateway_adapters.sandbox.webhooks import Webhook

USER_AGENT: Final = "Razorpay-Webhook/v1"


@dataclass(frozen=True, slots=True)
class RazorpaySigner:
    """The account's secrets. Without a `webhook_secret` no webhooks are sent."""

    key_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)

    def proof(self, order_id: str, payment_id: str) -> str:
        """Return the signature that Checkout gives to the customer's app."""
        return _sign(self.key_secret, f"{order_id}|{payment_id}")

    def webhooks(self, events: Sequence[Event]) -> list[Webhook]:
        """Write the events down as they will be sent."""
        if not self.webhook_secret:
            return []
        return [self._webhook(event) for event in events]

    def headers(self, webhook: Webhook) -> dict[str, str]:
        """Return the headers of a webhook."""
        return {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "X-Razorpay-Event-Id": webhook.event_id,
            "X-Razorpay-Signature": _sign(self.webhook_secret, webhook.body),
        }

    def _webhook(self, event: Event) -> Webhook:
        event_id = new_id("evt").removeprefix("evt_")
        return Webhook(event_id, json.dumps(envelope(event, int(time.time()))), event.name)


def _sign(secret: str, message: str) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
