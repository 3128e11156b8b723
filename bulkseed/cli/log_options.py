"""The options ``--verbose`` and ``--debug`` of every command. They need few imports, as some commands start quickly."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from bulkseed.cli.output import Output

__all__ = ["log_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def show_log(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    """Print the log from now on if ``value`` is true."""
    if value and (output := ctx.find_object(Output)):
        output.show_log(ctx.find_root(), logging.DEBUG if option.name == "debug" else logging.INFO)


def log_options(command: Command) -> Command:
    """Return the command with the options: a decorator."""
    for name, text in (
        ("--debug", "Log more than --verbose, and print the traceback of an error."),
        ("--verbose", "Log on stderr what is done, and how long it takes."),
    ):
        option = click.option(name, is_flag=True, is_eager=True, expose_value=False, callback=show_log, help=text)
        command = option(command)
    return command
