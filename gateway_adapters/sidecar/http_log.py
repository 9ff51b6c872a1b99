"""What the HTTP server has to say of the sidecar's requests, as far as anybody can make it say so.

A head that is no HTTP costs its sender some bytes. A trace for each would fill a disk, with text of
the sender's choice.
"""

import logging
import time
from typing import Final

import structlog
from aiohttp.http_exceptions import HttpProcessingError

_LOG_SECONDS: Final = 10.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("sidecar")


class HttpLog(logging.LoggerAdapter[logging.Logger]):
    """The HTTP server's log, in which malformed requests are counted and not shown."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("sidecar.http"))
        self._malformed = 0
        self._log_at = 0.0

    def exception(
        self, msg: object, *args: object, exc_info: object = True, **options: object
    ) -> None:
        """Log what went wrong, with its trace unless the sender alone is to blame."""
        if not isinstance(exc_info, HttpProcessingError):
            super().exception(msg, *args, exc_info=exc_info, **options)  # type: ignore[arg-type] # as they came
            return
        self._malformed += 1
        now = time.monotonic()
        if now >= self._log_at:
            _log.warning("malformed_requests", requests=self._malformed)
            self._malformed = 0
            self._log_at = now + _LOG_SECONDS
