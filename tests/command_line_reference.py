"""Every command: `docs/reference/command-line.md` is written here from the commands' own help.

.venv/bin/python tests/command_line_reference.py
"""

import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Final

import click

from server.cli.loading import Unloaded
from server.cli.main import cli

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
PROGRAM: Final = "wallet-payment"
_TOLD_DEFAULT: Final = re.compile(r" *\[default: (.*)\]$")
"""A default that the help text tells itself."""


def commands() -> dict[str, click.Command]:
    """Return every command that the help shows, by how it is called."""
    return dict(_commands(PROGRAM, cli))


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, Unloaded):
        command = command.load()
    if not isinstance(command, click.Group):
        yield name, command
        return
    for part, inner in command.commands.items():
        if not inner.hidden:
            yield from _commands(f"{name} {part}", inner)


def page() -> str:
    """Return the whole page."""
    parts = [_part(name, command) for name, command in sorted(commands().items())]
    return _TEXT + "\n".join(parts)


def _part(name: str, command: click.Command) -> str:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    text = f"## {name}\n\n    {usage}\n\n{_prose(command.help or '')}\n"
    if not options:
        return text
    lines = ["| option | what it does | default |", "| --- | --- | --- |"]
    lines += [f"| {_names(one)} | {_help(one)} | {_default(one)} |" for one in options]
    return text + "\n" + "\n".join(lines) + "\n"


def _argument(argument: click.Argument) -> str:
    name = (argument.name or "").upper()
    repeated = f"{name}..." if argument.nargs == -1 else name
    return repeated if argument.required else f"[{repeated}]"


def _prose(text: str) -> str:
    """Return a help text as Markdown; click's sign for lines to be kept as they are goes."""
    return cleandoc(text).replace("\b\n", "")


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    value = option.metavar or option.type.name.upper().removesuffix(" RANGE")
    if isinstance(option.type, click.Choice):
        value = " or ".join(str(choice) for choice in option.type.choices)
    return f"{names} {value}"


def _help(option: click.Option) -> str:
    told = _TOLD_DEFAULT.sub("", option.help or "").replace("|", r"\|")
    if isinstance(option.type, click.IntRange):
        told += f" From {option.type.min} to {option.type.max}."
    if option.required:
        told += " Required."
    if option.multiple and "repeated" not in told:
        told += " May be repeated."
    return told.strip()


def _default(option: click.Option) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if told := _TOLD_DEFAULT.search(option.help or ""):
        return told[1]
    is_told = isinstance(option.default, str | int | float) and not option.is_flag
    return f"`{option.default}`" if is_told and option.default != "" else ""


_TEXT: Final = """\
# Every command

Written by `tests/command_line_reference.py` from the commands' own help; a test fails where this
page says something else. How to use them:
[the operator's command line](../operation/command-line.md).

Settings are environment variables: [settings](settings.md). `--help` tells the same as this page.
Exit status 2 is a command that was wrong, or that could not do its work; the message says what to
do.

"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
