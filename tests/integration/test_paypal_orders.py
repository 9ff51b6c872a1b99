"""Orders at PayPal over real HTTP: one for each top-up, for its exact amount."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway_adapters.gateway import (
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    InvalidTopup,
    NotImplementedHere,
)
from gateway_adapters.paypal import Paypal
from gateway_adapters.paypal.amounts import to_amount
from paypal_bench import (
    AMOUNT,
    CLIENT_ID,
    TOPUP_ID,
    Answer,
    Bench,
    make_topup,
    on_hold,
    running_bench,
    status,
)
from server.ledger.money import Money


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give an adapter whose every request to the API goes through the line."""
    async with running_bench() as running:
        yield running


def test_it_is_a_gateway(bench: Bench) -> None:
    """The adapter fits the interface under the name that requests use."""
    gateway: Gateway = bench.paypal
    assert gateway.name == "paypal"


@pytest.mark.parametrize("method", ["paypal", "card"])
@pytest.mark.parametrize("amount", [Money("USD", 1), Money("JPY", 1), Money("HUF", 100)])
def test_offered_methods_pass_in_paypals_currencies(
    bench: Bench, method: str, amount: Money
) -> None:
    """The smallest amounts that PayPal can be told are taken."""
    bench.paypal.check_topup(amount, method)


@pytest.mark.parametrize("currency", ["INR", "KWD", "RUB"])
def test_what_paypal_cannot_receive_is_refused(bench: Bench, currency: str) -> None:
    """Rupees are refused before anything is recorded, with the field and what to use instead."""
    with pytest.raises(InvalidTopup, match=f"cannot receive {currency}.*USD") as refused:
        bench.paypal.check_topup(Money(currency, 10_000), "paypal")
    assert refused.value.field == "amount.currency_code"


def test_a_part_of_a_forint_is_refused(bench: Bench) -> None:
    """An amount that cannot be told to PayPal exactly is not rounded."""
    with pytest.raises(InvalidTopup, match="no decimals in HUF") as refused:
        bench.paypal.check_topup(Money("HUF", 12_345), "paypal")
    assert refused.value.field == "amount"


@pytest.mark.parametrize("method", ["upi", "netbanking", "cheque", ""])
def test_an_unknown_method_is_refused(bench: Bench, method: str) -> None:
    """A way to pay that PayPal has not is an error of the request."""
    with pytest.raises(InvalidTopup) as refused:
        bench.paypal.check_topup(AMOUNT, method)
    assert refused.value.field == "method"


@pytest.mark.parametrize("method", ["google_pay", "apple_pay"])
def test_known_methods_are_not_offered(bench: Bench, method: str) -> None:
    """Google Pay and Apple Pay exist, and are said not to be offered here."""
    with pytest.raises(NotImplementedHere):
        bench.paypal.check_topup(AMOUNT, method)


async def test_opening_makes_one_order_that_names_the_topup(bench: Bench) -> None:
    """The order has the exact amount, the top-up's id, and where to go after it."""
    checkout = await bench.paypal.open_topup(make_topup())
    (order,) = bench.sandbox.account.orders.values()
    assert checkout.gateway_order_id == order.id
    assert checkout.public_key == CLIENT_ID
    assert checkout.url.endswith(f"/checkout/{order.id}")
    assert (order.value, order.currency) == ("123.45", "USD")
    assert (order.custom_id, order.invoice_id) == (TOPUP_ID, TOPUP_ID)
    (_, _, body, headers) = bench.line.seen[-1]
    content = json.loads(body)
    context = content["payment_source"]["paypal"]["experience_context"]
    assert content["intent"] == "CAPTURE"
    assert headers["PayPal-Request-Id"] == TOPUP_ID
    assert headers["Prefer"] == "return=representation"
    assert context["return_url"] == "https://shop.example/paid"
    assert context["cancel_url"] == "https://shop.example/cart"
    assert (context["user_action"], context["landing_page"]) == ("PAY_NOW", "LOGIN")


async def test_a_topups_own_return_url_comes_first(bench: Bench) -> None:
    """Where the request says to where the customer returns, the setting does not count."""
    await bench.opened(make_topup(method="card", return_url="https://shop.example/app"))
    content = json.loads(bench.line.seen[-1][2])
    context = content["payment_source"]["paypal"]["experience_context"]
    assert context["return_url"] == context["cancel_url"] == "https://shop.example/app"
    assert context["landing_page"] == "GUEST_CHECKOUT"


@pytest.mark.parametrize(
    ("amount", "value"),
    [
        (Money("USD", 835), "8.35"),
        (Money("USD", 100_000), "1000.00"),
        (Money("JPY", 500), "500"),
        (Money("HUF", 500_000), "5000"),
        (Money("TWD", 100), "1"),
    ],
)
async def test_amounts_are_exact_from_end_to_end(bench: Bench, amount: Money, value: str) -> None:
    """What is ordered, approved, captured and looked up is the same amount to the last unit."""
    topup = await bench.approved(make_topup(amount))
    assert bench.sandbox.account.orders[topup.gateway_order_id].value == value
    approved = await bench.look_up(topup)
    captured = await bench.paypal.capture(topup, on_hold(topup))
    found = await bench.look_up(topup)
    assert approved is not None
    assert found is not None
    assert approved.payment.amount == captured.payment.amount == found.payment.amount == amount
    assert [one.fact.amount for one in await bench.events() if one.fact] == [amount, amount]


