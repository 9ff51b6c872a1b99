"""A real headless Chromium for tests, and its windows, which complain of nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

PHONE, DESKTOP = (390, 844), (1280, 800)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Windows:
    """A browser's windows, and what went wrong in them. They go nowhere but to the sandbox."""

    browser: Browser
    sandbox_url: str
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    async def open(
        self,
        url: str,
        size: tuple[int, int] = DESKTOP,
        *,
        is_dark: bool = False,
        has_script: bool = True,
    ) -> Page:
        """Open a page in a new window of a size in CSS pixels."""
        width, height = size
        context = await self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if is_dark else "light",
            is_mobile=size == PHONE,
            java_script_enabled=has_script,
        )
        self.contexts.append(context)
        page = await context.new_page()
        page.on("console", lambda said: self._note(said.type in {"error", "warning"}, said.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        page.on("request", lambda asked: self._note(not self._is_ours(asked.url), asked.url))
        await page.goto(url)
        return page

    def _note(self, is_wrong: bool, what: str) -> None:
        if is_wrong:
            self.complaints.append(what)

    def _is_ours(self, url: str) -> bool:
        return url.startswith((f"{self.sandbox_url}/", "data:"))


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run the Chromium that WALLET_TEST_CHROMIUM names, with a new, empty profile."""
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=os.environ["WALLET_TEST_CHROMIUM"], args=FLAGS
        ) as browser,
    ):
        yield browser


@asynccontextmanager
async def opened_windows(browser: Browser, sandbox_url: str) -> AsyncIterator[Windows]:
    """Give windows; when all is done, they must have nothing to complain of."""
    windows = Windows(browser, sandbox_url)
    yield windows
    for context in windows.contexts:
        await context.close()
    assert windows.complaints == []
