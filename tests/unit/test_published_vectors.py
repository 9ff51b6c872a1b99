"""What else was published of the gateways, beside each scheme's own tests: all of it is read.

Signatures, tokens and webhooks are verified where their scheme is tested; here are the answers of
the APIs, and what stands inside of what was encrypted.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from test_google_pay_messages import open_content

from gateway_adapters.gateway import GatewayRefused
from gateway_adapters.google_pay import Expired
from gateway_adapters.paypal.events import read_event
from gateway_adapters.razorpay.api import RazorpayApi
from gateway_adapters.razorpay.wire import read_order, read_payment
from paypal_authority import serving
from server.ledger.money import Money
from server.ledger.records import GatewayPaymentStatus

VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"
TESTED = {
    "applepay.json": "test_apple_pay_token.py",
    "googlepay.json": "test_google_pay_messages.py",
    "paypal.json": "test_paypal_webhook.py",
    "razorpay_payloads.json": "test_razorpay_webhook.py",
    "razorpay_signatures.json": "test_razorpay_webhook.py",
    "upi.json": "test_upi.py",
}
"""Each file, and where its signatures or its texts are tested."""


def vectors(name: str) -> Any:
    """Return published vectors, or skip where they are not at hand."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"The published vectors are not here: {path} is absent.")
    return json.loads(path.read_bytes())


def test_no_file_of_vectors_is_left_out() -> None:
    """A file that is added has to be tested somewhere, and that place reads it."""
    if not VECTORS.exists():
        pytest.skip(f"The published vectors are not here: {VECTORS} is absent.")
    assert {path.name for path in VECTORS.glob("*.json")} == TESTED.keys()
    for name, place in TESTED.items():
        assert f'"{name}"' in (Path(__file__).parent / place).read_text("utf-8")


def answers(kind: str) -> list[dict[str, Any]]:
    """Return what Razorpay's API answers with, of one kind; errors have no entity."""
    published = [one["json"] for one in vectors("razorpay_payloads.json")["api_responses"]]
    assert {one.get("entity", "error") for one in published} == {"order", "payment", "error"}
    return [one for one in published if one.get("entity", "error") == kind]


def test_the_orders_and_payments_of_razorpays_api_are_read() -> None:
    """Each gives its id, its exact amount and its state."""
    for content in answers("order"):
        order = read_order(content)
        assert (order.order_id, order.receipt) == (content["id"], content["receipt"])
        assert (order.status, order.amount) == (content["status"], money_of(content))
    for content in answers("payment"):
        payment = read_payment(content).payment
        assert (payment.payment_id, payment.gateway_order_id) == (
            content["id"],
            content["order_id"],
        )
        assert payment.status is GatewayPaymentStatus.CAPTURED
        assert payment.amount == money_of(content)


async def test_the_refusals_of_razorpays_api_are_told_in_its_own_words() -> None:
    """A refused request says what Razorpay says of it."""
    refusals = answers("error")

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response(refusals[0], status=400)

    app = web.Application()
    app.router.add_get("/v1/orders", refuse)
    async with serving(app) as url, ClientSession() as session:
        api = RazorpayApi(session, url, "key", "secret", 3.0)
        for refusal in list(refusals):
            with pytest.raises(GatewayRefused) as refused:
                await api.get("/v1/orders")
            assert str(refused.value) == refusal["error"]["description"]
            refusals.pop(0)


def money_of(content: dict[str, Any]) -> Money:
    """Return the amount of an entity."""
    return Money(content["currency"], content["amount"])


def test_the_body_of_paypals_signed_webhook_is_no_event_of_ours() -> None:
    """It tells of a sale of PayPal's first API: it is recorded, and says nothing of a top-up."""
    [case] = vectors("paypal.json")["cases"]
    told = read_event(case["body"].encode())
    assert (told.event.event_type, told.event.fact) == ("PAYMENT.SALE.COMPLETED", None)
    assert told.event.event_id == json.loads(case["body"])["id"]


def test_what_googles_tokens_carry_is_read() -> None:
    """Sealed for our own key, the published card comes out as it is, and the expired one not."""
    cases = vectors("googlepay.json")["cases"]
    outcomes = {}
    for case in cases:
        content = json.loads(case["expected_plaintext"])
        try:
            card = open_content(content)
        except Expired:
            outcomes[case["name"]] = "expired"
            continue
        assert card.pan == content["paymentMethodDetails"]["pan"]
        assert str(card.message_expires_ms) == content["messageExpiration"]
        outcomes[case["name"]] = "opened"
    assert outcomes == {
        "yoyo-encrypted_token": "opened",
        "yoyo-encrypted_expired_token": "expired",
    }
