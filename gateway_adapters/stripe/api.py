"""Calls to Stripe's REST API as one account: authenticated, form-encoded, lists page by page.

Source of the rules: https://docs.stripe.com/api/idempotent_requests,
https://docs.stripe.com/api/errors and https://docs.stripe.com/api/pagination.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import urlencode

import aiohttp

from gateway_adapters.gateway import GatewayRefused, GatewayUnavailable
from gateway_adapters.outbound import NOTHING, Answer, Outbound
from gateway_adapters.stripe.settings import StripeSettings
from gateway_adapters.stripe.wire import identifier
from gateway_adapters.wire import JsonObject, Unreadable, as_object, display_text

API_VERSION: Final = "2024-10-28.acacia"
"""What the answers are like, whatever the account's own default is."""
PAGE_SIZE: Final = 50
"""Half of the most that Stripe gives at once: disputes carry their evidence, and answers have a
longest length."""
MAX_PAGES: Final = 1000

_PASSING: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.FAILED_DEPENDENCY})
"""Refusals that the same request need not meet again: another one with its key is under way, or
something outside Stripe failed."""

_Read = TypeVar("_Read")


class StripeApi:
    """The API as one account sees it. The session stays its owner's, who closes it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: StripeSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._headers = {
            "Authorization": f"Bearer {settings.secret_key}",
            "Accept": "application/json",
            "Stripe-Version": API_VERSION,
        }
        self._outbound = Outbound(
            session,
            settings.api_url,
            gateway="Stripe",
            timeout_seconds=settings.timeout_seconds,
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
        with _telling_what_passes():
            return await self._outbound.get(path, query, self._headers)

    async def post(
        self, path: str, fields: Mapping[str, str], *, idempotency_key: str = ""
    ) -> Answer:
        """Send, and once more where no answer came.

        Stripe does it once for each `idempotency_key`, for 24 hours. Without one it has to be
        something that Stripe does but once anyhow.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        with _telling_what_passes():
            return await self._outbound.post(
                path, headers=headers, body=urlencode(fields).encode(), is_idempotent=True
            )

    async def entries(self, path: str, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """Go through a list page by page, newest first; what is added meanwhile is left out.

        Raises:
            GatewayUnavailable, GatewayRefused.
        """
        place = {"limit": str(PAGE_SIZE)}
        for _ in range(MAX_PAGES):
            found, has_more = read(await self.get(path, {**query, **place}), _read_page)
            for entry in found:
                yield entry
            if not has_more:
                return
            with reading():
                place["starting_after"] = identifier(found[-1].get("id"), "The entry's id")
        raise GatewayRefused(
            f"Stripe has more than {MAX_PAGES * PAGE_SIZE} entries for that. Ask for less time."
        )


def read(answer: Answer, reader: Callable[[JsonObject], _Read]) -> _Read:
    """Read an answer; one that cannot be read is as good as none.

    Raises:
        GatewayUnavailable.
    """
    with reading():
        return reader(answer.content)


@contextmanager
def reading() -> Iterator[None]:
    """Tell whoever asked, where an answer is not what Stripe documents.

    Raises:
        GatewayUnavailable.
    """
    try:
        yield
    except Unreadable:
        raise GatewayUnavailable("Stripe's answer cannot be read.") from None


@contextmanager
def _telling_what_passes() -> Iterator[None]:
    try:
        yield
    except GatewayRefused as refused:
        if refused.status in _PASSING:
            raise GatewayUnavailable("Stripe asks to come back later.") from None
        raise


def _read_page(content: JsonObject) -> tuple[list[JsonObject], bool]:
    data, has_more = content.get("data"), content.get("has_more")
    if not isinstance(data, list) or not isinstance(has_more, bool) or (has_more and not data):
        raise Unreadable("The answer is not a page of a list.")
    return [as_object(entry, "The entry") for entry in data], has_more


def _description(content: JsonObject) -> str:
    error = content.get("error")
    return display_text(error.get("message")) if isinstance(error, dict) else ""
