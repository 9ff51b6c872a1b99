"""Whether this process traces: without the setting, nothing of OpenTelemetry is even loaded."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from server.config import Settings, SettingsError

if TYPE_CHECKING:
    from server.tracing import Tracing


def tracing_of(settings: Settings, service_name: str) -> "AbstractContextManager[Tracing | None]":
    """Return the tracing that is asked for, or none.

    Raises:
        SettingsError: the extra is not installed.
    """
    if not settings.otlp_endpoint:
        return nullcontext()
    try:
        from server.tracing import running_tracing  # noqa: PLC0415 - an extra, and slow to load
    except ModuleNotFoundError:
        raise SettingsError(
            "WALLET_OTLP_ENDPOINT: tracing is an extra: install wallet-payment[tracing]."
        ) from None
    return running_tracing(settings.otlp_endpoint, settings.trace_share, service_name)
