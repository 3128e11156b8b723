"""The class of every command: its options may also be set by environment variables ``BULKSEED_…``."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Final

import click
from click.core import ParameterSource

from bulkseed.cli.output import Output
from bulkseed.errors import BulkseedError, escape_controls

__all__ = ["Command", "command", "is_from_environment", "variable_of"]

PREFIX: Final = "BULKSEED_"
OTHER_VARIABLES: Final = ("BULKSEED_HOME", "BULKSEED_DATABASE_URL")
CUTOFF: Final = 0.75
"""The least similarity of a misspelled variable, from 0 to 1."""
CODE: Final = re.compile("(`[^`]*`)")
URL_WORDS: Final = "the database URL"


def option_name(option: click.Option) -> str:
    """Return the long name of an option, such as ``--on-error``."""
    return max(option.opts, key=len)


def variable_of(option: click.Option) -> str:
    """Return the environment variable that sets an option, of whichever command: ``BULKSEED_ON_ERROR``."""
    return PREFIX + option_name(option).removeprefix("--").upper().replace("-", "_")


def is_from_environment(context: click.Context, name: str) -> bool:
    """Return whether a variable set the parameter ``name``."""
    return context.get_parameter_source(name) is ParameterSource.ENVIRONMENT


def show_log(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Print the log from now on if ``value`` is true."""
    if value and (output := context.find_object(Output)):
        output.show_log(context.find_root(), logging.DEBUG if option.name == "debug" else logging.INFO)


def log_options() -> list[click.Option]:
    """Return the options ``--verbose`` and ``--debug``."""
    return [
        click.Option([name], is_flag=True, is_eager=True, expose_value=False, callback=show_log, help=text)
        for name, text in (
            ("--verbose", "Log on stderr what is done, and how long it takes."),
            ("--debug", "Log more than --verbose, and print the traceback of an error."),
        )
    ]


class Command(click.Command):
    """A command of bulkseed, with the options of the log."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params += log_options()
        for option in self.options:
            option.envvar = variable_of(option)

    @property
    def options(self) -> list[click.Option]:
        """The options, without ``--help``."""
        return [parameter for parameter in self.params if isinstance(parameter, click.Option)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with naming_variables(ctx, self.options):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.params.get("quiet"):
            note_misspelled_variables(ctx)
        with naming_variables(ctx, self.options):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.options:
            example = self.options[0]
            formatter.write_paragraph()
            flags = "; flags take 1 or 0" if any(option.is_flag for option in self.options) else ""
            formatter.write_text(
                f"Each option can also be set by an environment variable, such as {variable_of(example)} for "
                f"{option_name(example)}{flags}."
            )
        super().format_epilog(ctx, formatter)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Return the decorator that makes a function the command ``name``."""
    return click.command(name, cls=Command, **attributes)


@contextmanager
def naming_variables(context: click.Context, options: list[click.Option]) -> Iterator[None]:
    """Name the variable, and not the option, in the message of an error about a value that a variable has set."""
    try:
        yield
    except click.BadParameter as error:
        if isinstance(error.param, click.Option) and is_from_environment(context, error.param.name or ""):
            error.param_hint = variable_of(error.param)
        raise
    except BulkseedError as error:
        message = str(error)
        for option in options:
            # a flag cannot have a wrong value, and advice may name it
            if not option.is_flag and is_from_environment(context, option.name or ""):
                message = name_variable(message, option, context.params.get(option.name or ""))
        if context.params.get("database_url", "") is None and os.environ.get("DATABASE_URL"):
            message = message.replace(URL_WORDS, f"{URL_WORDS} in DATABASE_URL", 1)
        error.args = (message,)
        raise


def name_variable(message: str, option: click.Option, value: object) -> str:
    """Return the message with the variable instead of the option, or after the value, or unchanged without either.

    Commands in backquotes keep the option.
    """
    variable = variable_of(option)
    word = re.compile(rf"(?<![\w-]){re.escape(option_name(option))}(?![\w-])")
    parts = CODE.split(message)
    renamed = "".join(part if part.startswith("`") else word.sub(variable, part) for part in parts)
    if renamed != message:
        return renamed
    if option.name == "database_url":
        return message.replace(URL_WORDS, f"{URL_WORDS} in {variable}", 1)
    values = value if isinstance(value, tuple) else (value,)
    shown = next((repr(each) for each in values if isinstance(each, str) and repr(each) in message), None)
    return message if shown is None else message.replace(shown, f"{shown} ({variable})", 1)


def note_misspelled_variables(context: click.Context) -> None:
    """Print a line on stderr for each variable that is similar to a known one, but unknown."""
    unknown = {
        name
        for name, value in os.environ.items()
        if name.startswith(PREFIX) and value and name not in OTHER_VARIABLES and name != PREFIX
    }
    unknown -= {variable_of(option) for option in getattr(context.command, "options", [])}
    if not unknown:
        return
    known = known_variables(context.find_root())
    for name in sorted(unknown - known):
        similar = get_close_matches(
            name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in sorted(known)], 1, CUTOFF
        )
        if similar:
            shown = escape_controls(name)
            print(
                f"bulkseed: {shown} is not an option of bulkseed: did you mean {PREFIX}{similar[0]}?", file=sys.stderr
            )


def known_variables(root: click.Context) -> set[str]:
    """Return every variable that bulkseed reads. It imports all commands."""
    known = set(OTHER_VARIABLES)
    if isinstance(root.command, click.Group):
        for name in root.command.list_commands(root):
            each = root.command.get_command(root, name)
            if isinstance(each, Command):
                known |= {variable_of(option) for option in each.options}
    return known
