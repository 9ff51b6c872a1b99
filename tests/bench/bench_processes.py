"""The processes of a run: started and ended here, and asked what they used (Linux only)."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_END_SECONDS: Final = 20.0
_FOLDER: Final = Path(__file__).parent
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
_FORGET_PEAK: Final = "5"


class ProgramEnded(Exception):
    """A process of the benchmark ended before its time."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program of this folder that speaks in lines of JSON."""

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
async def running_program(file: str, *arguments: str) -> AsyncIterator[Program]:
    """Run a program of this folder; it ends with its standard input, also when this process dies.

    It gets a session of its own, so that Ctrl-C reaches this process only, which then ends it.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_FOLDER / file),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Program(" ".join((file, *arguments[:1])), process)
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


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far, in user and system mode, all threads.

    Raises:
        ProgramEnded.
    """
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_A_SECOND


def peak_mebibytes(pid: int) -> float:
    """Return the most memory that a process has had resident since `forget_peak`.

    Raises:
        ProgramEnded.
    """
    for line in _proc(pid, "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_024
    return 0.0


def forget_peak(pid: int) -> None:
    """Start the peak of a process's memory anew; where the kernel forbids it, it goes on."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK, "ascii")


def _proc(pid: int, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        raise ProgramEnded(f"Process {pid} ended; what it said of it stands above.") from None
