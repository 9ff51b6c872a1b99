"""PayPal through the service's door: gRPC, the sandbox, the sidecar's webhooks, and the books."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from gateway_adapters.paypal.amounts import CURRENCIES
from harness import Harness, refusal_of, running_harness, unique, with_database
from server.reconcile import Kind
from service_checks import events_of, reconciliation, wallet_of, was_credited_once
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service

CREDITED, PENDING = resources.TOPUP_STATE_CREDITED, resources.TOPUP_STATE_PENDING
FAILED, REVERSED = resources.TOPUP_STATE_FAILED, resources.TOPUP_STATE_REVERSED
ACTIVE, FROZEN = resources.WALLET_STATE_ACTIVE, resources.WALLET_STATE_FROZEN

Json = dict[str, Any]


async def started(harness: Harness, amount: int = 10_000, **fields: Any) -> resources.Topup:
    """Start a new customer's top-up in dollars by PayPal."""
    given = {"gateway": "paypal", "method": "paypal", "currency": "USD"} | fields
    return await harness.initiate(await harness.customer(), amount, **given)


async def approved(harness: Harness, topup: resources.Topup, **options: Any) -> Json:
    """Have the customer approve at PayPal, and wait until the webhook was taken."""
    path = f"paypal/orders/{topup.gateway_order_id}/approve"
    return await harness.at_sandbox(path, **{"wait": True} | options)


async def credited(harness: Harness, amount: int = 10_000) -> resources.Topup:
    """Return a top-up that was approved, captured and credited."""
    topup = await started(harness, amount)
    await approved(harness, topup)
    return await harness.wait_for_topup(topup, CREDITED)


async def test_an_approval_is_captured_and_credited_once(harness: Harness) -> None:
    """CHECKOUT.ORDER.APPROVED leads to the capture, which is credited, whoever tells of it."""
    topup = await started(harness, 12_345, return_url="https://shop.example/back")
    assert topup.state == PENDING
    assert topup.checkout.gateway_order_id == topup.gateway_order_id
    assert topup.checkout.url.startswith(harness.sandbox_url)
    assert topup.checkout.client_secret == ""
    assert await harness.entries(topup.customer_id) == []

    await approved(harness, topup, duplicate=3)

    done = await harness.wait_for_topup(topup, CREDITED)
    (entry,) = await harness.entries(topup.customer_id)
    assert entry["gateway_payment_id"] == done.gateway_payment_id != topup.gateway_order_id
    assert {posting["account"]: posting["amount"] for posting in entry["postings"]} == {
        f"wallet:{topup.customer_id}:USD": 12_345,
        "gateway:paypal:USD": -12_345,
    }
    assert (await events_of(harness, topup))[0]["event_type"] == "CHECKOUT.ORDER.APPROVED"
    assert await was_credited_once(harness, topup)


