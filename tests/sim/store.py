"""The ports of the store, on records in memory, over a link that may have faults."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from server.commit.port import Snapshot
from server.ledger.commands import Needs
from server.ledger.limits import OPEN_TOPUP_STATES
from server.ledger.records import (
    GatewayEvent,
    Order,
    Topup,
    TopupState,
    Transaction,
    TransactionType,
    Wallet,
)
from server.ledger.state import ChangeSet, State
from server.queries import TransactionFilter
from sim.records import Database, Read, Records, Write

Answer = TypeVar("Answer")


class Link(Protocol):
    """How a server reaches the database."""

    async def read(self, what: str, work: Callable[[], Answer], /) -> Answer:
        """Have something read.

        Raises:
            StoreUnavailable.
        """

    async def write(self, what: str, work: Callable[[], Write | None], /) -> bool:
        """Have something written; return once it is durable, False where there was nothing to.

        Raises:
            WriteConflict, StoreUnavailable, OutcomeUnknown, WriteRefused.
        """


class SimulatedStore:
    """Implements the commit path's port."""

    def __init__(self, database: Database, link: Link) -> None:
        self._database = database
        self._link = link

    async def load(self, needs: Needs) -> Snapshot:
        """Read everything at one moment; see the port."""
        return await self._link.read("load", lambda: load(self._database.durable, needs))

    def trust(self, snapshot: Snapshot, wallets: Iterable[Wallet]) -> None:
        """Guard the wallets' writes by the versions that they have here; see the port."""
        snapshot.read.wallet_versions.update({wallet.key: wallet.version for wallet in wallets})

    async def commit(self, snapshot: Snapshot, changes: ChangeSet) -> None:
        """Write everything or nothing; see the port."""
        read: Read = snapshot.read
        await self._link.write("commit", lambda: self._database.commit(read, changes))


def load(records: Records, needs: Needs) -> Snapshot:
    """Return what is needed, as it is now."""
    state, read = State(), Read()
    for part in LOADS:
        part(records, needs, state, read)
    return Snapshot(state, read)


def _load_customers(records: Records, needs: Needs, state: State, _: Read) -> None:
    state.customers = {name: name in records.customers for name in needs.customers}


def _load_wallets(records: Records, needs: Needs, state: State, read: Read) -> None:
    for customer in needs.wallets_of:
        state.wallets[customer] = dict(records.wallets.get(customer, {}))
        for wallet in state.wallets[customer].values():
            read.wallet_versions[wallet.key] = wallet.version


def _load_standings(records: Records, needs: Needs, state: State, read: Read) -> None:
    for customer in needs.standings():
        standing = state.standings[customer] = records.standings.get(customer)
        if standing is not None:
            read.standing_versions[customer] = standing.version


def _load_open_topups(records: Records, needs: Needs, state: State, _: Read) -> None:
    for customer in needs.open_topups_of:
        state.open_topups[customer] = {
            topup.topup_id: topup
            for topup in records.topups.values()
            if topup.customer_id == customer and topup.state in OPEN_TOPUP_STATES
        }


def _load_orders(records: Records, needs: Needs, state: State, read: Read) -> None:
    for order_id in needs.orders:
        order = state.orders[order_id] = records.orders.get(order_id)
        if order is not None:
            read.orders[order_id] = order


def _load_transactions(records: Records, needs: Needs, state: State, _: Read) -> None:
    for key in needs.transactions_by_key:
        state.transactions_by_key[key] = records.transaction(("transaction's key", *key))


def _load_topups(records: Records, needs: Needs, state: State, read: Read) -> None:
    for topup_id in needs.topups:
        state.topups[topup_id] = records.topups.get(topup_id)
    for key in needs.topups_by_key:
        found = state.topups_by_key[key] = records.topup(("top-up's key", *key))
        if found is not None:
            state.topups[found.topup_id] = found
    for topup in state.topups.values():
        if topup is not None:
            read.topup_versions[topup.topup_id] = topup.version


def _load_credits(records: Records, needs: Needs, state: State, _: Read) -> None:
    for payment in needs.credits:
        entry = records.transaction(("credited payment", *payment))
        state.credits[payment] = None if entry is None else entry.topup_id


def _load_events(records: Records, needs: Needs, state: State, read: Read) -> None:
    for key in needs.events:
        event = state.events[key] = records.events.get(key)
        if event is not None:
            read.events.add(key)


LOADS = (
    _load_customers,
    _load_wallets,
    _load_standings,
    _load_open_topups,
    _load_orders,
    _load_transactions,
    _load_topups,
    _load_credits,
    _load_events,
)
"""What a load is made of, collection by collection."""


