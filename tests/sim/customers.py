"""Those at the gateway: customers who pay, and banks that take back."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from server.ledger.money import Money
from server.ledger.records import ReversalKind, Topup
from sim.account import AUTHORIZED, CAPTURED, FAILED, RETURNED, TAKEN, Account, PaymentHere
from sim.world import World


class Customers:
    """Pay top-ups at the gateway, in every way that happens."""

    def __init__(self, world: World, account: Account) -> None:
        self._world = world
        self._account = account
        self._dice = world.dice("customers")
        self.open: set[asyncio.Task[None]] = set()
        """Those who are not done yet."""

    def checkout(self, topup: Topup) -> None:
        """Let the customer of a top-up do something with it."""
        assert topup.checkout is not None
        self._start(self._pay(topup.checkout.gateway_order_id))

    def buy_elsewhere(self) -> None:
        """Pay an order on the same account that no top-up was started for."""
        order_id = self._account.make_order("", Money("INR", 900))
        self._account.pay(order_id, CAPTURED)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._world.loop.create_task(work)
        self.open.add(task)
        task.add_done_callback(self.open.discard)

    async def _pay(self, order_id: str) -> None:
        acts = (
            (self._captured, 40),
            (self._on_hold, 18),
            (self._fails_then_pays, 12),
            (self._fails_and_is_captured_late, 8),
            (self._twice, 6),
            (self._another_amount, 4),
            (self._too_late, 4),
            (self._never, 8),
        )
        (act,) = self._dice.choices([act for act, _ in acts], [weight for _, weight in acts])
        await self._pause(0.01, 1.0, 10.0)
        await act(order_id)

    async def _captured(self, order_id: str) -> None:
        await self._taken_back(self._account.pay(order_id, CAPTURED))

    async def _on_hold(self, order_id: str) -> None:
        payment = self._account.pay(order_id, AUTHORIZED)
        if self._dice.random() < 0.3:  # by the gateway itself; else by the service
            await self._pause(0.01, 2.0, 60.0)
            self._account.bring(payment, CAPTURED)
        await self._taken_back(payment)

    async def _fails_then_pays(self, order_id: str) -> None:
        self._account.pay(order_id, FAILED)
        await self._pause(0.01, 2.0)
        await self._captured(order_id)

    async def _fails_and_is_captured_late(self, order_id: str) -> None:
        payment = self._account.pay(order_id, FAILED)
        await self._pause(1.0, 30.0, 200.0)
        self._account.bring(payment, AUTHORIZED)
        await self._pause(0.0, 5.0)
        self._account.bring(payment, CAPTURED)

    async def _twice(self, order_id: str) -> None:
        self._account.pay(order_id, CAPTURED)
        await self._pause(0.0, 1.0)
        await self._captured(order_id)

    async def _another_amount(self, order_id: str) -> None:
        amount = self._account.amounts[order_id]
        short = Money(amount.currency_code, amount.minor_units - 1)
        await self._taken_back(self._account.pay(order_id, CAPTURED, short))

    async def _too_late(self, order_id: str) -> None:
        await self._pause(130.0, 400.0)
        await self._captured(order_id)

    async def _never(self, _: str) -> None:
        return

    async def _taken_back(self, payment: PaymentHere) -> None:
        """Maybe take back what was captured, in parts, and maybe return it."""
        left = payment.amount.minor_units
        while self._dice.random() < 0.25 and payment.status is CAPTURED and left > 0:
            await self._pause(0.0, 3.0, 30.0)
            kind = self._dice.choice((ReversalKind.REFUND, ReversalKind.DISPUTE))
            amount = self._dice.choice((left, max(left // 2, 1)))
            reversal = self._account.take_back(payment, kind, amount)
            await self._pause(0.0, 5.0)
            state = self._dice.choice((TAKEN, RETURNED))
            self._account.conclude(reversal, state)
            left -= amount if state is TAKEN else 0

    async def _pause(self, *seconds: float) -> None:
        await asyncio.sleep(self._dice.choice(seconds) * (0.5 + self._dice.random()))
