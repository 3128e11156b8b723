"""The command group ``bulkseed``. Results go to stdout, progress and messages to stderr."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Final

import click
from click.shell_completion import CompletionItem

from bulkseed.errors import suggestion

__all__ = ["COMMANDS", "SCALE_LIKE", "cli"]

COMMANDS: Final = {
    "check": "check",
    "cleanup": "cleanup",
    "completion": "completion",
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


SCALE_LIKE: Final = re.compile(r"[0-9.]+[xX]?")
"""What is meant as a scale where no option precedes it."""
OWN_OPTIONS: Final = {"--help", "-h", "--version"}
EXAMPLES: Final = """\b
Examples:
  bulkseed load --scale 10x             load into the embedded PostgreSQL
  bulkseed psql                         look at the rows
  bulkseed load --database-url URL      load into the tables of another database
  bulkseed cleanup --database-url URL   remove these rows, and no others
"""


class Commands(click.Group):
    """The group of all commands. It imports only the command that runs; options without a command are those of load."""

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
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            if SCALE_LIKE.fullmatch(args[0]):
                raise click.UsageError(f"unknown command {args[0]!r}: write `bulkseed load --scale {args[0]}`", ctx)
            commands = f"the commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"unknown command {args[0]!r}: {suggestion(args[0], COMMANDS, commands)}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        if args and args[0].startswith("-") and args[0] not in OWN_OPTIONS:
            args = ["load", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin with ``incomplete``; for the beginning of an option, also those of load."""
        load_command = self.get_command(ctx, "load") if incomplete.startswith("-") else None
        of_load = [] if load_command is None else load_command.shell_complete(ctx, incomplete)
        known = {item.value for item in of_load}
        return of_load + [item for item in super().shell_complete(ctx, incomplete) if item.value not in known]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.version_option(package_name="bulkseed", prog_name="bulkseed", message="%(prog)s %(version)s")
def cli() -> None:
    """Fill a PostgreSQL database with believable chat data: users, channels, memberships, messages, reactions.

    Without --database-url, the database is bulkseed's own, on a PostgreSQL server that it creates and runs. Options
    without a command are those of load: `bulkseed --scale 10x` loads. `bulkseed COMMAND --help` shows the options of a
    command.
    """