async def test_opening_again_gives_the_same_order(bench: Bench) -> None:
    """A repeat makes no second order, also at the same moment."""
    first, second = await asyncio.gather(
        bench.paypal.open_topup(make_topup()), bench.paypal.open_topup(make_topup())
    )
    assert first == second == await bench.paypal.open_topup(make_topup())
    assert len(bench.sandbox.account.orders) == 1


async def test_a_lost_answer_leaves_one_order(bench: Bench) -> None:
    """When the answer to the order is lost, the repeat gets the order that was made."""
    bench.line.due("/orders", "lose the answer")
    checkout = await bench.paypal.open_topup(make_topup())
    assert set(bench.sandbox.account.orders) == {checkout.gateway_order_id}
    assert len(bench.line.requests("POST", "/orders")) == 2


async def test_two_lost_answers_leave_one_order_for_the_repeat(bench: Bench) -> None:
    """When all fails after the order was made, a later repeat of the call finds that order."""
    bench.line.due("/orders", "lose the answer", status(503))
    with pytest.raises(GatewayUnavailable):
        await bench.paypal.open_topup(make_topup())
    checkout = await bench.paypal.open_topup(make_topup())
    assert set(bench.sandbox.account.orders) == {checkout.gateway_order_id}


@pytest.mark.parametrize("amount", [Money("USD", 12_344), Money("EUR", 12_345)])
async def test_an_order_for_another_amount_is_not_used(bench: Bench, amount: Money) -> None:
    """An order under the same id with another amount or currency is refused."""
    await bench.paypal.open_topup(make_topup(amount))
    with pytest.raises(GatewayRefused):
        await bench.paypal.open_topup(make_topup())


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(503, b"<html>"),
        status(408),
        status(200, b"<html>"),
        status(200, b"{}"),
        status(200, b'{"id": "../x", "status": "CREATED"}'),
        status(302, headers={"Location": "/v2/checkout/orders/OTHER"}),
        status(404, b"<html>not PayPal</html>"),
    ],
)
async def test_an_answer_without_sense_means_unavailable(bench: Bench, fault: Answer) -> None:
    """Errors of the server, redirects and unreadable answers are tried again and then given up."""
    bench.line.due("/orders", fault, fault)
    with pytest.raises(GatewayUnavailable):
        await bench.paypal.open_topup(make_topup())


@pytest.mark.parametrize(
    "href", ["https://a/" + "x" * 2_001, "https://\ud800", "https://a b", "javascript:alert(1)"]
)
async def test_a_link_that_no_page_has_is_not_told(bench: Bench, href: str) -> None:
    """What the customer is led to is a URL of bounded length, or nothing."""
    topup = await bench.opened()
    unit = {"amount": to_amount(AMOUNT), "custom_id": topup.topup_id}
    order = {"id": topup.gateway_order_id, "status": "CREATED", "purchase_units": [unit]}
    content = order | {"links": [{"rel": "payer-action", "href": href}]}
    bench.line.due("/orders", status(200, json.dumps(content).encode()))
    assert (await bench.paypal.open_topup(topup)).url == ""


async def test_a_refusal_comes_in_paypals_own_words(bench: Bench) -> None:
    """What PayPal says of a request is passed on, and the request is not repeated."""
    details = [{"issue": "DUPLICATE_INVOICE_ID", "description": "Duplicate Invoice ID detected."}]
    content = {"name": "UNPROCESSABLE_ENTITY", "message": "No.", "details": details}
    bench.line.due("/orders", status(422, json.dumps(content).encode()))
    with pytest.raises(GatewayRefused, match="Duplicate Invoice ID detected"):
        await bench.paypal.open_topup(make_topup())
    assert len(bench.line.requests("POST", "/orders")) == 1


async def test_a_rate_limit_is_passed_on_and_not_pushed(bench: Bench) -> None:
    """After 429 nothing is sent again here; the caller hears how long to wait."""
    bench.line.due("/orders", status(429, headers={"Retry-After": "7"}))
    with pytest.raises(GatewayUnavailable) as unavailable:
        await bench.paypal.open_topup(make_topup())
    assert unavailable.value.retry_after_seconds == 7
    assert len(bench.line.requests("POST", "/orders")) == 1


async def test_a_gateway_that_hangs_is_given_up(bench: Bench) -> None:
    """Nobody waits longer than the setting says."""
    settings = replace(bench.settings, timeout_seconds=0.05)
    bench.line.due("/token", "hang", "hang")
    with pytest.raises(GatewayUnavailable):
        await Paypal(bench.session, settings).open_topup(make_topup())
