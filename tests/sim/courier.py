"""The courier of the gateway's webhooks, and a forger."""

import asyncio
import hashlib
import json
from typing import Final

from gateway_adapters.gateway import GatewayError, SignatureInvalid
from server.commit.errors import CommitError
from server.commit.port import StoreError
from server.topups import WebhookReceipt
from sim.account import CAPTURED, GATEWAY, Account, Webhook
from sim.promises import Promises
from sim.servers import Life, NoAnswer, Server
from sim.world import Fault, World

_TRY_AGAIN: Final = (CommitError, StoreError, GatewayError, NoAnswer)


class Courier:
    """Carries webhooks to the servers: late, twice, in any order, or not at all."""

    def __init__(self, world: World, servers: list[Server], promises: Promises) -> None:
        self._world = world
        self._servers = servers
        self._promises = promises
        self._dice = world.dice("courier")
        self.open: set[asyncio.Task[None]] = set()
        self.never_told: set[str] = set()
        """Payments and reversals of which a webhook was lost for good."""

    def send(self, webhook: Webhook) -> None:
        """Take a webhook from the gateway."""
        world, who = self._world, "courier"
        world.note("gateway", webhook.body.decode())
        if world.happens(Fault.WEBHOOK_LOST, 0.15, who):
            self.never_told.add(webhook.is_about)
            return
        self._start(webhook)
        if world.happens(Fault.WEBHOOK_DUPLICATED, 0.1, who):
            self._start(webhook)
        if world.happens(Fault.WEBHOOK_RENAMED, 0.05, who):
            headers = webhook.headers | {"event-id": f"renamed-{webhook.headers['event-id']}"}
            self._start(Webhook(headers, webhook.body, webhook.is_about, webhook.tells_capture))

    async def forge(self, account: Account) -> None:
        """Tell a server, without a good signature, that an open payment was captured."""
        if not account.amounts:
            return
        order_id = self._dice.choice(list(account.amounts))
        amount = account.amounts[order_id]
        body = json.dumps(
            {
                "type": "payment.captured",
                "time": self._world.now_ms // 1_000,
                "payment": {
                    "payment_id": "forged",
                    "order_id": order_id,
                    "status": CAPTURED.value,
                    "currency": amount.currency_code,
                    "amount": amount.minor_units,
                },
            }
        ).encode()
        forged = Webhook({"event-id": "forged", "signature": "0" * 64}, body, "forged", True)
        try:
            await self._deliver_once(forged)
        except SignatureInvalid:
            return
        except _TRY_AGAIN:
            return
        self._world.broken("what nobody signed is refused", body.decode())

    def _start(self, webhook: Webhook) -> None:
        task = self._world.loop.create_task(self._deliver(webhook))
        self.open.add(task)
        task.add_done_callback(self.open.discard)

    async def _deliver(self, webhook: Webhook) -> None:
        """Deliver until it is acknowledged, as gateways do."""
        await asyncio.sleep(self._dice.random() * self._dice.choice((0.0, 0.05, 2.0)))
        if self._world.happens(Fault.WEBHOOK_DELAYED, 0.15, "courier"):
            await asyncio.sleep(self._dice.choice((10.0, 60.0, 200.0)))
        wait = 0.5
        while True:
            try:
                receipt = await self._deliver_once(webhook)
            except _TRY_AGAIN:
                await asyncio.sleep(wait * (0.5 + self._dice.random()))
                wait = min(wait * 2, 60.0)
                continue
            self._world.note("courier", f"is told {receipt.outcome} of {receipt.event_id}")
            self._promises.webhook_acknowledged(
                _key_of(webhook), webhook.is_about if webhook.tells_capture else None
            )
            return

    async def _deliver_once(self, webhook: Webhook) -> WebhookReceipt:
        server = self._dice.choice(self._servers)
        what = f"webhook {webhook.headers['event-id']} of {webhook.is_about}"

        async def take(life: Life) -> WebhookReceipt:
            return await life.topups.take_webhook(GATEWAY, webhook.headers, webhook.body, None, 5.0)

        return await server.call("courier", what, take, 10.0)


def _key_of(webhook: Webhook) -> str:
    """Return the name under which an event has to be recorded."""
    digest = hashlib.sha256(webhook.body).hexdigest()
    return f"{GATEWAY}:{webhook.headers['event-id']}:{digest[:16]}"
