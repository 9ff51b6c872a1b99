"""Who sends a request: the connection's other end, or whom a trusted proxy says it stands for.

Anybody can write a header. So it is believed hop by hop from the end, each time only what a trusted
proxy has added, and only in the one header that the proxies are known to write.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway_adapters.addresses import Address, Network, read_address

_MAX_HOPS: Final = 20
_LONGEST_HOP: Final = 256
"""Anybody can write what stands before; little of it is looked at."""
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*"?([^;"\s]+)"?\s*(?:;|$)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Whose word about the remote address is taken, and in which header."""

    networks: tuple[Network, ...] = ()
    header: str = "X-Forwarded-For"

    def remote_of(self, request: web.Request) -> str:
        """Return the address that a request comes from; empty where there is none."""
        address = read_address(request.remote or "")
        if address is None:
            return request.remote or ""
        for hop in self._hops(request):
            if not self._trusts(address):
                break
            before = read_address(hop)
            if before is None:
                break
            address = before
        return str(address)

    def trusts(self, address: str) -> bool:
        """Tell whether an address is that of a trusted proxy."""
        parsed = read_address(address)
        return parsed is not None and self._trusts(parsed)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self.networks)

    def _hops(self, request: web.Request) -> Sequence[str]:
        """Return what the header says, the last hop first."""
        if not self.networks:
            return ()
        text = ",".join(request.headers.getall(self.header, []))
        hops = [hop.strip() for hop in text.rsplit(",", _MAX_HOPS)[: -_MAX_HOPS - 1 : -1]]
        return [_for(hop) for hop in hops] if self.header == "Forwarded" else hops


def _for(element: str) -> str:
    """Return whom an element of RFC 7239's header is for; empty where it says nothing."""
    match = _FOR.search(element) if len(element) <= _LONGEST_HOP else None
    return match[1] if match else ""
