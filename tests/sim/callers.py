"""The order service's callers: they pay, refund, top up and read, and repeat what got no answer."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final, TypeVar

from gateway_adapters.gateway import GatewayError, LookupProof
from server.commit.errors import (
    CommandFailed,
    CommitError,
    Conflicted,
    NotStarted,
    QueueFull,
    Rejected,
)
from server.commit.port import StoreError
from server.ledger.commands import CreateTopup, PayOrder, RefundOrder
from server.ledger.decisions import PaymentReply, RefundReply
from server.ledger.money import Money
from server.ledger.records import NO_METADATA, IdempotencyKey, OrderToPay, Topup, TopupState
from server.queries import TransactionFilter
from server.rpc import conversion
from sim.account import GATEWAY
from sim.promises import KeyedCommand, OpenCall, Promises
from sim.servers import FIRST_POLL_MS, Life, NoAnswer, Server
from sim.world import World

Answer = TypeVar("Answer")

CUSTOMERS: Final = ("asha", "bela", "chen")
STRANGER: Final = "zora"
CURRENCIES: Final = ("INR", "INR", "INR", "JPY")
_PAYABLE: Final = frozenset({TopupState.PENDING, TopupState.FAILED})
_LIFETIME_MS: Final = 120_000
_NOTHING_DONE: Final = (Conflicted, NotStarted, QueueFull, CommandFailed)
"""What says that nothing was done, so that another key may be used."""
_TRY_AGAIN: Final = (CommitError, StoreError, GatewayError, NoAnswer)


@dataclass(slots=True)
class Market:
    """What all callers know: orders, what was paid, and top-ups."""

    orders: dict[str, tuple[str, Money]] = field(default_factory=dict)
    """Order -> customer and amount; some are recorded by the order service, some are not."""
    paid: list[str] = field(default_factory=list)
    topups: dict[str, Topup] = field(default_factory=dict)
    done: list[KeyedCommand] = field(default_factory=list)
    """Commands that were acknowledged."""


class _End(Enum):
    """What a caller knows of its command after an attempt."""

    KNOWN = auto()
    NOTHING_DONE = auto()
    UNKNOWN = auto()


class Caller:
    """One caller, which does one thing after another."""

    def __init__(
        self,
        world: World,
        name: str,
        servers: list[Server],
        promises: Promises,
        market: Market,
        checkout: Callable[[Topup], None],
    ) -> None:
        """`checkout` takes a top-up whose customer can pay it now."""
        self._world = world
        self._name = name
        self._servers = servers
        self._promises = promises
        self._market = market
        self._checkout = checkout
        self._dice = world.dice(name)
        self._number = 0

    async def run(self) -> None:
        """Do what the plan says, and go on until the history is long enough."""
        plan, done = self._world.plan, 0
        acts, weights = zip(*self._acts(), strict=True)
        while done < plan.operations or self._world.steps < plan.least_steps:
            (act,) = self._dice.choices(acts, weights)
            await act()
            await asyncio.sleep(self._dice.choice((0.0, 0.01, 0.1, 2.0)))
            done += 1

    def _acts(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [
            (self._top_up, 26),
            (self._pay, 26),
            (self._refund, 20),
            (self._verify, 8),
            (self._read_wallets, 5),
            (self._read_history, 4),
            (self._read_order, 3),
            (self._repeat, 5),
            (self._reuse_key, 3),
        ]

    async def _top_up(self) -> None:
        customer, currency = self._customer(), self._dice.choice(CURRENCIES)
        amount = Money(currency, self._dice.choice((500, 1_000, 5_000)))
        order = None
        if self._dice.random() < 0.25:
            order_id = self._new_order(customer, Money(currency, self._dice.choice((100, 700))))
            order = OrderToPay(order_id, self._market.orders[order_id][1])
        await self._settle(
            CreateTopup(
                customer_id=customer,
                amount=amount,
                gateway=GATEWAY,
                method="card",
                idempotency_key=self._key("InitiateTopup"),
                pay_order=order,
                return_url="",
                metadata=NO_METADATA,
                lifetime_ms=_LIFETIME_MS,
                first_poll_ms=FIRST_POLL_MS,
            )
        )

    async def _pay(self) -> None:
        orders = self._market.orders
        if orders and self._dice.random() < 0.5:
            order_id = self._dice.choice(list(orders))
        else:
            money = Money(self._dice.choice(CURRENCIES), self._dice.randint(1, 400))
            order_id = self._new_order(self._customer(), money)
        customer, amount = orders[order_id]
        if self._dice.random() < 0.03:
            customer = STRANGER
        key = self._key("PayWithWallet")
        await self._settle(PayOrder(customer, order_id, amount, key, NO_METADATA))

    async def _refund(self) -> None:
        known = self._market.paid or list(self._market.orders)
        if not known:
            return
        order_id = self._dice.choice(known[-6:])
        customer, paid = self._market.orders[order_id]
        part = self._dice.choice((None, paid.minor_units, paid.minor_units // 2, 1))
        amount = None if part is None else Money(paid.currency_code, max(part, 1))
        key = self._key("RefundToWallet")
        await self._settle(RefundOrder(customer, order_id, amount, key, "returned", NO_METADATA))

    async def _repeat(self) -> None:
        """Send again what was acknowledged: the answer has to be the first one."""
        if self._market.done:
            await self._settle(self._dice.choice(self._market.done))

    async def _reuse_key(self) -> None:
        """Send another request under a key that was used."""
        if not self._market.done:
            return
        command = self._dice.choice(self._market.done)
        amount = Money("INR", 77)
        if command.amount == amount:
            return
        await self._settle(replace(command, amount=amount))

    async def _verify(self) -> None:
        if not self._market.topups:
            return
        topup = self._dice.choice(list(self._market.topups.values())[-8:])
        name, floor = self._floor(topup.topup_id)
        try:
            found = await self._call(
                f"VerifyTopup {topup.topup_id}",
                lambda life: life.topups.verify(
                    topup.customer_id, topup.topup_id, LookupProof(), 10.0
                ),
            )
        except Rejected as error:
            # Its InitiateTopup was answered with a checkout, so that there is an order to look up.
            self._world.broken("a refusal holds", f"verify {topup.topup_id}: {error}")
        except _TRY_AGAIN:
            return
        else:
            self._promises.read(name, floor, found.version)

    async def _read_wallets(self) -> None:
        customer = self._customer()
        floors = {f"{customer}:{currency}": 0 for currency in set(CURRENCIES)}
        floors = {name: self._promises.floor(name) for name in sorted(floors)}
        try:
            found = await self._call("wallets", lambda life: life.queries.wallets(customer))
        except _TRY_AGAIN:
            return
        told = {f"{customer}:{wallet.currency_code}": wallet.sequence for wallet in found}
        for name, floor in floors.items():
            self._promises.read(name, floor, told.get(name, 0))

    async def _read_history(self) -> None:
        """List a wallet: no entry is missing, and the newest is no older than what was told."""
        customer, currency = self._customer(), self._dice.choice(CURRENCIES)
        name, floor = self._floor(f"{customer}:{currency}")
        wanted = TransactionFilter(customer, currency)
        try:
            found = await self._call("history", lambda life: life.queries.transactions(wanted, 500))
        except _TRY_AGAIN:
            return
        sequences = [entry.sequence for entry in found]
        if sequences != list(range(len(sequences), 0, -1)):
            self._world.broken("a history has no gaps", f"{name}: {sequences}")
        self._promises.read(name, floor, len(sequences))

    async def _read_order(self) -> None:
        if not self._market.orders:
            return
        order_id = self._dice.choice(list(self._market.orders))
        name, floor = self._floor(f"refunds of {order_id}")
        try:
            found = await self._call("order", lambda life: life.queries.order(order_id))
        except _TRY_AGAIN:
            return
        self._promises.read(name, floor, 0 if found is None else found.refunded_amount)

    async def _settle(self, command: KeyedCommand) -> None:
        """Repeat a command until its end is known; an impatient caller sends it twice at once."""
        while True:
            attempts = [self._attempt(command)]
            if self._dice.random() < 0.15:
                attempts.append(self._attempt(command, after=self._dice.random() * 0.05))
            ends = await asyncio.gather(*attempts)
            if _End.KNOWN in ends:
                return
            if not self._world.is_calm and self._dice.random() < 0.1:
                return
            if _End.UNKNOWN not in ends and self._dice.random() < 0.5:
                key = self._key(command.idempotency_key.method)
                command = replace(command, idempotency_key=key)
            await asyncio.sleep(self._dice.random() * self._dice.choice((0.0, 0.02, 0.5)))

    async def _attempt(self, command: KeyedCommand, after: float = 0.0) -> "_End":
        """Send a command once, after so many seconds; return what is known of it now."""
        await asyncio.sleep(after)
        call = self._promises.begin(command)
        what = f"{type(command).__name__} {command.idempotency_key.key}"
        seconds = self._dice.choice((10.0, 10.0, 1.0))
        try:
            if isinstance(command, CreateTopup):
                topup = await self._call(
                    what, lambda life: life.topups.initiate(command, seconds), seconds
                )
                self._promises.acknowledged(call, topup.topup_id, topup.topup_id.encode())
                self._opened(command, topup)
            else:
                reply = await self._call(
                    what, lambda life: life.committer.submit(command, seconds), seconds
                )
                assert isinstance(reply, PaymentReply | RefundReply)
                self._acknowledged(call, command, reply)
        except Rejected as error:
            self._promises.refused(call, error.rejection.reason)
        except _TRY_AGAIN as error:
            # InitiateTopup is more than one commit: the last of them may fail alone.
            is_nothing = isinstance(error, _NOTHING_DONE) and not isinstance(command, CreateTopup)
            if not is_nothing:
                self._promises.lost(call)
                return _End.UNKNOWN
            self._promises.told_nothing_done(call)
            return _End.NOTHING_DONE
        return _End.KNOWN

    def _acknowledged(
        self, call: OpenCall, command: PayOrder | RefundOrder, reply: PaymentReply | RefundReply
    ) -> None:
        self._promises.acknowledged(call, reply.transaction.transaction_id, _told(reply))
        wallet = reply.wallet
        name = f"{wallet.customer_id}:{wallet.currency_code}"
        self._promises.tell(name, wallet.sequence)
        self._promises.tell(f"refunds of {command.order_id}", reply.payment.refunded_amount)
        self._market.done.append(command)
        if isinstance(reply, PaymentReply) and command.order_id not in self._market.paid:
            self._market.paid.append(command.order_id)

    def _opened(self, command: CreateTopup, topup: Topup) -> None:
        """Remember a top-up, and let its customer pay it at the gateway, once."""
        self._promises.tell(topup.topup_id, topup.version)
        self._market.done.append(command)
        is_payable = topup.checkout is not None and topup.state in _PAYABLE
        if is_payable and topup.topup_id not in self._market.topups:
            self._market.topups[topup.topup_id] = topup
            self._checkout(topup)

    async def _call(
        self, what: str, handle: Callable[[Life], Awaitable[Answer]], seconds: float = 10.0
    ) -> Answer:
        server = self._dice.choice(self._servers)
        self._world.note(self._name, f"asks {server.name}: {what}")
        try:
            answer = await server.call(self._name, what, handle, seconds)
        except Exception as error:
            self._world.note(self._name, f"is told {error!r} to {what}")
            raise
        self._world.note(self._name, f"has its answer to {what}")
        return answer

    def _floor(self, name: str) -> tuple[str, int]:
        return name, self._promises.floor(name)

    def _customer(self) -> str:
        return self._dice.choice(CUSTOMERS)

    def _new_order(self, customer: str, amount: Money) -> str:
        order_id = self._name_of("order")
        self._market.orders[order_id] = (customer, amount)
        return order_id

    def _key(self, method: str) -> IdempotencyKey:
        return IdempotencyKey("shop", method, self._name_of("key"))

    def _name_of(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._name}-{self._number}"


def _told(reply: PaymentReply | RefundReply) -> bytes:
    """Return what a caller reads, byte by byte."""
    if isinstance(reply, PaymentReply):
        return conversion.payment_response(reply).SerializeToString(deterministic=True)
    return conversion.refund_response(reply).SerializeToString(deterministic=True)
