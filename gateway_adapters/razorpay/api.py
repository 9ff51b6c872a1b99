"""Calls to Razorpay's REST API as one account: authenticated, in JSON, lists page by page."""

import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

import aiohttp

from gateway_adapters.gateway import GatewayRefused, GatewayUnavailable
from gateway_adapters.outbound import (
    NOTHING,
    Answer,
    Outbound,
    is_worth_a_retry,
    pause_before_retry,
)
from gateway_adapters.razorpay.wire import items
from gateway_adapters.wire import JsonObject, Unreadable, display_text

PAGE_SIZE: Final = 100
"""The most that Razorpay gives at once."""
MAX_PAGES: Final = 1000

_EARLIEST_SECONDS: Final = 946_684_800
_LATEST_SECONDS: Final = 4_765_046_400
"""Between these Razorpay takes times."""
_TRIES: Final = 2

_Read = TypeVar("_Read")


class RazorpayApi:
    """The API as one account sees it. The session stays its owner's, who closes it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        api_url: str,
        key_id: str,
        key_secret: str,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        credentials = base64.b64encode(f"{key_id}:{key_secret}".encode()).decode("ascii")
        self._headers = {"Authorization": f"Basic {credentials}", "Accept": "application/json"}
        self._outbound = Outbound(
            session,
            api_url,
            gateway="Razorpay",
            timeout_seconds=timeout_seconds,
            description=_description,
            clock=clock,
        )

    @property
    def is_cut_off(self) -> bool:
        """Whether the circuit is open: the gateway did not answer lately."""
        return self._outbound.is_cut_off

    async def get(self, path: str, query: Mapping[str, str] = NOTHING) -> Answer:
        """Ask, and once more where that may help.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        return await self._outbound.get(path, query, self._headers)

    async def post(self, path: str, content: JsonObject, *, is_idempotent: bool = False) -> Answer:
        """Send, and once more only where a repeat does no harm.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        return await self._outbound.post(
            path,
            headers={**self._headers, "Content-Type": "application/json"},
            body=json.dumps(content).encode(),
            is_idempotent=is_idempotent,
        )

    async def entries(self, path: str, query: Mapping[str, str] = NOTHING) -> AsyncIterator[object]:
        """Go through a list page by page. What is added meanwhile can bring an entry again.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        for page in range(MAX_PAGES):
            place = {"count": str(PAGE_SIZE), "skip": str(page * PAGE_SIZE)}
            found = read(await self.get(path, {**query, **place}), items)
            for entry in found:
                yield entry
            if len(found) < PAGE_SIZE:
                return
        raise GatewayRefused(
            f"Razorpay has more than {MAX_PAGES * PAGE_SIZE} entries for that. Ask for less time."
        )


async def find_or_make(
    find: Callable[[], Awaitable[_Read | None]], make: Callable[[], Awaitable[_Read]]
) -> _Read:
    """Find what was made before, or make it.

    Razorpay takes no idempotency key for what is made so. Nothing is made before a lookup has found
    nothing, also between two tries.

    Raises:
        GatewayUnavailable, GatewayRefused.
    """
    for tries_left in reversed(range(_TRIES)):
        found = await find()
        if found is not None:
            return found
        try:
            return await make()
        except GatewayUnavailable as error:
            if tries_left == 0 or not is_worth_a_retry(error):
                raise
        await pause_before_retry()
    raise AssertionError("The last try returns or raises.")


def time_bound(seconds: int) -> str:
    """Write the bound of a list's time, as near to it as Razorpay takes one."""
    return str(min(max(seconds, _EARLIEST_SECONDS), _LATEST_SECONDS))


def read(answer: Answer, reader: Callable[[JsonObject], _Read]) -> _Read:
    """Read an answer; one that cannot be read is as good as none.

    Raises:
        GatewayUnavailable.
    """
    with reading():
        return reader(answer.content)


@contextmanager
def reading() -> Iterator[None]:
    """Tell whoever asked, where an answer is not what Razorpay documents.

    Raises:
        GatewayUnavailable.
    """
    try:
        yield
    except Unreadable:
        raise GatewayUnavailable("Razorpay's answer cannot be read.") from None


def _description(content: JsonObject) -> str:
    error = content.get("error")
    return display_text(error.get("description")) if isinstance(error, dict) else ""
