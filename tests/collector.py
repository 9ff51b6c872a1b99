"""A collector of traces on a real socket: it keeps what OpenTelemetry's exporter sends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

from harness import Harness, running_harness, unique, with_database

_EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """Ids of the spans that it is linked to."""
    is_error: bool


@dataclass
class Collector:
    """What came so far."""

    endpoint: str
    spans: list[Seen] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """Everything that came, as it came."""

    def named(self, *parts: str) -> list[Seen]:
        """Return the spans whose names have all of these parts."""
        return [span for span in self.spans if all(part in span.name for part in parts)]

    def of_trace(self, trace_id: str) -> list[Seen]:
        """Return the spans of a trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def take(self, request: traces.ExportTraceServiceRequest) -> None:
        """Keep what an exporter sends."""
        self.raw.append(request.SerializeToString())
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_seen(span, names["service.name"]) for span in scope.spans]


def _seen(span: Any, service: str) -> Seen:
    return Seen(
        name=span.name,
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes={
            one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes
        },
        links=tuple(link.span_id.hex() for link in span.links),
        is_error=span.status.code == 2,
    )


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """Take traces as long as the context lasts."""
    server = grpc.aio.server()
    collector = Collector("")

    async def export(request: traces.ExportTraceServiceRequest, _: Any) -> Any:
        collector.take(request)
        return traces.ExportTraceServiceResponse()

    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=traces.ExportTraceServiceRequest.FromString,
        response_serializer=traces.ExportTraceServiceResponse.SerializeToString,
    )
    handler: Any = grpc.method_handlers_generic_handler(_EXPORT, {"Export": method})
    server.add_generic_rpc_handlers((handler,))
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)


@asynccontextmanager
async def running_traced(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch, **given: Any
) -> AsyncIterator[tuple[Harness, Collector]]:
    """Run a service that traces everything, on a database of its own, and its collector."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    uri = with_database(mongodb_uri, unique("traced"))
    async with (
        running_collector() as collector,
        running_harness(uri, otlp_endpoint=collector.endpoint, trace_share=1.0, **given) as harness,
    ):
        yield harness, collector
