"""Commands that are loaded once they are called: to list them takes no more than their help."""

from importlib import import_module

import click


class Unloaded(click.Command):
    """Stands for a command, with its name and the beginning of its help."""

    def __init__(self, name: str, where: str, about: str, *, hidden: bool = False) -> None:
        super().__init__(name, help=about, hidden=hidden)
        self._where = where

    def load(self) -> click.Command:
        """Return the command itself, from `module:name` beside this module."""
        module, _, name = self._where.partition(":")
        command: click.Command = getattr(import_module(f"server.cli.{module}"), name)
        return command


class LoadingGroup(click.Group):
    """A group of commands of which the one that is called is loaded."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Unloaded) else command, rest
