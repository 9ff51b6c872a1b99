"""The way out: https with verification to hosts that are named, and to no other place.

Each adapter checks for itself where it calls. This holds for all of them together, also for a URL
that somebody could one day slip into one.
"""

from collections.abc import Collection
from types import SimpleNamespace
from typing import NoReturn

import aiohttp
from yarl import URL

from gateway_adapters.outbound import is_this_machine


class HostRefused(aiohttp.ClientError):
    """The request would go somewhere that is not on the list; nothing was sent."""


def guarded_session(hosts: Collection[str], *traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """Return a session that reaches these `hosts` alone, by https unless they are this machine.

    What it refuses it raises as HostRefused. Redirects are refused wherever they lead.
    """
    allowed = frozenset(hosts)

    async def check(
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        request: aiohttp.TraceRequestStartParams,
    ) -> None:
        url: URL = request.url
        host = url.host or ""
        is_secret = url.scheme == "https" or is_this_machine(host)
        if host not in allowed or not is_secret:
            raise HostRefused("The host is not one of a gateway that is set up here.")

    async def refuse(
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        _redirect: aiohttp.TraceRequestRedirectParams,
    ) -> NoReturn:
        raise HostRefused("A gateway's answer leads elsewhere.")

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(check)
    trace.on_request_redirect.append(refuse)
    return aiohttp.ClientSession(trace_configs=[trace, *traces])
