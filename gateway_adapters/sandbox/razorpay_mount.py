"""The sandbox's Razorpay as a whole: what an application mounts, keeps and tells its users.

The paths are Razorpay's own, and its control's directly under `/sandbox/`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway_adapters.sandbox.razorpay import RazorpayRoutes
from gateway_adapters.sandbox.razorpay_account import RazorpayAccount
from gateway_adapters.sandbox.razorpay_checkout import RazorpayCheckout
from gateway_adapters.sandbox.razorpay_control import RazorpayControl
from gateway_adapters.sandbox.razorpay_signing import RazorpaySigner
from gateway_adapters.sandbox.razorpay_tokens import RazorpayTokens
from gateway_adapters.sandbox.telling import Commit
from gateway_adapters.sandbox.webhooks import Webhook


@dataclass(frozen=True, slots=True)
class RazorpaySandboxSettings:
    """The sandbox's account at its Razorpay."""

    name: ClassVar[str] = "razorpay"
    key_id: str
    key_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    webhook_url: str = ""
    """Empty where no webhooks are wanted."""

    def mount(self, commit: Commit, kept: Mapping[str, Any]) -> "RazorpaySandbox":
        """Return the gateway; see MountSettings."""
        return RazorpaySandbox(self, commit, kept)


class RazorpaySandbox:
    """Owns the account and its routes."""

    def __init__(
        self, settings: RazorpaySandboxSettings, commit: Commit, kept: Mapping[str, Any]
    ) -> None:
        """`kept` is what `to_json` gave before, or nothing."""
        self.account = RazorpayAccount()
        self.account.restore(kept)
        self._signer = RazorpaySigner(settings.key_secret, settings.webhook_secret)
        self._routes = RazorpayRoutes(self.account, commit, self._signer, key_id=settings.key_id)
        self._control = RazorpayControl(self.account, commit, self._signer)
        self._tokens = RazorpayTokens(self.account, commit, self._signer)
        self.checkout = RazorpayCheckout(self.account, commit, self._signer)

    @property
    def middleware(self) -> Middleware:
        """What checks the key and gives errors Razorpay's shape, on Razorpay's paths."""
        return self._routes.middleware

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application: the API's and the control's."""
        return [*self._routes.table(), *self._control.table(), *self._tokens.table()]

    def sign(self, webhook: Webhook) -> Mapping[str, str]:
        """Return the headers of a webhook; see Mount."""
        return self._signer.headers(webhook)

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return self.account.to_json()
