"""How a reader of the Python client goes on after a stream that broke."""

from typing import Any

import grpc
import pytest

from server.rpc.errors import RetryLater, RpcError
from wallet_payment.client import errors
from wallet_payment.client.watching import Watch
from wallet_payment.v1 import wallet_payment_service_pb2 as service


class Broken(grpc.RpcError):
    """A stream's end, as grpc raises it."""

    def __init__(self, error: RpcError | None = None) -> None:
        self._error = error

    def code(self) -> grpc.StatusCode:
        """Return what it ended with."""
        return self._error.code if self._error else grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """Return its message."""
        return self._error.message if self._error else "nobody is there"

    def trailing_metadata(self) -> Any:
        """Return the details that a server told."""
        if self._error is None:
            return ()
        return (("grpc-status-details-bin", self._error.status().SerializeToString()),)


EXPIRED = Broken(RpcError("TOKEN_EXPIRED", "Over."))


@pytest.fixture
def watch() -> Watch:
    """A reader that has just begun."""
    return Watch(service.WatchEventsRequest(customer_id="asha"))


def test_each_wait_is_longer_until_a_response_came(watch: Watch) -> None:
    """It doubles up to five seconds, is as long as the server asks, and begins anew afterwards."""
    waits = [watch.wait_after(Broken()) for _ in range(8)]
    asked = watch.wait_after(Broken(RetryLater("RATE_LIMITED", "Too much.", 60.0)))
    watch.took(service.WatchEventsResponse(cursor="c1"))

    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert asked == 60.0
    assert watch.wait_after(Broken()) == 0.2
    assert watch.request.cursor == "c1"


def test_a_token_that_stays_expired_is_raised(watch: Watch) -> None:
    """Once a new one is asked for; what is refused again would be refused for ever."""
    assert watch.wait_after(EXPIRED) > 0

    with pytest.raises(errors.TokenExpired):
        watch.wait_after(EXPIRED)


def test_what_another_stream_would_not_change_is_raised_at_once(watch: Watch) -> None:
    """A missing scope is missing at the next server too."""
    with pytest.raises(errors.WalletPaymentError) as raised:
        watch.wait_after(Broken(RpcError("SCOPE_MISSING", "Not yours.")))

    assert raised.value.reason == "SCOPE_MISSING"


def test_a_response_takes_the_place_of_the_time_to_start_from(watch: Watch) -> None:
    """The next stream goes on from the cursor: with both it would be told again, or be refused."""
    watch.request.start_time.FromSeconds(1)

    watch.took(service.WatchEventsResponse(cursor="c1"))

    assert not watch.request.HasField("start_time")
    assert watch.request.cursor == "c1"
