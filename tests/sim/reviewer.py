"""A person who settles what could not be applied, one event after another."""

import asyncio
from typing import Final

from server.commit.errors import CommitError, Rejected
from server.ledger.commands import AdjustWallet, DismissEvent, TieToTopup
from server.ledger.records import EventOutcome, GatewayEvent
from server.ledger.rejection import Reason
from sim.account import GATEWAY, TELL_CAPTURE, Account
from sim.oracle import Oracle
from sim.servers import NoAnswer, Server
from sim.world import World

_SETTLED_BY_ITSELF: Final = frozenset({Reason.EVENT_SETTLED, Reason.TOPUP_STATE})


class Reviewer:
    """Works through the events that wait, with a notebook of payments that were dealt with."""

    def __init__(
        self, world: World, servers: list[Server], oracle: Oracle, account: Account
    ) -> None:
        self._world = world
        self._servers = servers
        self._oracle = oracle
        self._account = account
        self._dice = world.dice("reviewer")
        self._credited: set[str] = set()
        self._number = 0

    async def run(self) -> None:
        """Settle an event now and then, for ever."""
        while True:
            await asyncio.sleep(5.0 + 60.0 * self._dice.random())
            waiting = [
                event
                for event in self._oracle.events.values()
                if event.outcome is EventOutcome.NEEDS_REVIEW
            ]
            if waiting:
                await self._settle(self._command(self._dice.choice(waiting)))

    def _command(self, event: GatewayEvent) -> TieToTopup | AdjustWallet | DismissEvent:
        """Decide as a careful person does: no payment is given to anybody twice."""
        self._number += 1
        key, why = event.received.key, f"reason {self._number}"
        payment_id = event.gateway_payment_id
        topup = self._oracle.topups.get(event.topup_id)
        is_dealt_with = (
            payment_id in self._credited
            or self._oracle.credits[payment_id]
            or any(one.payment_id == payment_id for one in (topup.reversals if topup else ()))
        )
        if event.received.event_type not in TELL_CAPTURE or is_dealt_with or event.amount is None:
            return DismissEvent(key, "reviewer", why)
        if topup is not None and self._dice.random() < 0.5:
            order_id = topup.pay_order.order_id if topup.pay_order else ""
            return TieToTopup(
                key,
                GATEWAY,
                payment_id,
                topup.customer_id,
                topup.topup_id,
                order_id,
                "reviewer",
                why,
            )
        if topup is None and self._account.orders[event.gateway_order_id]:
            return DismissEvent(key, "reviewer", why)  # its top-up's gateway is asked anyhow
        self._credited.add(payment_id)
        customer = "asha" if topup is None else topup.customer_id
        return AdjustWallet(key, event.settlement_key, customer, event.amount, "reviewer", why)

    async def _settle(self, command: TieToTopup | AdjustWallet | DismissEvent) -> None:
        """Repeat a command until its end is known."""
        what = f"{type(command).__name__} {command.event_key} ({command.why})"
        while True:
            server = self._dice.choice(self._servers)
            self._world.note("reviewer", f"asks {server.name}: {what}")
            try:
                await server.call(
                    "reviewer", what, lambda life: life.committer.submit(command, 10.0), 10.0
                )
            except Rejected as error:
                self._refused(command, error.rejection.reason)
                return
            except (CommitError, NoAnswer):
                await asyncio.sleep(self._dice.random())
            else:
                return

    def _refused(self, command: TieToTopup | AdjustWallet | DismissEvent, reason: Reason) -> None:
        """A refusal is right only if it was not this very command that settled the event."""
        resolution = self._oracle.events[command.event_key].resolution
        if resolution is not None and resolution.why == command.why:
            self._world.broken("a refusal holds", f"{command} was refused: {reason}, and done")