async def test_rupees_are_refused_with_their_field_before_anything_happens(
    harness: Harness,
) -> None:
    """PayPal cannot receive INR: the error names the field, the currency, and what it takes."""
    customer = await harness.customer()

    refused = await refusal_of(
        harness.initiate(customer, 10_000, gateway="paypal", method="paypal")
    )

    assert (refused.code.name, refused.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert refused.fields == ("amount.currency_code",)
    assert "PayPal cannot receive INR" in refused.message
    assert all(code in refused.message for code in CURRENCIES)
    assert await harness.database.topups.count_documents({"customer_id": customer}) == 0


@pytest.mark.parametrize("has_proof", [True, False])
async def test_an_approval_whose_webhook_is_lost_is_credited_on_asking(
    harness: Harness, has_proof: bool
) -> None:
    """By PayPal's proof or a lookup VerifyTopup captures and credits; a repeat adds nothing."""
    topup = await started(harness)
    await approved(harness, topup, webhook=False)
    assert (await harness.topup(topup)).state == PENDING
    order = service.PaypalProof(order_id=topup.gateway_order_id)
    proof = {"paypal": order} if has_proof else {}

    first, again = await harness.verify(topup, **proof), await harness.verify(topup, **proof)

    assert first.topup.state == CREDITED
    assert again.topup == first.topup
    assert await was_credited_once(harness, topup)


async def test_webhook_and_app_at_the_same_moment_credit_once(harness: Harness) -> None:
    """Two captures race; PayPal makes one, and so does the ledger."""
    for _ in range(5):
        topup = await started(harness)
        order = service.PaypalProof(order_id=topup.gateway_order_id)
        await approved(harness, topup, wait=False, duplicate=2)
        answers = await asyncio.gather(*(harness.verify(topup, paypal=order) for _ in range(3)))
        assert {answer.topup.state for answer in answers} == {CREDITED}
        assert await was_credited_once(harness, topup)


async def test_another_top_ups_order_proves_nothing(harness: Harness) -> None:
    """The app's order has to be the one that was made for the top-up."""
    topup, other = await started(harness), await started(harness)
    await approved(harness, other, webhook=False)
    order = service.PaypalProof(order_id=other.gateway_order_id)

    refused = await refusal_of(harness.verify(topup, paypal=order))

    assert refused.reason == "PROOF_INVALID"
    assert await harness.entries(topup.customer_id) == []
    assert (await harness.verify(other)).topup.state == CREDITED


@pytest.mark.parametrize(("decline", "state"), [(False, CREDITED), (True, FAILED)])
async def test_a_capture_under_review_is_no_money_until_it_is_decided(
    harness: Harness, decline: bool, state: int
) -> None:
    """PENDING credits nothing; what PayPal decides is told by a webhook of its own."""
    topup = await started(harness)
    await approved(harness, topup, capture="PENDING")
    assert (await harness.topup(topup)).state == PENDING
    assert await harness.entries(topup.customer_id) == []
    capture = (await harness.topup(topup)).gateway_payment_id

    await harness.at_sandbox(f"paypal/captures/{capture}/settle", decline=decline, wait=True)

    await harness.wait_for_topup(topup, state)
    assert await harness.balance(topup.customer_id, "USD") == (0 if decline else 10_000)


async def test_a_declined_customer_may_approve_again(harness: Harness) -> None:
    """The first card is declined, the second one pays; the money comes once."""
    topup = await started(harness)
    await approved(harness, topup, capture="INSTRUMENT_DECLINED")
    failed = await harness.wait_for_topup(topup, FAILED)
    assert "INSTRUMENT_DECLINED" in failed.failure_reason

    await approved(harness, topup)

    await harness.wait_for_topup(topup, CREDITED)
    assert await was_credited_once(harness, topup)


async def test_a_webhook_that_paypal_did_not_sign_is_refused_and_leaves_no_trace(
    harness: Harness,
) -> None:
    """It is 401 at the sidecar, is not recorded and credits nothing."""
    topup = await started(harness)
    forged = f'{{"id": "{unique("WH")}", "event_type": "PAYMENT.CAPTURE.COMPLETED"}}'.encode()
    for headers in (
        {},
        {
            "Paypal_Transmission_Id": "1",
            "Paypal_Transmission_Time": "2026-11-01T00:00:00Z",
            "Paypal_Transmission_Sig": "AAAA",
            "Paypal_Cert_Url": f"{harness.settings.paypal_certificate_url_prefix}CERT-unknown",
            "Paypal_Auth_Algo": "SHA256withRSA",
        },
    ):
        status, answer = await harness.deliver(forged, gateway="paypal", **headers)
        assert (status, answer["error"]["reason"]) == (401, "SIGNATURE_INVALID")
    assert await events_of(harness, topup) == []
    assert await harness.entries(topup.customer_id) == []


async def test_one_webhook_five_times_at_once_takes_effect_once(harness: Harness) -> None:
    """One approval, sent by PayPal itself five times: the event is recorded once."""
    topup = await started(harness)
    await approved(harness, topup, duplicate=4)
    await harness.wait_for_topup(topup, CREDITED)
    recorded = Counter(event["event_type"] for event in await events_of(harness, topup))
    assert recorded["CHECKOUT.ORDER.APPROVED"] == 1
    assert await was_credited_once(harness, topup)


async def test_refunds_and_reversals_debit_their_own_amounts(harness: Harness) -> None:
    """The merchant gives a part back, PayPal takes the rest: the top-up is REVERSED."""
    topup = await credited(harness)
    capture = f"paypal/captures/{topup.gateway_payment_id}"

    await harness.at_sandbox(f"{capture}/refund", amount="3.45", wait=True)
    assert await harness.balance(topup.customer_id, "USD") == 9_655

    await harness.at_sandbox(f"{capture}/reverse", wait=True)
    await harness.wait_for_topup(topup, REVERSED)
    entries = await harness.entries(topup.customer_id)
    assert [(entry["type"], entry["amount"]) for entry in entries] == [
        ("TOPUP", 10_000),
        ("REVERSAL", -345),
        ("REVERSAL", -9_655),
    ]


@pytest.mark.parametrize(
    ("step", "state", "balance", "wallet_state"),
    [
        ("win", CREDITED, 6_000, ACTIVE),
        ("cancel", CREDITED, 6_000, ACTIVE),
        ("lose", REVERSED, -4_000, FROZEN),
        ("accept", REVERSED, -4_000, FROZEN),
    ],
)
async def test_a_dispute_holds_the_money_until_it_is_decided(
    harness: Harness, step: str, state: int, balance: int, wallet_state: int
) -> None:
    """The wallet is below zero and frozen meanwhile; the buyer's win debits once, by the refund."""
    topup = await credited(harness)
    await harness.pay(topup.customer_id, 4_000, currency="USD")
    path = f"paypal/captures/{topup.gateway_payment_id}/dispute"
    opened = await harness.at_sandbox(path, wait=True)
    held = await wallet_of(harness, topup)
    assert (held.balance.minor_units, held.state) == (-4_000, FROZEN)

    dispute = opened["dispute"]["dispute_id"]
    await harness.at_sandbox(f"paypal/disputes/{dispute}/{step}", wait=True)

    await harness.wait_for_topup(topup, state)
    wallet = await wallet_of(harness, topup)
    assert (wallet.balance.minor_units, wallet.state) == (balance, wallet_state)


async def test_paypals_books_and_ours_agree(mongodb_uri: str) -> None:
    """Payments and what went back are the same on both sides; a refund unheard of is named."""
    async with running_harness(with_database(mongodb_uri, "paypal_books")) as harness:
        refunded, disputed = [await credited(harness) for _ in range(2)]
        capture = f"paypal/captures/{refunded.gateway_payment_id}"
        await harness.at_sandbox(f"{capture}/refund", amount="3.45", wait=True)
        path = f"paypal/captures/{disputed.gateway_payment_id}/dispute"
        opened = await harness.at_sandbox(path, wait=True)
        dispute = opened["dispute"]["dispute_id"]
        await harness.at_sandbox(f"paypal/disputes/{dispute}/lose", wait=True)

        result = await reconciliation(harness, "paypal")
        assert result.discrepancies == ()
        # Two payments, a refund, a dispute and the reversal that it led to.
        assert result.compared == 5

        made = await harness.at_sandbox(f"{capture}/refund", webhook=False)
        (missing,) = (await reconciliation(harness, "paypal")).discrepancies
        assert missing.kind is Kind.MISSING_HERE
        assert missing.moved.gateway_id == made["refund"]["id"]
