"""The sandbox's checkout page over real HTTP: what it shows, and what a choice does."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from gateway_adapters.sandbox import (
    PaypalSandboxSettings,
    RazorpaySandboxSettings,
    SandboxSettings,
    sandbox_app,
)
from gateway_adapters.sandbox.paypal_mount import PaypalSandbox
from gateway_adapters.sandbox.telling import Commit
from paypal_authority import serving

KEY_ID, KEY_SECRET = "rzp_test_key", "key-secret"
BASIC = "Basic " + base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
RETURN_URL = "https://shop.example/done?a=1&b=2"

Json = dict[str, Any]


class Page(HTMLParser):
    """A page as it was parsed: its text, and the elements that do or load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Note what a person reads."""
        if not {"style", "script"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        """Return all that a person reads."""
        return " ".join(" ".join(self.words).split())

    def values(self, tag: str, attribute: str) -> list[str | None]:
        """Return an attribute of all elements of a kind that have it."""
        return [
            found[attribute] for name, found in self.elements if name == tag and attribute in found
        ]


class Paypal:
    """The sandbox's PayPal, for a test that looks behind it."""

    name = "paypal"

    def __init__(self, webhook_url: str = "") -> None:
        self.webhook_url = webhook_url
        self.mounted: PaypalSandbox

    def mount(self, commit: Commit, kept: Mapping[str, Any]) -> PaypalSandbox:
        """Mount it, and remember what was mounted."""
        settings = PaypalSandboxSettings("client", "secret", "WH-1", "http://127.0.0.1:1")
        self.mounted = settings.mount(commit, kept)
        return self.mounted


@dataclass
class Shop:
    """A sandbox, and the taker of its webhooks, who answers as it is told."""

    session: ClientSession
    url: str = ""
    status: int = 200
    outcome: str = "APPLIED"
    taken: list[str] = field(default_factory=list)
    paypal: Paypal = field(default_factory=Paypal)

    async def take(self, request: web.Request) -> web.Response:
        """Take a webhook, or refuse it."""
        content = await request.json()
        self.taken.append(content.get("event") or content["event_type"])
        return web.json_response({"outcome": self.outcome}, status=self.status)

    async def razorpay_order(self, **fields: Any) -> str:
        """Make an order at Razorpay; return its id."""
        content = {"amount": 12345, "currency": "INR", "receipt": "top_1", **fields}
        made = await self.razorpay("POST", "orders", content)
        return str(made["id"])

    async def razorpay(self, method: str, path: str, content: Json | None = None) -> Json:
        """Call Razorpay's API as the service does."""
        headers = {"Authorization": BASIC}
        async with self.session.request(
            method, f"{self.url}/v1/{path}", json=content, headers=headers
        ) as answer:
            assert answer.status == 200
            made: Json = await answer.json()
            return made

    def paypal_order(self, return_url: str = RETURN_URL) -> str:
        """Make an order at PayPal; return its id."""
        context = {"experience_context": {"return_url": return_url}}
        amount = {"currency_code": "USD", "value": "12.30"}
        content = {
            "intent": "CAPTURE",
            "purchase_units": [{"custom_id": "top_2", "amount": amount}],
            "payment_source": {"paypal": context},
        }
        return self.paypal.mounted.account.create_order(content, "").id

    async def control(self, path: str, **content: Any) -> Json:
        """Send a control request."""
        async with self.session.post(f"{self.url}/sandbox/{path}", json=content) as answer:
            assert answer.status == 200, await answer.text()
            made: Json = await answer.json()
            return made

    async def page(self, order_id: str, status: int = 200) -> Page:
        """Open an order's page."""
        async with self.session.get(f"{self.url}/checkout/{order_id}") as answer:
            assert answer.status == status
            assert answer.content_type == "text/html"
            return Page(await answer.text())

    async def choose(self, order_id: str, action: str) -> Page:
        """Press a button of an order's page; return the page after it."""
        url = f"{self.url}/checkout/{order_id}/{action}"
        async with self.session.post(url) as answer:
            assert answer.status == 200
            assert answer.url.path == f"/checkout/{order_id}"
            return Page(await answer.text())

    async def stage(self, order_id: str) -> str | None:
        """Ask as the page's script does."""
        async with self.session.get(f"{self.url}/checkout/{order_id}/stage") as answer:
            stage: str | None = (await answer.json())["stage"]
            return stage

    async def comes_to(self, order_id: str, stage: str) -> Page:
        """Wait as the page does; return the page that it then shows."""
        async with asyncio.timeout(20):
            while await self.stage(order_id) != stage:
                pass
        return await self.page(order_id)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """Give a sandbox that is reached at the URL which its links name."""
    async with ClientSession() as session:
        shop = Shop(session)
        taker = web.Application()
        taker.router.add_post("/webhooks", shop.take)
        async with serving(taker) as taker_url:
            taken_at = f"{taker_url}/webhooks"
            razorpay = RazorpaySandboxSettings(KEY_ID, KEY_SECRET, "webhook-secret", taken_at)
            shop.paypal = Paypal(taken_at)
            settings = SandboxSettings((razorpay, shop.paypal), tmp_path / "sandbox.json")
            async with serving(sandbox_app(settings, session)) as shop.url:
                yield shop


