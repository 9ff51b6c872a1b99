"""HTTP servers of ours: an address is bound first, so that others can be told of it at once."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from server.told import ToldInWords


class AddressInUse(ToldInWords):
    """The address that a server should listen on is taken."""

    def __init__(self, variable: str, address: str) -> None:
        super().__init__(
            f"{variable}: nothing can listen on {address}; is it in use? Set {variable} to another "
            "address, or to port 0 for any free port."
        )


def bind(address: str, variable: str) -> socket.socket:
    """Bind host:port, port 0 for any free one.

    Raises:
        AddressInUse: it names the variable that sets the address.
    """
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=_family(host))
    except OSError:
        raise AddressInUse(variable, address) from None


def bind_unix(path: Path) -> socket.socket:
    """Bind a socket in the file system, in place of an earlier one."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    return bound


def address_of(bound: socket.socket) -> str:
    """Return the host:port, or the path, that a socket is bound to."""
    if bound.family is socket.AF_UNIX:
        return str(bound.getsockname())
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def http_server(
    runner: web.AppRunner, bound: socket.socket, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve an application on a bound socket as long as the context lasts; HTTPS with `tls`."""
    await runner.setup()
    try:
        await web.SockSite(runner, bound, ssl_context=tls).start()
        yield
    finally:
        await runner.cleanup()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
