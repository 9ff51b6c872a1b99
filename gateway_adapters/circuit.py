"""A circuit: who does not answer is left alone for a while, so that nobody waits in vain."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

FAILURES_TO_OPEN: Final = 5
FIRST_COOLING_SECONDS: Final = 10.0
LONGEST_COOLING_SECONDS: Final = 60.0
_PROBE_SECONDS: Final = 1.0
"""While one call tries whether it works again, the others are told to come back so soon."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("circuit")


class CircuitOpen(Exception):
    """No call is made just now."""

    def __init__(self, remaining_seconds: float) -> None:
        super().__init__(f"The circuit is open for another {remaining_seconds:.1f} s.")
        self.remaining_seconds = remaining_seconds


class Circuit:
    """Opens after failures in a row; once it has cooled, lets one call through to probe.

    A probe that succeeds closes it; one that fails opens it again, for twice the time up to a
    bound. Calls that began before it opened say nothing about the time after.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only go forward; `name` is what is at the other end."""
        self._name = name
        self._clock = clock
        self._failures = 0
        self._cooling_seconds = FIRST_COOLING_SECONDS
        self._open_until: float | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused or only probed."""
        return self._open_until is not None

    @contextmanager
    def guarding(self, failure: type[Exception]) -> Iterator[None]:
        """Let a call through, and learn from it: raising `failure` is a failure.

        Any other error is an answer. A call that is cancelled says nothing.

        Raises:
            CircuitOpen: no call is made just now.
        """
        is_probe = self._enter()
        try:
            yield
        except failure:
            self._note_failure(is_probe=is_probe)
            raise
        except Exception:
            self._note_success(is_probe=is_probe)
            raise
        else:
            self._note_success(is_probe=is_probe)
        finally:
            if is_probe:
                self._is_probing = False

    def _enter(self) -> bool:
        """Admit a call, and tell whether it is the probe."""
        if self._open_until is None:
            return False
        remaining = self._open_until - self._clock()
        if remaining > 0:
            raise CircuitOpen(remaining)
        if self._is_probing:
            raise CircuitOpen(_PROBE_SECONDS)
        self._is_probing = True
        return True

    def _note_failure(self, *, is_probe: bool) -> None:
        if is_probe:
            self._cooling_seconds = min(2 * self._cooling_seconds, LONGEST_COOLING_SECONDS)
        elif self._open_until is None:
            self._failures += 1
            if self._failures < FAILURES_TO_OPEN:
                return
            self._cooling_seconds = FIRST_COOLING_SECONDS
        else:
            return
        self._open_until = self._clock() + self._cooling_seconds
        _log.warning(
            "circuit opened", gateway=self._name, cooling_seconds=int(self._cooling_seconds)
        )

    def _note_success(self, *, is_probe: bool) -> None:
        if self._open_until is not None:
            if not is_probe:
                return
            _log.info("circuit closed", gateway=self._name)
        self._failures = 0
        self._open_until = None
