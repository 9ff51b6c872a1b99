"""The sandbox's Stripe as a whole: what an application mounts, keeps and tells its users.

    sandbox = StripeSandbox(settings, commit, kept)
    app = web.Application(middlewares=[tell_control_errors, sandbox.middleware])
    app.add_routes(sandbox.table())

`commit` keeps `sandbox.to_json()` and sends webhooks. The API is under `/stripe`, so that an
adapter's `api_url` is the sandbox's own URL with that path: StripeSettings.api_url.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway_adapters.sandbox.stripe import StripeRoutes
from gateway_adapters.sandbox.stripe_account import StripeAccount
from gateway_adapters.sandbox.stripe_control import Commit, StripeControl
from gateway_adapters.sandbox.stripe_signing import StripeSigner


@dataclass(frozen=True, slots=True)
class StripeSandboxSettings:
    """The sandbox's account at its Stripe."""

    secret_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    """Empty where no webhooks are wanted."""


class StripeSandbox:
    """Owns the account and its routes."""

    def __init__(
        self, settings: StripeSandboxSettings, commit: Commit, kept: Mapping[str, Any]
    ) -> None:
        """`kept` is what `to_json` gave before, or nothing."""
        self.account = StripeAccount()
        self.account.restore(kept)
        signer = StripeSigner(settings.webhook_secret)
        self._routes = StripeRoutes(self.account, commit, signer, secret_key=settings.secret_key)
        self._control = StripeControl(self.account, commit, signer)

    @property
    def middleware(self) -> Middleware:
        """What checks the key and gives errors Stripe's shape, on Stripe's paths."""
        return self._routes.middleware

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application: the API's and the control's."""
        return [*self._routes.table(), *self._control.table()]

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return self.account.to_json()
