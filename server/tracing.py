"""Traces by OpenTelemetry: a span for each call, batch, database command and outbound request.

This module is loaded only where tracing is switched on: it needs the extra `tracing`. Spans hold
names, codes and times; what was sent, asked for or answered is in none of them.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import aiohttp
import structlog
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

_CLOSE_SECONDS: Final = 2.0
_MAX_LINKS: Final = 128
"""More calls than this a batch is not linked to: a link costs as much as a span's attribute."""


class Tracing:
    """Makes the spans; it is handed to whoever has something to tell."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self.tracer = tracer

    def call(
        self, service: str, method: str, metadata: Mapping[str, str]
    ) -> AbstractContextManager[Span]:
        """Trace a call to this server, as a part of the caller's trace where it names one."""
        return self.tracer.start_as_current_span(
            f"{service}/{method}",
            context=propagate.extract(metadata),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
            record_exception=False,
            set_status_on_exception=False,
        )

    def origin(self) -> SpanContext | None:
        """Return what names the span of this moment; None where nothing is recorded."""
        span = trace.get_current_span()
        return span.get_span_context() if span.is_recording() else None

    def batch(self, origins: Sequence[object]) -> AbstractContextManager[object]:
        """Trace one attempt at a batch that has commands of calls that are traced.

        It stands in the trace of the first of them, and is linked to all others.
        """
        calls = [origin for origin in origins if isinstance(origin, SpanContext)]
        if not calls:
            return nullcontext()
        return self.tracer.start_as_current_span(
            "commit batch",
            context=trace.set_span_in_context(trace.NonRecordingSpan(calls[0])),
            links=[Link(origin) for origin in calls[1:_MAX_LINKS]],
            attributes={"wallet.batch.size": len(origins)},
            record_exception=False,
        )

    @contextmanager
    def webhook(self, gateway: str) -> Iterator[tuple[tuple[str, str], ...]]:
        """Trace a webhook at the sidecar; give the metadata that has the server go on with it."""
        with self.tracer.start_as_current_span(
            "POST /webhooks", kind=SpanKind.SERVER, attributes={"wallet.gateway": gateway}
        ):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            yield tuple(carrier.items())

    def outbound(self) -> aiohttp.TraceConfig:
        """Return what traces the requests of a session. Nobody outside is told of the trace."""
        config = aiohttp.TraceConfig()

        async def start(_: object, context: Any, sent: aiohttp.TraceRequestStartParams) -> None:  # noqa: ANN401
            context.span = self.tracer.start_span(
                f"{sent.method} {sent.url.host}",
                kind=SpanKind.CLIENT,
                attributes={
                    "http.request.method": sent.method,
                    "server.address": sent.url.host or "",
                },
            )

        async def end(_: object, context: Any, got: aiohttp.TraceRequestEndParams) -> None:  # noqa: ANN401
            context.span.set_attribute("http.response.status_code", got.response.status)
            context.span.end()

        async def fail(_: object, context: Any, got: aiohttp.TraceRequestExceptionParams) -> None:  # noqa: ANN401
            fail_span(context.span, type(got.exception).__name__)
            context.span.end()

        config.on_request_start.append(start)
        config.on_request_end.append(end)
        config.on_request_exception.append(fail)
        return config


def fail_span(span: Span, error_type: str) -> None:
    """Note that what a span is about went wrong, by the kind of error alone."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, error_type))


@contextmanager
def running_tracing(endpoint: str, share: float, service_name: str) -> Iterator[Tracing]:
    """Send spans to a collector as long as the context lasts.

    `share` of the traces that begin here are recorded; callers decide about theirs.
    """
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource.create({"service.name": service_name}),
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Tracing(provider.get_tracer("wallet-payment"))
    finally:
        # What is left is sent, unless nobody takes it: a collector that hangs holds up nothing.
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def add_trace_ids(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Add to a line of log which span it was written in, if any."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event
