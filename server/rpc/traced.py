"""The span around a call: it ends as the call does, with the reason of the contract."""

import asyncio
from typing import Any, Final

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from opentelemetry.trace import Span

from server.rpc.edge import Handle
from server.tracing import Tracing, fail_span

_STATUS_DETAILS: Final = "grpc-status-details-bin"
_STATUS_CODE: Final = "rpc.grpc.status_code"
_CORRELATION_ID: Final = "x-correlation-id"
_FAULTS_OF_OURS: Final = frozenset(
    {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "DATA_LOSS"}
)
"""Any other code is an answer, and no error of the span."""


def traced(handle: Handle, service: str, method: str, tracing: Tracing) -> Handle:
    """Put a span around the handling of a method."""

    async def handle_traced(request: Any, context: Any) -> Any:  # noqa: ANN401 - as gRPC has it
        # Not `tracestate`: a text of the caller's choosing, which the collector would be sent.
        metadata = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if key == "traceparent" and isinstance(value, str)
        }
        with tracing.call(service, method, metadata) as span:
            try:
                response = await handle(request, context)
            except asyncio.CancelledError:
                span.set_attribute(_STATUS_CODE, grpc.StatusCode.CANCELLED.value[0])
                raise
            except BaseException:
                _note_end(span, context)
                raise
            _note_end(span, context)
        return response

    return handle_traced


def _note_end(span: Span, context: Any) -> None:  # noqa: ANN401 - as gRPC has it
    """Note the status code, and of a refusal what its ErrorInfo says."""
    if not span.is_recording():
        return
    code = context.code() or grpc.StatusCode.OK
    if isinstance(code, int):
        code = next(one for one in grpc.StatusCode if one.value[0] == code)
    span.set_attribute(_STATUS_CODE, code.value[0])
    trailing = dict(context.trailing_metadata() or ())
    span.set_attribute("wallet.correlation_id", trailing.get(_CORRELATION_ID, ""))
    info = ErrorInfo()
    for detail in Status.FromString(trailing.get(_STATUS_DETAILS, b"")).details:
        detail.Unpack(info)
    if info.reason:
        span.set_attribute("error.reason", info.reason)
        span.set_attribute("error.domain", info.domain)
    if code.name in _FAULTS_OF_OURS:
        fail_span(span, info.reason or code.name)
