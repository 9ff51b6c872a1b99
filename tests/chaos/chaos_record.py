"""What callers asked and were told, with times: the record that the books are held against."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Attempt:
    """One request on its way, and what came of it."""

    server: int
    sent: float
    answered: float | None = None
    code: str = ""
    reason: str = ""


@dataclass(slots=True)
class Operation:
    """What a caller wants done, under one key, in as many attempts as it takes."""

    method: str
    request: Any
    attempts: list[Attempt] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    refusal: str = ""
    """The reason of a final refusal."""

    @property
    def is_settled(self) -> bool:
        """Tell whether the caller knows what became of it."""
        return bool(self.answers or self.refusal)


@dataclass(frozen=True, slots=True)
class Sight:
    """A wallet as a caller saw it, and when."""

    customer_id: str
    sent: float
    answered: float
    sequence: int
    balance: int
    is_read: bool
    """It was read for this answer; the answer to a repeat may tell an earlier time."""
    newest_sequence: int | None = None
    """Of the transactions that were told beside it."""


class Record:
    """Keeps every operation and every sight of a wallet."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.sights: list[Sight] = []
        self.acknowledged_at: list[float] = []
        """When a change was acknowledged."""
        self.reads = 0

    def begin(self, method: str, request: Any) -> Operation:
        """Note what a caller is about to ask."""
        operation = Operation(method, request)
        self.operations.append(operation)
        return operation

    def answered(self, operation: Operation, attempt: Attempt, answer: Any) -> None:
        """Note an answer, and the wallet that it tells."""
        attempt.answered = time.monotonic()
        attempt.code = "OK"
        operation.answers.append(answer)
        if operation.method == "GetStatus":
            self.reads += 1
        else:
            self.acknowledged_at.append(attempt.answered)
        self._see(operation.method, attempt, answer)

    def done(self, method: str) -> list[Operation]:
        """Return the operations of a method."""
        return [operation for operation in self.operations if operation.method == method]

    def longest_unavailability(self, start: float, end: float) -> float:
        """Return the longest time without an acknowledged change, in seconds."""
        within = sorted(moment for moment in self.acknowledged_at if start < moment < end)
        moments = [start, *within, end]
        return max(after - before for before, after in itertools.pairwise(moments))

    def _see(self, method: str, attempt: Attempt, answer: Any) -> None:
        assert attempt.answered is not None
        is_read = method in {"GetStatus", "VerifyTopup"}
        if method == "GetStatus":
            wallets = list(answer.wallets)
            newest = max((one.sequence for one in answer.recent_transactions), default=0)
        else:
            wallets = [answer.wallet] if hasattr(answer, "wallet") else []
            newest = None
        self.sights += [
            Sight(
                wallet.customer_id,
                attempt.sent,
                attempt.answered,
                wallet.sequence,
                wallet.balance.minor_units,
                is_read,
                newest,
            )
            for wallet in wallets
            if wallet.customer_id
        ]
