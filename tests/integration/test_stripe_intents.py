"""The Stripe adapter's calls over real HTTP: intents, lookups, captures, and what goes wrong."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import ClientSession, web
from aiohttp.typedefs import Handler

from gateway_adapters.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    LookupProof,
    PaymentReport,
    PaypalProof,
    ProofInvalid,
    RazorpayProof,
    TokenGateway,
    WebhookEvent,
)
from gateway_adapters.outbound import CredentialsRefused
from gateway_adapters.sandbox.control import tell_control_errors
from gateway_adapters.sandbox.faults import Faults
from gateway_adapters.sandbox.stripe_mount import StripeSandbox, StripeSandboxSettings
from gateway_adapters.sandbox.webhooks import Webhook, WebhookSender
from gateway_adapters.stripe import Stripe, StripeSettings
from gateway_adapters.stripe.api import API_VERSION
from paypal_bench import make_topup
from server.ledger.money import Money
from server.ledger.records import GatewayPayment, GatewayPaymentStatus, Topup

SECRET_KEY, PUBLISHABLE_KEY, WEBHOOK_SECRET = "sk_test_1", "pk_test_1", "whsec_1"
AUTHORIZED, CAPTURED = GatewayPaymentStatus.AUTHORIZED, GatewayPaymentStatus.CAPTURED
PENDING, FAILED = GatewayPaymentStatus.PENDING, GatewayPaymentStatus.FAILED
INTENTS = "/stripe/v1/payment_intents"

Json = dict[str, Any]
Answer = Callable[[], web.Response]


@dataclass
class Bench:
    """An adapter, the sandbox, what was asked of it, and the webhooks that it sent."""

    session: ClientSession
    sandbox: StripeSandbox
    url: str = ""
    seen: list[tuple[str, str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    """Of each request to the API: method, path, its form, its headers."""
    due: deque[Answer] = field(default_factory=deque)
    """What the API answers next, in the sandbox's place."""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    refused: int = 0
    """How many of the next webhooks are not taken."""

    @property
    def settings(self) -> StripeSettings:
        """The adapter's settings."""
        return StripeSettings(
            f"{self.url}/stripe",
            SECRET_KEY,
            PUBLISHABLE_KEY,
            (WEBHOOK_SECRET,),
            checkout_url="https://shop.example/pay/",
        )

    @property
    def stripe(self) -> Stripe:
        """An adapter that has not met any trouble yet."""
        return Stripe(self.session, self.settings)

    async def control(self, path: str, **content: Any) -> Json:
        """Act as the sandbox's customer, bank or merchant, and wait until the webhooks came."""
        url = f"{self.url}/sandbox/stripe/{path}"
        async with self.session.post(url, json={"wait": True, **content}) as response:
            assert response.status == HTTPStatus.OK, await response.text()
            answer: Json = await response.json()
            return answer

    async def fault(self, **content: Any) -> None:
        """Let the next requests to the API suffer."""
        url = f"{self.url}/sandbox/faults"
        async with self.session.post(url, json={"api": {"path": "/stripe/", **content}}) as answer:
            assert answer.status == HTTPStatus.OK

    async def opened(self, amount: Money = Money("USD", 12_345), **fields: Any) -> Topup:  # noqa: B008 - frozen
        """Return a top-up that has its intent."""
        topup = make_topup(amount, gateway="stripe", method="card", **fields)
        checkout = await self.stripe.open_topup(topup)
        return replace(topup, gateway_order_id=checkout.gateway_order_id)

    async def paid(self, **content: Any) -> Topup:
        """Return a top-up whose intent the customer paid."""
        topup = await self.opened()
        await self.control(f"intents/{topup.gateway_order_id}/pay", **content)
        return topup

    async def look_up(self, topup: Topup) -> PaymentReport | None:
        """Ask what Stripe has of a top-up."""
        return await self.stripe.check_proof(topup, LookupProof())

    async def events(self) -> list[WebhookEvent]:
        """Have the adapter read all webhooks that came since the last time."""
        received, self.received = self.received, []
        return [await self.stripe.read_webhook(headers, body) for headers, body in received]

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note a request to the API, and answer it where that is due."""
        if not request.path.startswith("/stripe/"):
            return await handler(request)
        form = dict(parse_qsl((await request.read()).decode()))
        self.seen.append((request.method, request.path, form, dict(request.headers)))
        return self.due.popleft()() if self.due else await handler(request)

    async def receive(self, request: web.Request) -> web.Response:
        """Take a webhook."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((headers, await request.read()))
        self.refused -= 1
        return web.Response(status=503 if self.refused >= 0 else 200)


