"""Watching events: where a reader stands, and when it comes again."""

from dataclasses import dataclass, field
from typing import Final

import grpc

from wallet_payment.client.errors import (
    TokenExpired,
    TokenRevoked,
    TryAgain,
    WalletPaymentError,
    error_of,
)
from wallet_payment.v1 import wallet_payment_service_pb2 as service

_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 5.0


@dataclass(slots=True)
class Watch:
    """The state of a reader over all its streams."""

    request: service.WatchEventsRequest
    _failures: int = field(default=0, init=False)

    def took(self, response: service.WatchEventsResponse) -> None:
        """Go on after a response from now on."""
        self.request.cursor = response.cursor
        self.request.ClearField("start_time")
        self._failures = 0

    def wait_after(self, error: grpc.RpcError) -> float:
        """Return how long to wait before the next stream, in seconds.

        Raises:
            WalletPaymentError: coming again would not help.
        """
        failure: WalletPaymentError = error_of(error)
        is_renewable = isinstance(failure, TokenExpired | TokenRevoked) and not self._failures
        if not (is_renewable or isinstance(failure, TryAgain)):
            raise failure from error
        self._failures += 1
        wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0**self._failures)
        return max(wait, failure.retry_after_seconds)
