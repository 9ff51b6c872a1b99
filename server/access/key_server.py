"""Keys at a URL: fetched before they are needed, served on while their server does not answer."""

import asyncio
import json
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

import aiohttp
import structlog

from gateway_adapters.bounded_body import BodyTooLong, read_bounded
from server.access.trust import VerificationKey, published_keys
from server.access.watched_files import RenewalObserver, Unusable

WHAT: Final = "jwt_keys_url"
MAX_KEY_SET_BYTES: Final = 256 * 1024
UNKNOWN_KEY_SECONDS: Final = 10.0
"""Tokens with an unknown key, which anybody can send, cause no more than a fetch in this time."""
RETRY_SECONDS: Final = 5.0
"""After a fetch that failed, the next one comes so soon."""
_TIMEOUT_SECONDS: Final = 3.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("access")


class KeyServer:
    """Keeps the keys of one URL fresh. The session stays its owner's, who closes it.

    Use it as an async context manager: it is entered after the first fetch, be it good or not.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        accept: Callable[[tuple[VerificationKey, ...]], None],
        observer: RenewalObserver,
        *,
        algorithms: frozenset[str],
        refresh_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = url
        self._accept = accept
        self._observer = observer
        self._algorithms = algorithms
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        self._is_failing = False
        self._asked_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Fetch the keys, and begin to refresh them."""
        await self._fetch_once()
        self._task = asyncio.create_task(self._run(), name="key-server")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Fetch no more."""
        tasks = [task for task in (self._task, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def look_again(self) -> None:
        """Fetch the keys because one is unknown, unless that was done a moment ago."""
        now = self._clock()
        if self._fetching is None:
            if self._asked_at is not None and now - self._asked_at < UNKNOWN_KEY_SECONDS:
                return
            self._asked_at = now
        await self._fetch_once()

    async def _run(self) -> None:
        while True:
            failed_wait = min(RETRY_SECONDS, self._refresh_seconds)
            await asyncio.sleep(failed_wait if self._is_failing else self._refresh_seconds)
            await self._fetch_once()

    async def _fetch_once(self) -> None:
        """Wait for the fetch that is under way, or start one.

        It goes on without whoever started it: to give up on a call must not end it for the others.
        """
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._end_fetch)
        await asyncio.shield(self._fetching)

    def _end_fetch(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        """Replace the keys; where that fails, say so and keep them."""
        try:
            keys = published_keys(_parsed(await self._get()), self._algorithms)
        except Unusable as error:
            self._note_failure(str(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever is published, it is asked for again
            self._note_failure(f"unforeseen, {type(error).__name__}")
            return
        self._is_failing = False
        self._accept(keys)
        self._observer.renewed(WHAT)

    def _note_failure(self, problem: str) -> None:
        _log.error("not renewed", what=WHAT, url=self._url, cause=problem)
        self._is_failing = True
        self._observer.renewal_failed(WHAT)

    async def _get(self) -> bytes:
        try:
            async with self._session.get(
                self._url,
                # Compressed, a short answer could be a long one.
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                # A redirect would let somebody else say who may sign.
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise Unusable(f"the key server answered with HTTP status {response.status}")
                return await read_bounded(response, MAX_KEY_SET_BYTES)
        except BodyTooLong:
            raise Unusable("the key server's answer is too long") from None
        except TimeoutError:
            raise Unusable("the key server did not answer in time") from None
        except aiohttp.ClientError:
            raise Unusable("the key server cannot be reached") from None


def _parsed(body: bytes) -> object:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        raise Unusable("it is not JSON") from None
    return document
