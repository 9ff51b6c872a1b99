"""The one layer around every call: token, scope, deadline, errors, metrics, log.

It is composed per method when the server is built, from the contract's own descriptor: a method's
scope stands in the proto, and a method without one is refused to everyone.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from structlog.contextvars import bind_contextvars

from server.audit import AuditEntry, AuditLog
from server.metrics import MethodMetrics, Metrics
from server.rpc.auth import Authenticator, Caller
from server.rpc.errors import RetryLater, RpcError, as_rpc_error
from server.rpc.servicer import Call, WalletPaymentServicer
from wallet_payment.v1 import options_pb2
from wallet_payment.v1 import wallet_payment_service_pb2 as service

SERVICE: Final[ServiceDescriptor] = service.DESCRIPTOR.services_by_name["WalletPaymentService"]
_CORRELATION_ID: Final = "x-correlation-id"
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_MAX_CORRELATION_ID: Final = 128
_MAX_AUDITED_ID: Final = 128
"""Also a call that was refused is audited, and its ids can be as long as a message."""
_ANSWER_MARGIN_SECONDS: Final = 0.05
"""So much before the caller's deadline it is told what happened, instead of nothing."""

Method = Callable[[Any, Call], Awaitable[Message]]
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
    around: Around = untouched,
) -> "grpc.GenericRpcHandler[Message, Message]":
    """Return what a gRPC server needs to serve the contract; `around` encloses each method."""
    handlers = {}
    for method in SERVICE.methods:
        edge = _Edge(
            method=method.name,
            scope=required_scope(method),
            slot=slot,
            authenticator=authenticator,
            metrics=metrics.method(SERVICE.full_name, method.name),
            audit=audit,
        )
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            around(edge.handle, SERVICE.full_name, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


@dataclass(frozen=True, slots=True)
class _Edge:
    """The layer around one method."""

    method: str
    scope: str
    slot: ServicerSlot
    authenticator: Authenticator
    metrics: MethodMetrics
    audit: AuditLog

    async def handle(self, request: Message, context: Context) -> Message:
        """Carry out a call; whatever is raised leaves as an error of the contract."""
        started = time.perf_counter()
        self.metrics.call_started()
        authorization, correlation_id = _metadata(context)
        context.set_trailing_metadata(((_CORRELATION_ID, correlation_id),))
        bind_contextvars(correlation_id=correlation_id)
        caller: Caller | None = None
        refusal: RpcError | None = None
        code = "CANCELLED"
        try:
            caller = self.authenticator.authenticate(authorization, self.scope)
            remaining: float | None = context.time_remaining()
            timeout = None if remaining is None else max(0.0, remaining - _ANSWER_MARGIN_SECONDS)
            method = self.slot.method(self.method)
            response = await method(request, Call(caller, correlation_id, timeout))
            code = "OK"
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost layer says everything in its terms
            refusal = as_rpc_error(error, correlation_id)
            code = refusal.code.name
            if code == "INTERNAL":
                _log.exception("failed", method=self.method, correlation_id=correlation_id)
        finally:
            seconds = time.perf_counter() - started
            self.metrics.call_handled(code, seconds)
            self.audit.put(
                AuditEntry(
                    time_ms=time.time_ns() // 1_000_000,
                    method=self.method,
                    caller=caller.name if caller else "",
                    peer=context.peer(),
                    customer_id=getattr(request, "customer_id", "")[:_MAX_AUDITED_ID],
                    order_id=getattr(request, "order_id", "")[:_MAX_AUDITED_ID],
                    code=code,
                    reason=refusal.reason if refusal else "",
                    correlation_id=correlation_id,
                    duration_us=round(seconds * 1_000_000),
                )
            )
        if refusal is not None:
            _log.info(
                "refused",
                method=self.method,
                caller=caller.name if caller else None,
                code=code,
                reason=refusal.reason,
                correlation_id=correlation_id,
            )
            await context.abort(
                refusal.code,
                refusal.message,
                (
                    (_CORRELATION_ID, correlation_id),
                    (_STATUS_DETAILS, refusal.status().SerializeToString()),
                ),
            )
        return response


def _metadata(context: Context) -> tuple[str | None, str]:
    """Return the call's `authorization`, and its correlation id: the caller's, or a new one."""
    authorization: str | None = None
    correlation_id = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            authorization = value
        elif key == _CORRELATION_ID and isinstance(value, str):
            correlation_id = value[:_MAX_CORRELATION_ID]
    return authorization, correlation_id or secrets.token_hex(8)
