"""Asks the gateways about top-ups that stay pending: webhooks get lost, and some never come.

What a gateway answers goes through the same commands as its webhooks. Any number of servers may
poll; each top-up is claimed by one of them at a time.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from gateway_adapters.gateway import GatewayError
from server.commit.errors import CommitError
from server.commit.port import StoreError
from server.ledger.records import Topup
from server.queries import PollSchedule
from server.topups import Topups, UnknownGateway

MAX_WAIT_MS: Final = 3_600_000
LATE_MS: Final = 6 * 24 * 3_600_000
"""Payments that were authorized late are captured up to five days after; then nothing comes."""
_CLAIMED_AT_ONCE: Final = 50
_ASKED_AT_ONCE: Final = 8

_log: structlog.stdlib.BoundLogger = structlog.get_logger("poller")


class Poller:
    """Owns the task that asks; entering starts it, leaving stops it."""

    def __init__(
        self,
        topups: Topups,
        schedule: PollSchedule,
        *,
        first_ms: int,
        interval_seconds: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._topups = topups
        self._schedule = schedule
        self._first_ms = first_ms
        self._interval_seconds = interval_seconds
        self._now_ms = now_ms
        self._slots = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start asking."""
        self._task = asyncio.create_task(self._run(), name="poller")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop asking; whoever was claimed comes again at its next time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def poll_once(self) -> int:
        """Ask about everything that is due; return how many top-ups that were.

        Raises:
            StoreUnavailable.
        """
        now_ms = self._now_ms()

        def next_time_ms(topup: Topup) -> int | None:
            return next_poll_ms(topup, self._first_ms, now_ms)

        claimed = await self._schedule.claim_due(now_ms, _CLAIMED_AT_ONCE, next_time_ms)
        await asyncio.gather(*(self._ask(topup) for topup in claimed))
        return len(claimed)

    async def _run(self) -> None:
        while True:
            try:
                asked = await self.poll_once()
            except StoreError as error:
                _log.warning("waiting for the database", cause=type(error).__name__)
                asked = 0
            if asked < _CLAIMED_AT_ONCE:
                await asyncio.sleep(self._interval_seconds)

    async def _ask(self, topup: Topup) -> None:
        async with self._slots:
            try:
                await self._topups.bring_up_to_date(topup)
            except (GatewayError, UnknownGateway) as error:
                _log.warning(
                    "the gateway was asked in vain",
                    topup_id=topup.topup_id,
                    gateway=topup.gateway,
                    cause=type(error).__name__,
                )
            except (CommitError, StoreError) as error:
                _log.warning("not applied yet", topup_id=topup.topup_id, cause=type(error).__name__)


def next_poll_ms(topup: Topup, first_ms: int, now_ms: int) -> int | None:
    """Return when to ask again: each time after twice as long; None once nothing can come."""
    if now_ms > topup.expire_time_ms + LATE_MS:
        return None
    wait_ms: int = min(first_ms * 2 ** min(topup.poll_attempts + 1, 30), MAX_WAIT_MS)
    return now_ms + wait_ms
