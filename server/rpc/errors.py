"""Errors on the wire: one reason, one status code, and details that a program can read.

    RpcError                 carries a reason of the contract
    |-- InvalidArgument      with the fields that are wrong
    `-- RetryLater           with the time to wait

`as_rpc_error` says anything that may be raised below the edge in these terms; what it does not know
becomes INTERNAL with a correlation id and never shows its text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from gateway_adapters import gateway
from server import topups
from server.commit import errors as commit
from server.commit.port import StoreUnavailable
from server.ledger.records import NO_METADATA

DOMAIN: Final = "wallet_payment.v1"
MAX_VIOLATIONS: Final = 20
"""Details travel in headers, which break past 8 KiB."""
_MAX_TEXT: Final = 512

STATUS_CODES: Final[Mapping[str, grpc.StatusCode]] = {
    "INVALID_ARGUMENT": grpc.StatusCode.INVALID_ARGUMENT,
    "TOKEN_MISSING": grpc.StatusCode.UNAUTHENTICATED,
    "TOKEN_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "TOKEN_EXPIRED": grpc.StatusCode.UNAUTHENTICATED,
    "SIGNATURE_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "TOKEN_REVOKED": grpc.StatusCode.UNAUTHENTICATED,
    "CERTIFICATE_MISMATCH": grpc.StatusCode.UNAUTHENTICATED,
    "SCOPE_MISSING": grpc.StatusCode.PERMISSION_DENIED,
    "CUSTOMER_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
    "CUSTOMER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ORDER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "TOPUP_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "UNKNOWN_GATEWAY": grpc.StatusCode.NOT_FOUND,
    "ORDER_ALREADY_PAID": grpc.StatusCode.ALREADY_EXISTS,
    "INSUFFICIENT_FUNDS": grpc.StatusCode.FAILED_PRECONDITION,
    "WALLET_FROZEN": grpc.StatusCode.FAILED_PRECONDITION,
    "ORDER_NOT_PAID": grpc.StatusCode.FAILED_PRECONDITION,
    "ORDER_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "CURRENCY_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "REFUND_EXCEEDS_PAYMENT": grpc.StatusCode.FAILED_PRECONDITION,
    "IDEMPOTENCY_KEY_REUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "TOPUP_STATE": grpc.StatusCode.FAILED_PRECONDITION,
    "PROOF_INVALID": grpc.StatusCode.FAILED_PRECONDITION,
    "LIMIT_EXCEEDED": grpc.StatusCode.FAILED_PRECONDITION,
    "GATEWAY_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "CURSOR_EXPIRED": grpc.StatusCode.OUT_OF_RANGE,
    "RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "CONFLICT": grpc.StatusCode.ABORTED,
    "DATABASE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "GATEWAY_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "KEYS_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "NOT_IMPLEMENTED": grpc.StatusCode.UNIMPLEMENTED,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}
"""Every reason of the contract (`ErrorReason`) with its status code."""


class RpcError(Exception):
    """A call that is refused, for a reason of the contract."""

    def __init__(
        self, reason: str, message: str, metadata: Mapping[str, str] = NO_METADATA
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.metadata = metadata

    @property
    def code(self) -> grpc.StatusCode:
        """The status code that belongs to the reason."""
        return STATUS_CODES[self.reason]

    def details(self) -> list[ErrorInfo | BadRequest | RetryInfo]:
        """Return the status details."""
        metadata = {name: value[:_MAX_TEXT] for name, value in self.metadata.items()}
        return [ErrorInfo(domain=DOMAIN, reason=self.reason, metadata=metadata)]

    def status(self) -> Status:
        """Return the rich status that travels with the call's end."""
        packed = []
        for detail in self.details():
            message = AnyMessage()
            message.Pack(detail)
            packed.append(message)
        code: int = self.code.value[0]
        return Status(code=code, message=self.message, details=packed)


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request that is wrong, and what would be right."""

    field: str
    description: str


class InvalidArgument(RpcError):
    """The request is malformed."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(
            "INVALID_ARGUMENT",
            f"{first.field}: {first.description}{more}"[:_MAX_TEXT],
            {"field": first.field},
        )
        self.violations = violations[:MAX_VIOLATIONS]

    def details(self) -> list[ErrorInfo | BadRequest | RetryInfo]:
        """Return the status details, with the fields."""
        fields = [
            BadRequest.FieldViolation(
                field=violation.field[:_MAX_TEXT], description=violation.description[:_MAX_TEXT]
            )
            for violation in self.violations
        ]
        return [*super().details(), BadRequest(field_violations=fields)]


class RetryLater(RpcError):
    """The same request may well succeed after `retry_after_seconds`."""

    def __init__(
        self,
        reason: str,
        message: str,
        retry_after_seconds: float,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        super().__init__(reason, message, metadata)
        self.retry_after_seconds = retry_after_seconds

    def details(self) -> list[ErrorInfo | BadRequest | RetryInfo]:
        """Return the status details, with the time to wait."""
        delay = Duration()
        delay.FromMilliseconds(max(1, round(self.retry_after_seconds * 1000)))
        return [*super().details(), RetryInfo(retry_delay=delay)]


def as_rpc_error(error: Exception, correlation_id: str) -> RpcError:
    """Say what was raised below the edge in the contract's terms."""
    match error:
        case RpcError():
            return error
        case commit.Rejected():
            rejection = error.rejection
            return RpcError(rejection.reason, rejection.message, rejection.metadata)
        case commit.QueueFull():
            return RetryLater(
                "RATE_LIMITED",
                "The server has more requests waiting than it takes. Nothing was done: repeat "
                "after a moment.",
                0.5,
            )
        case commit.NotStarted():
            return RpcError(
                "DEADLINE_EXCEEDED",
                "The call's time was over before its turn came. Nothing was done.",
            )
        case commit.Conflicted():
            return RetryLater(
                "CONFLICT",
                "Others kept changing the same records. Nothing was done: repeat with the same "
                "idempotency key.",
                0.1,
            )
        case commit.Unavailable() | StoreUnavailable():
            return RetryLater(
                "DATABASE_UNAVAILABLE",
                "The database did not answer in time. The request may or may not have taken "
                "effect: repeat it with the same idempotency key.",
                1.0,
            )
        case topups.UnknownGateway():
            return RpcError(
                "UNKNOWN_GATEWAY",
                f"There is no gateway {error.gateway!r} on this server.",
                {"gateway": error.gateway},
            )
        case gateway.GatewayError():
            return _gateway_error(error)
    return RpcError(
        "INTERNAL",
        f"Something went wrong here. Look for {correlation_id} in the server's log; repeat with "
        "the same idempotency key.",
        {"correlation_id": correlation_id},
    )


def _gateway_error(error: gateway.GatewayError) -> RpcError:
    match error:
        case gateway.GatewayUnavailable():
            return RetryLater(
                "GATEWAY_UNAVAILABLE",
                f"{error} What was started is kept: repeat with the same idempotency key.",
                error.retry_after_seconds,
            )
        case gateway.InvalidTopup() | gateway.InvalidSession():
            return InvalidArgument([Violation(error.field, str(error))])
        case gateway.ProofInvalid():
            return RpcError("PROOF_INVALID", str(error))
        case gateway.NotImplementedHere():
            return RpcError("NOT_IMPLEMENTED", str(error))
        case gateway.SignatureInvalid():
            return RpcError("SIGNATURE_INVALID", str(error))
        case gateway.MalformedEvent():
            return InvalidArgument([Violation("body", str(error))])
    return RpcError("GATEWAY_REFUSED", str(error))
