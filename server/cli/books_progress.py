"""How far a long command is: a bar on a terminal, otherwise a line now and then."""

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

import click

_LINE_SECONDS: Final = 10.0


class Progress:
    """Shows on standard error how many of about `total` records are passed, if it `is_shown`."""

    def __init__(self, total: int, passed: int, *, is_shown: bool, label: str = "proving") -> None:
        self._total = total
        self._passed = passed
        self._is_shown = is_shown
        self._is_bar = is_shown and sys.stderr.isatty()
        self._resources = ExitStack()
        self._bar = click.progressbar(
            length=total, label=label, file=sys.stderr, hidden=not self._is_bar
        )
        self._line_time = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to show."""
        self._resources.enter_context(self._bar)
        self._bar.update(self._passed)
        if self._is_shown and not self._is_bar:
            self._say()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Bring the bar to its end, or leave it where it was broken off."""
        if error is None:
            self._bar.update(self._total - self._passed)
        self._resources.close()

    def reach(self, passed: int) -> None:
        """Show that so many records are passed."""
        self._bar.update(passed - self._passed)
        self._passed = passed
        is_due = time.monotonic() - self._line_time >= _LINE_SECONDS
        if self._is_shown and not self._is_bar and is_due:
            self._say()

    def make_room(self) -> None:
        """Have what is printed next begin on a line of its own."""
        if self._is_bar:
            click.echo("\r\x1b[K", err=True, nl=False)

    def _say(self) -> None:
        self._line_time = time.monotonic()
        click.echo(f"{self._passed} of about {self._total} records", err=True)
