"""An event loop without a machine: time is a number, and a seed says who runs next.

It has what tasks, futures and timers need and nothing else: no socket, no thread, no clock.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Final

_MOST_CALLBACKS: Final = 2_000_000
"""A history that runs longer does not end by itself."""


@dataclass(slots=True, eq=False)
class Process:
    """What dies at once: after that nothing of it runs any more, not even a `finally`."""

    name: str
    is_killed: bool = False


PROCESS: Final[ContextVar[Process | None]] = ContextVar("process", default=None)
"""Whose code runs; tasks, callbacks and timers inherit it."""


class HistoryHangs(Exception):
    """Everybody waits, and nothing can come any more; or it goes on without end."""


class SimulatedLoop:
    """Runs tasks in virtual time; with `dice` the order of what is ready is drawn."""

    def __init__(self, dice: random.Random | None) -> None:
        self._dice = dice
        self._self: Any = self  # asyncio's types ask for sockets and signals, too
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._frozen: list[asyncio.Handle] = []
        """What killed processes would have run next."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._processes: list[Process] = []
        self.is_stopped = False
        """Set it to end `run` at once."""
        self.on_unhandled: Callable[[str], None] = lambda _: None
        """Is told what ended a task or a callback and reached nobody."""

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run until `main` is done or the loop is stopped; then end every task."""
        asyncio._set_running_loop(self._self)  # noqa: SLF001 - made for event loops
        try:
            task = self.create_task(main)
            self._run(lambda: self.is_stopped or task.done())
            if not self.is_stopped:
                task.result()
        finally:
            self._end_all()
            asyncio._set_running_loop(None)  # noqa: SLF001

    def time(self) -> float:
        """Return the seconds since the history began."""
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback at this moment of virtual time, among the others."""
        handle = asyncio.Handle(callback, args, self._self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback after so many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback at a moment of virtual time."""
        timer = asyncio.TimerHandle(when, callback, args, self._self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def process(self, name: str) -> tuple[Process, Context]:
        """Return a new process, and the context in which its first tasks have to be started."""
        process = Process(name)
        self._processes.append(process)
        context = copy_context()
        context.run(PROCESS.set, process)
        return process, context

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self._self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Start a task."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self._self, **options)
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        """Asyncio's debug mode is off."""
        return False

    def is_running(self) -> bool:
        """Tasks ask only while the loop runs."""
        return True

    def is_closed(self) -> bool:
        """There is nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell what nobody caught."""
        error = context.get("exception")
        self.on_unhandled(f"{context['message']}: {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave a cancelled timer where it is; it is passed over."""

    def _run(self, is_over: Callable[[], bool]) -> None:
        for _ in range(_MOST_CALLBACKS):
            if is_over():
                return
            if not self._ready and not self._advance():
                raise HistoryHangs("everybody waits for something that cannot come")
            handle = self._next()
            process: Process | None = handle._context.get(PROCESS)  # type: ignore[attr-defined]  # noqa: SLF001
            if process is not None and process.is_killed:
                self._frozen.append(handle)
            elif not handle.cancelled():
                handle._run()  # noqa: SLF001
        raise HistoryHangs(f"{_MOST_CALLBACKS} callbacks and no end")

    def _next(self) -> asyncio.Handle:
        if self._dice is None or len(self._ready) == 1:
            return self._ready.pop(0)
        place = int(self._dice.random() * len(self._ready))
        self._ready[place], self._ready[-1] = self._ready[-1], self._ready[place]
        return self._ready.pop()

    def _advance(self) -> bool:
        """Go forward to the next timers; return whether there are any."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            return False
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(self._timers)[2])
        return True

    def _end_all(self) -> None:
        """Cancel whatever still waits, the killed included, so that nothing is left behind."""
        for process in self._processes:
            process.is_killed = False
        self._ready += self._frozen
        while open_tasks := [task for task in self._tasks if not task.done()]:
            for task in open_tasks:
                task.cancel()
            self._run(lambda: all(task.done() for task in open_tasks))
