"""Carries out each command in the worker that owns its customer.

Nothing depends on that for correctness: every write is guarded in the database, so that a command
whose owner cannot be reached is carried out right here. It keeps workers from writing to the same
wallet at the same time, where all but one of them would have to begin anew.
"""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from server.commit.committer import Committer
from server.commit.errors import CommitError, Unavailable
from server.ledger.commands import Command
from server.ledger.decisions import Reply
from server.workers.frames import Outcome, frame_of, outcome_of, read_frame, reply_of
from server.workers.place import Place

_RECONNECT_SECONDS: Final = 0.1
_ANSWER_MARGIN_SECONDS: Final = 1.0
"""So much longer than the owner may take is waited for its answer."""
_DRAIN_SECONDS: Final = 2.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("workers")


class SharedCommitter:
    """Submits to the owner of each command, and takes the others' commands for what is owned here.

    Use it as an async context manager, inside that of the committer.
    """

    def __init__(self, committer: Committer, place: Place) -> None:
        self._committer = committer
        self._place = place
        self._links = {
            index: _Link(place.command_socket(index), committer.budget_seconds)
            for index in place.others
        }
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen to the others, and begin to look for them."""
        path = self._place.command_socket(self._place.index)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path)
        for link in self._links.values():
            link.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more of the others' commands, and answer those that were taken."""
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            await link.close()
        if self._running:
            await asyncio.wait(self._running, timeout=_DRAIN_SECONDS)
        for writer in self._writers:
            writer.close()

    async def submit(self, command: Command, timeout_seconds: float | None = None) -> Reply:
        """Carry out `command` where it belongs; see Committer."""
        link = self._links.get(self._place.owner_of(command))
        if link is None or not link.is_connected:
            return await self._committer.submit(command, timeout_seconds)
        return await link.submit(command, timeout_seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the commands of one other worker until it goes away."""
        self._writers.add(writer)
        frames = _Frames(writer)
        try:
            while True:
                number, command, timeout_seconds = await read_frame(reader)
                task = asyncio.create_task(self._answer(frames, number, command, timeout_seconds))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, frames: "_Frames", number: int, command: Command, timeout_seconds: float | None
    ) -> None:
        outcome: Outcome
        try:
            outcome = await self._committer.submit(command, timeout_seconds)
        except CommitError as error:
            outcome = outcome_of(error)
        frames.send((number, outcome))


class _Link:
    """The way to one other worker, found again whenever it is lost."""

    def __init__(self, path: Path, budget_seconds: float) -> None:
        self._path = path
        self._budget_seconds = budget_seconds
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._frames: _Frames | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the other one can be asked now."""
        return self._frames is not None

    def start(self) -> None:
        """Begin to look for the other one."""
        self._task = asyncio.create_task(self._run(), name=f"link-{self._path.name}")

    async def close(self) -> None:
        """Let go; who still waits is told that nobody knows."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def submit(self, command: Command, timeout_seconds: float | None) -> Reply:
        """Have the other one carry out a command.

        Raises:
            CommitError.
        """
        if self._frames is None:
            raise Unavailable
        number = next(self._numbers)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = outcome
        self._frames.send((number, command, timeout_seconds))
        budget = self._budget_seconds if timeout_seconds is None else timeout_seconds
        try:
            async with asyncio.timeout(budget + _ANSWER_MARGIN_SECONDS):
                return reply_of(await outcome)
        except TimeoutError:
            raise Unavailable from None
        finally:
            self._waiting.pop(number, None)

    async def _run(self) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_unix_connection(self._path)
                try:
                    self._frames = _Frames(writer)
                    await self._read(reader)
                finally:
                    self._frames = None
                    writer.close()
                    self._tell_that_nobody_knows()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            number, outcome = await read_frame(reader)
            waiting = self._waiting.get(number)
            if waiting is not None and not waiting.done():
                waiting.set_result(outcome)

    def _tell_that_nobody_knows(self) -> None:
        """End all that wait: the other one may have carried out their commands, or not."""
        if self._waiting:
            _log.warning("a worker went away", waiting=len(self._waiting), link=self._path.name)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(Unavailable.__name__)


class _Frames:
    """Sends what comes up in one turn of the loop together."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._call_soon: Callable[..., Any] = asyncio.get_running_loop().call_soon
        self._frames: list[bytes] = []

    def send(self, content: Any) -> None:  # noqa: ANN401 - a tuple of records
        """Send a frame; one that the other end does not take any more is lost with it."""
        if not self._frames:
            self._call_soon(self._flush)
        self._frames.append(frame_of(content))

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if not self._writer.is_closing():
            self._writer.write(b"".join(frames))
