"""The sandbox's Apple Pay as a whole: customers who pay, and sessions over TLS of its own.

    GET  /sandbox/apple-pay          what the customer's page would be given: `validation_url`
    POST /sandbox/apple-pay/token    {amount, age_seconds, card_year}

All fields of the JSON body are optional. `token` answers the `paymentData` that a customer's device
makes, signed `age_seconds` ago. Sessions are given at `validation_url` to whoever has the identity
certificate of the merchant, and to nobody else; what listens there is `session_app`.
"""

import secrets
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from gateway_adapters.sandbox.apple_pay_certificates import (
    ApplePayCertificates,
    ApplePayFiles,
    make_certificates,
)
from gateway_adapters.sandbox.apple_pay_signing import CARD_YEAR, card_content, payment_token
from gateway_adapters.sandbox.control import content_of, control_field, tell_control_errors
from gateway_adapters.sandbox.mount import pass_through
from gateway_adapters.sandbox.telling import Commit
from gateway_adapters.sandbox.webhooks import Webhook

_SESSION_PATH: Final = "/paymentservices/paymentSession"
_SESSION_MS: Final = 5 * 60 * 1_000


@dataclass(frozen=True, slots=True)
class ApplePaySandboxSettings:
    """The merchant that the sandbox's Apple knows."""

    files: ApplePayFiles
    """Where the merchant finds its certificates. They are new each time that the sandbox starts."""
    merchant_identifier: str
    domains: tuple[str, ...]
    session_address: str
    """Where `session_app` listens, host:port."""

    def mount(self) -> "ApplePaySandbox":
        """Return the sandbox's Apple, and leave the merchant's certificates."""
        certificates = make_certificates(self.merchant_identifier)
        certificates.leave(self.files)
        return ApplePaySandbox(self, certificates)


class ApplePaySandbox:
    """Owns the routes. It sends and keeps nothing: it is its own MountSettings and Mount."""

    name = "apple-pay"
    webhook_url = ""
    checkout = None
    middleware = staticmethod(pass_through)

    def __init__(
        self, settings: ApplePaySandboxSettings, certificates: ApplePayCertificates
    ) -> None:
        self._settings = settings
        self.certificates = certificates

    def mount(self, commit: Commit, kept: Mapping[str, Any]) -> "ApplePaySandbox":
        """Return the sandbox's Apple; see MountSettings."""
        del commit, kept
        return self

    def sign(self, webhook: Webhook) -> Mapping[str, str]:
        """Sign nothing; see Mount."""
        del webhook
        return {}

    def to_json(self) -> dict[str, Any]:
        """Keep nothing; see Mount."""
        return {}

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        return [
            web.get("/sandbox/apple-pay", self.show),
            web.post("/sandbox/apple-pay/token", self.token),
        ]

    def session_app(self) -> web.Application:
        """Return the application that gives sessions."""
        app = web.Application(middlewares=[tell_control_errors])
        app.add_routes([web.post(_SESSION_PATH, self.give_session)])
        return app

    def session_tls(self) -> ssl.SSLContext:
        """Return the TLS that it is to be served with."""
        return self.certificates.server_tls(self._settings.files.folder)

    async def show(self, _request: web.Request) -> web.Response:
        """Return what Safari would tell the customer's page."""
        url = f"https://{self._settings.session_address}/paymentservices/startSession"
        return web.json_response({"validation_url": url, "domain": self._settings.domains[0]})

    async def token(self, request: web.Request) -> web.Response:
        """Pay as a customer: return the token of a card."""
        content = await content_of(request)
        age_seconds: int = control_field(content, "age_seconds", 0)
        card_year: int = control_field(content, "card_year", CARD_YEAR)
        card = card_content(control_field(content, "amount", 1_000), card_year)
        signed_at = datetime.now(UTC) - timedelta(seconds=age_seconds)
        token = payment_token(
            self.certificates, self._settings.merchant_identifier, card, signed_at
        )
        return web.json_response({"token": token})

    async def give_session(self, request: web.Request) -> web.Response:
        """Give a session to the merchant, for one of its domains."""
        content = await content_of(request)
        is_known = (
            _common_name(request) == self._settings.merchant_identifier
            and content.get("merchantIdentifier") == self._settings.merchant_identifier
            and content.get("initiative") == "web"
            and content.get("initiativeContext") in self._settings.domains
        )
        if not is_known:
            answer = {"statusCode": "400", "statusMessage": "Merchant not authorized"}
            return web.json_response(answer, status=400)
        now_ms = time.time_ns() // 1_000_000
        session = {
            "epochTimestamp": now_ms,
            "expiresAt": now_ms + _SESSION_MS,
            "merchantSessionIdentifier": f"SSH{secrets.token_hex(32).upper()}",
            "nonce": secrets.token_hex(4),
            "merchantIdentifier": self._settings.merchant_identifier,
            "domainName": content["initiativeContext"],
            "displayName": content.get("displayName", ""),
            "signature": secrets.token_hex(64),
        }
        return web.json_response(session)


def _common_name(request: web.Request) -> str:
    """Return whom the client's certificate is for."""
    assert request.transport is not None  # noqa: S101 - it is being answered
    certificate: dict[str, Any] = request.transport.get_extra_info("peercert")
    return "".join(
        value for part in certificate["subject"] for name, value in part if name == "commonName"
    )
