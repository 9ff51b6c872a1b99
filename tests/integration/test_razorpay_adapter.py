"""The Razorpay adapter over real HTTP, against the sandbox and a line to it that can break."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import structlog

from gateway_adapters.gateway import (
    Gateway,
    GatewayRefused,
    GatewayUnavailable,
    InvalidTopup,
    LookupProof,
    NotImplementedHere,
    PaypalProof,
    ProofInvalid,
    RazorpayProof,
)
from gateway_adapters.razorpay import Razorpay
from razorpay_bench import (
    KEY_ID,
    KEY_SECRET,
    TOPUP_ID,
    Answer,
    Bench,
    make_topup,
    running_bench,
    status,
)
from server.ledger.money import Money
from server.ledger.records import GatewayPaymentStatus, Topup


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as running:
        yield running


def proof_of(topup: Topup, payment_id: str, secret: str = KEY_SECRET) -> RazorpayProof:
    """Return a proof as Razorpay Checkout makes it."""
    message = f"{topup.gateway_order_id}|{payment_id}".encode()
    signature = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return RazorpayProof(payment_id, signature)


def test_it_is_a_gateway(bench: Bench) -> None:
    """The adapter fits the interface under the name that requests use."""
    gateway: Gateway = bench.razorpay
    assert gateway.name == "razorpay"


@pytest.mark.parametrize("method", ["card", "netbanking", "upi", "upi_qr", "google_pay"])
def test_offered_methods_pass_from_one_rupee(bench: Bench, method: str) -> None:
    """The smallest amount that Razorpay takes is taken."""
    bench.razorpay.check_topup(Money("INR", 100), method)


def test_less_than_a_rupee_is_refused(bench: Bench) -> None:
    """99 paise are refused before anything is recorded, with the field to change."""
    with pytest.raises(InvalidTopup) as refused:
        bench.razorpay.check_topup(Money("INR", 99), "card")
    assert refused.value.field == "amount"


@pytest.mark.parametrize("method", ["netbanking", "upi", "upi_qr"])
def test_indian_methods_take_rupees_alone(bench: Bench, method: str) -> None:
    """Netbanking and UPI are paid in INR; a card takes another currency."""
    with pytest.raises(InvalidTopup) as refused:
        bench.razorpay.check_topup(Money("USD", 12345), method)
    assert refused.value.field == "amount"
    bench.razorpay.check_topup(Money("USD", 12345), "card")


@pytest.mark.parametrize("method", ["google_pay", "apple_pay"])
def test_wallets_are_offered_where_their_tokens_can_be_verified(bench: Bench, method: str) -> None:
    """Google Pay and Apple Pay exist; without their settings they are said not to be set up."""
    with pytest.raises(NotImplementedHere):
        bench.razorpay.check_topup(Money("USD", 100), method)
    bench.adapter(wallets=frozenset({method})).check_topup(Money("USD", 100), method)


def test_an_unknown_method_is_refused(bench: Bench) -> None:
    """A method that nobody knows is an error of the request."""
    with pytest.raises(InvalidTopup) as refused:
        bench.razorpay.check_topup(Money("INR", 100), "cheque")
    assert refused.value.field == "method"


async def test_opening_makes_one_order_that_names_the_topup(bench: Bench) -> None:
    """The order has the top-up's exact amount, its id as receipt, and both ids in its notes."""
    checkout = await bench.razorpay.open_topup(make_topup())
    (order,) = await bench.orders()
    assert checkout.gateway_order_id == order["id"]
    assert checkout.public_key == KEY_ID
    assert checkout.url == f"https://pay.example/checkout/{order['id']}"
    assert (order["amount"], order["currency"]) == (12345, "INR")
    assert order["receipt"] == TOPUP_ID
    assert order["notes"] == {"topup_id": TOPUP_ID, "customer_id": "cus_1"}


async def test_an_order_notes_where_its_customer_goes_back_to(bench: Bench) -> None:
    """The checkout page finds the return URL at the order; one that is too long is left out."""
    short, long = "https://shop.example/done?a=1&b=2", f"https://shop.example/{'a' * 256}"
    for topup_id, return_url in ((TOPUP_ID, short), (f"{TOPUP_ID}2", long)):
        await bench.razorpay.open_topup(
            replace(make_topup(), topup_id=topup_id, return_url=return_url)
        )
    notes = [order["notes"].get("return_url") for order in await bench.orders()]
    assert sorted(notes, key=str) == [None, short]


async def test_without_a_checkout_page_there_is_no_url(bench: Bench) -> None:
    """Where no page is configured none is invented."""
    checkout = await bench.adapter(checkout_url="").open_topup(make_topup())
    assert checkout.url == ""


