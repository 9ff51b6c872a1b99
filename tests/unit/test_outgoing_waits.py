"""How long delivery waits before it posts an outgoing webhook again."""

import pytest

from server.outgoing.delivery import DeliverySettings, wait_seconds

SETTINGS = DeliverySettings(first_retry_seconds=2.0)


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 2), (2, 4), (3, 8), (7, 128), (9, 300), (99, 300)]
)
def test_each_wait_is_twice_as_long_as_the_one_before(attempts: int, longest: float) -> None:
    """It is jittered down to a half, and ends at five minutes."""
    waits = [wait_seconds(SETTINGS, attempts, 0.0) for _ in range(200)]

    assert longest / 2 <= min(waits) < longest * 0.6
    assert longest * 0.9 < max(waits) <= longest


def test_a_receiver_that_asks_for_more_time_gets_it() -> None:
    """Its Retry-After counts where it is longer, and shortens nothing."""
    assert wait_seconds(SETTINGS, 1, 60.0) == 60.0
    assert wait_seconds(SETTINGS, 3, 1.0) >= 4.0
