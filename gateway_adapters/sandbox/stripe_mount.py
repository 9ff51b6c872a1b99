"""The sandbox's Stripe as a whole: what an application mounts, keeps and tells its users.

The API is under `/stripe`, so that an adapter's `api_url` is the sandbox's own URL with that path:
StripeSettings.api_url.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway_adapters.sandbox.stripe import StripeRoutes
from gateway_adapters.sandbox.stripe_account import StripeAccount
from gateway_adapters.sandbox.stripe_checkout import StripeCheckout
from gateway_adapters.sandbox.stripe_control import StripeControl
from gateway_adapters.sandbox.stripe_signing import StripeSigner
from gateway_adapters.sandbox.telling import Commit
from gateway_adapters.sandbox.webhooks import Webhook


@dataclass(frozen=True, slots=True)
class StripeSandboxSettings:
    """The sandbox's account at its Stripe."""

    name: ClassVar[str] = "stripe"
    secret_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    webhook_url: str = ""
    """Empty where no webhooks are wanted."""

    def mount(self, commit: Commit, kept: Mapping[str, Any]) -> "StripeSandbox":
        """Return the gateway; see MountSettings."""
        return StripeSandbox(self, commit, kept)


class StripeSandbox:
    """Owns the account and its routes."""

    def __init__(
        self, settings: StripeSandboxSettings, commit: Commit, kept: Mapping[str, Any]
    ) -> None:
        """`kept` is what `to_json` gave before, or nothing."""
        self.account = StripeAccount()
        self.account.restore(kept)
        self.signer = StripeSigner(settings.webhook_secret)
        self._routes = StripeRoutes(
            self.account, commit, self.signer, secret_key=settings.secret_key
        )
        self._control = StripeControl(self.account, commit, self.signer)
        self.checkout = StripeCheckout(self.account, commit, self.signer)

    @property
    def middleware(self) -> Middleware:
        """What checks the key and gives errors Stripe's shape, on Stripe's paths."""
        return self._routes.middleware

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application: the API's and the control's."""
        return [*self._routes.table(), *self._control.table()]

    def sign(self, webhook: Webhook) -> Mapping[str, str]:
        """Return the headers of a webhook; see Mount."""
        return self.signer.headers(webhook)

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return self.account.to_json()
