"""The processes of a run: started and ended here, and asked what they used (Linux only)."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent

_END_SECONDS: Final = 20.0
_LONGEST_LINE_BYTES: Final = 2**24
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
_FORGET_PEAK: Final = "5"


class ProgramEnded(Exception):
    """A process of the benchmark ended before its time."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program that speaks in lines of JSON."""

    name: str
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    async def ask(self, message: Any) -> dict[str, Any]:
        """Send a line and return the line that comes back.

        Raises:
            ProgramEnded.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        return await self.read()

    async def read(self) -> dict[str, Any]:
        """Return the next line.

        Raises:
            ProgramEnded.
        """
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise ProgramEnded(f"{self.name} ended; what it said of it stands above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def running_program(
    file: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Run a program of this folder."""
    name = " ".join((file, *arguments[:1]))
    command = (sys.executable, str(FOLDER / file), *arguments)
    async with running_command(name, *command, environment=environment) as program:
        yield program


@asynccontextmanager
async def running_command(
    name: str,
    *command: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> AsyncIterator[Program]:
    """Run a command that ends with its standard input, also when this process dies.

    It gets a session of its own, so that Ctrl-C reaches this process only, which then ends it.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE_BYTES,
        start_new_session=True,
    )
    try:
        yield Program(name, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def with_children(pid: int) -> tuple[int, ...]:
    """Return a process and all that it has started.

    Raises:
        ProgramEnded.
    """
    children = _proc(pid, f"task/{pid}/children").split()
    return (pid, *(found for child in children for found in with_children(int(child))))


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used so far, in user and system mode, all threads.

    Raises:
        ProgramEnded.
    """
    fields = [_proc(pid, "stat").rpartition(")")[2].split() for pid in pids]
    ticks = sum(int(field[_USER_TICKS]) + int(field[_SYSTEM_TICKS]) for field in fields)
    return ticks / _TICKS_A_SECOND


def peak_mebibytes(pids: Iterable[int]) -> float:
    """Return the most memory that each process has had resident since `forget_peak`, together.

    Raises:
        ProgramEnded.
    """
    return sum(_mebibytes(pid, "VmHWM") for pid in pids)


def resident_mebibytes(pids: Iterable[int]) -> float:
    """Return the memory that processes have resident now.

    Raises:
        ProgramEnded.
    """
    return sum(_mebibytes(pid, "VmRSS") for pid in pids)


def forget_peak(pids: Iterable[int]) -> None:
    """Start the peak of each process's memory anew; where the kernel forbids it, it goes on."""
    for pid in pids:
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK, "ascii")


def _mebibytes(pid: int, field: str) -> float:
    for line in _proc(pid, "status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1_024
    return 0.0


def _proc(pid: int, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        raise ProgramEnded(f"Process {pid} ended; what it said of it stands above.") from None
