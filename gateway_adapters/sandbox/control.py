"""Control requests to the sandbox: read with care, and refused before anything happens."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

MAX_DUPLICATES: Final = 20


class ControlError(Exception):
    """A request that the sandbox refuses; the message is for whoever sent it."""

    def __init__(
        self, description: str, field: str = "", status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        super().__init__(description)
        self.description = description
        self.field = field
        self.status = status


@web.middleware
async def tell_control_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a control request that was refused."""
    try:
        return await handler(request)
    except ControlError as error:
        content = {"code": "BAD_REQUEST_ERROR", "description": error.description}
        if error.field:
            content["field"] = error.field
        return web.json_response({"error": content}, status=error.status)


async def content_of(request: web.Request) -> dict[str, Any]:
    """Read the body: a JSON object, or nothing.

    Raises:
        ControlError.
    """
    body = await request.read()
    try:
        content = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ControlError("The request body is not a JSON object.")
    return content


def control_field(content: Mapping[str, Any], name: str, default: Any) -> Any:  # noqa: ANN401 - the default's type
    """Return a field of a control request, of the type that its default has.

    Raises:
        ControlError.
    """
    value = content.get(name, default)
    if type(value) is not type(default):
        raise ControlError(f"{name} must be of type {type(default).__name__}.", name)
    return value


def duplicates_field(content: Mapping[str, Any]) -> int:
    """Return how many times each webhook is sent beyond the first.

    Raises:
        ControlError.
    """
    duplicates: int = control_field(content, "duplicate", 0)
    if not 0 <= duplicates <= MAX_DUPLICATES:
        raise ControlError(f"duplicate must be from 0 to {MAX_DUPLICATES}.", "duplicate")
    return duplicates
