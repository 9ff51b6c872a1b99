"""The sandbox's composition: one application with its account, its data file and its webhooks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession, web

from gateway_adapters.sandbox.apple_pay_mount import ApplePaySandbox
from gateway_adapters.sandbox.checkout import CheckoutRoutes, Till
from gateway_adapters.sandbox.control import tell_control_errors
from gateway_adapters.sandbox.data_file import DataFile
from gateway_adapters.sandbox.faults import Faults
from gateway_adapters.sandbox.google_pay_mount import GooglePaySandboxSettings
from gateway_adapters.sandbox.paypal_control import Commit
from gateway_adapters.sandbox.paypal_mount import PaypalSandbox, PaypalSandboxSettings
from gateway_adapters.sandbox.razorpay import RazorpayRoutes
from gateway_adapters.sandbox.razorpay_account import RazorpayAccount
from gateway_adapters.sandbox.razorpay_checkout import RazorpayCheckout
from gateway_adapters.sandbox.razorpay_control import RazorpayControl
from gateway_adapters.sandbox.razorpay_signing import RazorpaySigner
from gateway_adapters.sandbox.razorpay_tokens import RazorpayTokens
from gateway_adapters.sandbox.webhooks import Webhook, WebhookSender

_MAX_REQUEST_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """The sandbox's account at its Razorpay, and where it sends webhooks."""

    key_id: str
    key_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    webhook_url: str
    """Empty where none are wanted."""
    data_file: Path | None = None
    """Where the state is kept over restarts; None keeps it in memory alone."""
    paypal: PaypalSandboxSettings | None = None
    """The account at its PayPal; None where there is none."""
    paypal_webhook_url: str = ""
    google_pay: GooglePaySandboxSettings | None = None
    """The merchant at its Google; None where there is none."""
    apple_pay: ApplePaySandbox | None = None
    """Its Apple, whose sessions are served elsewhere; None where there is none."""


PAYPAL: Final = web.AppKey("paypal", PaypalSandbox)
"""The application's PayPal, for whoever has to trust its certificates."""


def sandbox_app(settings: SandboxSettings, session: ClientSession) -> web.Application:
    """Return the sandbox's application. `session` sends the webhooks and stays its owner's.

    Raises:
        DataFileDamaged: the data file is not one that the sandbox wrote.
    """
    faults = Faults()
    account = RazorpayAccount()
    sender = WebhookSender(session, settings.webhook_url, faults)
    paypal_sender = WebhookSender(session, settings.paypal_webhook_url, faults)
    google_url = settings.google_pay.webhook_url if settings.google_pay else ""
    google_sender = WebhookSender(session, google_url, faults)
    paypal: PaypalSandbox | None = None

    def state() -> dict[str, Any]:
        return {
            "razorpay": account.to_json(),
            "webhooks": sender.to_json(),
            "paypal": paypal.to_json() if paypal else {},
            "paypal_webhooks": paypal_sender.to_json(),
            "google_pay_webhooks": google_sender.to_json(),
        }

    file = DataFile(settings.data_file, state)
    commit, commit_paypal = _committing(file, sender), _committing(file, paypal_sender)
    with file.reading() as content:
        account.restore(content.get("razorpay", {}))
        sender.restore(content.get("webhooks", []))
        paypal_sender.restore(content.get("paypal_webhooks", []))
        google_sender.restore(content.get("google_pay_webhooks", []))
        if settings.paypal is not None:
            paypal = PaypalSandbox(settings.paypal, commit_paypal, content.get("paypal", {}))
    senders = (sender, paypal_sender, google_sender)
    for one in senders:
        one.on_done(file.save)

    async def run(_app: web.Application) -> AsyncIterator[None]:
        for one in senders:
            one.resume()
        yield
        for one in senders:
            await one.close()
        await file.close()

    signer = RazorpaySigner(
        settings.key_secret, settings.webhook_secret if settings.webhook_url else ""
    )
    routes = RazorpayRoutes(account, commit, signer, key_id=settings.key_id)
    app = web.Application(
        client_max_size=_MAX_REQUEST_BYTES,
        middlewares=[tell_control_errors, faults.middleware, routes.middleware],
    )
    app.add_routes(routes.table())
    app.add_routes(RazorpayControl(account, commit, signer).table())
    app.add_routes(RazorpayTokens(account, commit, signer).table())
    app.add_routes(faults.table())
    tills: list[Till] = [(RazorpayCheckout(account, commit, signer), sender)]
    if paypal is not None:
        app[PAYPAL] = paypal
        app.middlewares.append(paypal.middleware)
        app.add_routes(paypal.table())
        tills.append((paypal.checkout, paypal_sender))
    app.add_routes(CheckoutRoutes(tills).table())
    if settings.google_pay is not None:
        app.add_routes(settings.google_pay.mount(_committing(file, google_sender)).table())
    if settings.apple_pay is not None:
        app.add_routes(settings.apple_pay.table())
    app.on_shutdown.append(faults.close)
    app.cleanup_ctx.append(run)
    return app


def _committing(file: DataFile, sender: WebhookSender) -> Commit:
    """Return what keeps a change and then tells of it."""

    async def commit(webhooks: Sequence[Webhook], copies: int) -> list[asyncio.Task[None]]:
        """Save what changed, then tell: an event never speaks of what a crash could undo."""
        sender.add(webhooks)
        await file.save()
        return sender.send(webhooks, copies)

    return commit
