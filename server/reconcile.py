"""Reconciliation: what a gateway says that it moved, against what the ledger says that it did."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from gateway_adapters.gateway import Gateway, Movement
from server.ledger.money import Money
from server.ledger.records import (
    GatewayPaymentStatus,
    GatewayReversal,
    ReversalState,
    Transaction,
)

SLACK_MS: Final = 24 * 3_600_000
"""Both sides are read this much further, since they note the same money at different times."""


class Kind(StrEnum):
    """In what the two sides differ."""

    MISSING_HERE = "MISSING_HERE"
    """The gateway moved it, and the ledger knows nothing of it."""
    MISSING_THERE = "MISSING_THERE"
    """The ledger has it, and the gateway does not."""
    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"


class Moved(NamedTuple):
    """What was moved: a payment or a reversal, by the gateway's id."""

    what: str
    gateway_id: str


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One difference; an amount that a side does not know is None."""

    kind: Kind
    moved: Moved
    here: Money | None
    there: Money | None
    time_ms: int
    topup_id: str
    told: Movement | None
    """What the gateway says of it; None where it says nothing."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was compared, and what differs."""

    compared: int
    discrepancies: tuple[Discrepancy, ...]


class GatewayEntries(Protocol):
    """The ledger's side: a port that the store implements."""

    def gateway_entries(
        self, gateway: str, start_time_ms: int, end_time_ms: int
    ) -> AsyncIterator[Transaction]:
        """Go through the entries that a gateway's money made, in a time.

        Raises:
            StoreUnavailable.
        """


@dataclass(slots=True)
class _Side:
    """What one side says of a movement, summed up."""

    currency_code: str
    minor_units: int
    time_ms: int
    topup_id: str = ""
    told: Movement | None = None

    @property
    def money(self) -> Money:
        return Money(self.currency_code, self.minor_units)


async def reconcile(
    gateway: Gateway, entries: GatewayEntries, start_time_ms: int, end_time_ms: int
) -> Reconciliation:
    """Compare the payments and reversals of a time, from its start on, before its end.

    Raises:
        GatewayUnavailable, GatewayRefused, StoreUnavailable.
    """
    window = (start_time_ms - SLACK_MS, end_time_ms + SLACK_MS)
    here: dict[Moved, _Side] = {}
    async for entry in entries.gateway_entries(gateway.name, *window):
        _add_entry(here, entry)
    there: dict[Moved, _Side] = {}
    async for movement in gateway.movements(*window):
        _add_movement(there, movement)
    keys = [
        moved
        for moved in {**there, **here}
        if start_time_ms <= (here.get(moved) or there[moved]).time_ms < end_time_ms
    ]
    found = (_compare(moved, here.get(moved), there.get(moved)) for moved in keys)
    return Reconciliation(len(keys), _by_time(one for one in found if one is not None))


def _add_entry(here: dict[Moved, _Side], entry: Transaction) -> None:
    """Add an entry; a reversal that came back sums up to nothing."""
    if entry.gateway_reversal_id:
        moved, amount = Moved("reversal", entry.gateway_reversal_id), -entry.amount
    else:
        moved, amount = Moved("payment", entry.gateway_payment_id), entry.amount
    side = here.setdefault(
        moved, _Side(entry.currency_code, 0, entry.create_time_ms, entry.topup_id)
    )
    side.minor_units += amount


def _add_movement(there: dict[Moved, _Side], movement: Movement) -> None:
    """Add a movement; what failed or came back moved nothing in the end."""
    fact = movement.fact
    if isinstance(fact, GatewayReversal):
        moved, counts = Moved("reversal", fact.reversal_id), fact.state is ReversalState.TAKEN
    else:
        moved = Moved("payment", fact.payment_id)
        counts = fact.status is GatewayPaymentStatus.CAPTURED
    amount = fact.amount.minor_units if counts else 0
    there[moved] = _Side(fact.amount.currency_code, amount, movement.time_ms, told=movement)


def _compare(moved: Moved, here: _Side | None, there: _Side | None) -> Discrepancy | None:
    """Tell how the sides differ; nothing and a sum of zero are the same."""
    ours = here.money if here and here.minor_units else None
    theirs = there.money if there and there.minor_units else None
    if ours == theirs:
        return None
    kind = Kind.AMOUNT_DIFFERS
    if ours is None:
        kind = Kind.MISSING_HERE
    elif theirs is None:
        kind = Kind.MISSING_THERE
    side = here or there
    assert side is not None  # noqa: S101 - one of them says something
    topup_id, told = here.topup_id if here else "", there.told if there else None
    return Discrepancy(kind, moved, ours, theirs, side.time_ms, topup_id, told)


def _by_time(found: Iterable[Discrepancy]) -> tuple[Discrepancy, ...]:
    return tuple(sorted(found, key=lambda one: (one.time_ms, one.moved)))
