"""Callers without a good token: from each address so many are looked at, and no more.

Each costs the verification of a signature and leaves an entry of the audit, and anybody who reaches
the port can be one. So what is refused counts against the address that it comes from. Whether a
token is good is known only afterwards: a new one pays first, and gets it back if it is. A token
that was good here before is no stranger's, and pays nothing.

A call beyond the limit is turned away unseen. Many of them are one entry of the audit, with their
number.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

import grpc
import structlog

from gateway_adapters.addresses import UNKNOWN, network_of
from gateway_adapters.rate_limit import Rate, RateTable
from server.audit import TURNED_AWAY, AuditEntry, AuditLog
from server.rpc.errors import RetryLater, RpcError

TELL_SECONDS: Final = 10.0
"""So long calls that are turned away are gathered; a crash loses as much."""
MAX_SENDERS: Final = 1_000
"""So many addresses are told by themselves at a time."""
OTHERS: Final = "other addresses"
"""Stands for those beyond."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("rpc")


class TurnedAway(RetryLater):
    """A call that was not looked at; in the audit it stands together with others."""


class Strangers:
    """Bears so many refused tokens from each address; closing it tells what it has gathered."""

    def __init__(self, rate: Rate | None, table: RateTable, audit: AuditLog) -> None:
        """`rate` of None is no limit."""
        self._rate = rate
        self._table = table
        self._audit = audit
        self._turned_away: dict[str, int] = {}
        self._telling: asyncio.TimerHandle | None = None

    @contextmanager
    def counting(self, peer: str, *, was_good: bool) -> Iterator[None]:
        """Enclose the verification of a token that comes from a gRPC `peer`, `was_good` or is new.

        Raises:
            TurnedAway: with the time to wait.
        """
        if self._rate is None:
            yield
            return
        sender = _sender_of(peer)
        if not was_good:
            wait_seconds = self._table.wait_seconds(sender, self._rate)
            if wait_seconds:
                self._note_turned_away(sender)
                raise _turned_away(sender, self._rate, wait_seconds)
            self._table.use(sender, self._rate)
        try:
            yield
        except RpcError:
            if was_good:
                self._table.use(sender, self._rate)
            raise
        if not was_good:
            self._table.give_back(sender, self._rate)

    def close(self) -> None:
        """Tell the audit what is left."""
        if self._telling is not None:
            self._telling.cancel()
            self._tell()

    def _note_turned_away(self, sender: str) -> None:
        if sender not in self._turned_away and len(self._turned_away) >= MAX_SENDERS:
            sender = OTHERS
        self._turned_away[sender] = self._turned_away.get(sender, 0) + 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        """Write one entry for each address, and one line of log for all: a flood fills no disk."""
        gathered, self._turned_away, self._telling = self._turned_away, {}, None
        for sender, count in gathered.items():
            self._audit.put(_entry(sender, count))
        _log.warning("turned_away", calls=sum(gathered.values()), addresses=len(gathered))


def _sender_of(peer: str) -> str:
    """Return what stands for the other end of a connection, such as `ipv6:%5B::1%5D:50051`."""
    scheme, _, rest = unquote(peer).partition(":")
    return network_of(rest) if scheme in {"ipv4", "ipv6"} else UNKNOWN


def _turned_away(sender: str, rate: Rate, wait_seconds: float) -> TurnedAway:
    return TurnedAway(
        "RATE_LIMITED",
        f"Too many calls without a good token came from {sender}: {rate.per_second:g} a second are "
        f"taken, {rate.burst} at once. Nothing was done, and this token was not looked at: repeat "
        f"after {wait_seconds:.3f} s.",
        wait_seconds,
        {
            "limit": "address",
            "address": sender,
            "per_second": f"{rate.per_second:g}",
            "burst": str(rate.burst),
            "retry_after_seconds": f"{wait_seconds:.3f}",
        },
    )


def _entry(sender: str, count: int) -> AuditEntry:
    time_ms = time.time_ns() // 1_000_000
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.name
    return AuditEntry(time_ms, TURNED_AWAY, "", sender, "", "", code, str(count), "", 0)
