"""The sending of webhooks: at least once, with growing pauses, until somebody says 2xx."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import structlog

from gateway_adapters.sandbox.faults import Faults, WebhookFault, WebhookMode

MAX_ATTEMPTS: Final = 20
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 5.0
"""As long as Razorpay waits."""
_SENT_AT_ONCE: Final = 16
_REMEMBERED: Final = 1_000
_MAX_ANSWER_BYTES: Final = 4_096

_log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Webhook:
    """An event as it goes over the wire; it is signed anew each time that it is sent."""

    event_id: str
    body: str
    event: str = ""
    """What the gateway calls what happened."""


Sign = Callable[[Webhook], Mapping[str, str]]
"""Returns the headers of a webhook that is sent now. What is sent again later is signed again: a
gateway may sign the time, and who takes the webhook may find the first one old."""


class DeliveryState(StrEnum):
    """How far a webhook has come."""

    WAITING = "waiting"
    TAKEN = "taken"
    GIVEN_UP = "given_up"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a webhook."""

    webhook: Webhook
    state: DeliveryState
    outcome: str = ""
    """What its taker made of it, such as APPLIED; empty where it does not say."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Webhooks that are kept to be sent last first."""

    size: int
    webhooks: list[Webhook] = field(default_factory=list)
    is_full: asyncio.Event = field(default_factory=asyncio.Event)


class WebhookSender:
    """Owns the webhooks that are still to be taken, and the tasks that send them."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, faults: Faults, sign: Sign
    ) -> None:
        """Without a `url` there is nobody to send to, and nothing is noted."""
        self._session = session
        self._url = url
        self._faults = faults
        self._sign = sign
        self._batch: _Batch | None = None
        self._waiting: dict[str, Webhook] = {}
        self._ended: deque[Delivery] = deque(maxlen=_REMEMBERED)
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
        self.add(
            [
                Webhook(fields["event_id"], fields["body"], fields.get("event", ""))
                for fields in content
            ]
        )

    def deliveries_about(self, name: str) -> list[Delivery]:
        """Return what became of the webhooks that name something, such as an order.

        Of those that need not be sent any more the last ones are known, since the start.
        """
        waiting = [Delivery(one, DeliveryState.WAITING) for one in self._waiting.values()]
        return [one for one in (*self._ended, *waiting) if name in one.webhook.body]

    def add(self, webhooks: Sequence[Webhook]) -> None:
        """Note what is to be sent; `send` or `resume` sends it."""
        if not self._url:
            return
        self._waiting.update((webhook.event_id, webhook) for webhook in webhooks)

    def send(self, webhooks: Sequence[Webhook], copies: int = 1) -> list[asyncio.Task[None]]:
        """Send each in the background, `copies` times under the same event id."""
        if not self._url:
            return []
        return [
            task
            for webhook in webhooks
            for task in self._send(webhook, copies, self._faults.next_webhook())
        ]

    def resume(self) -> None:
        """Send all that was noted before."""
        for webhook in tuple(self._waiting.values()):
            self._send(webhook, 1, None)

    async def close(self) -> None:
        """Stop sending. What nobody has taken stays noted."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _send(
        self, webhook: Webhook, copies: int, fault: WebhookFault | None
    ) -> list[asyncio.Task[None]]:
        """Send one with its copies, or let it suffer its fault."""
        if fault is None:
            return [self._start(self._deliver(webhook)) for _ in range(copies)]
        match fault.mode:
            case WebhookMode.LOSE:
                return [self._start(self._settle(Delivery(webhook, DeliveryState.LOST)))]
            case WebhookMode.DELAY:
                delay = fault.seconds
                return [self._start(self._deliver(webhook, delay)) for _ in range(copies)]
            case WebhookMode.DUPLICATE:
                return self._send(webhook, copies + fault.copies, None)
            case WebhookMode.REORDER:
                return self._keep_for_reorder(webhook, fault)

    def _keep_for_reorder(self, webhook: Webhook, fault: WebhookFault) -> list[asyncio.Task[None]]:
        """Keep a webhook until its batch is full; the first one begins the batch."""
        tasks = []
        batch = self._batch
        if batch is None or batch.is_full.is_set():
            batch = self._batch = _Batch(fault.times)
            tasks = [self._start(self._deliver_last_first(batch, fault.seconds))]
        batch.webhooks.append(webhook)
        if len(batch.webhooks) == batch.size:
            batch.is_full.set()
        return tasks

    def _start(self, sending: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _deliver_last_first(self, batch: _Batch, seconds: int) -> None:
        try:
            async with asyncio.timeout(seconds):
                await batch.is_full.wait()
        except TimeoutError:
            batch.is_full.set()
        for webhook in reversed(batch.webhooks):
            await self._deliver(webhook)

    async def _deliver(self, webhook: Webhook, delay_seconds: int = 0) -> None:
        await asyncio.sleep(delay_seconds)
        for attempt in range(MAX_ATTEMPTS):
            async with self._slots:
                delivery = await self._attempt(webhook)
            if delivery.state is DeliveryState.TAKEN:
                break
            await asyncio.sleep(_pause_seconds(attempt))
        else:
            delivery = Delivery(webhook, DeliveryState.GIVEN_UP)
            _log.warning("sandbox_webhook_given_up", event_id=webhook.event_id)
        await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        """Note that it need not be sent any more."""
        if self._waiting.pop(delivery.webhook.event_id, None) is None:
            return
        self._ended.append(delivery)
        if self._done is not None:
            await self._done()

    async def _attempt(self, webhook: Webhook) -> Delivery:
        """Send it once, and tell whether it was taken or still waits."""
        try:
            async with self._session.post(
                self._url,
                data=webhook.body.encode(),
                headers=self._sign(webhook),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
            ) as response:
                if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                    answer = await response.content.read(_MAX_ANSWER_BYTES)
                    return Delivery(webhook, DeliveryState.TAKEN, _outcome_in(answer))
        except (aiohttp.ClientError, TimeoutError):
            pass
        return Delivery(webhook, DeliveryState.WAITING)


def _outcome_in(answer: bytes) -> str:
    """Return the outcome that the sidecar answers; a gateway itself would not look."""
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    return str(content.get("outcome", "")) if isinstance(content, dict) else ""


def _pause_seconds(attempt: int) -> float:
    """Return how long to wait after the attempt, counted from 0."""
    longest: float = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
    return longest * secrets.SystemRandom().uniform(0.5, 1.0)
