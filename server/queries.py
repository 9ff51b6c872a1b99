"""What can be asked of the records without changing them: the port that a store implements.

Every answer tells only what was durably committed. Each method may raise `StoreUnavailable`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.ledger.records import Order, Topup, Transaction, TransactionType, Wallet


@dataclass(frozen=True, slots=True)
class TransactionFilter:
    """Which transactions of a customer are wanted; empty values do not filter."""

    customer_id: str
    currency_code: str = ""
    types: frozenset[TransactionType] = frozenset()
    start_time_ms: int | None = None
    """At or after."""
    end_time_ms: int | None = None
    """Before."""


class PollSchedule(Protocol):
    """Which top-ups the gateway is to be asked about, and when."""

    async def claim_due(
        self, now_ms: int, limit: int, next_time_ms: Callable[[Topup], int | None]
    ) -> list[Topup]:
        """Return top-ups whose time has come; each is put off to its next time in the same step.

        So no two servers ask about the same one, and one that is lost in a crash comes again.
        `next_time_ms` gives None where it is the last time.
        """


class Queries(Protocol):
    """Reads of the records."""

    async def has_customer(self, customer_id: str) -> bool:
        """Tell whether the customer service knows the customer."""

    async def wallets(self, customer_id: str) -> list[Wallet]:
        """Return the customer's wallets by currency."""

    async def topup(self, customer_id: str, topup_id: str) -> Topup | None:
        """Return a customer's top-up."""

    async def topup_of_gateway_order(self, gateway: str, gateway_order_id: str) -> Topup | None:
        """Return the top-up that the gateway's order was made for."""

    async def topup_of_payment(self, gateway: str, payment_id: str) -> Topup | None:
        """Return the top-up that the gateway's payment was credited for."""

    async def topup_by_id(self, gateway: str, topup_id: str) -> Topup | None:
        """Return a top-up of any customer, for the gateway that names it."""

    async def pending_topups(self, customer_id: str, limit: int) -> list[Topup]:
        """Return the top-ups that are still on their way, newest first."""

    async def order(self, order_id: str) -> Order | None:
        """Return an order of any customer."""

    async def transactions(
        self, wanted: TransactionFilter, limit: int, before_id: str = ""
    ) -> Sequence[Transaction]:
        """Return transactions, newest first, from the one before `before_id` on."""