async def test_opening_again_finds_the_same_order(bench: Bench) -> None:
    """A repeat makes no second order."""
    first = await bench.razorpay.open_topup(make_topup())
    assert await bench.razorpay.open_topup(make_topup()) == first
    assert bench.line.count("POST") == 1


async def test_a_lost_reply_leaves_one_order(bench: Bench) -> None:
    """When the reply to the order is lost, the lookup finds the order instead of making another."""
    bench.line.faults["POST"].append("lose the reply")
    checkout = await bench.razorpay.open_topup(make_topup())
    (order,) = await bench.orders()
    assert checkout.gateway_order_id == order["id"]
    assert bench.line.count("POST") == 1


async def test_a_lost_reply_and_a_lost_line_leave_one_order_for_the_repeat(bench: Bench) -> None:
    """When all fails after the order was made, a later repeat of the call finds that order."""
    bench.line.faults["POST"].append("lose the reply")
    bench.line.faults["GET"].extend(["pass", status(503), status(503)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    checkout = await bench.razorpay.open_topup(make_topup())
    (order,) = await bench.orders()
    assert checkout.gateway_order_id == order["id"]
    assert bench.line.count("POST") == 1


async def test_a_failed_order_is_tried_again_after_another_lookup(bench: Bench) -> None:
    """Between two tries to make the order stands a lookup."""
    bench.line.faults["POST"].append(status(502))
    await bench.razorpay.open_topup(make_topup())
    assert [method for method, _, _ in bench.line.seen] == ["GET", "POST", "GET", "POST"]
    assert len(await bench.orders()) == 1


async def test_without_a_lookup_nothing_is_ordered(bench: Bench) -> None:
    """While it cannot be known whether there is an order, none is made."""
    bench.line.faults["GET"].extend([status(500), status(500)])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    assert bench.line.count("POST") == 0


async def test_of_two_orders_the_paid_one_counts(bench: Bench) -> None:
    """Where a receipt has two orders, the one that the customer paid is taken up."""
    wanted = {"amount": 12345, "currency": "INR", "receipt": TOPUP_ID}
    made = [(await bench.by_hand("/v1/orders", wanted))["id"] for _ in range(2)]
    await bench.control(f"{made[1]}/pay")
    assert (await bench.razorpay.open_topup(make_topup())).gateway_order_id == made[1]


@pytest.mark.parametrize("amount", [Money("INR", 12344), Money("USD", 12345)])
async def test_an_order_for_another_amount_is_not_used(bench: Bench, amount: Money) -> None:
    """An order under the same receipt with another amount or currency is refused."""
    await bench.razorpay.open_topup(make_topup(amount))
    with pytest.raises(GatewayRefused):
        await bench.razorpay.open_topup(make_topup())


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "order_1", "amount": 12344, "currency": "INR", "receipt": "%b"}',
        b'{"id": "order_1", "amount": 12345, "currency": "USD", "receipt": "%b"}',
        b'{"id": "order_1", "amount": 12345, "currency": "INR", "receipt": "top_another%b"}',
    ],
)
async def test_an_answer_for_another_order_is_refused(bench: Bench, body: bytes) -> None:
    """What comes back has to be what was asked for."""
    bench.line.faults["POST"].append(status(200, body % TOPUP_ID.encode()))
    with pytest.raises(GatewayRefused):
        await bench.razorpay.open_topup(make_topup())


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(503, b"<html>"),
        status(408),
        status(200, b"<html>"),
        status(200, b"[]"),
        status(200, b"\xff"),
        status(200, b"[" * 100_000),
        status(200, b'{"items": [{"id": "../x", "amount": 1, "currency": "INR"}]}'),
        status(200, b'{"items": 7}'),
        status(200, b"{}"),
        status(200, b'{"items": []}' + b" " * 1024 * 1024),
        status(404, b"<html>not Razorpay</html>"),
        status(302, headers={"Location": "/v1/orders?receipt=top_elsewhere"}),
    ],
)
async def test_an_answer_without_sense_means_unavailable(bench: Bench, fault: Answer) -> None:
    """Errors of the server, redirects and unreadable answers are tried again and then given up."""
    bench.line.faults["GET"].extend([fault, fault])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())


async def test_a_redirect_is_not_followed(bench: Bench) -> None:
    """Nobody can send the credentials somewhere else."""
    elsewhere = status(307, headers={"Location": "/elsewhere"})
    bench.line.faults["GET"].extend([elsewhere, elsewhere])
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    assert {path for _, path, _ in bench.line.seen} == {f"/v1/orders?receipt={TOPUP_ID}"}


