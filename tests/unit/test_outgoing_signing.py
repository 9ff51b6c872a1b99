"""Outgoing webhooks are signed as the Standard Webhooks specification has it."""

import pytest

from server.outgoing_signing import secret_key, signed_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_signature_is_that_of_the_specifications_example() -> None:
    """The example of the specification's own libraries comes out byte for byte."""
    headers = signed_headers(
        [secret_key(SECRET)],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_key_signs_while_they_rotate() -> None:
    """Two keys give two signatures, the current one's first, so that either verifies."""
    keys = [b"a" * 32, b"b" * 32]
    both = signed_headers(keys, "evt_1", 1, b"{}")["webhook-signature"].split(" ")

    assert both == [signed_headers([key], "evt_1", 1, b"{}")["webhook-signature"] for key in keys]


@pytest.mark.parametrize(
    "secret",
    [
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_c2hvcnQ=",
        "whsec_not base64",
        f"whsec_{'A' * 88}",
    ],
)
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    """A secret needs its prefix, and 24 to 64 bytes."""
    with pytest.raises(ValueError, match="whsec_"):
        secret_key(secret)
