"""Stripe's webhook signatures: over raw bytes and their time, with each of their refusals."""

import hashlib
import hmac
import json
from collections.abc import Callable

import pytest
from aiohttp import ClientSession

from gateway_adapters.gateway import MalformedEvent, SignatureInvalid
from gateway_adapters.stripe import Stripe, StripeSettings
from gateway_adapters.stripe.signature import TOLERANCE_SECONDS, verify

CURRENT, PREVIOUS = "whsec_current", "whsec_previous"
NOW = 1_700_000_000
BODY = b'{"id": "evt_1"}'
SIGNATURE = "c346cb5f0dbf0695776717fa71b17847246061a8b9ae7a21d577e3350369b613"
"""Of BODY at NOW under CURRENT, by `openssl dgst -sha256 -hmac`."""


def sign(body: bytes, secret: str = CURRENT, time: str = str(NOW)) -> str:
    """Sign as Stripe does."""
    return hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256).hexdigest()


def headers(body: bytes, secret: str = CURRENT, time: str = str(NOW)) -> dict[str, str]:
    """Return the headers of a signed webhook."""
    return {"stripe-signature": f"t={time},v1={sign(body, secret, time)}"}


def check(header: str, body: bytes = BODY, now_seconds: int = NOW) -> None:
    """Check a header in the middle of a rotation of secrets."""
    verify({"stripe-signature": header}, body, (CURRENT, PREVIOUS), now_seconds)


def test_a_signature_that_another_program_made_fits() -> None:
    """The scheme is Stripe's, not only what the test and the code agree on."""
    check(f"t={NOW},v1={SIGNATURE}")
    assert sign(BODY) == SIGNATURE


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_both_secrets_of_a_rotation_are_taken(secret: str) -> None:
    """Either secret signs, also where Stripe sends the signatures of both."""
    check(f"t={NOW},v1={sign(BODY, secret)}")
    check(f"t={NOW},v1={sign(BODY, 'whsec_unknown')},v1={sign(BODY, secret)}")
    check(f"t={NOW},v1={sign(BODY, secret)},v1={'0' * 64},v0=abc,x")


def test_every_flipped_bit_of_the_body_breaks_the_signature() -> None:
    """No single bit of the signed body can be changed."""
    header = headers(BODY)["stripe-signature"]
    for position in range(len(BODY)):
        for bit in range(8):
            forged = bytearray(BODY)
            forged[position] ^= 1 << bit
            with pytest.raises(SignatureInvalid):
                check(header, bytes(forged))


def test_a_reserialised_body_does_not_fit_its_signature() -> None:
    """The same JSON in other bytes is another body."""
    reserialised = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    with pytest.raises(SignatureInvalid):
        check(headers(BODY)["stripe-signature"], reserialised)


def test_the_time_is_signed_with_the_body() -> None:
    """Whoever keeps a webhook cannot make it younger."""
    with pytest.raises(SignatureInvalid):
        check(f"t={NOW + 1},v1={sign(BODY)}", now_seconds=NOW + 1)


@pytest.mark.parametrize("distance", [0, 1, TOLERANCE_SECONDS, -1, -TOLERANCE_SECONDS])
def test_a_time_within_the_tolerance_is_taken(distance: int) -> None:
    """Clocks may differ by five minutes either way."""
    check(headers(BODY)["stripe-signature"], now_seconds=NOW + distance)


