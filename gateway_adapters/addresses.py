"""Addresses of senders: how they are read, and which of them count as one."""

import ipaddress
import re
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
"""Stands for all senders whose address cannot be read."""
_LONGEST: Final = 256
"""Anybody can write what stands where an address should be; nothing longer is looked at."""
_WITH_PORT: Final = re.compile(r"\[([^\]]+)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?")
_IPV6_NETWORK_BITS: Final = 64
"""Whoever has one address of IPv6 has as many as this leaves."""
_MAPPED_BITS: Final = 96
"""So many bits stand before an address of IPv4 in one of IPv6 (RFC 4291, section 2.5.5.2)."""


def read_address(text: str) -> Address | None:
    """Read an address, with or without a port; one of IPv4 in IPv6 is that of IPv4.

    A zone (`%eth0`) is left out: it is a name of the machine that has written it.
    """
    if len(text) > _LONGEST:
        return None
    match = _WITH_PORT.fullmatch(text)
    host = (match[1] or match[2]) if match else text
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def read_network(text: str) -> Network:
    """Read a network, such as 10.1.0.0/16; one of IPv4 in IPv6 is that of IPv4, as addresses are.

    Raises:
        ValueError: it is none.
    """
    network = ipaddress.ip_network(text)
    mapped = (
        network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    )
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))


def network_of(address: str) -> str:
    """Return what stands for a sender: its IPv4 address, or its network of IPv6."""
    parsed = read_address(address)
    if parsed is None:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
