"""The release before this one, taken from the repository's history, to be run beside it."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from running_up import ROOT

WITHOUT_A_TAG: Final = "1395daef45f8a0bd3c05364b07168d905f08cb3a"
"""What counts as the release before, as long as none has a tag `v...`."""


def previous_release(folder: Path) -> str:
    """Lay the last release into a folder, with its stubs; return its PYTHONPATH."""
    revision = _previous_revision()
    if subprocess.run(_git("cat-file", "-e", f"{revision}^{{commit}}"), check=False).returncode:
        pytest.skip(f"there is no history here that has the release before, {revision}")
    archive = folder / "release.tar"
    names = ("protos", "server", "gateway_adapters", "hatch_build.py")
    subprocess.run(_git("archive", "--output", str(archive), revision, *names), check=True)
    source = folder / "release"
    source.mkdir()
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", source], check=True)
    generate = "import pathlib, hatch_build; hatch_build.generate(pathlib.Path.cwd())"
    subprocess.run([sys.executable, "-c", generate], cwd=source, check=True)
    return f"{source}:{source / 'build' / 'stubs'}"


def _previous_revision() -> str:
    """Return the last tag of a release before this commit, or what stands for one."""
    found = subprocess.run(
        _git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^"),
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or WITHOUT_A_TAG


def _git(*arguments: str) -> list[str]:
    return ["git", "-C", str(ROOT), *arguments]