class SimulatedQueries:
    """Implements the ports `Queries` and `GatewayEntries`."""

    def __init__(self, database: Database, link: Link) -> None:
        self._database = database
        self._link = link

    async def has_customer(self, customer_id: str) -> bool:
        """Tell whether the customer service knows the customer."""
        return await self._read(lambda records: customer_id in records.customers)

    async def wallets(self, customer_id: str) -> list[Wallet]:
        """Return the customer's wallets by currency."""

        def read(records: Records) -> list[Wallet]:
            found = records.wallets.get(customer_id, {})
            return [found[currency] for currency in sorted(found)]

        return await self._read(read)

    async def topup(self, customer_id: str, topup_id: str) -> Topup | None:
        """Return a customer's top-up."""
        found = await self._read(lambda records: records.topups.get(topup_id))
        return found if found is not None and found.customer_id == customer_id else None

    async def topup_of_gateway_order(self, gateway: str, gateway_order_id: str) -> Topup | None:
        """Return the top-up that the gateway's order was made for."""
        key = ("gateway's order", gateway, gateway_order_id)
        return await self._read(lambda records: records.topup(key))

    async def topup_of_payment(self, gateway: str, payment_id: str) -> Topup | None:
        """Return the top-up that the gateway's payment was credited for."""

        def read(records: Records) -> Topup | None:
            for entry in records.transactions.values():
                names = (entry.type, entry.gateway, entry.gateway_payment_id)
                if names == (TransactionType.TOPUP, gateway, payment_id):
                    return records.topups[entry.topup_id]
            return None

        return await self._read(read)

    async def topup_by_id(self, gateway: str, topup_id: str) -> Topup | None:
        """Return a top-up of any customer, for the gateway that names it."""
        found = await self._read(lambda records: records.topups.get(topup_id))
        return found if found is not None and found.gateway == gateway else None

    async def pending_topups(self, customer_id: str, limit: int) -> list[Topup]:
        """Return the top-ups that are still on their way, newest first."""

        def read(records: Records) -> list[Topup]:
            states = {TopupState.CREATED, TopupState.PENDING}
            found = [
                topup
                for topup in records.topups.values()
                if topup.customer_id == customer_id and topup.state in states
            ]
            return sorted(found, key=lambda topup: topup.topup_id, reverse=True)[:limit]

        return await self._read(read)

    async def order(self, order_id: str) -> Order | None:
        """Return an order of any customer."""
        return await self._read(lambda records: records.orders.get(order_id))

    async def event(self, key: str) -> GatewayEvent | None:
        """Return a gateway's event by its key."""
        return await self._read(lambda records: records.events.get(key))

    async def transactions(
        self, wanted: TransactionFilter, limit: int, before_id: str = ""
    ) -> Sequence[Transaction]:
        """Return transactions, newest first, from the one before `before_id` on."""

        def read(records: Records) -> list[Transaction]:
            found = [entry for entry in records.transactions.values() if _is_wanted(entry, wanted)]
            found.sort(key=lambda entry: entry.transaction_id, reverse=True)
            return [entry for entry in found if not before_id or entry.transaction_id < before_id]

        return (await self._read(read))[:limit]

    async def gateway_entries(
        self, gateway: str, start_time_ms: int, end_time_ms: int
    ) -> AsyncIterator[Transaction]:
        """Go through the entries that a gateway's money made, in a time."""

        def read(records: Records) -> list[Transaction]:
            return [
                entry
                for entry in records.transactions.values()
                if entry.gateway == gateway and start_time_ms <= entry.create_time_ms < end_time_ms
            ]

        for entry in await self._read(read):
            yield entry

    async def _read(self, work: Callable[[Records], Answer]) -> Answer:
        return await self._link.read("read", lambda: work(self._database.durable))


class SimulatedPollSchedule:
    """Implements the port `PollSchedule`: a claim is one guarded update."""

    def __init__(self, database: Database, link: Link) -> None:
        self._database = database
        self._link = link

    async def claim_due(
        self, now_ms: int, limit: int, next_time_ms: Callable[[Topup], int | None]
    ) -> list[Topup]:
        """Claim what is due; see the port."""

        def due() -> list[Topup]:
            waiting = [
                (topup.poll_time_ms, topup.topup_id, topup)
                for topup in self._database.durable.topups.values()
                if topup.poll_time_ms is not None and topup.poll_time_ms <= now_ms
            ]
            return [topup for _, _, topup in sorted(waiting)[:limit]]

        claimed = []
        for topup in await self._link.read("due", due):
            next_time = next_time_ms(topup)
            if await self._link.write("claim", lambda: self._database.claim(topup, next_time)):  # noqa: B023
                claimed.append(topup)
        return claimed


def _is_wanted(entry: Transaction, wanted: TransactionFilter) -> bool:
    return (
        entry.customer_id == wanted.customer_id
        and (not wanted.currency_code or entry.currency_code == wanted.currency_code)
        and (not wanted.types or entry.type in wanted.types)
        and (wanted.start_time_ms is None or entry.create_time_ms >= wanted.start_time_ms)
        and (wanted.end_time_ms is None or entry.create_time_ms < wanted.end_time_ms)
    )
