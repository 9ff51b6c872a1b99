"""What the sidecar answers to a gateway: the server's gRPC answer said in HTTP.

A gateway sends a webhook again after anything but 2xx. So 2xx stands for "it has taken effect, or
is recorded", 4xx for "the same again will not help", and 503 for all else, our own faults included.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast

import grpc
from aiohttp import web
from google.rpc.error_details_pb2 import (
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

ERROR_DOMAIN: Final = "wallet_payment.v1"
MIN_RETRY_AFTER_SECONDS: Final = 1
MAX_RETRY_AFTER_SECONDS: Final = 3600
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_NANOS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than success. The message is ours and never an exception's text."""

    status: HTTPStatus
    reason: str
    message: str
    retry_after_seconds: int = 0
    is_our_fault: bool = False
    """The gateway did nothing wrong; somebody here has to look at it."""


@dataclass(frozen=True, slots=True)
class RpcFailure:
    """How a call to the server failed."""

    code: grpc.StatusCode
    reason: str
    """The contract's reason; empty where the failure is not the service's own."""
    retry_after_seconds: int


def json_refusal(refusal: Refusal) -> web.Response:
    """Return the refusal as a response."""
    headers = {}
    if refusal.retry_after_seconds:
        headers["Retry-After"] = str(refusal.retry_after_seconds)
    error = {"reason": refusal.reason, "message": refusal.message}
    return web.json_response({"error": error}, status=refusal.status, headers=headers)


def send_again_later(
    retry_after_seconds: int = MIN_RETRY_AFTER_SECONDS, *, is_our_fault: bool = False
) -> Refusal:
    """Ask the gateway to come back; nothing was lost, since it keeps the event until then."""
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "UNAVAILABLE",
        "The event could not be taken now. Send it again later.",
        retry_after_seconds,
        is_our_fault,
    )


def refusal_of(failure: RpcFailure) -> Refusal:
    """Say in HTTP how the call failed."""
    match failure.code, failure.reason:
        case grpc.StatusCode.UNAUTHENTICATED, "SIGNATURE_INVALID":
            return Refusal(
                HTTPStatus.UNAUTHORIZED,
                "SIGNATURE_INVALID",
                "The signature does not fit the body. Nothing was recorded.",
            )
        case ((grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED), _):
            # Our own token was refused. The gateway could do nothing about a 401.
            return send_again_later(failure.retry_after_seconds, is_our_fault=True)
        case grpc.StatusCode.NOT_FOUND, "UNKNOWN_GATEWAY":
            return Refusal(
                HTTPStatus.NOT_FOUND, "UNKNOWN_GATEWAY", "There is no gateway of this name."
            )
        case grpc.StatusCode.INVALID_ARGUMENT, _:
            return Refusal(
                HTTPStatus.BAD_REQUEST,
                "INVALID_ARGUMENT",
                "The body cannot be read as an event of this gateway.",
            )
        case grpc.StatusCode.UNIMPLEMENTED, _:
            return Refusal(
                HTTPStatus.NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                "Webhooks of this gateway are not taken yet.",
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED, _:
            return Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "RATE_LIMITED",
                "Too much at once. Send it again later.",
                failure.retry_after_seconds,
            )
        case (
            (
                grpc.StatusCode.UNAVAILABLE
                | grpc.StatusCode.ABORTED
                | grpc.StatusCode.DEADLINE_EXCEEDED
            ),
            _,
        ):
            return send_again_later(failure.retry_after_seconds)
    return send_again_later(failure.retry_after_seconds, is_our_fault=True)


def failure_of(error: grpc.aio.AioRpcError) -> RpcFailure:
    """Read a failed call's rich status; without one the code alone has to do."""
    info, retry = _details(error)
    return RpcFailure(
        code=error.code(),
        reason=info.reason if info.domain == ERROR_DOMAIN else "",
        retry_after_seconds=_whole_seconds(retry),
    )


def _details(error: grpc.aio.AioRpcError) -> tuple[ErrorInfo, RetryInfo]:
    """Return the details that are there, and empty ones for those that are not."""
    info, retry = ErrorInfo(), RetryInfo()
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for name, value in metadata:
        if name != _STATUS_DETAILS or not isinstance(value, bytes):
            continue
        try:
            for detail in Status.FromString(value).details:
                detail.Unpack(info)
                detail.Unpack(retry)
        except ValueError:  # protobuf's DecodeError is one
            return ErrorInfo(), RetryInfo()
    return info, retry


def _whole_seconds(retry: RetryInfo) -> int:
    """Round the wait up to whole seconds, within bounds."""
    delay = retry.retry_delay
    nanos: int = delay.seconds * _NANOS + delay.nanos
    seconds = -(-nanos // _NANOS)
    return max(MIN_RETRY_AFTER_SECONDS, min(seconds, MAX_RETRY_AFTER_SECONDS))