async def test_an_order_is_shown_with_what_is_to_be_paid_and_both_choices(shop: Shop) -> None:
    """Amount, gateway, ids, a notice that no money moves, and a form for each choice."""
    for order_id, amount, topup_id, gateway in (
        (await shop.razorpay_order(), "INR 123.45", "top_1", "Razorpay"),
        (shop.paypal_order(), "USD 12.30", "top_2", "PayPal"),
    ):
        page = await shop.page(order_id)
        for shown in (amount, topup_id, order_id, gateway, "Waiting for the payment", "no real"):
            assert shown in page.text
        path = f"/checkout/{order_id}"
        assert page.values("form", "action") == [f"{path}/pay", f"{path}/fail"]
        assert page.values("form", "method") == ["post", "post"]
        assert page.values("a", "href") == []


async def test_the_page_loads_nothing_and_runs_only_its_own_script(shop: Shop) -> None:
    """The policy names nothing but the page itself, and each answer has a nonce of its own."""
    url = f"{shop.url}/checkout/{await shop.razorpay_order()}"
    policies = set()
    for _ in range(2):
        async with shop.session.get(url) as answer:
            policy = answer.headers["Content-Security-Policy"]
            page = Page(await answer.text())
            assert answer.headers["Cache-Control"] == "no-store"
        (nonce,) = page.values("script", "nonce")
        assert page.values("style", "nonce") == [nonce]
        assert f"script-src 'nonce-{nonce}'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.values("script", "src") == []
        assert page.values("link", "href") == ["data:,"]
        policies.add(policy)
    assert len(policies) == 2


async def test_whatever_a_merchant_wrote_is_shown_as_text(shop: Shop) -> None:
    """Neither markup nor an address that is no web page's comes through."""
    order_id = await shop.razorpay_order(
        receipt='"><script>alert(1)</script>', notes={"return_url": "javascript:alert(1)"}
    )
    page = await shop.page(order_id)
    assert '"><script>alert(1)</script>' in page.text
    assert len(page.values("script", "nonce")) == 1
    page = await shop.choose(order_id, "pay")
    assert page.values("a", "href") == []


@pytest.mark.parametrize("action", ["", "/pay", "/fail"])
async def test_an_unknown_order_has_a_page_of_its_own(shop: Shop, action: str) -> None:
    """It says so with 404, offers nothing, and tells no gateway."""
    url = f"{shop.url}/checkout/%3Cb%3Eorder_none{action}"
    async with shop.session.request("POST" if action else "GET", url) as answer:
        assert answer.status == 404
        page = Page(await answer.text())
    assert "There is no such order" in page.text
    assert page.values("form", "action") == []
    assert page.values("b", "class") == []
    assert await shop.stage("order_none") is None
    assert shop.taken == []


async def test_failing_leaves_the_order_to_be_paid(shop: Shop) -> None:
    """The page says that no money was taken, and offers both choices again."""
    order_id = await shop.razorpay_order()
    page = await shop.choose(order_id, "fail")
    assert "The payment failed. No money was taken" in page.text
    assert len(page.values("form", "action")) == 2
    assert shop.taken == ["payment.failed"]
    page = await shop.choose(order_id, "pay")
    assert "Paid. The wallet has been credited." in page.text


async def test_failing_at_paypal_refuses_the_capture(shop: Shop) -> None:
    """The customer approved with what is then declined, and may approve once more."""
    order_id = shop.paypal_order()
    await shop.choose(order_id, "fail")
    assert await shop.stage(order_id) == "pending"
    await capture(shop, order_id, 422)
    page = await shop.page(order_id)
    assert "The payment failed. No money was taken" in page.text
    await shop.choose(order_id, "pay")
    await capture(shop, order_id, 201)
    assert "has been credited" in (await shop.comes_to(order_id, "credited")).text


async def capture(shop: Shop, order_id: str, status: int) -> None:
    """Capture an order as the service does."""
    shop.paypal.mounted.routes.tokens.add("token")
    url = f"{shop.url}/v2/checkout/orders/{order_id}/capture"
    headers = {"Authorization": "Bearer token", "PayPal-Request-Id": "once"}
    async with shop.session.post(url, json={}, headers=headers) as answer:
        assert answer.status == status


async def test_paying_waits_for_the_webhook_and_then_says_what_it_did(shop: Shop) -> None:
    """The page after the choice says that the wallet is credited, and leads back to the shop."""
    order_id = await shop.razorpay_order(notes={"return_url": RETURN_URL})
    page = await shop.choose(order_id, "pay")
    assert "Paid. The wallet has been credited." in page.text
    assert sorted(shop.taken) == ["order.paid", "payment.captured"]
    assert page.values("form", "action") == []
    assert page.values("a", "href") == [RETURN_URL]
    assert "Back to shop.example" in page.text


