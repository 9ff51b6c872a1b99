"""A webhook's secret is changed while webhooks are on their way: none is lost, none is forged."""

from collections.abc import AsyncIterator

import pytest

from harness import Harness, event_of, payment_of, running_harness, signature_of, with_database
from wallet_payment.v1 import resources_pb2 as resources

NEW, OLD, RETIRED = "new-webhook-secret", "old-webhook-secret", "retired-webhook-secret"


@pytest.fixture(scope="module")
async def rotating(mongodb_uri: str) -> AsyncIterator[Harness]:
    """A service that is told the current secret and the one before it."""
    uri = with_database(mongodb_uri, "rotating")
    async with running_harness(uri, razorpay_webhook_secrets=f"{NEW},{OLD}") as running:
        yield running


@pytest.mark.parametrize("secret", [NEW, OLD])
async def test_both_secrets_are_taken_while_they_rotate(rotating: Harness, secret: str) -> None:
    """What was signed before the change is retried after it, and credits like any other."""
    topup = await rotating.initiate(await rotating.customer(), 1_000)
    body = event_of("payment.captured", payment_of(topup))

    status, answer = await rotating.deliver(body, X_Razorpay_Signature=signature_of(body, secret))

    assert (status, answer["outcome"]) == (200, "APPLIED")
    assert await rotating.balance(topup.customer_id) == 1_000


async def test_one_event_under_both_secrets_credits_once(rotating: Harness) -> None:
    """A retry that is signed anew, with the new secret, is the same event."""
    topup = await rotating.initiate(await rotating.customer(), 1_000)
    body = event_of("payment.captured", payment_of(topup))

    outcomes = [
        (await rotating.deliver(body, "evt", X_Razorpay_Signature=signature_of(body, secret)))[1]
        for secret in (OLD, NEW)
    ]

    assert [answer["outcome"] for answer in outcomes] == ["APPLIED", "DUPLICATE"]
    assert len(await rotating.entries(topup.customer_id)) == 1


async def test_a_retired_secret_signs_no_more(rotating: Harness) -> None:
    """Of three secrets that there ever were, the two that are configured count."""
    topup = await rotating.initiate(await rotating.customer(), 1_000)
    body = event_of("payment.captured", payment_of(topup))

    status, answer = await rotating.deliver(body, X_Razorpay_Signature=signature_of(body, RETIRED))

    assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")
    assert (await rotating.topup(topup)).state == resources.TOPUP_STATE_PENDING
    assert await rotating.entries(topup.customer_id) == []
