"""Tokens of Google Pay and Apple Pay, as the Razorpay adapter hands them on over real HTTP."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway_adapters.gateway import (
    ApplePayProof,
    GatewayRefused,
    GatewayUnavailable,
    GooglePayProof,
    LookupProof,
    ProofInvalid,
    TokenGateway,
    WalletToken,
)
from razorpay_bench import AMOUNT, Answer, Bench, make_topup, running_bench, status
from server.ledger.money import Money
from server.ledger.records import GatewayPaymentStatus

TOKEN = '{"protocolVersion": "ECv2",  "signature":"\\u003d", "signedMessage": "{}"}'
TOKENS: list[WalletToken] = [GooglePayProof(TOKEN), ApplePayProof(TOKEN)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as running:
        yield running


def test_it_is_handed_wallets_tokens(bench: Bench) -> None:
    """The adapter fits the interface, and refuses a token of another method than the top-up's."""
    gateway: TokenGateway = bench.razorpay
    topup = replace(make_topup(), gateway_order_id="order_1", method="apple_pay")
    gateway.check_token(topup, ApplePayProof(TOKEN))
    with pytest.raises(ProofInvalid, match="apple_pay"):
        gateway.check_token(topup, GooglePayProof(TOKEN))
    with pytest.raises(ProofInvalid, match="UPI"):
        gateway.check_token(replace(topup, method="google_pay"), GooglePayProof(TOKEN))
    with pytest.raises(ProofInvalid, match="no order"):
        gateway.check_token(replace(topup, gateway_order_id=""), ApplePayProof(TOKEN))


@pytest.mark.parametrize("token", TOKENS)
async def test_a_token_is_handed_on_as_it_came(bench: Bench, token: WalletToken) -> None:
    """Not a byte of it is changed; amount, currency and order are the stored ones."""
    topup = await bench.opened()
    bench.line.seen.clear()
    report = await bench.razorpay.pay_with_token(topup, token)
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert report.payment.amount == AMOUNT
    (method, path, body), (_, asked, _) = bench.line.seen
    assert (method, path) == ("POST", "/v1/payments/create/json")
    assert json.loads(body) == {
        "amount": 12345,
        "currency": "INR",
        "order_id": topup.gateway_order_id,
        "method": "card",
        "app": {"name": token.method, token.method: {"token": TOKEN}},
    }
    assert asked == f"/v1/payments/{report.payment.payment_id}"
    assert TOKEN not in repr(token)


async def test_a_declined_card_is_reported_as_a_failed_payment(bench: Bench) -> None:
    """The refusal names the payment, which says what it is."""
    topup = await bench.opened()
    await bench.control("/sandbox/tokens", {"outcome": "declined"})
    report = await bench.razorpay.pay_with_token(topup, TOKENS[0])
    assert report.payment.status is GatewayPaymentStatus.FAILED
    assert report.payment.failure_reason


async def test_a_refused_token_is_no_payment(bench: Bench) -> None:
    """Where the refusal names no payment, none was made, and Razorpay's words are told."""
    topup = await bench.opened()
    with pytest.raises(GatewayRefused, match="different from your order"):
        await bench.razorpay.pay_with_token(replace(topup, amount=Money("INR", 1)), TOKENS[0])
    assert await bench.razorpay.check_proof(topup, LookupProof()) is None


@pytest.mark.parametrize("fault", [status(500), status(429), "lose the reply", status(200)])
async def test_a_token_is_sent_once(bench: Bench, fault: Answer | str) -> None:
    """Whatever becomes of the answer, nothing is sent again by itself."""
    topup = await bench.opened()
    bench.line.seen.clear()
    bench.line.faults["POST"].append(fault)
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.pay_with_token(topup, TOKENS[0])
    assert bench.line.count("POST") == 1


async def test_a_payment_of_another_order_is_not_the_tokens(bench: Bench) -> None:
    """An answer that names somebody else's payment is not believed."""
    topup = await bench.opened()
    other = await bench.opened(replace(make_topup(), topup_id="top_2"))
    paid = await bench.control(f"{other.gateway_order_id}/pay")
    named = json.dumps({"razorpay_payment_id": paid["payment_id"]}).encode()
    bench.line.faults["POST"].append(status(200, named))
    with pytest.raises(GatewayUnavailable, match="another payment"):
        await bench.razorpay.pay_with_token(topup, TOKENS[0])