@asynccontextmanager
async def running_bench() -> AsyncIterator[Bench]:
    """Give an adapter and a sandbox that speak over real HTTP, with real webhooks."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        faults = Faults()
        senders: list[WebhookSender] = []

        async def commit(webhooks: Sequence[Webhook], copies: int) -> list[asyncio.Task[None]]:
            senders[0].add(webhooks)
            return senders[0].send(webhooks, copies)

        sandbox = StripeSandbox(StripeSandboxSettings(SECRET_KEY, WEBHOOK_SECRET), commit, {})
        bench = Bench(session, sandbox)
        app = web.Application(
            middlewares=[tell_control_errors, faults.middleware, bench.note, sandbox.middleware]
        )
        app.add_routes(sandbox.table())
        app.add_routes(faults.table())
        app.add_routes([web.post("/received", bench.receive)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        bench.url = f"http://{host}:{port}"
        senders.append(WebhookSender(session, f"{bench.url}/received", faults, sandbox.sign))
        stack.push_async_callback(senders[0].close)
        yield bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Give a bench of its own to each test."""
    async with running_bench() as made:
        yield made


def answering(status: int, content: object = None) -> Answer:
    """Return an answer in the sandbox's place."""
    return lambda: web.Response(status=status, body=json.dumps(content or {}).encode())


def report_of(report: PaymentReport | None) -> GatewayPayment:
    """Return the payment that was reported."""
    assert report is not None
    return report.payment


async def test_a_top_up_gets_one_intent_for_exactly_its_amount(bench: Bench) -> None:
    """The intent carries our ids, and the customer's app gets the publishable key alone."""
    topup = await bench.opened()
    checkout = await bench.stripe.open_topup(topup)
    assert checkout.gateway_order_id == topup.gateway_order_id
    assert checkout.public_key == PUBLISHABLE_KEY
    assert checkout.url == f"https://shop.example/pay/{topup.gateway_order_id}"
    assert list(bench.sandbox.account.intents) == [topup.gateway_order_id]
    method, path, form, headers = bench.seen[0]
    assert (method, path) == ("POST", INTENTS)
    assert form == {
        "amount": "12345",
        "currency": "usd",
        "payment_method_types[]": "card",
        "metadata[topup_id]": topup.topup_id,
        "metadata[customer_id]": topup.customer_id,
    }
    assert headers["Idempotency-Key"] == topup.topup_id
    assert headers["Authorization"] == f"Bearer {SECRET_KEY}"
    assert headers["Stripe-Version"] == API_VERSION


async def test_the_client_secret_is_told_again_for_the_intent_that_is_recorded(
    bench: Bench,
) -> None:
    """Also when Stripe has long forgotten the key: the intent is asked for, and none is made."""
    topup = make_topup(Money("USD", 12_345), gateway="stripe", method="card")
    first = await bench.stripe.open_topup(topup)
    intents = bench.sandbox.account.intents
    intent = intents[first.gateway_order_id]
    intents[intent.id] = replace(intent, idempotency_key="")
    assert first.client_secret == intent.client_secret
    assert first.client_secret not in repr(first)

    again = await bench.stripe.open_topup(replace(topup, gateway_order_id=intent.id))

    assert again == first
    assert [(method, path) for method, path, _, _ in bench.seen] == [
        ("POST", INTENTS),
        ("GET", f"{INTENTS}/{intent.id}"),
    ]
    assert list(intents) == [intent.id]


async def test_the_client_secret_of_another_intent_is_not_told(bench: Bench) -> None:
    """What Stripe answers has to be about the recorded intent, for the same top-up and amount."""
    topup = await bench.opened()
    other = await bench.stripe.open_topup(replace(topup, gateway_order_id="", topup_id="top_other"))
    url = f"{bench.url}{INTENTS}/{other.gateway_order_id}"
    async with bench.session.get(url, headers={"Authorization": f"Bearer {SECRET_KEY}"}) as answer:
        content = await answer.json()
    bench.due.append(answering(200, content | {"metadata": {"topup_id": topup.topup_id}}))
    with pytest.raises(GatewayRefused, match="does not fit"):
        await bench.stripe.open_topup(topup)


