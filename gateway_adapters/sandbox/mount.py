"""What a gateway is to the sandbox's application: it is mounted, kept, and has its webhooks signed.

Each gateway has its module `<gateway>_mount` with both of these. Its paths are its own, so that any
number of gateways stand beside each other in one application.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway_adapters.sandbox.checkout import CheckoutAccount
from gateway_adapters.sandbox.telling import Commit
from gateway_adapters.sandbox.webhooks import Webhook


class Mount(Protocol):
    """A gateway with its account and its routes."""

    @property
    def middleware(self) -> Middleware:
        """What checks credentials and gives errors the gateway's shape, on its own paths."""

    @property
    def checkout(self) -> CheckoutAccount | None:
        """Its orders for the checkout page; None where they are not paid on a page."""

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application: the API's and the control's."""

    def sign(self, webhook: Webhook) -> Mapping[str, str]:
        """Return the headers of a webhook that is sent now; each time it is sent, they are new."""

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""


@web.middleware
async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check nothing and change nothing: the middleware of whose API is open to everybody."""
    return await handler(request)


class MountSettings(Protocol):
    """An account at a gateway of the sandbox, and where that sends its webhooks."""

    @property
    def name(self) -> str:
        """The gateway's, as in the service: `razorpay`."""

    @property
    def webhook_url(self) -> str:
        """Empty where no webhooks are wanted."""

    def mount(self, commit: Commit, kept: Mapping[str, Any]) -> Mount:
        """Return the gateway; `kept` is what its `to_json` gave before, or nothing."""
