"""Telling of what happened: what changed is kept first, and then the webhooks are sent.

A control request that makes something happen takes three fields more: `duplicate` is how many times
each webhook is sent beyond the first; `webhook: false` sends none; `wait: true` answers once they
were taken, or after 5 s.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import web

from gateway_adapters.sandbox.control import content_of, control_field, duplicates_field
from gateway_adapters.sandbox.webhooks import Webhook

_LONGEST_WAIT_SECONDS: Final = 5.0

Json = dict[str, Any]
Commit = Callable[[Sequence[Webhook], int], Awaitable[list[asyncio.Task[None]]]]
"""Keeps what changed, then sends the webhooks, each so many times; returns the sendings."""


async def telling_content_of(request: web.Request) -> Json:
    """Read a control request; whatever is wrong is refused before anything happens.

    Raises:
        ControlError.
    """
    content = await content_of(request)
    duplicates_field(content)
    control_field(content, "webhook", True)
    control_field(content, "wait", False)
    return content


async def tell(
    commit: Commit, webhooks: Sequence[Webhook], content: Json, answer: Json
) -> web.Response:
    """Keep what happened, send the webhooks as the request wants it, and answer."""
    wanted = webhooks if content.get("webhook", True) else []
    sendings = await commit(wanted, 1 + duplicates_field(content))
    if sendings and content.get("wait", False):
        await asyncio.wait(sendings, timeout=_LONGEST_WAIT_SECONDS)
    event_ids = [webhook.event_id for webhook in wanted]
    return web.json_response({**answer, "event_ids": event_ids})
