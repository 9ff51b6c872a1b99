"""One call for all who ask for the same at the same time."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class SingleFlight(Generic[_Key, _Value]):
    """Owns the calls that are under way. One goes on where whoever started it goes away."""

    def __init__(self) -> None:
        self._flights: dict[_Key, asyncio.Task[_Value]] = {}

    async def share(self, key: _Key, start: Callable[[], Coroutine[Any, Any, _Value]]) -> _Value:
        """Join the call for `key`, or start it; its value and its errors are everybody's."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(start())
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    async def close(self) -> None:
        """Wait for the calls that are under way."""
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    def _landed(self, key: _Key, flight: asyncio.Task[_Value]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            # Looked at here, since all who waited for it may have gone away.
            flight.exception()
