"""`wallet-payment` as a process of its own, or within the test's, which is quicker."""

import asyncio
import io
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from server.cli.main import main

BIN = Path(sys.executable).parent
"""Where the commands of the environment that runs the tests are."""
_NOTHING: Mapping[str, str] = {}


async def start(
    *arguments: str, environment: Mapping[str, str] = _NOTHING, **options: Any
) -> asyncio.subprocess.Process:
    """Start `wallet-payment` as a process of its own; `options` are of the subprocess."""
    return await asyncio.create_subprocess_exec(
        *(str(BIN / "wallet-payment"), *arguments),
        env={"PATH": os.environ["PATH"], **environment},
        **options,
    )


async def run(
    *arguments: str, environment: Mapping[str, str] = _NOTHING, status: int | None = 0
) -> tuple[str, str]:
    """Run `wallet-payment` as a process; return what it prints and what it complains.

    It has to end with `status`, unless that is None.
    """
    pipe = asyncio.subprocess.PIPE
    process = await start(*arguments, environment=environment, stdout=pipe, stderr=pipe)
    output, errors = (text.decode() for text in await process.communicate())
    assert status is None or process.returncode == status, errors + output
    assert "Traceback" not in errors
    return output, errors


async def run_in_process(
    *arguments: str, environment: dict[str, str], folder: Path, status: int = 0
) -> tuple[str, str]:
    """Run `wallet-payment` in a thread; return what it prints and what it complains.

    What the test's own threads log meanwhile is not the command's, though it sets up the logs.
    """
    ended_with, output, errors = await asyncio.to_thread(_run, arguments, environment, folder)
    assert ended_with == status, output + errors
    assert "Traceback" not in errors
    return output, errors


class _WrittenHere(io.StringIO):
    """Takes what the thread that made it writes; what others write goes on to standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return super().write(text)
        print(text, end="", file=sys.__stderr__)
        return len(text)


def _run(
    arguments: tuple[str, ...], environment: dict[str, str], folder: Path
) -> tuple[object, str, str]:
    output, errors = io.StringIO(), _WrittenHere()
    ended_with: object = 0
    with (
        redirect_stdout(output),
        redirect_stderr(errors),
        chdir(folder),
        patch.dict(os.environ, environment),
        patch("sys.argv", ["wallet-payment", *arguments]),
    ):
        try:
            main()
        except SystemExit as ended:
            ended_with = ended.code
    return ended_with, output.getvalue(), errors.getvalue()
