"""Rate limits of the sidecar: only what is refused counts, so that no attack starves a gateway.

A gateway's webhooks come in bursts, from a few addresses, and its signatures hold. An attacker's
do not. So what counts is each request that is refused as the sender's fault: against its address,
and against the gateway that it claims to come from. Whether that is so is known only afterwards;
therefore an address that is not known yet pays first, and gets back what was not refused. An
address whose signature held lately pays for refusals alone, and is not concerned by the gateway's
limit, which others may have used up.

Who goes on although it was turned away, or only holds connections, is barred for a while: its
connections are cut off as soon as they are made, which costs the least.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog

from gateway_adapters.addresses import network_of
from gateway_adapters.rate_limit import Rate, RateTable, private_table

KNOWN_SECONDS: Final = 86_400.0
"""So long after its last good signature an address is known."""
MAX_KNOWN: Final = 1_000
BARRED: Final = Rate(1, 20)
"""So often a sender may be turned away or cut off, before it is barred."""
_LOG_SECONDS: Final = 10.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("sidecar")


@dataclass(frozen=True, slots=True)
class SidecarRates:
    """How many refused requests are borne; None is no limit."""

    address: Rate | None = None
    gateway: Rate | None = None


@dataclass(slots=True)
class Verdict:
    """What became of a request; it is set before the request leaves the limits."""

    status: int = HTTPStatus.SERVICE_UNAVAILABLE

    @property
    def is_senders_fault(self) -> bool:
        """Whether the request counts."""
        return (
            HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR
            and self.status != HTTPStatus.TOO_MANY_REQUESTS
        )


class TooMany(Exception):
    """Too many requests were refused lately; this one is not looked at."""

    def __init__(self, limit: str, wait_seconds: float) -> None:
        super().__init__(limit)
        self.wait_seconds = wait_seconds


class SidecarLimits:
    """Bears so many refused requests for each address and each gateway, in bounded memory."""

    def __init__(
        self,
        rates: SidecarRates,
        table: RateTable | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rates = rates
        self._table = table or private_table(clock)
        self._clock = clock
        self._known: OrderedDict[str, float] = OrderedDict()
        self._refused = 0
        self._log_at = clock()

    @contextmanager
    def counting(self, gateway: str, address: str) -> Iterator[Verdict]:
        """Let a request in, and count it by the verdict that it leaves with.

        Raises:
            TooMany: with the time to wait.
        """
        network = network_of(address)
        uses = self._uses(gateway, network)
        for key, rate in uses:
            if wait_seconds := self._table.wait_seconds(key, rate):
                self._note_refusal(key)
                self.misbehaved(network)
                raise TooMany(key, wait_seconds)
        pays_first = not self._is_known(network)
        if pays_first:
            self._use(uses)
        verdict = Verdict()
        try:
            yield verdict
        finally:
            if verdict.is_senders_fault and not pays_first:
                self._use(uses)
            elif pays_first and not verdict.is_senders_fault:
                for key, rate in uses:
                    self._table.give_back(key, rate)
            if verdict.status == HTTPStatus.OK:
                self._remember(network)

    def bars(self, network: str) -> bool:
        """Tell whether a sender is to have no connection just now."""
        if self._rates.address is None or self._is_known(network):
            return False
        return self._table.wait_seconds(f"barred {network}", BARRED) > 0

    def misbehaved(self, network: str) -> None:
        """Note that a sender was turned away or cut off."""
        self._table.use(f"barred {network}", BARRED)

    def _uses(self, gateway: str, network: str) -> list[tuple[str, Rate]]:
        uses = []
        if self._rates.address is not None:
            uses.append((f"address {network}", self._rates.address))
        if self._rates.gateway is not None and not self._is_known(network):
            uses.append((f"gateway {gateway}", self._rates.gateway))
        return uses

    def _use(self, uses: list[tuple[str, Rate]]) -> None:
        for key, rate in uses:
            self._table.use(key, rate)

    def _is_known(self, network: str) -> bool:
        return self._clock() < self._known.get(network, 0.0)

    def _remember(self, network: str) -> None:
        """Know an address whose signature held; only who can sign gets in here."""
        self._known[network] = self._clock() + KNOWN_SECONDS
        self._known.move_to_end(network)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _note_refusal(self, key: str) -> None:
        """Say now and then that requests are turned away; a flood is to fill no disk."""
        self._refused += 1
        if self._clock() >= self._log_at:
            _log.warning("rate_limited", limit=key, requests=self._refused)
            self._refused = 0
            self._log_at = self._clock() + _LOG_SECONDS
