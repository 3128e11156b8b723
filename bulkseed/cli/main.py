"""The command group ``bulkseed``. Results go to stdout, progress and messages to stderr."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from bulkseed.errors import suggestion

__all__ = ["COMMANDS", "cli"]

COMMANDS: Final = {
    "check": "check",
    "cleanup": "cleanup",
    "init": "init",
    "load": "load",
    "plan": "plan",
    "psql": "psql",
    "resume": "load",
    "runs": "runs",
    "serve": "serve",
    "verify": "verify",
}
"""The module of each command, in the order of ``--help``."""


class DefaultsToLoad(click.Group):
    """A group whose default command is ``load``. It imports only the command that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of this name, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"bulkseed.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            commands = f"the commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"unknown command {args[0]!r}: {suggestion(args[0], COMMANDS, commands)}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["load", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of ``load`` first, as it is the default command."""
        load_command = self.get_command(ctx, "load")
        assert load_command is not None
        with formatter.section("Options of load"):
            options = [option for option in load_command.params if isinstance(option, click.Option)]
            formatter.write_dl([row for option in options if (row := option.get_help_record(ctx))])
        super().format_options(ctx, formatter)


@click.group(cls=DefaultsToLoad, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bulkseed", prog_name="bulkseed", message="%(prog)s %(version)s")
def cli() -> None:
    """Fill a PostgreSQL database with believable chat data: users, channels, memberships, messages, reactions.

    The default command is load. The default database is an embedded PostgreSQL in your data folder.
    """
