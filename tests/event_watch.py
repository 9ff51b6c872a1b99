"""A reader of the event feed for tests: it keeps its cursor, and comes again after any failure."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from harness import WORTH_A_REPEAT, bearer, eventually, token
from wallet_payment.v1 import resources_pb2 as resources
from wallet_payment.v1 import wallet_payment_service_pb2 as service


def names_of(events: Sequence[resources.WalletEvent]) -> list[str]:
    """Return what happened, by the types' names without their prefix."""
    prefix = "WALLET_EVENT_TYPE_"
    return [resources.WalletEventType.Name(one.type).removeprefix(prefix) for one in events]


class Watcher:
    """Watches until it is left; every event that it was told is in `events`, in order."""

    def __init__(self, stubs: Sequence[Any], **filters: Any) -> None:
        self._stubs = stubs
        self._request = service.WatchEventsRequest(**filters)
        self.events: list[resources.WalletEvent] = []
        self.cursors: list[tuple[str, int]] = []
        """Each cursor that came, and how many events had been told by then."""
        self.heartbeats = 0
        self.streams = 0

    @property
    def cursor(self) -> str:
        """The newest cursor."""
        return self._request.cursor

    async def run(self) -> None:
        """Watch at one server after another, from the newest cursor on."""
        while True:
            stub = self._stubs[self.streams % len(self._stubs)]
            self.streams += 1
            try:
                async for response in stub.WatchEvents(self._request, metadata=bearer(token())):
                    self.events += response.events
                    self.heartbeats += not response.events
                    self._request.cursor = response.cursor
                    self.cursors.append((response.cursor, len(self.events)))
                    self._request.ClearField("start_time")
            except grpc.aio.AioRpcError as error:
                if error.code().name not in WORTH_A_REPEAT:
                    raise
                await asyncio.sleep(0.05)

    async def until(
        self, condition: Callable[[list[resources.WalletEvent]], Any], within_seconds: float = 20
    ) -> list[resources.WalletEvent]:
        """Wait until the condition holds for what was told; return that."""

        async def holds() -> Any:
            return condition(self.events)

        await eventually(holds, within_seconds)
        return self.events


@asynccontextmanager
async def watching(*stubs: Any, **filters: Any) -> AsyncIterator[Watcher]:
    """Watch as long as the context lasts; it is entered once the first cursor is there."""
    watcher = Watcher(stubs, **filters)
    task = asyncio.create_task(watcher.run())

    async def has_cursor() -> bool:
        return task.done() or bool(watcher.cursor)

    try:
        await eventually(has_cursor)
        yield watcher
        if task.done():
            await task  # fails as the watcher failed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
