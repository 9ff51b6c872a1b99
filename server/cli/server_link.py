"""The way to the server, by TLS where that is set up: a channel, anew when certificates change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import grpc

from server.access.certificates import CertificateFiles, Certificates
from server.access.watched_files import WatchedFiles
from server.config import SYSTEM_ROOTS, Settings
from server.metrics import Metrics

WHAT: Final = "server_link"
_LAST_CALLS_SECONDS: Final = 10.0


@asynccontextmanager
async def server_channel(settings: Settings) -> AsyncIterator[grpc.aio.Channel]:
    """Give a channel for the few calls of a command, with the sidecar's certificate if it has one.

    Raises:
        Unusable: a certificate.
    """
    async with (
        WatchedFiles(settings.reload_seconds, Metrics()) as files,
        ServerLink(settings, files) as link,
    ):
        yield link.channel()


class ServerLink:
    """Owns the channel in force, and those whose last calls end. An async context manager."""

    def __init__(self, settings: Settings, files: WatchedFiles) -> None:
        """Look at the certificates from now on.

        Raises:
            Unusable: they cannot be used now.
        """
        self._target = settings.server_target
        self._name = settings.server_name
        self._closing: set[asyncio.Task[None]] = set()
        self._channel: grpc.aio.Channel | None = None
        if not settings.server_roots:
            self._channel = grpc.aio.insecure_channel(self._target)
            return
        has_file = settings.server_roots != SYSTEM_ROOTS
        named = CertificateFiles.named(
            settings.sidecar_client_certificate,
            settings.sidecar_client_key,
            settings.server_roots if has_file else "",
        )
        files.watch(WHAT, named.paths, named.parse, self._accept)

    async def __aenter__(self) -> Self:
        """Use what there is."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all channels."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self.channel().close(None)

    def channel(self) -> grpc.aio.Channel:
        """Return the channel for the next call."""
        assert self._channel is not None  # noqa: S101 - there is one from the start
        return self._channel

    def _accept(self, certificates: Certificates) -> None:
        """Go on with these certificates; calls under way end on the channel that they began on."""
        pair = certificates.pair
        credentials = grpc.ssl_channel_credentials(
            certificates.roots,
            None if pair is None else pair.key,
            None if pair is None else pair.chain,
        )
        options = [("grpc.ssl_target_name_override", self._name)] if self._name else None
        former = self._channel
        self._channel = grpc.aio.secure_channel(self._target, credentials, options)
        if former is not None:
            task = asyncio.create_task(former.close(_LAST_CALLS_SECONDS))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
