"""`wallet-payment` run within the test's process: quick, and with nothing but what it is given."""

import asyncio
import io
import os
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from server.cli.main import main


async def run_in_process(
    *arguments: str, environment: dict[str, str], folder: Path, status: int = 0
) -> tuple[str, str]:
    """Run `wallet-payment` in a thread; return what it prints and what it complains."""
    ended_with, output, errors = await asyncio.to_thread(_run, arguments, environment, folder)
    assert ended_with == status, output + errors
    assert "Traceback" not in errors
    return output, errors


def _run(
    arguments: tuple[str, ...], environment: dict[str, str], folder: Path
) -> tuple[object, str, str]:
    output, errors = io.StringIO(), io.StringIO()
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
