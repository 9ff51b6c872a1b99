"""Rate limits of calls: per caller and method, and per customer and method.

They are off unless they are set: callers are services of ours, and what all of them may want
together is bounded by the commit path's queue.
"""

from dataclasses import dataclass
from typing import Final

from gateway_adapters.rate_limit import Rate, Rates, RateTable
from server.rpc.errors import RetryLater

_MAX_KEY_CHARACTERS: Final = 128
"""A customer id may be as long as a message; one that is longer than this is refused later."""
_NAMED_ONLY: Final = frozenset({"ForwardWebhook"})
"""Gateways' webhooks have the sidecar's limits, and share none with other calls."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of all methods, and what has been used of them."""

    callers: Rates
    customers: Rates
    table: RateTable

    def of(self, method: str) -> "CallLimits":
        """Return the limits of one method."""
        return CallLimits(
            method, _rate(self.callers, method), _rate(self.customers, method), self.table
        )


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The limits of one method, looked up once."""

    method: str
    caller_rate: Rate | None
    customer_rate: Rate | None
    table: RateTable

    def check(self, caller: str, customer_id: str) -> None:
        """Let a call through, and count it; one that is refused costs nothing.

        Raises:
            RetryLater: RATE_LIMITED, with the time after which it would be let through.
        """
        uses = []
        if self.caller_rate is not None:
            uses.append(("caller", caller, self.caller_rate))
        if self.customer_rate is not None and customer_id:
            uses.append(("customer", customer_id, self.customer_rate))
        for whose, name, rate in uses:
            wait_seconds = self.table.wait_seconds(self._key(whose, name), rate)
            if wait_seconds:
                raise RetryLater(
                    "RATE_LIMITED",
                    f"Too many calls of {self.method} for the {whose} "
                    f"{name[:_MAX_KEY_CHARACTERS]!r}: {rate.per_second:g} a second are taken, "
                    f"{rate.burst} at once. Nothing was done: repeat after {wait_seconds:.3f} s.",
                    wait_seconds,
                    {
                        "limit": whose,
                        whose: name[:_MAX_KEY_CHARACTERS],
                        "method": self.method,
                        "per_second": f"{rate.per_second:g}",
                        "burst": str(rate.burst),
                        "retry_after_seconds": f"{wait_seconds:.3f}",
                    },
                )
        for whose, name, rate in uses:
            self.table.use(self._key(whose, name), rate)

    def _key(self, whose: str, name: str) -> str:
        return f"{whose} {self.method} {name[:_MAX_KEY_CHARACTERS]}"


def _rate(rates: Rates, method: str) -> Rate | None:
    return rates.named.get(method, None if method in _NAMED_ONLY else rates.general)