async def test_an_amount_in_a_currency_of_stripes_own_kind_comes_back_the_same(
    bench: Bench,
) -> None:
    """Five krónur are asked for as 500, and credited as five."""
    topup = await bench.opened(Money("ISK", 500))
    assert bench.seen[0][2]["amount"] == "50000"
    await bench.control(f"intents/{topup.gateway_order_id}/pay")
    assert report_of(await bench.look_up(topup)).amount == Money("ISK", 500)
    assert [movement.fact async for movement in bench.stripe.movements(0, 10**13)] == [
        report_of(await bench.look_up(topup))
    ]


@pytest.mark.parametrize("mode", ["lose_answer", "refuse_connections", "error500"])
async def test_a_lost_answer_leaves_one_intent(bench: Bench, mode: str) -> None:
    """The repeat under the same key finds what the first try made."""
    await bench.fault(mode=mode)
    topup = await bench.opened()
    assert list(bench.sandbox.account.intents) == [topup.gateway_order_id]


@pytest.mark.parametrize("status", [409, 424, 429, 503])
async def test_what_passes_is_told_as_unavailable(bench: Bench, status: int) -> None:
    """A key in use, somebody else's failure or a rate limit does not end a top-up."""
    bench.due.extend([answering(status)] * 2)
    with pytest.raises(GatewayUnavailable):
        await bench.opened()
    bench.due.clear()
    await bench.opened()


async def test_a_refusal_is_told_in_stripes_own_words(bench: Bench) -> None:
    """What is below Stripe's minimum is not tried again."""
    with pytest.raises(GatewayRefused, match="at least 50 cents"):
        await bench.opened(Money("USD", 49))
    assert len(bench.seen) == 1


async def test_a_key_used_for_another_request_is_refused(bench: Bench) -> None:
    """The same top-up cannot be asked for twice with two amounts."""
    await bench.opened()
    with pytest.raises(GatewayRefused, match="same parameters"):
        await bench.opened(Money("USD", 54_321))


async def test_refused_credentials_are_the_operators_affair(bench: Bench) -> None:
    """They are no refusal of the top-up."""
    stripe = Stripe(bench.session, replace(bench.settings, secret_key="sk_test_other"))
    with pytest.raises(CredentialsRefused):
        await stripe.open_topup(await bench.opened())


async def test_an_intent_that_does_not_fit_the_top_up_is_refused(bench: Bench) -> None:
    """The customer is never asked for another amount, nor credited for another's intent."""
    topup = await bench.opened()
    intent = {"id": "pi_1", "amount_received": 0, "currency": "usd", "status": "x"}
    for changes in (
        {"amount": 1, "metadata": {"topup_id": topup.topup_id}},
        {"amount": 12_345, "metadata": {"topup_id": "top_another"}},
    ):
        bench.due.append(answering(200, intent | changes))
        with pytest.raises(GatewayRefused, match="does not fit"):
            await bench.stripe.open_topup(topup)


async def test_a_lookup_follows_the_intent_through_its_life(bench: Bench) -> None:
    """Nothing, failed, under way, on hold, paid: each as the ledger knows it."""
    topup = await bench.opened()
    intent_id = topup.gateway_order_id
    assert await bench.look_up(topup) is None
    await bench.control(f"intents/{intent_id}/fail")
    failed = report_of(await bench.look_up(topup))
    assert (failed.status, failed.failure_reason) == (FAILED, "Your card was declined.")
    await bench.control(f"intents/{intent_id}/pay", status="processing")
    assert report_of(await bench.look_up(topup)).status is PENDING
    await bench.control(f"intents/{intent_id}/settle")
    paid = await bench.look_up(topup)
    assert report_of(paid) == GatewayPayment(intent_id, intent_id, CAPTURED, Money("USD", 12_345))
    assert paid is not None
    assert paid.reversals == ()
    assert json.loads(paid.body)["id"] == intent_id
    assert json.loads(paid.body)["client_secret"] == "(not kept)"


async def test_a_canceled_intent_is_a_failed_payment(bench: Bench) -> None:
    """Whoever canceled it, the customer reads why."""
    topup = await bench.opened()
    await bench.control(f"intents/{topup.gateway_order_id}/cancel")
    canceled = report_of(await bench.look_up(topup))
    assert canceled.status is FAILED
    assert "abandoned" in canceled.failure_reason


