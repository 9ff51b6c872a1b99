"""Connections to the sidecar: so many at most, and each has to send a request in time.

Whoever opens connections and sends headers byte by byte, or nothing, holds one for a few seconds
and no more. Where all places are taken, the connection that has waited the longest without a
request makes room: a gateway sends its request at once, who only holds places does not.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway_adapters.addresses import network_of
from gateway_adapters.sidecar.limits import SidecarLimits
from gateway_adapters.sidecar.remote import TrustedProxies

FIRST_REQUEST_SECONDS: Final = 5.0
"""So long a new connection has for the headers of its first request."""
NEXT_REQUEST_SECONDS: Final = 15.0
"""So long an answered one is kept for the headers of another."""
_PROXY: Final = "proxy"
"""Stands for a trusted proxy, which has the connections of many senders and is not held to account
for any of them."""
_LOG_SECONDS: Final = 10.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("sidecar")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections are taken, and how long each may be without a request."""

    total: int = 800
    per_address: int = 200
    first_request_seconds: float = FIRST_REQUEST_SECONDS
    next_request_seconds: float = NEXT_REQUEST_SECONDS


class Connections:
    """All open connections, and the time that each has left for its next request."""

    def __init__(
        self, limits: ConnectionLimits, senders: SidecarLimits, proxies: TrustedProxies
    ) -> None:
        self._limits = limits
        self._senders = senders
        self._proxies = proxies
        self._networks: dict[asyncio.BaseTransport, str] = {}
        self._count = Counter[str]()
        self._deadlines: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}
        self._without_request: dict[asyncio.BaseTransport, None] = {}
        self._cut = 0
        self._log_at = 0.0

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._networks)

    def opened(self, transport: asyncio.Transport) -> bool:
        """Take a connection, and have it wait for its first request; False where it is one more."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        network = _PROXY if self._proxies.trusts(address) else network_of(address)
        has_too_many = self._count[network] >= self._limits.per_address
        if network != _PROXY and (has_too_many or self._senders.bars(network)):
            self._note_cut()
            return False
        if len(self._networks) >= self._limits.total:
            oldest = next(iter(self._without_request), None)
            if oldest is None:
                self._note_cut()
                return False
            self._cut_off(oldest)
        self._networks[transport] = network
        self._count[network] += 1
        self._without_request[transport] = None
        self._expect_request(transport, self._limits.first_request_seconds)
        return True

    def closed(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection."""
        network = self._networks.pop(transport, None)
        if network is None:
            return
        self._count[network] -= 1
        if not self._count[network]:
            del self._count[network]
        self._without_request.pop(transport, None)
        self._stop_clock(transport)

    def request_started(self, transport: asyncio.BaseTransport) -> None:
        """Stop the clock: the headers of a request are there."""
        self._without_request.pop(transport, None)
        self._stop_clock(transport)

    def request_ended(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock for the next request."""
        if transport in self._networks:
            self._expect_request(transport, self._limits.next_request_seconds)

    def _expect_request(self, transport: asyncio.BaseTransport, seconds: float) -> None:
        self._stop_clock(transport)
        loop = asyncio.get_running_loop()
        self._deadlines[transport] = loop.call_later(seconds, self._cut_off, transport)

    def _stop_clock(self, transport: asyncio.BaseTransport) -> None:
        deadline = self._deadlines.pop(transport, None)
        if deadline is not None:
            deadline.cancel()

    def _cut_off(self, transport: asyncio.BaseTransport) -> None:
        if transport in self._without_request:
            self._note_cut()
            if self._networks[transport] != _PROXY:
                self._senders.misbehaved(self._networks[transport])
        self.closed(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - that of a stream
        transport.abort()

    def _note_cut(self) -> None:
        """Say now and then that connections are cut off; a flood is to fill no disk."""
        self._cut += 1
        now = asyncio.get_running_loop().time()
        if now >= self._log_at:
            _log.warning("connections_cut", connections=self._cut, are_open=len(self))
            self._cut = 0
            self._log_at = now + _LOG_SECONDS


def connections_middleware(connections: Connections) -> Middleware:
    """Return what tells the connections when a request begins and ends."""

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        if transport is None:  # it was closed meanwhile
            return await handler(request)
        connections.request_started(transport)
        try:
            return await handler(request)
        finally:
            connections.request_ended(transport)

    return watch


class GuardedRunner(web.AppRunner):
    """Runs an application behind limits for its connections."""

    def __init__(
        self,
        app: web.Application,
        connections: Connections,
        **options: object,
    ) -> None:
        super().__init__(app, **options)  # type: ignore[arg-type] # as its options are
        self._connections = connections

    @property
    def server(self) -> "web.Server | None":
        """What makes the protocol of each connection."""
        server = super().server
        if server is None:
            return None
        return _Guard(server, self._connections)  # type: ignore[return-value] # called alone


class _Guard:
    """Makes guarded protocols."""

    def __init__(self, server: Callable[[], asyncio.Protocol], connections: Connections) -> None:
        self._server = server
        self._connections = connections

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _GuardedProtocol(self._server(), self._connections)


class _GuardedProtocol(asyncio.Protocol):
    """Lets a connection through to its protocol, if there is a place for it."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - that of a stream
        if self._connections.opened(transport):
            self._transport = transport
            self._inner.connection_made(transport)
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.closed(self._transport)
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._transport is not None else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
