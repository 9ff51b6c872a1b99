"""One history: everybody acts while things go wrong, then it gets calm, and all has to add up."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from server.ledger.money import Money
from server.ledger.records import Order
from server.reconcile import Moved, reconcile
from sim.account import CAPTURED, TAKEN, Account
from sim.callers import CUSTOMERS, Caller, Market
from sim.courier import Courier
from sim.customers import Customers
from sim.gateway import SimulatedGateway
from sim.links import FaultyLink, ReplicaSet
from sim.loop import HistoryHangs
from sim.oracle import Oracle
from sim.promises import Promises
from sim.records import Database
from sim.reviewer import Reviewer
from sim.servers import Server
from sim.store import SimulatedQueries
from sim.world import EPOCH_MS, Fault, Plan, Violation, World

_LEAST_STEPS: Final = 200
_CALM_SECONDS: Final = 3 * 3_600
"""So long after the last fault everything that was captured has to be where it belongs."""
_DAY_MS: Final = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Result:
    """What a history came to."""

    plan: Plan
    steps: int
    faults: Counter[Fault]
    digest: str
    violation: Violation | None
    trace: list[tuple[float, str, str]]


def plan_of(seed: int) -> Plan:
    """Draw the plan of a seed: some are rough, some are quiet, some have faults of few kinds."""
    dice = random.Random(f"{seed}:plan")
    share = dice.choice((0.3, 0.8, 1.0))
    return Plan(
        seed=seed,
        servers=dice.choice((1, 2, 2, 3)),
        callers=dice.choice((2, 3, 4)),
        operations=dice.randint(4, 10),
        least_steps=_LEAST_STEPS,
        faults=frozenset(fault for fault in Fault if dice.random() < share),
        intensity=dice.choice((0.3, 1.0, 1.0, 2.5)),
        is_shuffled=dice.random() < 0.8,
        has_limits=dice.random() < 0.4,
    )


def simulate(plan: Plan) -> Result:
    """Run a history to its end, or to the first violation."""
    world = World(plan)
    history = _History(world)
    with _only_errors_logged(world):
        try:
            world.loop.run(history.main())
        except HistoryHangs as error:
            world.broken("a history ends", str(error))
    return Result(plan, world.steps, world.faults, world.digest(), world.violation, world.trace)


class _History:
    """The actors of a history."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = world.dice("history")
        self._account = Account(lambda: world.now_ms)
        self._oracle = Oracle(world, self._account)
        self._database = Database()
        self._database.watch = self._oracle.committed
        self._replica_set = ReplicaSet(world, self._database)
        self._market = Market()
        self._servers: list[Server] = []

    async def main(self) -> None:
        """Let everybody act; then let it get calm, and check the end."""
        world, plan = self._world, self._world.plan
        self._prepare()
        self._servers = [
            Server(world, f"server-{number}", self._replica_set, self._account)
            for number in range(1, plan.servers + 1)
        ]
        customers = Customers(world, self._account)
        promises = Promises(world, self._oracle)
        courier = Courier(world, self._servers, promises)
        self._account.send = courier.send
        callers = [
            Caller(
                world,
                f"caller-{number}",
                self._servers,
                promises,
                self._market,
                customers.checkout,
            )
            for number in range(1, plan.callers + 1)
        ]
        reviewer = Reviewer(world, self._servers, self._oracle, self._account)
        background = [
            asyncio.create_task(self._disturb(customers, courier)),
            asyncio.create_task(reviewer.run()),
        ]
        await asyncio.gather(*(caller.run() for caller in callers))
        while customers.open:
            await asyncio.wait(customers.open)
        world.is_calm = True
        world.note("world", "is calm from now on")
        await self._until_settled(courier)
        for task in background:
            task.cancel()
        await self._check_end()
        world.is_over = True

    def _prepare(self) -> None:
        """Put in what other services have recorded."""
        self._database.insert(customers=set(CUSTOMERS))
        self._oracle.customers |= set(CUSTOMERS)
        orders: dict[str, Order] = {}
        for number, customer in enumerate(CUSTOMERS):
            order_id, amount = f"order-{number}", self._dice.randint(50, 300)
            orders[order_id] = Order(order_id, customer, amount, "INR", None, None, "", 0, (), None)
            self._market.orders[order_id] = (customer, Money("INR", amount))
        self._database.insert(orders=orders)
        self._oracle.orders |= orders

    async def _disturb(self, customers: Customers, courier: Courier) -> None:
        """Disturb servers and the database, and do at the gateway what nobody asked for."""
        while True:
            await asyncio.sleep(self._dice.choice((0.05, 0.5, 3.0, 20.0)) * self._dice.random())
            match self._dice.randrange(7):
                case 0:
                    self._replica_set.maybe_change_primary()
                case 3:
                    self._replica_set.maybe_refuse(0.3)
                case 1:
                    if self._world.happens(Fault.WEBHOOK_FORGED, 0.5, "forger"):
                        await courier.forge(self._account)
                case 2:
                    if not self._world.is_calm and self._dice.random() < 0.1:
                        customers.buy_elsewhere()
                case _:
                    self._dice.choice(self._servers).disturb()

    async def _until_settled(self, courier: Courier) -> None:
        """Wait until all that was captured is where it belongs, and everything is delivered."""
        end = self._world.loop.time() + _CALM_SECONDS
        while self._is_recovering() or courier.open or any(self._unsettled(courier)):
            if self._world.loop.time() > end:
                left = list(self._unsettled(courier))
                self._world.broken(
                    "captured money arrives", f"{left}, {len(courier.open)} webhooks"
                )
                return
            await asyncio.sleep(20.0)

    def _is_recovering(self) -> bool:
        """Tell whether the database or a server is still away."""
        replica_set = self._replica_set
        is_unwell = replica_set.is_away or replica_set.is_refusing
        return is_unwell or any(server.life is None for server in self._servers)

    def _unsettled(self, courier: Courier) -> Iterator[str]:
        """Go through what has still to come: that, of which nobody was ever told, cannot."""
        for name in self._oracle.unaccounted():
            is_asked = name in self._account.payments and self._is_asked_about(name)
            if is_asked or name not in courier.never_told:
                yield name

    def _is_asked_about(self, payment_id: str) -> bool:
        """Tell whether the poller still asks about the top-up of a payment."""
        topup_id = self._account.orders[self._account.payments[payment_id].order_id]
        topup = self._oracle.topups.get(topup_id)
        return topup is not None and topup.poll_time_ms is not None

    async def _check_end(self) -> None:
        """Reconcile: what never arrived is named, and nothing else."""
        world = self._world
        for life in (server.life for server in self._servers):
            if life is None or life.serving.done():
                world.broken("servers go on", f"one of {len(self._servers)} does not")
        link = FaultyLink(world, self._replica_set, "operator")
        books = SimulatedQueries(self._database, link)
        gateway = SimulatedGateway(world, self._account, "operator", tells_time=True)
        report = await reconcile(gateway, books, EPOCH_MS - _DAY_MS, world.now_ms + _DAY_MS)
        named = {discrepancy.moved for discrepancy in report.discrepancies}
        if named != self._discrepancies():
            world.broken("reconciliation names what differs", f"{named}, {self._discrepancies()}")

    def _discrepancies(self) -> set[Moved]:
        """Return in what the gateway and the ledger differ."""
        payments = {
            Moved("payment", payment.payment_id)
            for payment in self._account.payments.values()
            if payment.status is CAPTURED and not self._oracle.credits[payment.payment_id]
        }
        reversals = {
            Moved("reversal", reversal.reversal_id)
            for reversal in self._account.reversals.values()
            if -self._oracle.reversed[reversal.reversal_id]
            != (reversal.amount.minor_units if reversal.state is TAKEN else 0)
        }
        return payments | reversals


class _UnforeseenErrors(logging.Handler):
    """Makes a violation of every error that the commit path did not foresee."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log record; those with a trace are of the unforeseen."""
        if record.exc_info:
            error = record.exc_info[1]
            self._world.broken("nothing unforeseen", f"{record.getMessage()}: {error!r}")


@contextmanager
def _only_errors_logged(world: World) -> Iterator[None]:
    """Keep the service's warnings quiet: here faults are the rule."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logger = logging.getLogger("server.commit.lane")
    handler, propagate = _UnforeseenErrors(world), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
        structlog.configure(**before)
