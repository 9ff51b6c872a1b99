"""Benchmarks as `make` runs them, but short: for tests, to which it is all one how fast it is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bench_processes import FOLDER

SHORT: Final = ("--seconds", "0.3", "--rounds", "1", "--warmup", "0.1", "--starts", "1")


def run(*arguments: str, program: Path = FOLDER) -> str:
    """Run a benchmark to its good end as `make` does; return what it prints."""
    environment = os.environ | {
        "PYTHONPATH": str(FOLDER.parent),
        "npm_config_fetch_retries": "0",  # without a network, medici is soon absent
    }
    command = (sys.executable, str(program), *arguments)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def figures_in(file: Path) -> dict[str, Any]:
    """Read the figures that a run has left."""
    figures: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return figures