async def test_a_status_that_nobody_has_documented_credits_nothing(bench: Bench) -> None:
    """It is under way until Stripe says what is known."""
    topup = await bench.opened()
    intents = bench.sandbox.account.intents
    intents[topup.gateway_order_id] = replace(intents[topup.gateway_order_id], status="new")
    assert report_of(await bench.look_up(topup)).status is PENDING


@pytest.mark.parametrize("proof", [RazorpayProof("pay_1", "x"), PaypalProof("1")])
async def test_only_a_lookup_proves_a_payment(
    bench: Bench, proof: RazorpayProof | PaypalProof
) -> None:
    """What the customer's app says is not believed, and Stripe is handed no wallet's token."""
    assert not isinstance(bench.stripe, TokenGateway)
    with pytest.raises(ProofInvalid):
        await bench.stripe.check_proof(await bench.opened(), proof)


@pytest.mark.parametrize("order_id", ["", "order_1", "pi_1/../../x", "pi_1?x"])
async def test_a_top_up_without_an_intent_cannot_be_looked_up(bench: Bench, order_id: str) -> None:
    """No id gets into a path that is not one."""
    topup = make_topup(gateway="stripe", gateway_order_id=order_id)
    with pytest.raises(ProofInvalid):
        await bench.look_up(topup)
    assert bench.seen == []


async def test_an_answer_about_another_intent_is_none(bench: Bench) -> None:
    """What cannot be read, or is about something else, credits nothing."""
    topup, other = await bench.opened(), await bench.opened(topup_id="top_other")
    body = bench.sandbox.account.intents[other.gateway_order_id]
    entity = {"id": body.id, "amount": 1, "amount_received": 1, "currency": "usd"}
    for content in ({**entity, "status": "succeeded"}, {}, {"id": topup.gateway_order_id}):
        bench.due.append(answering(200, content))
        with pytest.raises(GatewayUnavailable):
            await bench.look_up(topup)


async def test_what_is_on_hold_is_captured_once(bench: Bench) -> None:
    """Two captures at the same moment both return the payment as captured."""
    topup = await bench.paid(status="requires_capture")
    held = report_of(await bench.look_up(topup))
    assert held.status is AUTHORIZED
    reports = await asyncio.gather(*(bench.stripe.capture(topup, held) for _ in range(2)))
    assert [report.payment.status for report in reports] == [CAPTURED, CAPTURED]
    assert reports[0].payment == report_of(await bench.look_up(topup))
    assert [event.event_type for event in await bench.events()] == [
        "payment_intent.amount_capturable_updated",
        "payment_intent.succeeded",
    ]


@pytest.mark.parametrize("mode", ["lose_answer", "error500"])
async def test_a_capture_whose_answer_was_lost_is_told_as_captured(bench: Bench, mode: str) -> None:
    """Stripe refuses the repeat, and then says what the payment is."""
    topup = await bench.paid(status="requires_capture")
    held = report_of(await bench.look_up(topup))
    await bench.fault(mode=mode)
    report = await bench.stripe.capture(topup, held)
    assert (report.payment.status, report.payment.amount) == (CAPTURED, topup.amount)


async def test_a_capture_that_stripe_refuses_is_refused(bench: Bench) -> None:
    """A payment that stays on hold is no success, and one that was canceled has failed."""
    topup = await bench.paid(status="requires_capture")
    held = report_of(await bench.look_up(topup))
    bench.due.append(answering(402, {"error": {"message": "Declined."}}))
    with pytest.raises(GatewayRefused, match="Declined"):
        await bench.stripe.capture(topup, held)
    await bench.control(f"intents/{topup.gateway_order_id}/cancel")
    assert (await bench.stripe.capture(topup, held)).payment.status is FAILED
    unpaid = await bench.opened(topup_id="top_unpaid")
    payment = replace(held, payment_id=unpaid.gateway_order_id)
    with pytest.raises(GatewayRefused, match="requires_payment_method"):
        await bench.stripe.capture(unpaid, payment)


async def test_a_payment_of_another_intent_is_not_captured(bench: Bench) -> None:
    """The stored intent counts, whatever a report names."""
    topup = await bench.paid(status="requires_capture")
    held = replace(report_of(await bench.look_up(topup)), payment_id="pi_other")
    bench.seen.clear()
    with pytest.raises(GatewayRefused, match="does not belong"):
        await bench.stripe.capture(topup, held)
    assert bench.seen == []
