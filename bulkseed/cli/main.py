"""The command line. Results go to stdout, progress and messages to stderr."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from bulkseed.errors import suggestion

__all__ = ["COMMANDS", "cli"]

COMMANDS: Final = {
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
"""The module of each, in the order in which ``--help`` lists them."""


class DefaultsToLoad(click.Group):
    """A group whose command is ``load`` where none is named, and which imports no other command than it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """That of the name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"bulkseed.cli.{COMMANDS[cmd_name]}")
        found: click.Command = getattr(module, f"{cmd_name}_command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            raise click.UsageError(f"No such command {args[0]!r}: {suggestion(args[0], COMMANDS, 'see --help')}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["load", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of a load come first: it is what ``bulkseed`` alone does."""
        load_command = self.get_command(ctx, "load")
        assert load_command is not None
        with formatter.section("Options of a load"):
            formatter.write_dl([row for each in load_command.params if (row := each.get_help_record(ctx))])
        super().format_options(ctx, formatter)


@click.group(cls=DefaultsToLoad, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bulkseed", prog_name="bulkseed", message="%(prog)s %(version)s")
def cli() -> None:
    """Fill a PostgreSQL with believable chat data: users, channels, memberships, messages, reactions.

    With no command it loads. With no database named it uses an embedded PostgreSQL in your data folder.
    """
