"""Commands that are loaded once they are called."""

import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from server.cli.loading import Unloaded
from server.cli.main import cli

COMMANDS = [command for command in cli.commands.values() if isinstance(command, Unloaded)]
HEAVY = ("grpc", "aiohttp", "motor", "pydantic", "cryptography", "server.config")


def completed(*arguments: str) -> dict[str, str | None]:
    """Return what a shell offers after these arguments, with the help to each."""
    *before, last = arguments
    found = ShellComplete(cli, {}, "wallet-payment", "_COMPLETE").get_completions(before, last)
    return {item.value: item.help for item in found}


@pytest.mark.parametrize("unloaded", COMMANDS, ids=lambda command: command.name)
def test_what_stands_for_a_command_tells_the_same(unloaded: Unloaded) -> None:
    """Name, help and whether it is shown are those of the command itself."""
    command = unloaded.load()

    assert unloaded.name == command.name
    assert unloaded.hidden == command.hidden
    assert unloaded.get_short_help_str(1_000) == command.get_short_help_str(1_000)


def test_the_help_loads_no_command() -> None:
    """All commands are listed, and nothing is loaded that only a command needs."""
    code = "import sys, server.cli.main as m; m.cli(['--help'], standalone_mode=False); "
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    *help_lines, loaded = ended.stdout.splitlines()
    assert loaded == "[]"
    listed = {line.split()[0] for line in help_lines if line.startswith("  ")}
    assert listed >= {command.name for command in COMMANDS if not command.hidden}


def test_a_command_is_called_as_ever() -> None:
    """The command's own help is shown, and one that there is not is told."""
    shown = CliRunner().invoke(cli, ["books", "verify", "--help"])
    unknown = CliRunner().invoke(cli, ["bools"])

    assert "--sealed" in shown.output
    assert unknown.exit_code == click.UsageError.exit_code
    assert "No such command 'bools'" in unknown.output


def test_a_shell_completes_commands_and_their_options() -> None:
    """Commands come with their help, and the called one is loaded for what it takes."""
    assert completed("st").keys() == {"statement", "status"}
    assert completed("hea")["health"]
    assert completed("books", "ver") == {"verify": completed("books", "ver")["verify"]}
    assert "--json" in completed("status", "--")
    assert "worker" not in completed("")
