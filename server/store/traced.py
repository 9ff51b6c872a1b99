"""Spans of database commands: their names and how they ended; what they say is in none of them."""

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from server.tracing import Tracing, fail_span


class TracedCommands(CommandListener):
    """Makes a span of each command that is sent within another span."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracer = tracing.tracer
        self._spans: dict[int, Span] = {}

    def started(self, event: CommandStartedEvent) -> None:
        """Begin a span, where something is being traced."""
        if not trace.get_current_span().is_recording():
            return
        name = event.command_name
        collection = event.command.get(name)
        attributes = {"db.system.name": "mongodb", "db.operation.name": name}
        if isinstance(collection, str):
            attributes["db.collection.name"] = collection
        self._spans[event.request_id] = self._tracer.start_span(
            f"{name} {collection}" if isinstance(collection, str) else name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
        )

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """End its span."""
        if span := self._spans.pop(event.request_id, None):
            span.end()

    def failed(self, event: CommandFailedEvent) -> None:
        """End its span as one that failed."""
        if span := self._spans.pop(event.request_id, None):
            fail_span(span, str(event.failure.get("codeName", "NoAnswer")))
            span.end()
