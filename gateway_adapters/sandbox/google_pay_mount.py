"""The sandbox's Google Pay as a whole: its keys, customers who pay, and Google Wallet's callbacks.

    GET  /google-pay/keys                 the root keys, as Google publishes them
    POST /sandbox/google-pay/token        {recipient, expires_in_seconds, card_year}
    POST /sandbox/google-pay/callback     {event, object, issuer_id, expires_in_seconds}

All fields of the JSON body are optional. `token` answers what the customer's app gets from Google
Pay. `callback` tells the service that a pass was saved (`event: "save"`) or deleted (`"del"`).
`duplicate`, `webhook` and `wait` are as for the other gateways' webhooks; its answer has the
callback's `nonce`.
"""

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from aiohttp import web

from gateway_adapters.sandbox.control import content_of, control_field
from gateway_adapters.sandbox.google_pay_signing import (
    CARD_YEAR,
    GooglePayKeys,
    card_message,
    kept_keys,
    pass_callback,
    payment_token,
    root_keys,
)
from gateway_adapters.sandbox.mount import pass_through
from gateway_adapters.sandbox.telling import Commit, tell, telling_content_of
from gateway_adapters.sandbox.webhooks import Webhook

KEYS_PATH: Final = "/google-pay/keys"

_HOUR_SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True)
class GooglePaySandboxSettings:
    """The merchant and the issuer that the sandbox's Google knows."""

    name: ClassVar[str] = "google-pay"
    folder: Path
    """Where its keys are kept."""
    merchant_key_file: Path
    """The merchant's private key, for whoever opens tokens; it is made where it is missing."""
    recipient: str
    issuer_id: str
    webhook_url: str = ""
    """Empty where no callbacks are wanted."""

    def mount(self, commit: Commit, kept: Mapping[str, Any]) -> "GooglePaySandbox":
        """Return the sandbox's Google, whose keys are kept in files of their own."""
        del kept
        return GooglePaySandbox(self, kept_keys(self.folder, self.merchant_key_file), commit)


class GooglePaySandbox:
    """Owns the routes."""

    checkout = None
    middleware = staticmethod(pass_through)

    def __init__(
        self, settings: GooglePaySandboxSettings, keys: GooglePayKeys, commit: Commit
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._commit = commit

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        return [
            web.get(KEYS_PATH, self.publish),
            web.post("/sandbox/google-pay/token", self.token),
            web.post("/sandbox/google-pay/callback", self.callback),
        ]

    async def publish(self, _request: web.Request) -> web.Response:
        """Return the root keys."""
        return web.json_response(
            root_keys(self._keys, _now_ms()), headers={"Cache-Control": "public, max-age=3600"}
        )

    async def token(self, request: web.Request) -> web.Response:
        """Pay as a customer: return the token of a card."""
        content = await content_of(request)
        recipient: str = control_field(content, "recipient", self._settings.recipient)
        card_year: int = control_field(content, "card_year", CARD_YEAR)
        message = card_message(_expires_ms(content), card_year)
        token = payment_token(self._keys, recipient, message, _now_ms())
        return web.json_response({"token": token})

    async def callback(self, request: web.Request) -> web.Response:
        """Save or delete a pass, and tell the service of it."""
        content = await telling_content_of(request)
        issuer_id: str = control_field(content, "issuer_id", self._settings.issuer_id)
        nonce = secrets.token_urlsafe(24)
        said = {
            "classId": f"{issuer_id}.loyalty",
            "objectId": f"{issuer_id}.{control_field(content, 'object', 'card-1')}",
            "expTimeMillis": _expires_ms(content),
            "eventType": control_field(content, "event", "save"),
            "nonce": nonce,
        }
        body = pass_callback(self._keys, issuer_id, said, _now_ms())
        answer = {"nonce": nonce, "body": json.loads(body)}
        return await tell(self._commit, [Webhook(nonce, body)], content, answer)

    def sign(self, webhook: Webhook) -> Mapping[str, str]:
        """Return the headers of a callback, whose signature is in its body; see Mount."""
        del webhook
        return {"Content-Type": "application/json"}

    def to_json(self) -> dict[str, Any]:
        """Keep nothing; see Mount."""
        return {}


def _expires_ms(content: dict[str, Any]) -> int:
    seconds: int = control_field(content, "expires_in_seconds", _HOUR_SECONDS)
    return _now_ms() + seconds * 1_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
