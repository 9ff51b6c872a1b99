"""Structured logs on standard error: lines of JSON, or coloured text in a terminal."""

import logging
import sys
from contextlib import suppress

import structlog

from server.config import Settings


def configure_logs(settings: Settings) -> None:
    """Send the logs of the service and of its libraries through one format."""
    is_console = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
    if is_console:
        # Not the default, which prints local variables too: they may hold secrets.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=plain)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.otlp_endpoint:
        with suppress(ModuleNotFoundError):  # which whoever starts the tracing tells
            from server.tracing import add_trace_ids  # noqa: PLC0415 - an extra, and slow to load

            shared.append(add_trace_ids)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    after: list[structlog.types.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta
    ]
    if not is_console:
        after.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*after, renderer])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in ("pymongo", "aiohttp", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
