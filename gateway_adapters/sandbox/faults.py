"""The sandbox's faults: what the next requests to an API, and the next webhooks, suffer.

    POST /sandbox/faults    {"api": {"mode", "times", "path", "seconds"},
                             "webhooks": {"mode", "times", "seconds", "copies"}}
    GET  /sandbox/faults    what is still due, null where nothing is

Only `mode` is needed. A part that is left out stays as it is; null ends it.

Modes of `api`, for requests whose path begins with `path`:
    error500             500, and nothing takes effect
    rate_limit           429, and nothing takes effect
    timeout              silence for `seconds`, and nothing takes effect
    lose_answer          it takes effect, and the connection breaks before the answer
    refuse_connections   the connection breaks at once, and nothing takes effect

Modes of `webhooks`:
    delay       each is sent after `seconds`
    duplicate   each is sent `copies` times more, under the same event id
    reorder     `times` of them are kept until all are there, or for `seconds`, and sent last first
    lose        they are never sent
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway_adapters.sandbox.control import ControlError, content_of, control_field

MAX_TIMES: Final = 1000
MAX_REORDERED: Final = 20
MAX_COPIES: Final = 20
MAX_SECONDS: Final = 60
_NEVER: Final = ("/sandbox/", "/checkout/")
"""Where people are, and no API is."""


class ApiMode(StrEnum):
    """What becomes of a request to an API."""

    ERROR_500 = "error500"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    LOSE_ANSWER = "lose_answer"
    REFUSE_CONNECTIONS = "refuse_connections"


class WebhookMode(StrEnum):
    """What becomes of a webhook."""

    DELAY = "delay"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    LOSE = "lose"


@dataclass(frozen=True, slots=True)
class ApiFault:
    """What the next requests suffer; `times` is how many more."""

    mode: ApiMode
    times: int
    path: str
    seconds: int


@dataclass(frozen=True, slots=True)
class WebhookFault:
    """What the next webhooks suffer; `times` is how many more."""

    mode: WebhookMode
    times: int
    seconds: int
    copies: int


class Faults:
    """Owns what is still due."""

    def __init__(self) -> None:
        self._api: ApiFault | None = None
        self._webhooks: WebhookFault | None = None
        self._closing = asyncio.Event()

    def table(self) -> list[web.RouteDef]:
        """Return the routes for an application."""
        return [web.get("/sandbox/faults", self.show), web.post("/sandbox/faults", self.change)]

    async def show(self, _request: web.Request) -> web.Response:
        """Return what is still due."""
        return web.json_response(self._content())

    async def change(self, request: web.Request) -> web.Response:
        """Set what is due from now on: all of it is good, or nothing changes."""
        content = await content_of(request)
        api, webhooks = self._api, self._webhooks
        if "api" in content:
            api = _api_fault(content["api"])
        if "webhooks" in content:
            webhooks = _webhook_fault(content["webhooks"])
        self._api, self._webhooks = api, webhooks
        return web.json_response(self._content())

    def next_webhook(self) -> WebhookFault | None:
        """Return what the next webhook suffers, which is then one less."""
        fault = self._webhooks
        if fault is not None:
            self._webhooks = replace(fault, times=fault.times - 1) if fault.times > 1 else None
        return fault

    async def close(self, _app: web.Application) -> None:
        """Let go of the requests that are kept waiting."""
        self._closing.set()

    @property
    def middleware(self) -> Middleware:
        """What lets requests to the APIs suffer; those of people at its controls never do."""

        @web.middleware
        async def suffer(request: web.Request, handler: Handler) -> web.StreamResponse:
            fault = self._next_request(request.path)
            if fault is None:
                return await handler(request)
            answer: web.StreamResponse = web.json_response({}, status=500)
            match fault.mode:
                case ApiMode.ERROR_500:
                    return answer
                case ApiMode.RATE_LIMIT:
                    return web.json_response({}, status=429)
                case ApiMode.TIMEOUT:
                    await self._keep_silent(fault.seconds)
                case ApiMode.LOSE_ANSWER:
                    answer = await handler(request)
                case ApiMode.REFUSE_CONNECTIONS:
                    pass
            if request.transport is not None:
                request.transport.abort()
            return answer

        return suffer

    def _next_request(self, path: str) -> ApiFault | None:
        fault = self._api
        if fault is None or path.startswith(_NEVER) or not path.startswith(fault.path):
            return None
        self._api = replace(fault, times=fault.times - 1) if fault.times > 1 else None
        return fault

    async def _keep_silent(self, seconds: int) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    def _content(self) -> dict[str, Any]:
        return {
            "api": asdict(self._api) if self._api else None,
            "webhooks": asdict(self._webhooks) if self._webhooks else None,
        }


def _api_fault(content: object) -> ApiFault | None:
    if content is None:
        return None
    fields = _fields(content, {"mode", "times", "path", "seconds"})
    return ApiFault(
        mode=ApiMode(_mode(fields, [mode.value for mode in ApiMode])),
        times=_number(fields, "times", 1, MAX_TIMES),
        path=control_field(fields, "path", "/"),
        seconds=_number(fields, "seconds", 30, MAX_SECONDS),
    )


def _webhook_fault(content: object) -> WebhookFault | None:
    if content is None:
        return None
    fields = _fields(content, {"mode", "times", "seconds", "copies"})
    mode = WebhookMode(_mode(fields, [mode.value for mode in WebhookMode]))
    return WebhookFault(
        mode=mode,
        times=_number(
            fields, "times", 1, MAX_REORDERED if mode is WebhookMode.REORDER else MAX_TIMES
        ),
        seconds=_number(fields, "seconds", 5, MAX_SECONDS),
        copies=_number(fields, "copies", 1, MAX_COPIES),
    )


def _fields(content: object, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(content, dict) or not content.keys() <= names:
        raise ControlError(f"A fault is an object of {', '.join(sorted(names))}.")
    return content


def _mode(fields: Mapping[str, Any], modes: list[str]) -> str:
    mode = fields.get("mode")
    if mode not in modes:
        raise ControlError(f"mode must be one of {', '.join(modes)}.", "mode")
    return str(mode)


def _number(fields: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value: int = control_field(fields, name, default)
    if not 1 <= value <= most:
        raise ControlError(f"{name} must be from 1 to {most}.", name)
    return value
