"""The sandbox's PayPal as a whole: what an application mounts, keeps and tells its users.

The paths are PayPal's own, beside `/sandbox/paypal/`, and clash with no other gateway's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway_adapters.sandbox.paypal import PaypalRoutes
from gateway_adapters.sandbox.paypal_account import PaypalAccount
from gateway_adapters.sandbox.paypal_checkout import PaypalCheckout
from gateway_adapters.sandbox.paypal_control import PaypalControl
from gateway_adapters.sandbox.paypal_signing import PaypalSigner, restored_keys
from gateway_adapters.sandbox.telling import Commit
from gateway_adapters.sandbox.webhooks import Webhook


@dataclass(frozen=True, slots=True)
class PaypalSandboxSettings:
    """The sandbox's account at its PayPal."""

    name: ClassVar[str] = "paypal"
    client_id: str
    client_secret: str = field(repr=False)
    webhook_id: str
    base_url: str
    """Where the sandbox is reached, such as `http://127.0.0.1:8090`."""
    webhook_url: str = ""
    """Empty where no webhooks are wanted."""
    trust_anchors_file: Path | None = None
    """Where the root that signs its certificates is left, for whoever has to trust it."""

    def mount(self, commit: Commit, kept: Mapping[str, Any]) -> "PaypalSandbox":
        """Return the gateway; see MountSettings."""
        sandbox = PaypalSandbox(self, commit, kept)
        if self.trust_anchors_file is not None:
            self.trust_anchors_file.write_bytes(sandbox.trust_anchors_pem)
        return sandbox


class PaypalSandbox:
    """Owns the account, its keys and its routes."""

    def __init__(
        self, settings: PaypalSandboxSettings, commit: Commit, kept: Mapping[str, Any]
    ) -> None:
        """`kept` is what `to_json` gave before, or nothing."""
        keys = restored_keys(kept.get("keys", {}))
        self.account = PaypalAccount()
        self.account.restore(kept.get("account", {}))
        self.signer = PaypalSigner(keys, settings.webhook_id, settings.base_url)
        self.routes = PaypalRoutes(
            self.account,
            commit,
            self.signer,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
        )
        self._control = PaypalControl(self.account, commit, self.signer)
        self.checkout = PaypalCheckout(self.account, commit, self.signer)

    @property
    def trust_anchors_pem(self) -> bytes:
        """The root that an adapter has to trust: PaypalSettings.trust_anchors_pem."""
        return self.signer.keys.root_pem.encode()

    @property
    def certificate_url_prefix(self) -> str:
        """Where certificates come from: PaypalSettings.certificate_url_prefix."""
        return self.signer.certificate_url_prefix

    @property
    def middleware(self) -> Middleware:
        """What checks tokens and gives errors PayPal's shape, on PayPal's paths."""
        return self.routes.middleware

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application: the API's and the control's."""
        return [*self.routes.table(), *self._control.table()]

    def sign(self, webhook: Webhook) -> Mapping[str, str]:
        """Return the headers of a webhook; see Mount."""
        return self.signer.headers(webhook)

    def to_json(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        return {"account": self.account.to_json(), "keys": self.signer.keys.to_json()}