async def test_approving_at_paypal_is_paid_once_it_is_captured(shop: Shop) -> None:
    """Approval takes no money: the page follows it until the capture's webhook was taken."""
    order_id = shop.paypal_order()
    page = await shop.choose(order_id, "pay")
    assert "The payment is under way" in page.text
    assert page.values("main", "data-passing") == ["true"]
    await capture(shop, order_id, 201)
    page = await shop.comes_to(order_id, "credited")
    assert "Paid. The wallet has been credited." in page.text
    assert page.values("a", "href") == [RETURN_URL]


async def test_a_payment_that_is_kept_for_review_is_not_called_credited(shop: Shop) -> None:
    """Another amount was taken: the page shows it, and says that the wallet has nothing of it."""
    shop.outcome = "NEEDS_REVIEW"
    order_id = await shop.razorpay_order()
    await shop.control(f"orders/{order_id}/pay", amount=12344, wait=True)
    page = await shop.page(order_id)
    assert "Paid. The wallet has not been credited." in page.text
    assert "INR 123.44" in page.text


async def test_the_page_follows_a_webhook_that_is_not_taken_yet(shop: Shop) -> None:
    """While the service refuses, the page says that it is being told; then that it was."""
    shop.status = 503
    order_id = await shop.razorpay_order()
    await shop.control(f"orders/{order_id}/pay")
    page = await shop.page(order_id)
    assert "The wallet service is being told" in page.text
    assert page.values("main", "data-passing") == ["true"]
    shop.status = 200
    page = await shop.comes_to(order_id, "credited")
    assert page.values("main", "data-passing") == ["false"]


async def test_of_a_lost_webhook_nothing_is_claimed(shop: Shop) -> None:
    """Paid it is, and the page does not pretend to know of the wallet."""
    await shop.control("faults", webhooks={"mode": "lose", "times": 2})
    page = await shop.choose(await shop.razorpay_order(), "pay")
    assert "Whether the wallet was credited is not known here" in page.text
    assert shop.taken == []


async def test_an_order_is_paid_once_by_many_presses(shop: Shop) -> None:
    """Presses at once and presses later end at the same page; one payment was made."""
    order_id = await shop.razorpay_order()
    actions = ("pay", "pay", "pay", "fail")
    await asyncio.gather(*[shop.choose(order_id, action) for action in actions])
    page = await shop.choose(order_id, "fail")
    assert "Paid. The wallet has been credited." in page.text
    payments = (await shop.razorpay("GET", f"orders/{order_id}/payments"))["items"]
    assert [payment["status"] for payment in payments].count("captured") == 1
    assert shop.taken.count("payment.captured") == 1


async def test_a_voided_order_cannot_be_paid(shop: Shop) -> None:
    """The approval was taken back for good: the page says to start anew."""
    order_id = shop.paypal_order()
    await shop.control(f"paypal/orders/{order_id}/deny")
    page = await shop.choose(order_id, "pay")
    assert "This order cannot be paid any more" in page.text
    assert page.values("form", "action") == []


async def test_a_pending_payment_can_be_followed(shop: Shop) -> None:
    """The bank says nothing for now, and nobody is asked to pay a second time."""
    order_id = await shop.razorpay_order()
    paid = await shop.control(f"orders/{order_id}/pay", pending=True)
    page = await shop.page(order_id)
    assert "The payment is under way" in page.text
    assert page.values("form", "action") == []
    await shop.control(f"payments/{paid['payment_id']}/capture", wait=True)
    assert await shop.stage(order_id) == "credited"


async def test_a_fault_of_the_api_does_not_reach_the_page(shop: Shop) -> None:
    """Whoever sees the page sees it while the service gets errors."""
    order_id = await shop.razorpay_order()
    await shop.control("faults", api={"mode": "error500"})
    assert "INR 123.45" in (await shop.page(order_id)).text


async def test_an_order_with_an_open_upi_intent_can_be_paid_here(shop: Shop) -> None:
    """An intent is a payment that nobody has made yet: the page still lets the customer choose."""
    order_id = await shop.razorpay_order()
    credentials = base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode()
    intent = {
        "amount": 12_345,
        "currency": "INR",
        "order_id": order_id,
        "email": "shop@example.com",
        "contact": "+919000090000",
        "method": "upi",
        "upi": {"flow": "intent"},
    }
    async with shop.session.post(
        f"{shop.url}/v1/payments/create/upi",
        json=intent,
        headers={"Authorization": f"Basic {credentials}"},
    ) as answer:
        assert answer.status == 200, await answer.text()

    page = await shop.page(order_id)

    assert f"/checkout/{order_id}/pay" in page.values("form", "action")
