"""The one layer around every call: token, scope, rate, deadline, errors, metrics, log.

It is composed per method when the server is built, from the contract's own descriptor: a method's
scope stands in the proto, and a method without one is refused to everyone.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from structlog.contextvars import bind_contextvars

from server.audit import AuditEntry, AuditLog
from server.metrics import MethodMetrics, Metrics
from server.rpc.auth import Authenticator, Caller
from server.rpc.card_numbers import has_card_number
from server.rpc.customer_limit import as_told_to, check_customer
from server.rpc.errors import InvalidArgument, RetryLater, RpcError, Violation, as_rpc_error
from server.rpc.rate_limits import CallLimits, RateLimits
from server.rpc.servicer import Call, WalletPaymentServicer
from server.rpc.strangers import TurnedAway
from server.rpc.subject_names import SubjectNames
from wallet_payment.v1 import options_pb2
from wallet_payment.v1 import wallet_payment_service_pb2 as service

SERVICE: Final[ServiceDescriptor] = service.DESCRIPTOR.services_by_name["WalletPaymentService"]
_CORRELATION_ID: Final = "x-correlation-id"
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_WEBHOOK_SENDER: Final = "x-webhook-sender"
_FORWARDING: Final = "webhook.forward"
_MAX_CORRELATION_ID: Final = 128
_MAX_ADDRESS: Final = 45
_MAX_AUDITED_ID: Final = 128
"""Also a call that was refused is audited, and its ids can be as long as a message."""
_ANSWER_MARGIN_SECONDS: Final = 0.05
"""So much before the caller's deadline it is told what happened, instead of nothing."""

Method = Callable[[Any, Call], Any]
"""A method of the servicer: its answer to be awaited or, of a stream, its answers one by one."""
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

Handle = Callable[[Any, Any], Awaitable[Any]]
Around = Callable[[Handle, str, str], Handle]
"""Encloses how a method of a service is handled."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("rpc")


def untouched(handle: Handle, _service: str, _method: str) -> Handle:
    """Enclose nothing."""
    return handle


def required_scope(method: MethodDescriptor) -> str:
    """Return the scope that stands with the method in the proto; empty if none does."""
    scope: str = method.GetOptions().Extensions[options_pb2.required_scope]
    return scope


@dataclass(slots=True)
class ServicerSlot:
    """Holds the servicer once the database is ready; before that, calls are told to wait."""

    servicer: WalletPaymentServicer | None = None

    def method(self, name: str) -> Method:
        """Return the method that carries out a call.

        Raises:
            RetryLater: the server is still starting.
        """
        if self.servicer is None:
            raise RetryLater(
                "DATABASE_UNAVAILABLE",
                "The server is starting and waits for its database. Nothing was done.",
                1.0,
            )
        method: Method = getattr(self.servicer, name)
        return method


def generic_handler(
    slot: ServicerSlot,
    authenticator: Authenticator,
    metrics: Metrics,
    audit: AuditLog,
    limits: RateLimits,
    subject_names: SubjectNames | None = None,
    *,
    slow_reader_seconds: float = 60.0,
    around: Around = untouched,
) -> "grpc.GenericRpcHandler[Message, Message]":
    """Return what a gRPC server needs to serve the contract; `around` encloses each method.

    A stream whose reader takes nothing for `slow_reader_seconds` is ended.
    """
    handlers = {}
    for method in SERVICE.methods:
        edge = _Edge(
            method=method.name,
            scope=required_scope(method),
            slot=slot,
            authenticator=authenticator,
            metrics=metrics.method(
                SERVICE.full_name, method.name, is_stream=method.server_streaming
            ),
            audit=audit,
            subject_names=subject_names,
            request_type=GetMessageClass(method.input_type),
            limits=limits.of(method.name),
            stream=_Stream(slow_reader_seconds) if method.server_streaming else None,
        )
        handler_of = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        handlers[method.name] = handler_of(
            around(edge.handle, SERVICE.full_name, method.name),
            # The edge reads it: what gRPC cannot read ends as UNKNOWN, with the exception's text.
            request_deserializer=None,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Writes the answers of a stream, each once the one before was taken."""

    slow_reader_seconds: float

    async def write(
        self,
        responses: AsyncGenerator[Message],
        context: Context,
        still_allowed: Callable[[], Awaitable[object]],
    ) -> None:
        """Write every answer, as long as the reader's token is good.

        Raises:
            RetryLater: the reader takes nothing any more.
            RpcError: its token is not good any more.
        """
        async with aclosing(responses):
            async for response in responses:
                await still_allowed()
                try:
                    async with asyncio.timeout(self.slow_reader_seconds):
                        await context.write(response)
                except TimeoutError:
                    raise RetryLater(
                        "RATE_LIMITED",
                        f"The reader took nothing for {self.slow_reader_seconds:g} seconds. Read "
                        "faster, and go on from the newest cursor.",
                        1.0,
                    ) from None


