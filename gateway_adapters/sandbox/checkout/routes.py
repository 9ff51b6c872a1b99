"""The checkout page over HTTP, for a person with a browser.

GET  /checkout/{order id}          the page of an order of any gateway
GET  /checkout/{order id}/stage    how far it has come, for the page's script
POST /checkout/{order id}/pay      pays as the customer, then shows the page
POST /checkout/{order id}/fail     fails to, then shows the page
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from aiohttp import web

from gateway_adapters.sandbox.checkout.page import order_page, unknown_order_page
from gateway_adapters.sandbox.checkout.payable import CheckoutAccount, Payable
from gateway_adapters.sandbox.checkout.stage import PAYABLE, Stage, stage_of
from gateway_adapters.sandbox.webhooks import WebhookSender

PREFIX: Final = "/checkout/"
_LONGEST_WAIT_SECONDS: Final = 5.0

Till = tuple[CheckoutAccount, WebhookSender]
"""An account, and who sends its webhooks."""


class CheckoutRoutes:
    """The pages of the orders of all accounts."""

    def __init__(self, tills: Sequence[Till]) -> None:
        self._tills = tills

    def table(self) -> Iterable[web.RouteDef]:
        """Return the routes for an application."""
        order = f"{PREFIX}{{order_id}}"
        return [
            web.get(order, self.show),
            web.get(f"{order}/stage", self.tell_stage),
            web.post(f"{order}/{{action:pay|fail}}", self.choose),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Return an order's page."""
        found = self._find(request)
        if found is None:
            return unknown_order_page()
        (account, sender), payable = found
        return order_page(account.name, payable, _stage(account, sender, payable))

    async def tell_stage(self, request: web.Request) -> web.Response:
        """Return an order's stage, null where there is no such order."""
        found = self._find(request)
        stage = None if found is None else _stage(*found[0], found[1])
        return web.json_response({"stage": stage}, headers={"Cache-Control": "no-store"})

    async def choose(self, request: web.Request) -> web.Response:
        """Pay or fail, where that can be chosen; the page says what came of it, or before it.

        It is shown once the webhooks were taken, or after a while.
        """
        found = self._find(request)
        if found is None:
            return unknown_order_page()
        (account, sender), payable = found
        if _stage(account, sender, payable) in PAYABLE:
            is_paying = request.match_info["action"] == "pay"
            choice = account.pay if is_paying else account.fail
            sendings = await choice(payable.order_id)
            if sendings:
                await asyncio.wait(sendings, timeout=_LONGEST_WAIT_SECONDS)
        raise web.HTTPSeeOther(PREFIX + payable.order_id)

    def _find(self, request: web.Request) -> tuple[Till, Payable] | None:
        order_id = request.match_info["order_id"]
        for till in self._tills:
            payable = till[0].payable(order_id)
            if payable is not None:
                return till, payable
        return None


def _stage(account: CheckoutAccount, sender: WebhookSender, payable: Payable) -> Stage:
    deliveries = sender.deliveries_about(payable.order_id)
    paying = [one for one in deliveries if one.webhook.event in account.paying_events]
    return stage_of(payable, paying)