@pytest.mark.parametrize("distance", [TOLERANCE_SECONDS + 1, -TOLERANCE_SECONDS - 1, 10**9])
def test_a_time_beyond_the_tolerance_is_refused_both_ways(distance: int) -> None:
    """What was signed long ago, or is said to be signed in the future, is no news."""
    with pytest.raises(SignatureInvalid, match="300 seconds"):
        check(headers(BODY)["stripe-signature"], now_seconds=NOW + distance)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bad header",
        SIGNATURE,
        f"v1={SIGNATURE}",
        f"t={NOW}",
        f"t={NOW},v1=",
        f"t={NOW},v0={SIGNATURE}",
        f"t={NOW},V1={SIGNATURE}",
        f"t={NOW}, v1={SIGNATURE}",
        f"t={NOW},v1={SIGNATURE.upper()}",
        f"t={NOW},v1= {SIGNATURE}",
        f"t={NOW},v1={SIGNATURE[:-1]}",
        f"t={NOW},v1={SIGNATURE}=",
        f"t={NOW},v1={'é' * 64}",
        f"t={NOW},v1=\udcff",
        f"t={NOW}.0,v1={SIGNATURE}",
        f"t=+{NOW},v1={SIGNATURE}",
        f"t=0{NOW},v1={SIGNATURE}",
        f"t=-{NOW},v1={SIGNATURE}",
        f"t=,v1={SIGNATURE}",
        f"t=١٧٠٠٠٠٠٠٠٠,v1={SIGNATURE}",  # noqa: RUF001 - digits of another script
        f"t={'9' * 400},v1={SIGNATURE}",
        f"t={NOW},t={NOW},v1={SIGNATURE}",
        f"t=1,t={NOW},v1={SIGNATURE}",
        f"t={NOW}" + ",v1=0" * 1_000 + f",v1={SIGNATURE}",
    ],
)
def test_a_header_that_is_not_exactly_it_is_refused(header: str) -> None:
    """Missing, doubled, foreign or decorated parts are refused and break nothing."""
    with pytest.raises(SignatureInvalid):
        check(header)


@pytest.mark.parametrize("secrets", [(), (PREVIOUS,)])
def test_a_secret_that_is_not_configured_signs_nothing(secrets: tuple[str, ...]) -> None:
    """A retired secret is refused; without any, so is everything."""
    with pytest.raises(SignatureInvalid):
        verify(headers(BODY), BODY, secrets, NOW)


@pytest.mark.parametrize("secrets", [("",), (CURRENT, "")])
def test_a_blank_secret_is_refused_at_start(secrets: tuple[str, ...]) -> None:
    """A blank secret, with which anybody could sign, does not come into use."""
    with pytest.raises(ValueError, match="blank"):
        StripeSettings("http://127.0.0.1:1", "sk_test_1", "pk_test_1", secrets)


@pytest.mark.parametrize("key", ["", "sk_live_1", "rk_live_1", "whsec_1"])
def test_a_private_key_is_never_published(key: str) -> None:
    """Every customer is shown the publishable key, so that it cannot be a private one."""
    with pytest.raises(ValueError, match="pk_"):
        StripeSettings("http://127.0.0.1:1", "sk_live_1", key, (CURRENT,))


def test_secrets_show_in_no_representation() -> None:
    """Settings can be printed without giving a secret away."""
    shown = repr(StripeSettings("http://127.0.0.1:1", "sk_test_1", "pk_test_1", (CURRENT,)))
    assert "sk_test_1" not in shown
    assert CURRENT not in shown


async def test_the_adapter_checks_the_signature_before_it_reads_and_by_its_own_clock() -> None:
    """A broken body is told from a forged one, and the clock is the one that was given."""
    now = float(NOW)
    clock: Callable[[], float] = lambda: now  # noqa: E731 - what the adapter takes
    async with ClientSession() as session:
        settings = StripeSettings("http://127.0.0.1:1", "sk_test_1", "pk_test_1", (CURRENT,))
        stripe = Stripe(session, settings, now=clock)
        with pytest.raises(SignatureInvalid):
            await stripe.read_webhook({}, b"{")
        with pytest.raises(MalformedEvent):
            await stripe.read_webhook(headers(b"{"), b"{")
        now += TOLERANCE_SECONDS + 1
        with pytest.raises(SignatureInvalid):
            await stripe.read_webhook(headers(b"{"), b"{")
