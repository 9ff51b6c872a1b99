"""One outgoing webhook: its body, and an attempt to deliver it."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
from google.protobuf.json_format import MessageToDict

from gateway_adapters.guarded_session import HostRefused
from server.feed import WalletEvent
from server.outgoing_signing import signed_headers
from server.rpc import conversion
from wallet_payment.v1 import resources_pb2 as resources

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)
_LONGEST_WAIT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of an attempt."""

    is_taken: bool
    problem: str = ""
    retry_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where webhooks go, and the keys that they are signed with."""

    url: str
    keys: Sequence[bytes] = field(repr=False)

    async def post(self, session: aiohttp.ClientSession, webhook_id: str, body: bytes) -> Attempt:
        """Post a body once; it is taken when the receiver says so by a status of 200 to 299."""
        headers = {
            "content-type": "application/json",
            **signed_headers(self.keys, webhook_id, int(time.time()), body),
        }
        try:
            async with session.post(
                self.url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
            ) as answer:
                if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    return Attempt(is_taken=True)
                wait = answer.headers.get("retry-after", "")
                seconds = float(wait) if wait.isdecimal() else 0.0
                problem = f"HTTP {answer.status}"
                return Attempt(False, problem, min(seconds, _LONGEST_WAIT_SECONDS))
        except (aiohttp.ClientError, HostRefused, TimeoutError, OSError) as error:
            return Attempt(is_taken=False, problem=type(error).__name__)


def body_of(event: WalletEvent) -> bytes:
    """Return an event as JSON: its type, when it happened, and the contract's WalletEvent."""
    message = resources.WalletEvent()
    conversion.fill_wallet_event(message, event)
    content = MessageToDict(message, preserving_proto_field_name=True)
    body = {
        "type": event.type.lower().replace("_", ".", 1),
        "timestamp": content["create_time"],
        "data": content,
    }
    return json.dumps(body, separators=(",", ":")).encode()
