"""The checkout page in a real browser: a person pays, and the wallet holds it."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from playwright.async_api import Browser, Page, expect

from browser_windows import DESKTOP, PHONE, Windows, opened_windows, running_browser
from harness import Harness, jwt_keys, unique
from server.cli.environment import running_environment
from server.config import load_settings
from wallet_payment.v1 import resources_pb2 as resources

PICTURES = Path(__file__).parents[2] / "build" / "browser"
METHODS = {"razorpay": ("upi", "INR"), "paypal": ("paypal", "USD")}
GATEWAYS = sorted(METHODS)
ANY_PORT = "127.0.0.1:0"
CREDITED = "Paid. The wallet has been credited."


@pytest.fixture(scope="session")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harness]:
    """Everything that `make up` runs, on free ports; it takes the tests' tokens."""
    settings = load_settings(
        data_dir=tmp_path_factory.mktemp("up"),
        grpc_address=ANY_PORT,
        sidecar_address=ANY_PORT,
        metrics_address=ANY_PORT,
        sandbox_address=ANY_PORT,
        jwt_algorithms="HS256",
        jwt_keys=json.dumps(jwt_keys()),
    )
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_environment(settings))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.grpc_address))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        uri = running.settings.mongodb_uri.get_secret_value()
        client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(uri)
        stack.callback(client.close)
        addresses = {
            "grpc": running.grpc_address,
            "metrics": running.metrics_url.removeprefix("http://").removesuffix("/metrics"),
            "sidecar": running.sidecar_url.removeprefix("http://"),
            "sandbox": running.sandbox_url.removeprefix("http://"),
        }
        yield Harness(
            running.settings,
            channel,
            client.get_default_database(),
            http,
            addresses,
            running.wallets,
        )


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests; each has windows of its own."""
    async with running_browser() as browser:
        yield browser


@pytest.fixture
async def windows(up: Harness, browser: Browser) -> AsyncIterator[Windows]:
    """Windows that go nowhere but to the sandbox."""
    async with opened_windows(browser, up.sandbox_url) as windows:
        yield windows


async def top_up(up: Harness, gateway: str, **fields: Any) -> resources.Topup:
    """Start a top-up of 500.00 for a new customer."""
    method, currency = METHODS[gateway]
    customer_id = unique("person")
    await up.database.customers_v2.insert_one({"_id": customer_id})
    return await up.initiate(
        customer_id, 50_000, gateway=gateway, method=method, currency=currency, **fields
    )


async def picture(page: Page, name: str) -> None:
    """Keep what the page looks like, for people."""
    await page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


async def press(page: Page, label: str) -> None:
    """Press the button whose name, as a screen reader says it, begins so."""
    await page.get_by_role("button", name=re.compile(f"^{label}")).click()


async def says(page: Page, text: str) -> None:
    """Wait until the page says something where it tells how things stand."""
    await expect(page.get_by_role("status")).to_contain_text(text, timeout=20_000)


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_person_pays_and_the_wallet_holds_it(
    up: Harness, windows: Windows, gateway: str
) -> None:
    """Pay is pressed, the page says that the wallet is credited, and gRPC says the same."""
    return_url = "http://127.0.0.1/shop?paid=1&by=me"
    topup = await top_up(up, gateway, return_url=return_url)
    currency = METHODS[gateway][1]
    page = await windows.open(topup.checkout.url)
    await expect(page.get_by_role("heading", name=f"{currency} 500.00")).to_be_visible()
    await expect(page.get_by_text(topup.topup_id)).to_be_visible()
    await expect(page.get_by_text(topup.gateway_order_id)).to_be_visible()

    await press(page, f"Pay {currency} 500.00")

    await says(page, CREDITED)
    await expect(page).to_have_title(f"{CREDITED} {currency} 500.00")
    assert (await up.topup(topup)).state == resources.TOPUP_STATE_CREDITED
    assert await up.balance(topup.customer_id, currency) == 50_000
    await expect(page.get_by_role("button")).to_have_count(0)
    back = page.get_by_role("link", name="Back to 127.0.0.1")
    await expect(back).to_have_attribute("href", return_url)


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_payment_fails_and_is_paid_then(
    up: Harness, windows: Windows, gateway: str
) -> None:
    """Fail is pressed and the top-up failed; Pay is pressed and it is credited."""
    topup = await top_up(up, gateway)
    page = await windows.open(topup.checkout.url)

    await press(page, "Fail the payment")

    await says(page, "The payment failed. No money was taken.")
    await up.wait_for_topup(topup, resources.TOPUP_STATE_FAILED)
    assert await up.balance(topup.customer_id, METHODS[gateway][1]) == 0

    await press(page, "Pay")

    await says(page, CREDITED)
    await up.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
    assert await up.balance(topup.customer_id, METHODS[gateway][1]) == 50_000


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_paid_order_is_opened_again(up: Harness, windows: Windows, gateway: str) -> None:
    """In another window, by reloading and by going back, it is paid, and stays so."""
    topup = await top_up(up, gateway)
    first = await windows.open(topup.checkout.url)
    stale = await windows.open(topup.checkout.url)
    await press(first, "Pay")
    await says(first, CREDITED)

    await press(stale, "Pay")
    await says(stale, CREDITED)
    await first.reload()
    await says(first, CREDITED)
    await first.go_back()
    await says(first, CREDITED)
    await says(await windows.open(topup.checkout.url), CREDITED)

    assert await up.balance(topup.customer_id, METHODS[gateway][1]) == 50_000
    assert len(await up.entries(topup.customer_id)) == 1


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_the_page_works_without_its_script(
    up: Harness, windows: Windows, gateway: str
) -> None:
    """Buttons are plain forms; what takes its time is looked at again by a link."""
    topup = await top_up(up, gateway)
    page = await windows.open(topup.checkout.url, has_script=False)

    await press(page, "Fail the payment")
    await says(page, "The payment failed.")
    async with page.expect_navigation():
        await press(page, "Pay")
    await up.wait_for_topup(topup, resources.TOPUP_STATE_CREDITED)
    await page.reload()
    await says(page, "Paid.")


async def test_the_page_follows_what_happens_elsewhere(up: Harness, windows: Windows) -> None:
    """While the bank has not decided the page waits, and shows by itself that it did."""
    topup = await top_up(up, "razorpay")
    paid = await up.pay_at_gateway(topup.gateway_order_id, pending=True)
    page = await windows.open(topup.checkout.url)
    await says(page, "The payment is under way.")
    await picture(page, "pending")

    url = f"{up.sandbox_url}/sandbox/payments/{paid['payment_id']}/capture"
    async with up.http.post(url, json={}) as answer:
        assert answer.status == 200

    await says(page, CREDITED)


async def test_buttons_are_pressed_by_the_keyboard(up: Harness, windows: Windows) -> None:
    """Both are reached by Tab, in turn, and Enter presses."""
    topup = await top_up(up, "razorpay")
    page = await windows.open(topup.checkout.url)

    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Pay INR 500.00")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Fail the payment")).to_be_focused()
    await page.keyboard.press("Enter")

    await says(page, "The payment failed.")


async def test_an_unknown_order_is_said_to_be_unknown(up: Harness, windows: Windows) -> None:
    """The link of nothing leads to a page that says so."""
    page = await windows.open(f"{up.sandbox_url}/checkout/order_none")

    await says(page, "There is no such order.")
    await picture(page, "unknown")
    await expect(page.get_by_role("button")).to_have_count(0)
    assert windows.complaints.pop().startswith("Failed to load resource")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_pictures_are_kept_of_each_page(
    up: Harness, windows: Windows, size: tuple[int, int], *, is_dark: bool
) -> None:
    """Nothing is wider than the window, from the order over its failure to the paid one."""
    name = f"{'phone' if size == PHONE else 'desktop'}-{'dark' if is_dark else 'light'}"
    topup = await top_up(up, "razorpay", return_url="https://shop.example/wallet")
    page = await windows.open(topup.checkout.url, size, is_dark=is_dark)
    width = size[0]

    for step, (label, text) in enumerate(
        [("", "Waiting"), ("Fail the payment", "failed"), ("Pay", CREDITED)], start=1
    ):
        if label:
            await press(page, label)
        await says(page, text)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await picture(page, f"{name}-{step}")
