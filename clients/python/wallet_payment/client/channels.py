"""How servers are reached: addresses, balancing, retries, tokens and time."""

import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

Token = Callable[[], str]
"""Gives the token of the next call: called for each one, so that it may renew it."""

_SERVICE: Final = "wallet_payment.v1.WalletPaymentService"


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the service.

    `targets` is one address (`host:port`, `dns:///host:port` with a server behind each address of
    the name) or several of the form `ip:port`. Calls are spread over all of them.
    """

    targets: Sequence[str]
    token: Token = field(repr=False)
    credentials: grpc.ChannelCredentials | None = None
    """TLS; None: in plain text, for a trusted network alone."""
    timeout_seconds: float = 10.0
    """Of a call with all its repeats."""
    attempts: int = 4
    """How often a call is tried at most, from 1 to 5."""

    @property
    def target(self) -> str:
        """The targets in gRPC's own form.

        Raises:
            ValueError: there is none, or there are several that are not IP addresses.
        """
        if not self.targets:
            raise ValueError("targets: at least one server is needed")
        if len(self.targets) == 1:
            return self.targets[0]
        families = {_family(target) for target in self.targets}
        if len(families) > 1:
            raise ValueError("targets: take IPv4 addresses or IPv6 ones, not both")
        return f"{families.pop()}:{','.join(self.targets)}"

    @property
    def options(self) -> list[tuple[str, str | int]]:
        """The options of the channel: balancing, and which calls are repeated."""
        return [
            ("grpc.service_config", json.dumps(self._service_config())),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.keepalive_time_ms", 30_000),  # finds out that a watched connection is dead
        ]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what each call carries."""
        return (("authorization", f"Bearer {self.token()}"),)

    def _service_config(self) -> dict[str, object]:
        method: dict[str, object] = {"name": [{"service": _SERVICE}]}
        if self.attempts > 1:
            method["retryPolicy"] = {
                "maxAttempts": self.attempts,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                # Every call may be repeated: what changes something carries its key.
                "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"],
            }
        return {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [method]}


def _family(target: str) -> str:
    host = target.rpartition(":")[0].strip("[]")
    try:
        return f"ipv{ipaddress.ip_address(host).version}"
    except ValueError:
        raise ValueError(
            f"targets: {target} is not of the form ip:port; for a name with several servers give "
            "dns:///name:port alone"
        ) from None