async def test_one_failure_of_a_lookup_is_survived(bench: Bench) -> None:
    """A single error of the server is not noticed."""
    bench.line.faults["GET"].append(status(500))
    assert (await bench.razorpay.open_topup(make_topup())).gateway_order_id


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, 2), ({"Retry-After": "7"}, 7), ({"Retry-After": "9" * 5000}, 60)],
)
async def test_a_rate_limit_is_passed_on_and_not_pushed(
    bench: Bench, headers: dict[str, str], expected: int
) -> None:
    """After 429 nothing is sent again here; the caller hears how long to wait."""
    bench.line.faults["GET"].append(status(429, headers=headers))
    with pytest.raises(GatewayUnavailable) as unavailable:
        await bench.razorpay.open_topup(make_topup())
    assert unavailable.value.retry_after_seconds == expected
    assert len(bench.line.seen) == 1


async def test_a_rate_limit_on_the_order_is_not_pushed_either(bench: Bench) -> None:
    """After 429 to the order itself there is no second try."""
    bench.line.faults["POST"].append(status(429))
    with pytest.raises(GatewayUnavailable):
        await bench.razorpay.open_topup(make_topup())
    assert bench.line.count("POST") == 1


async def test_silence_ends_in_time(bench: Bench) -> None:
    """A gateway that never answers is given up after the timeout of each try."""
    bench.line.faults["GET"].extend(["hang", "hang"])
    with pytest.raises(GatewayUnavailable, match="in time"):
        await bench.adapter(timeout_seconds=0.1).open_topup(make_topup())
    assert bench.line.count("GET") == 2


async def test_nobody_there_means_unavailable(bench: Bench) -> None:
    """A refused connection is no reason to fail for good, and its text stays here."""
    adapter = bench.adapter(api_url="http://127.0.0.1:1")
    with pytest.raises(GatewayUnavailable) as unavailable:
        await adapter.open_topup(make_topup())
    assert str(unavailable.value) == "Razorpay cannot be reached."


async def test_refused_credentials_are_our_fault(bench: Bench) -> None:
    """Wrong credentials are logged as an error and shown to nobody, not even in the log."""
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(GatewayUnavailable, match="credentials") as unavailable,
    ):
        await bench.adapter(key_secret="not-the-secret").open_topup(make_topup())
    assert bench.line.count("GET") == 1
    assert [(log["log_level"], log["event"]) for log in logs] == [
        ("error", "gateway credentials refused")
    ]
    assert "not-the-secret" not in f"{logs}{unavailable.value}"


async def test_a_refusal_carries_the_gateways_own_words(bench: Bench) -> None:
    """What Razorpay refuses is told in its own description, and not tried again."""
    with pytest.raises(GatewayRefused, match=r"at least INR 1\.00"):
        await bench.razorpay.open_topup(make_topup(Money("INR", 99)))
    assert bench.line.count("POST") == 1


async def test_a_good_proof_gives_the_payment_as_the_gateway_has_it(bench: Bench) -> None:
    """Proof and lookup together give the captured payment with the raw answer."""
    topup = await bench.opened()
    paid = await bench.control(f"{topup.gateway_order_id}/pay")
    report = await bench.razorpay.check_proof(
        topup, RazorpayProof(paid["payment_id"], paid["signature"])
    )
    assert report is not None
    assert report.payment.payment_id == paid["payment_id"]
    assert report.payment.gateway_order_id == topup.gateway_order_id
    assert report.payment.status is GatewayPaymentStatus.CAPTURED
    assert report.payment.amount == topup.amount
    assert paid["payment_id"].encode() in report.body


async def test_a_proof_does_not_replace_the_gateways_answer(bench: Bench) -> None:
    """A good signature over an authorized payment says authorized, and no more."""
    topup = await bench.opened()
    paid = await bench.control(f"{topup.gateway_order_id}/pay", {"authorize_only": True})
    report = await bench.razorpay.check_proof(topup, proof_of(topup, paid["payment_id"]))
    assert report is not None
    assert report.payment.status is GatewayPaymentStatus.AUTHORIZED


@pytest.mark.parametrize(
    "signature", ["", "0" * 64, "\u00e9" * 64, "\udcff"], ids=["none", "zeros", "foreign", "half"]
)
async def test_a_bad_signature_is_refused_without_asking(bench: Bench, signature: str) -> None:
    """A signature that does not fit costs the gateway no request."""
    topup = replace(make_topup(), gateway_order_id="order_1")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(topup, RazorpayProof("pay_1", signature))
    assert bench.line.seen == []


@pytest.mark.parametrize(
    "payment_id",
    [
        "",
        "pay_",
        "pay_1/../../orders",
        "pay_1?x",
        "pay_1\n",
        "order_1",
        "pay_" + "a" * 33,
        "p\u00e9",
    ],
)
async def test_a_payment_id_cannot_lead_elsewhere(bench: Bench, payment_id: str) -> None:
    """An id of another shape is refused even where it is signed, before it comes into a path."""
    topup = replace(make_topup(), gateway_order_id="order_1")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(topup, proof_of(topup, payment_id))
    assert bench.line.seen == []