@dataclass(frozen=True, slots=True)
class _Edge:
    """The layer around one method."""

    method: str
    scope: str
    slot: ServicerSlot
    authenticator: Authenticator
    metrics: MethodMetrics
    audit: AuditLog
    limits: CallLimits
    request_type: type[Message]
    subject_names: SubjectNames | None
    """Which certificates callers may come with; None where they need none."""

    stream: _Stream | None
    """Set where the method answers with many messages."""

    async def handle(self, serialized: bytes, context: Context) -> Message | None:
        """Carry out a call; whatever is raised leaves as an error of the contract."""
        started = time.perf_counter()
        self.metrics.call_started()
        authorization, correlation_id, sender = _metadata(context)
        context.set_trailing_metadata(((_CORRELATION_ID, correlation_id),))
        request = self._read(serialized)
        customer_id = getattr(request, "customer_id", "")
        bind_contextvars(correlation_id=correlation_id)
        caller: Caller | None = None
        refusal: RpcError | None = None
        code = "CANCELLED"
        try:
            caller = await self.authenticator.authenticate(authorization, self.scope, context.peer)
            self._admit(caller, customer_id, context)
            if request is None:
                _refuse_unreadable()
            check_customer(caller, request)
            call = Call(caller, correlation_id, _timeout_seconds(context))
            response = await self._answer(request, call, context, authorization)
            code = "OK"
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost layer says everything in its terms
            refusal = as_told_to(caller, as_rpc_error(error, correlation_id))
            code = refusal.code.name
            if code == "INTERNAL":
                _log.exception("failed", method=self.method, correlation_id=correlation_id)
        finally:
            seconds = time.perf_counter() - started
            self.metrics.call_handled(code, seconds)
            # Calls that were turned away are told together.
            is_told_alone = not isinstance(refusal, TurnedAway)
            if is_told_alone:
                self.audit.put(
                    AuditEntry(
                        time_ms=time.time_ns() // 1_000_000,
                        method=self.method,
                        caller=caller.name if caller else "",
                        # Only who may forward webhooks is believed whom they are from.
                        peer=_peer(context, sender if caller and self.scope == _FORWARDING else ""),
                        customer_id=customer_id[:_MAX_AUDITED_ID],
                        order_id=getattr(request, "order_id", "")[:_MAX_AUDITED_ID],
                        code=code,
                        reason=refusal.reason if refusal else "",
                        correlation_id=correlation_id,
                        duration_us=round(seconds * 1_000_000),
                    )
                )
        if refusal is not None:
            if is_told_alone:
                _log.info(
                    "refused",
                    method=self.method,
                    caller=caller.name if caller else None,
                    code=code,
                    reason=refusal.reason,
                    correlation_id=correlation_id,
                )
            details = (_STATUS_DETAILS, refusal.status().SerializeToString())
            await context.abort(
                refusal.code, refusal.message, ((_CORRELATION_ID, correlation_id), details)
            )
        return response

    def _admit(self, caller: Caller, customer_id: str, context: Context) -> None:
        """Refuse whoever has the wrong certificate or calls too often, and what is not audited."""
        if self.subject_names is not None:
            self.subject_names.check(caller, context.auth_context())
        # A token of one customer never uses up what another customer may call.
        self.limits.check(caller.name, caller.customer_id or customer_id)
        _check_audit(self.audit)

    async def _answer(
        self, request: Message, call: Call, context: Context, authorization: str | None
    ) -> Message | None:
        """Have the method answer; None where it wrote its answers as a stream."""
        answer = self.slot.method(self.method)(request, call)
        if self.stream is None:
            response: Message = await answer
            return response
        await self.stream.write(
            answer, context, lambda: self.authenticator.authenticate(authorization, self.scope)
        )
        return None

    def _read(self, serialized: bytes) -> Message | None:
        """Read the request; None where it is none."""
        try:
            return self.request_type.FromString(serialized)
        except DecodeError:
            return None


def _timeout_seconds(context: Context) -> float | None:
    """Return how long the method may take, so that its answer still comes in time."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None else max(0.0, remaining - _ANSWER_MARGIN_SECONDS)


def _refuse_unreadable() -> NoReturn:
    raise InvalidArgument([Violation("request", "cannot be read as a message of this method")])


def _check_audit(audit: AuditLog) -> None:
    if not audit.takes_calls:
        raise RetryLater(
            "DATABASE_UNAVAILABLE",
            "The audit cannot be written now, and this server does nothing that is not audited. "
            "Nothing was done: repeat after a moment.",
            1.0,
        )


def _peer(context: Context, sender: str) -> str:
    """Return where a call comes from, and the sender of the webhook that it forwards."""
    return f"{context.peer()} for {sender}" if sender else str(context.peer())


def _metadata(context: Context) -> tuple[str | None, str, str]:
    """Return the call's `authorization`, its correlation id, and a webhook's sender.

    The correlation id is the caller's, or a new one.
    """
    authorization: str | None = None
    correlation_id = sender = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            authorization = value
        elif key == _CORRELATION_ID and isinstance(value, str) and _can_be_told(value):
            correlation_id = value[:_MAX_CORRELATION_ID]
        elif key == _WEBHOOK_SENDER and isinstance(value, str):
            sender = value[:_MAX_ADDRESS]
    if not correlation_id or has_card_number(correlation_id):
        correlation_id = secrets.token_hex(8)
    return authorization, correlation_id, sender


def _can_be_told(correlation_id: str) -> bool:
    """Tell whether gRPC sends it back: it takes from the wire what it refuses to send."""
    return correlation_id.isascii() and correlation_id.isprintable()
