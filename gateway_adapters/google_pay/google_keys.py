"""Where Google's root signing keys come from: fetched over https, kept, and fetched again in time.

Source of the rules: "Fetch the Google root signing keys" in
https://developers.google.com/pay/api/web/guides/resources/payment-data-cryptography: keep the keys
as long as the HTTP headers say. The bounds on that are this service's own.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
import structlog
from yarl import URL

from gateway_adapters.bounded_body import BodyTooLong, read_bounded
from gateway_adapters.google_pay.errors import KeysUnavailable, KeyUnknown, Malformed
from gateway_adapters.google_pay.root_keys import MAX_KEY_LIST_BYTES, RootKey, read_root_keys
from gateway_adapters.outbound import is_this_machine

PRODUCTION_KEYS_URL: Final = "https://payments.developers.google.com/paymentmethodtoken/keys.json"
TEST_KEYS_URL: Final = "https://payments.developers.google.com/paymentmethodtoken/test/keys.json"
ISSUER_KEYS_URL: Final = "https://pay.google.com/gp/m/issuer/keys"
"""The keys of callbacks about passes; the others are those of payment tokens."""

MIN_FRESH_MS: Final = 5 * 60 * 1000
MAX_FRESH_MS: Final = 24 * 60 * 60 * 1000
"""Between these bounds the headers decide how long a list of keys is fresh."""
DEFAULT_FRESH_MS: Final = 60 * 60 * 1000
"""Where the headers say nothing."""
RETRY_MS: Final = 10 * 1000
"""After a fetch that failed, the next one is not tried before."""
UNKNOWN_KEY_MS: Final = 60 * 1000
"""Messages with an unknown key, which anybody can send, cause no more than a fetch in this time."""

_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?([0-9]{1,12})(?![0-9])", re.IGNORECASE)

_log = structlog.stdlib.get_logger()

_Verified = TypeVar("_Verified")


class GoogleKeys:
    """The root signing keys at one URL. The session stays its owner's, who closes it.

    Entered with `async with`, which ends a fetch that is under way at the exit. All who need keys
    at one time wait for one fetch. During an outage the keys at hand are served until they expire.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        now_ms: Callable[[], int],
        timeout_seconds: float = 3.0,
    ) -> None:
        """`now_ms` tells the time in UTC milliseconds.

        Raises:
            ValueError: the URL is neither https nor on this machine.
        """
        target = URL(url)
        is_local = target.scheme == "http" and is_this_machine(target.host or "")
        if target.scheme != "https" and not is_local:
            raise ValueError("Google's keys must come over https: whoever sends them can sign.")
        self._session = session
        self._url = url
        self._now_ms = now_ms
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._keys: tuple[RootKey, ...] = ()
        self._fresh_until_ms = 0
        self._tried_ms: int | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Fetch nothing yet: the service starts also while Google cannot be reached."""
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def current(self) -> tuple[RootKey, ...]:
        """Return the keys that have not expired, fetched again first where they are not fresh.

        Raises:
            KeysUnavailable: there are none.
        """
        now_ms = self._now_ms()
        if not (self._usable() and now_ms < self._fresh_until_ms) and self._may_fetch(RETRY_MS):
            await self._fetch_once()
        usable = self._usable()
        if not usable:
            raise KeysUnavailable("Google's root signing keys cannot be fetched at the moment.")
        return usable

    async def verified(self, verify: Callable[[Sequence[RootKey]], _Verified]) -> _Verified:
        """Return what `verify` returns for the keys; it may be called again with newer ones.

        Raises:
            KeysUnavailable, and what `verify` raises.
        """
        keys = await self.current()
        try:
            return verify(keys)
        except KeyUnknown:
            if self._may_fetch(UNKNOWN_KEY_MS):
                await self._fetch_once()
            newer = self._usable()
            if newer == keys:
                raise
        return verify(newer)

    def _usable(self) -> tuple[RootKey, ...]:
        now_ms = self._now_ms()
        return tuple(key for key in self._keys if now_ms < key.expires_ms)

    def _may_fetch(self, pause_ms: int) -> bool:
        """Tell whether a fetch is under way, or the last one is long enough ago."""
        if self._fetching is not None or self._tried_ms is None:
            return True
        # A clock that was set back must not stop fetches until it has caught up.
        return not 0 <= self._now_ms() - self._tried_ms < pause_ms

    async def _fetch_once(self) -> None:
        """Wait for the fetch that is under way, or start one.

        It goes on without whoever started it: to give up on a request must not end the fetch that
        others wait for, nor leave it uncounted.
        """
        if self._fetching is None:
            self._tried_ms = self._now_ms()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._end_fetch)
        await asyncio.shield(self._fetching)

    def _end_fetch(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        """Replace the keys; where that fails, say so in the log and keep them."""
        try:
            body, fresh_ms = await self._get()
            keys = read_root_keys(body)
        except (KeysUnavailable, Malformed) as error:
            _log.warning("google_keys_not_fetched", url=self._url, reason=str(error))
            return
        self._keys = keys
        self._fresh_until_ms = self._now_ms() + fresh_ms

    async def _get(self) -> tuple[bytes, int]:
        """Return the list as it came, and for how many milliseconds it is fresh."""
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
                    raise KeysUnavailable(f"Google answered with HTTP status {response.status}.")
                body = await read_bounded(response, MAX_KEY_LIST_BYTES)
        except BodyTooLong:
            raise KeysUnavailable("Google's answer is too long.") from None
        except TimeoutError:
            raise KeysUnavailable("Google did not answer in time.") from None
        except aiohttp.ClientError:
            raise KeysUnavailable("Google cannot be reached.") from None
        return body, _fresh_ms(response.headers.get("Cache-Control", ""))


def _fresh_ms(cache_control: str) -> int:
    found = _MAX_AGE.search(cache_control)
    if found is None:
        return DEFAULT_FRESH_MS
    return min(max(int(found[1]) * 1000, MIN_FRESH_MS), MAX_FRESH_MS)