async def test_the_signature_counts_over_the_stored_order_only(bench: Bench) -> None:
    """The proof of one paid order does not pay another top-up's order."""
    paid_topup = await bench.opened()
    paid = await bench.control(f"{paid_topup.gateway_order_id}/pay")
    other = replace(paid_topup, gateway_order_id="order_Another")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(
            other, RazorpayProof(paid["payment_id"], paid["signature"])
        )


async def test_a_payment_of_another_order_is_refused_by_the_gateways_answer(bench: Bench) -> None:
    """Even a signature that fits does not help where the payment belongs to another order."""
    paid_topup = await bench.opened()
    paid = await bench.control(f"{paid_topup.gateway_order_id}/pay")
    other = replace(paid_topup, gateway_order_id="order_Another")
    with pytest.raises(ProofInvalid):
        await bench.razorpay.check_proof(other, proof_of(other, paid["payment_id"]))


async def test_a_proof_before_there_is_an_order_is_refused(bench: Bench) -> None:
    """Nothing can be proven for a top-up that the gateway has no order for."""
    for proof in (proof_of(make_topup(), "pay_1"), LookupProof()):
        with pytest.raises(ProofInvalid):
            await bench.razorpay.check_proof(make_topup(), proof)


async def test_another_gateways_proof_does_not_hold(bench: Bench) -> None:
    """PayPal's proof says nothing about a top-up through Razorpay."""
    with pytest.raises(ProofInvalid, match="does not fit"):
        await bench.razorpay.check_proof(make_topup(), PaypalProof("5O190127TN364715T"))


async def test_a_lookup_finds_nothing_before_the_customer_pays(bench: Bench) -> None:
    """An order without payments gives no report."""
    assert await bench.razorpay.check_proof(await bench.opened(), LookupProof()) is None


async def test_of_several_payments_the_captured_one_is_reported(bench: Bench) -> None:
    """Failed and authorized attempts stand behind the one that was captured."""
    topup = await bench.opened()
    expected = [
        ("fail", {}, GatewayPaymentStatus.FAILED),
        ("pay", {"authorize_only": True}, GatewayPaymentStatus.AUTHORIZED),
        ("fail", {}, GatewayPaymentStatus.AUTHORIZED),
        ("pay", {}, GatewayPaymentStatus.CAPTURED),
    ]
    for action, content, status_then in expected:
        await bench.control(f"{topup.gateway_order_id}/{action}", content)
        report = await bench.razorpay.check_proof(topup, LookupProof())
        assert report is not None
        assert report.payment.status is status_then


async def test_a_started_payment_stands_before_a_failed_one(bench: Bench) -> None:
    """An attempt that was just created may still succeed; a refunded one had been captured."""
    topup = replace(make_topup(), gateway_order_id="order_1")
    found = '{"id": "pay_%s", "order_id": "%s", "amount": 1, "currency": "INR", "status": "%s"}'
    orders = [("1", "order_1", "failed"), ("2", "order_1", "created")]
    for extra, expected in [
        ((), GatewayPaymentStatus.STARTED),
        ((("3", "order_2", "captured"),), GatewayPaymentStatus.STARTED),
        ((("3", "order_1", "refunded"),), GatewayPaymentStatus.CAPTURED),
    ]:
        items = ",".join(found % entry for entry in (*orders, *extra))
        bench.line.faults["GET"].append(status(200, f'{{"items": [{items}]}}'.encode()))
        report = await bench.razorpay.check_proof(topup, LookupProof())
        assert report is not None
        assert report.payment.status is expected


def test_credentials_go_over_no_open_line(bench: Bench) -> None:
    """An API that is reached without TLS, and is not on this machine, is refused at start."""
    with pytest.raises(ValueError, match="https"):
        bench.adapter(api_url="http://api.razorpay.com")
    assert bench.adapter(api_url="https://api.razorpay.com").name == "razorpay"


async def test_a_gateway_that_is_down_is_left_alone(bench: Bench) -> None:
    """After five failures in a row nothing is asked any more, until a probe shows it is back."""
    now = [0.0]
    razorpay = Razorpay(bench.session, bench.settings, clock=lambda: now[0])
    bench.line.faults["GET"].extend([status(503)] * 5)
    for _ in range(3):
        with pytest.raises(GatewayUnavailable):
            await razorpay.open_topup(make_topup())
    assert len(bench.line.seen) == 5
    with pytest.raises(GatewayUnavailable, match="left alone") as unavailable:
        await razorpay.open_topup(make_topup())
    assert unavailable.value.retry_after_seconds == 10
    assert len(bench.line.seen) == 5
    now[0] = 10.0
    assert (await razorpay.open_topup(make_topup())).gateway_order_id
