"""The gRPC server: the contract, health, and reflection where it is wanted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from server.listening import AddressInUse
from server.rpc.edge import SERVICE

_MAX_MESSAGE_BYTES: Final = 512 * 1024
"""Room for the largest webhook with its headers."""
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1_000),
    # Calls that the server has not looked at yet. Of more, gRPC itself refuses some, then all, as
    # CANCELLED and without a reason; by default from 1,000 on, fewer than the commit's queue takes.
    ("grpc.server.max_pending_requests", 5_000),
    ("grpc.server.max_pending_requests_hard_limit", 6_000),
    # Whoever connects has to say in time that it speaks HTTP/2.
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    # So long the calls of a connection that is made anew may take to end.
    ("grpc.max_connection_age_grace_ms", 60_000),
    # A caller may ask now and then whether the server is there; who asks all the time has to go.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 2),
    # A caller that vanished without a word is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
"""The limits of a connection. A compressed message has to fit uncompressed, which gRPC checks while
it inflates it."""


@dataclass(frozen=True, slots=True)
class RpcServer:
    """A running gRPC server."""

    address: str
    """host:port that it listens on."""
    _health: Any

    async def set_serving(self, is_serving: bool) -> None:
        """Tell whoever asks whether calls should come here."""
        state = health_pb2.HealthCheckResponse
        status = state.SERVING if is_serving else state.NOT_SERVING
        for name in ("", SERVICE.full_name):
            await self._health.set(name, status)


@asynccontextmanager
async def rpc_server(
    handler: "grpc.GenericRpcHandler[Message, Message]",
    *,
    address: str,
    has_reflection: bool,
    grace_seconds: float,
    shares_port: bool = False,
    tls: grpc.ServerCredentials | None = None,
    connection_seconds: int = 3_600,
    max_connections: int = 800,
) -> AsyncIterator[RpcServer]:
    """Serve, NOT_SERVING at first; leaving refuses new calls and lets running ones finish.

    With `shares_port` others may listen on the same address, each getting some of the connections.
    After `connection_seconds` a connection is made anew, so that callers spread over workers and
    servers, and with `tls` the certificates are looked at again. Where `max_connections` are open,
    one more is closed before a handshake, and those that are there go on.

    Raises:
        AddressInUse.
    """
    # Unless it is meant, a second server on the same port would take some of its calls silently.
    options = [
        *_OPTIONS,
        ("grpc.max_connection_age_ms", connection_seconds * 1_000),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.so_reuseport", int(shares_port)),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((handler,))
    health_servicer = health.aio.HealthServicer()  # type: ignore[attr-defined] # not in the stubs
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if has_reflection:
        names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        pool = cast("descriptor_pool.DescriptorPool", _MethodAwarePool())
        reflection.enable_server_reflection(names, server, pool=pool)
    try:
        port = (
            server.add_insecure_port(address)
            if tls is None
            else server.add_secure_port(address, tls)
        )
    except RuntimeError:
        port = 0
    if not port:
        raise AddressInUse("WALLET_GRPC_ADDRESS", address)
    running = RpcServer(f"{address.rpartition(':')[0]}:{port}", health_servicer)
    await running.set_serving(False)
    await server.start()
    try:
        yield running
    finally:
        await running.set_serving(False)
        await server.stop(grace_seconds)


class _MethodAwarePool:
    """A descriptor pool that finds methods too, so that `grpcurl describe` does.

    Protobuf's own pool finds services but not their methods (grpc/grpc issue 34743).
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything else is the pool's own
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - its name
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindFileContainingSymbol(symbol.rpartition(".")[0])
