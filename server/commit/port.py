"""What the commit path needs of a store. MongoDB implements it in `server.store`.

Errors a store raises:

    StoreError
    |-- WriteConflict      a record changed since it was loaded; nothing was written
    |-- StoreUnavailable   cannot be reached just now; nothing was written
    |   `-- OutcomeUnknown   the commit got no answer; it may or may not have been written
    `-- WriteRefused       the store will never take these records; nothing was written
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from server.ledger.commands import Needs
from server.ledger.records import Wallet
from server.ledger.state import ChangeSet, State
from server.told import ToldInWords


class StoreError(Exception):
    """Base of what a store raises."""


class WriteConflict(StoreError):
    """Another writer came first: load again and decide anew."""


class StoreUnavailable(StoreError, ToldInWords):
    """No primary, no connection, no answer in time: try again later."""

    def told(self) -> str:
        """Return what can be done; the error's own text is the driver's."""
        return "MongoDB does not answer: check WALLET_MONGODB_URI."


class OutcomeUnknown(StoreUnavailable):
    """The commit got no answer. Loading again tells what became of it."""


class WriteRefused(StoreError):
    """Not a matter of time: one of the records is not acceptable."""


@dataclass(slots=True)
class Snapshot:
    """Loaded records, and what the store remembers to notice that one has changed since."""

    state: State
    read: Any
    """The store's own; nobody else looks inside."""


class Store(Protocol):
    """Loads what commands need, and writes a batch's changes all together or not at all."""

    async def load(self, needs: Needs) -> Snapshot:
        """Return the records, as they were durably committed at one and the same moment.

        A refusal or a repeated answer changes nothing, so that no commit checks what it was decided
        on: it has to be true of the moment that was read.

        Raises:
            StoreUnavailable.
        """

    def trust(self, snapshot: Snapshot, wallets: Iterable[Wallet]) -> None:
        """Let `wallets` stand as if the snapshot had loaded them; a commit finds out if not so."""

    async def commit(self, snapshot: Snapshot, changes: ChangeSet) -> None:
        """Write all changes in one durable transaction, if nothing changed since `snapshot`.

        Raises:
            WriteConflict, StoreUnavailable, OutcomeUnknown, WriteRefused.
        """
