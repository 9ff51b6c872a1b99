"""Errors of the service as exceptions: one for each reason, in groups by what to do.

    WalletPaymentError
    |-- WrongRequest   the request itself has to change
    |-- NotAllowed     the caller may not do this
    |-- NotFound       there is no such record
    |-- Refused        a rule of money says no
    `-- TryAgain       may succeed later

`error_of` makes them of what gRPC raises; a reason that this release does not know becomes a
`WalletPaymentError` itself. A call that no server answered is a `ServerUnavailable`, and one whose
time was over a `DeadlineExceeded`: both say to repeat with the same key.
"""

from typing import ClassVar, Final

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

_DETAILS: Final = "grpc-status-details-bin"
_DOMAIN: Final = "wallet_payment.v1"


class WalletPaymentError(Exception):
    """A call that was refused or got no answer; decide on its class, not on its message."""

    reasons: ClassVar[dict[str, type["WalletPaymentError"]]] = {}

    def __init_subclass__(cls, reason: str = "") -> None:
        """Note which reason the class stands for."""
        if reason:
            WalletPaymentError.reasons[reason] = cls

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode,
        reason: str = "",
        *,
        metadata: dict[str, str] | None = None,
        fields: tuple[str, ...] = (),
        retry_after_seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = metadata or {}
        self.fields = fields
        self.retry_after_seconds = retry_after_seconds


class WrongRequest(WalletPaymentError):
    """The request itself has to change: a repeat fails in the same way."""


class InvalidArgument(WrongRequest, reason="INVALID_ARGUMENT"):
    """Fields are malformed; `fields` names them."""


class IdempotencyKeyReused(WrongRequest, reason="IDEMPOTENCY_KEY_REUSED"):
    """The key was used for another request: make a new one."""


class UnknownGateway(WrongRequest, reason="UNKNOWN_GATEWAY"):
    """There is no gateway of this name here."""


class NotImplementedHere(WrongRequest, reason="NOT_IMPLEMENTED"):
    """This server does not offer the method or the proof."""


class CursorExpired(WrongRequest, reason="CURSOR_EXPIRED"):
    """The database does not reach back to the cursor: watch from a time."""


class NotAllowed(WalletPaymentError):
    """The caller may not do this."""


class TokenMissing(NotAllowed, reason="TOKEN_MISSING"):
    """No token came with the call."""


class TokenInvalid(NotAllowed, reason="TOKEN_INVALID"):
    """The token is not accepted."""


class TokenExpired(NotAllowed, reason="TOKEN_EXPIRED"):
    """The token's time is over: get a new one and repeat."""


class TokenRevoked(NotAllowed, reason="TOKEN_REVOKED"):
    """The token's issuer has revoked it: get a new one and repeat."""


class CertificateMismatch(NotAllowed, reason="CERTIFICATE_MISMATCH"):
    """The token's `sub` may not come over a connection with this certificate."""


class CustomerNotAllowed(NotAllowed, reason="CUSTOMER_NOT_ALLOWED"):
    """The token is limited to one customer, and this is not that customer's."""


class ScopeMissing(NotAllowed, reason="SCOPE_MISSING"):
    """The token lacks the method's scope."""


class SignatureInvalid(NotAllowed, reason="SIGNATURE_INVALID"):
    """A webhook's signature does not fit its body."""


class NotFound(WalletPaymentError):
    """There is no such record."""


class CustomerNotFound(NotFound, reason="CUSTOMER_NOT_FOUND"):
    """The customer service does not know the customer."""


class OrderNotFound(NotFound, reason="ORDER_NOT_FOUND"):
    """There is no such order."""


class TopupNotFound(NotFound, reason="TOPUP_NOT_FOUND"):
    """The customer has no such top-up."""


class Refused(WalletPaymentError):
    """A rule of money says no."""


class InsufficientFunds(Refused, reason="INSUFFICIENT_FUNDS"):
    """The wallet holds less than the amount."""


class WalletFrozen(Refused, reason="WALLET_FROZEN"):
    """The wallet spends nothing until it is unfrozen."""


class OrderAlreadyPaid(Refused, reason="ORDER_ALREADY_PAID"):
    """The order is paid, by the payment that the metadata names."""


class OrderNotPaid(Refused, reason="ORDER_NOT_PAID"):
    """There is nothing to refund."""


class OrderMismatch(Refused, reason="ORDER_MISMATCH"):
    """The order is another customer's or of another amount."""


class CurrencyMismatch(Refused, reason="CURRENCY_MISMATCH"):
    """The order or the top-up is in another currency."""


class RefundExceedsPayment(Refused, reason="REFUND_EXCEEDS_PAYMENT"):
    """More is to be refunded than remains."""


class TopupStateUnfit(Refused, reason="TOPUP_STATE"):
    """The top-up is in a state in which this cannot be done."""


class ProofInvalid(Refused, reason="PROOF_INVALID"):
    """The proof of payment does not hold: have the customer pay again."""


class LimitExceeded(Refused, reason="LIMIT_EXCEEDED"):
    """A limit of the wallet or of the service would be passed."""


class GatewayRefused(Refused, reason="GATEWAY_REFUSED"):
    """The gateway understood the request and refused it."""


class TryAgain(WalletPaymentError):
    """The same request, with the same key, may succeed after `retry_after_seconds`."""


class RateLimited(TryAgain, reason="RATE_LIMITED"):
    """Too much at once."""


class Conflict(TryAgain, reason="CONFLICT"):
    """Others kept changing the same records; nothing was done."""


class DatabaseUnavailable(TryAgain, reason="DATABASE_UNAVAILABLE"):
    """The outcome may be unknown: repeat with the same key."""


class KeysUnavailable(TryAgain, reason="KEYS_UNAVAILABLE"):
    """The server has not got the keys yet that tokens are verified with; nothing was done."""


class GatewayUnavailable(TryAgain, reason="GATEWAY_UNAVAILABLE"):
    """The gateway cannot be reached; what was started is kept."""


class DeadlineExceeded(TryAgain, reason="DEADLINE_EXCEEDED"):
    """The time was over before the answer came."""


class Internal(TryAgain, reason="INTERNAL"):
    """Unforeseen; `correlation_id` in the metadata finds it in the server's log."""


class ServerUnavailable(TryAgain):
    """No server could be reached, or the one that was asked died: the outcome may be unknown."""


def error_of(error: grpc.RpcError) -> WalletPaymentError:
    """Return what a failed call comes to."""
    code, details, trailing = _parts_of(error)
    status = Status.FromString(trailing.get(_DETAILS, b""))
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    if info.domain != _DOMAIN:
        return _without_reason(code, details)
    kind = WalletPaymentError.reasons.get(info.reason, WalletPaymentError)
    return kind(
        details,
        code,
        info.reason,
        metadata=dict(info.metadata),
        fields=tuple(violation.field for violation in bad.field_violations),
        retry_after_seconds=retry.retry_delay.ToMilliseconds() / 1_000,
    )


def _parts_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, dict[str, bytes]]:
    """Return code, message and binary metadata; the sync error and asyncio's have the same."""
    code = error.code()
    metadata = error.trailing_metadata() or ()
    trailing = {key: value for key, value in metadata if isinstance(value, bytes)}
    return code, error.details() or code.name, trailing


def _without_reason(code: grpc.StatusCode, details: str) -> WalletPaymentError:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(details, code)
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        return ServerUnavailable(details, code)
    return WalletPaymentError(details, code)
