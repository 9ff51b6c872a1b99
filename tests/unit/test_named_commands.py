"""What documents, manifests and messages name can be typed: commands, options, make targets."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from command_line_reference import commands
from server.cli.loading import Unloaded
from server.cli.main import cli

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = "wallet-payment"
TEXTS: Final = sorted(
    file
    for pattern in ("*.md", "docs/**/*.md", "clients/**/*.md", "deploy/**/*", "server/**/*.py")
    for file in ROOT.glob(pattern)
    if file.is_file() and "node_modules" not in file.parts and "__pycache__" not in file.parts
)
_INLINE: Final = re.compile(r"`([^`\n]+)`")
_PASTED: Final = re.compile(r"^```(bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TYPED: Final = re.compile(
    r"(?:^|[(|;&!] *|=\S* |\b(?:until|exec server) )(wallet-payment|make)((?: +[^\s|;&)#]+)*)"
)
"""A program where a command begins: not within a text, and not as another one's argument."""
_WORD: Final = re.compile(r"[a-z][a-z-]*")
_PROCESSES: Final = {"up", "serve", "sidecar", "demo"}
"""Commands that run and answer nothing."""


def typed_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """Go through what a text would have somebody type: the program, and its words."""
    lines = [*_INLINE.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))]
    lines += [
        line.removeprefix("$ ")
        for language, block in _PASTED.findall(text)
        for line in block.splitlines()
        if language == "bash" or line.startswith("$ ")
    ]
    for line in lines:
        for program, rest in _TYPED.findall(line):
            yield program, rest.split()


def problem_of(words: list[str]) -> str:
    """Say what is wrong with the words after `wallet-payment`; empty where nothing is."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and _WORD.fullmatch(words[0]):
        inner = command.commands.get(words[0])
        if inner is None:
            return f"there is no command {words[0]}"
        command, words = inner.load() if isinstance(inner, Unloaded) else inner, words[1:]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    given = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    return f"{command.name} has no {', '.join(sorted(given - known))}" if given - known else ""


def targets() -> set[str]:
    """Return what `make` can be asked for."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_whatever_is_named_can_be_typed(file: Path) -> None:
    """Each command has its options, and each target is in the Makefile."""
    for program, words in typed_in(file.read_text("utf-8")):
        if program == PROGRAM:
            assert problem_of(words) == "", f"{PROGRAM} {' '.join(words)}"
        elif words and _WORD.fullmatch(words[0]):
            assert words[0] in targets(), f"make {words[0]}"


def test_what_cannot_be_typed_would_be_found() -> None:
    """A command, an option or a target that there is not is told, so that the above can fail."""
    text = "`wallet-payment books verfy`\n```bash\nmake nothing\n```\n```\nmake ignored\n```\n"

    assert [*typed_in(text)] == [(PROGRAM, ["books", "verfy"]), ("make", ["nothing"])]
    assert problem_of(["books", "verfy"]) == "there is no command verfy"
    assert problem_of(["books", "verify", "--jason"]) == "verify has no --jason"
    assert problem_of(["books", "verify", "--json"]) == ""
    assert "nothing" not in targets()


def test_every_command_that_answers_takes_json() -> None:
    """A program can read what each of them says."""
    without = {
        name.removeprefix(f"{PROGRAM} ")
        for name, command in commands().items()
        if "--json" not in {option for parameter in command.params for option in parameter.opts}
    }
    assert without == _PROCESSES
