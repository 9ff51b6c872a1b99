"""The sending of webhooks: at least once, with growing pauses, until somebody says 2xx."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import structlog

MAX_ATTEMPTS: Final = 20
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 5.0
"""As long as Razorpay waits."""
_SENT_AT_ONCE: Final = 16

_log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Webhook:
    """An event as it goes over the wire, already signed."""

    event_id: str
    body: str
    headers: Mapping[str, str] = field(repr=False)


class WebhookSender:
    """Owns the webhooks that are still to be taken, and the tasks that send them to `url`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._waiting: dict[str, Webhook] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_SENT_AT_ONCE)
        self._done: Callable[[], Awaitable[None]] | None = None

    def on_done(self, done: Callable[[], Awaitable[None]]) -> None:
        """Have `done` called whenever a webhook need not be sent any more."""
        self._done = done

    def to_json(self) -> list[dict[str, Any]]:
        """Return what is still to be sent."""
        return [asdict(webhook) for webhook in self._waiting.values()]

    def restore(self, content: list[dict[str, Any]]) -> None:
        """Take over what was still to be sent."""
        self.add([Webhook(**fields) for fields in content])

    def add(self, webhooks: Sequence[Webhook]) -> None:
        """Note what is to be sent; `send` or `resume` sends it."""
        self._waiting.update((webhook.event_id, webhook) for webhook in webhooks)

    def send(self, webhooks: Sequence[Webhook], copies: int = 1) -> list[asyncio.Task[None]]:
        """Send each in the background, `copies` times under the same event id."""
        if not self._url:
            return []
        tasks = [
            asyncio.create_task(self._deliver(webhook))
            for webhook in webhooks
            for _ in range(copies)
        ]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return tasks

    def resume(self) -> None:
        """Send all that was noted before."""
        self.send(tuple(self._waiting.values()))

    async def close(self) -> None:
        """Stop sending. What nobody has taken stays noted."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, webhook: Webhook) -> None:
        for attempt in range(MAX_ATTEMPTS):
            async with self._slots:
                is_taken = await self._attempt(webhook)
            if is_taken:
                break
            await asyncio.sleep(_pause_seconds(attempt))
        else:
            _log.warning("sandbox_webhook_given_up", event_id=webhook.event_id)
        if self._waiting.pop(webhook.event_id, None) is not None and self._done is not None:
            await self._done()

    async def _attempt(self, webhook: Webhook) -> bool:
        """Send it once, and tell whether it was taken."""
        try:
            async with self._session.post(
                self._url,
                data=webhook.body.encode(),
                headers=webhook.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
            ) as response:
                return HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
        except (aiohttp.ClientError, TimeoutError):
            return False


def _pause_seconds(attempt: int) -> float:
    """Return how long to wait after the attempt, counted from 0."""
    longest: float = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
    return longest * secrets.SystemRandom().uniform(0.5, 1.0)
