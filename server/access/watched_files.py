"""Files that are read again when they change; what cannot be used leaves the last good in force."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import structlog

from server.told import ToldInWords

MAX_FILE_BYTES: Final = 8 * 1024 * 1024

Contents = tuple[bytes, ...]
_Parsed = TypeVar("_Parsed")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("access")


class Unusable(ToldInWords):
    """What was read cannot be used; the message says why and shows nothing of it."""


class RenewalObserver(Protocol):
    """Takes note of what was renewed, and of what could not be: the alarm."""

    def renewed(self, what: str) -> None:
        """Note that `what` is in use as it was read last."""

    def renewal_failed(self, what: str) -> None:
        """Note that `what` could not be used as it was read last."""


class WatchedFiles:
    """Looks at files again and again. Use it as an async context manager."""

    def __init__(self, interval_seconds: float, observer: RenewalObserver) -> None:
        self._interval_seconds = interval_seconds
        self._observer = observer
        self._watched: list[_Watched] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="watched-files")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def watch(
        self,
        what: str,
        paths: Sequence[str | Path],
        parse: Callable[[Contents], _Parsed],
        accept: Callable[[_Parsed], None],
    ) -> None:
        """Read the files now, together, and again whenever one changes.

        `parse` runs beside the event loop and raises Unusable; `accept` runs on it.

        Raises:
            Unusable: they cannot be used now.
        """
        watched = _Watched(what, tuple(map(Path, paths)), parse, accept)
        contents = read_files(watched.paths)
        accept(parse(contents))
        watched.contents = contents
        self._watched.append(watched)
        self._observer.renewed(what)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            for watched in self._watched:
                await self._look_at(watched)

    async def _look_at(self, watched: "_Watched") -> None:
        """Take over what has changed; what failed is tried again, and told once."""
        try:
            contents = await asyncio.to_thread(read_files, watched.paths)
            if contents == watched.contents and not watched.problem:
                return
            watched.accept(await asyncio.to_thread(watched.parse, contents))
        except Unusable as error:
            self._note_failure(watched, str(error))
            return
        except Exception as error:  # noqa: BLE001 - the other files are looked at nevertheless
            self._note_failure(watched, f"unforeseen, {type(error).__name__}")
            return
        watched.contents, watched.problem = contents, ""
        _log.info("renewed", what=watched.what)
        self._observer.renewed(watched.what)

    def _note_failure(self, watched: "_Watched", problem: str) -> None:
        if problem != watched.problem:
            _log.error("not renewed", what=watched.what, cause=problem)
            self._observer.renewal_failed(watched.what)
        watched.problem = problem


@dataclass(slots=True)
class _Watched:
    what: str
    paths: tuple[Path, ...]
    parse: Callable[[Contents], Any]
    accept: Callable[[Any], None]
    contents: Contents = ()
    """As they are in use."""
    problem: str = ""
    """Why what came after them is not."""


def read_files(paths: Sequence[Path]) -> Contents:
    """Return what is in the files.

    Raises:
        Unusable: one cannot be read, or is too long.
    """
    contents = []
    for path in paths:
        try:
            with path.open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
        except OSError:
            raise Unusable(f"{path} cannot be read") from None
        if len(content) > MAX_FILE_BYTES:
            raise Unusable(f"{path} is longer than {MAX_FILE_BYTES} bytes")
        contents.append(content)
    return tuple(contents)
