"""What a lane takes for granted, so that the next batch need not read it.

That is the wallets that it has written, that requests' keys are new and, where that was so lately,
that the orders which are paid are new ones: an order service may record its orders beforehand.

Any of it may be wrong: other servers write too. So only what ends in a write may be decided on it,
since the commit finds out whether each record still is what was taken for granted. Whatever writes
nothing (a refusal, a repeat) is decided anew on what the store says.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from server.ledger.commands import Needs
from server.ledger.records import Standing, Wallet
from server.ledger.state import State

MAX_CUSTOMERS: Final = 20_000
MAX_ORDERS: Final = 10_000
_WARY_BATCHES: Final = 8
"""After it misled, a memory is not asked for so many batches: whoever made it wrong may go on."""
BATCHES_OF_NEW_ORDERS: Final = 32
"""After so many in a row, those of the next batch are taken to be new, too."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is remembered of a batch's needs, and what is still to be loaded."""

    needs: Needs
    wallets: dict[str, dict[str, Wallet]]
    standings: dict[str, Standing | None]
    missing: Needs

    def complete(self, state: State) -> None:
        """Add what is taken for granted to what was loaded."""
        state.wallets |= self.wallets
        state.standings |= self.standings
        for order in self.needs.own_orders:
            state.orders.setdefault(order, None)
        for key in self.needs.transactions_by_key:
            state.transactions_by_key.setdefault(key, None)
        for key in self.needs.topups_by_key:
            state.topups_by_key.setdefault(key, None)

    def each_wallet(self) -> Iterator[Wallet]:
        """Go through the remembered wallets."""
        for wallets in self.wallets.values():
            yield from wallets.values()


class Memory:
    """The wallets and orders that a lane has seen last."""

    def __init__(self, batches_of_new_orders: int = BATCHES_OF_NEW_ORDERS) -> None:
        self._batches_wanted = batches_of_new_orders
        self._wallets: OrderedDict[str, dict[str, Wallet]] = OrderedDict()
        """By customer and currency."""
        self._standings: dict[str, Standing | None] = {}
        """Of the same customers, where wallets have limits: whoever sets a tier writes them too."""
        self._orders: OrderedDict[str, None] = OrderedDict()
        """Those recorded, so that a repeat of their payment is looked up and misleads nobody."""
        self._batches_of_new_orders = 0
        self._wary = 0

    def recall(self, needs: Needs) -> Recalled | None:
        """Return what is remembered; None where it is better not to rely on it."""
        if self._wary:
            self._wary -= 1
            return None
        # Copies: what is decided must not be remembered before it is written.
        known = {
            customer: dict(self._wallets[customer])
            for customer in needs.wallets_of
            if customer in self._wallets and customer not in needs.unwritten
        }
        missing = replace(
            needs,
            wallets_of=needs.wallets_of - known.keys(),
            orders=needs.orders - self._new_orders(needs),
            transactions_by_key=needs.transactions_by_key - needs.own_keys,
            topups_by_key=needs.topups_by_key - needs.own_keys,
        )
        standings = {one: self._standings[one] for one in known} if needs.has_limits else {}
        return Recalled(needs, known, standings, missing)

    def observe(self, needs: Needs, state: State) -> None:
        """Notice whether orders that are paid were new ones, of those that were just loaded."""
        loaded = self._unseen(needs.own_orders & needs.orders)
        if any(state.orders[order] is not None for order in loaded):
            self._batches_of_new_orders = 0
        elif loaded:
            self._batches_of_new_orders += 1

    def learn(self, state: State) -> None:
        """Remember wallets and orders as a batch left them, once it is written."""
        for customer, wallets in state.wallets.items():
            self._wallets[customer] = wallets
            self._wallets.move_to_end(customer)
            if customer in state.standings:
                self._standings[customer] = state.standings[customer]
        while len(self._wallets) > MAX_CUSTOMERS:
            customer, _ = self._wallets.popitem(last=False)
            self._standings.pop(customer, None)
        for order_id, order in state.orders.items():
            if order is not None:
                self._orders[order_id] = None
                self._orders.move_to_end(order_id)
        while len(self._orders) > MAX_ORDERS:
            self._orders.popitem(last=False)

    def forget(self, customers: Iterable[str], *, is_wary: bool) -> None:
        """Forget what may be wrong by now; a wary one relies on nothing for a while."""
        for customer in customers:
            self._wallets.pop(customer, None)
            self._standings.pop(customer, None)
        if is_wary:
            self._wary = _WARY_BATCHES
            self._batches_of_new_orders = 0

    def _new_orders(self, needs: Needs) -> set[str]:
        """Return the orders that are taken to be new."""
        if self._batches_of_new_orders < self._batches_wanted:
            return set()
        return self._unseen(needs.own_orders)

    def _unseen(self, orders: set[str]) -> set[str]:
        return {order for order in orders if order not in self._orders}
