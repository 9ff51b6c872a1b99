"""Watches over the records as a whole: reads how they stand, and proves the books, bit by bit.

The proof never ends: each of its legs goes through a bounded number of records, and all servers of
a database share one proof. So a falsified or lost record is found without anybody asking, after one
round at the latest; `wallet_ledger_proven_timestamp_seconds` tells how old that knowledge is.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from server.commit.port import StoreError
from server.standing import Standing, StandingRecords

LEG_RECORDS: Final = 1_000
"""Records of one leg: some hundredths of a second of work."""
_LOOKS_SECONDS: Final = 5.0
"""How often is asked whether the next leg is due, at most."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("watch")


class Watch:
    """Owns the tasks that look; entering starts them, leaving stops them."""

    def __init__(
        self,
        records: StandingRecords,
        stands: Callable[[Standing], None],
        *,
        read_seconds: float,
        proof_seconds: float,
        now_ms: Callable[[], int],
    ) -> None:
        """`proof_seconds` lie between two legs of the proof; with 0 nothing is proven here."""
        self._records = records
        self._stands = stands
        self._read_seconds = read_seconds
        self._proof_seconds = proof_seconds
        self._now_ms = now_ms
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start looking."""
        self._tasks = [asyncio.create_task(self._read(), name="watch-read")]
        if self._proof_seconds:
            self._tasks.append(asyncio.create_task(self._prove(), name="watch-prove"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop looking; a leg that is broken off is gone anew by whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            try:
                self._stands(await self._records.standing(self._now_ms()))
            except StoreError as error:
                _log.warning("cannot read how the records stand", cause=type(error).__name__)
            await asyncio.sleep(self._read_seconds)

    async def _prove(self) -> None:
        interval_ms = round(self._proof_seconds * 1_000)
        while True:
            try:
                found = await self._records.prove_on(self._now_ms(), interval_ms, LEG_RECORDS)
            except StoreError as error:
                _log.warning("cannot prove the books", cause=type(error).__name__)
            else:
                for one in found or ():
                    _log.error(
                        "the books differ",
                        record=one.kind.value,
                        record_id=one.record_id,
                        customer_id=one.wallet.customer_id,
                        what=one.what,
                    )
            await asyncio.sleep(min(self._proof_seconds, _LOOKS_SECONDS))
