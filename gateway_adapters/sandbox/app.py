"""The sandbox's composition: one application with its gateways, its data file and its webhooks."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession, web

from gateway_adapters.sandbox.checkout import CheckoutRoutes, Till
from gateway_adapters.sandbox.control import tell_control_errors
from gateway_adapters.sandbox.data_file import DataFile
from gateway_adapters.sandbox.faults import Faults
from gateway_adapters.sandbox.mount import Mount, MountSettings
from gateway_adapters.sandbox.webhooks import Webhook, WebhookSender

_MAX_REQUEST_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """The gateways that the sandbox offers."""

    gateways: Sequence[MountSettings]
    data_file: Path | None = None
    """Where the state is kept over restarts; None keeps it in memory alone."""


@dataclass(frozen=True, slots=True)
class _Mounted:
    """A gateway, and who sends its webhooks."""

    name: str
    mount: Mount
    sender: WebhookSender

    def to_json(self) -> dict[str, Any]:
        return {
            self.name: self.mount.to_json(),
            f"{self.name}_webhooks": self.sender.to_json(),
        }


def sandbox_app(settings: SandboxSettings, session: ClientSession) -> web.Application:
    """Return the sandbox's application. `session` sends the webhooks and stays its owner's.

    Raises:
        DataFileDamaged: the data file is not one that the sandbox wrote.
    """
    faults = Faults()
    mounted: list[_Mounted] = []

    def state() -> dict[str, Any]:
        return {name: kept for one in mounted for name, kept in one.to_json().items()}

    file = DataFile(settings.data_file, state)
    with file.reading() as content:
        mounted += [
            _mounted(gateway, content, file, session, faults) for gateway in settings.gateways
        ]

    async def run(_app: web.Application) -> AsyncIterator[None]:
        for one in mounted:
            one.sender.resume()
        yield
        for one in mounted:
            await one.sender.close()
        await file.close()

    app = web.Application(
        client_max_size=_MAX_REQUEST_BYTES, middlewares=[tell_control_errors, faults.middleware]
    )
    app.add_routes(faults.table())
    tills: list[Till] = []
    for one in mounted:
        app.middlewares.append(one.mount.middleware)
        app.add_routes(one.mount.table())
        if one.mount.checkout is not None:
            tills.append((one.mount.checkout, one.sender))
    app.add_routes(CheckoutRoutes(tills).table())
    app.on_shutdown.append(faults.close)
    app.cleanup_ctx.append(run)
    return app


def _mounted(
    settings: MountSettings,
    content: Mapping[str, Any],
    file: DataFile,
    session: ClientSession,
    faults: Faults,
) -> _Mounted:
    """Mount a gateway as `content` kept it."""

    async def commit(webhooks: Sequence[Webhook], copies: int) -> list[asyncio.Task[None]]:
        """Save what changed, then tell: an event never speaks of what a crash could undo."""
        sender.add(webhooks)
        await file.save()
        return sender.send(webhooks, copies)

    mount = settings.mount(commit, content.get(settings.name, {}))
    sender = WebhookSender(session, settings.webhook_url, faults, mount.sign)
    sender.restore(content.get(f"{settings.name}_webhooks", []))
    sender.on_done(file.save)
    return _Mounted(settings.name, mount, sender)
