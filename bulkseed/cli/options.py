"""The options that commands share."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import click
from click.shell_completion import CompletionItem

from bulkseed.cli.output import Output
from bulkseed.errors import InputError
from bulkseed.load_options import (
    DEFAULT_WORKERS,
    LEDGER_SCHEMA,
    RETRY_SECONDS,
    ROWS_PER_SHARD,
    Defer,
    Format,
    OnError,
    check_ledger_schema,
    parse_first_ids,
)
from bulkseed.scenarios import shipped

__all__ = [
    "CHECK_OPTIONS",
    "CONSENT_OPTIONS",
    "DATABASE_OPTION",
    "JSON_OPTION",
    "LEDGER_OPTION",
    "LOAD_OPTIONS",
    "PLAN_OPTIONS",
    "QUIET_OPTION",
    "SHARD_OPTION",
    "failure_options",
    "options",
    "work_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_WORKERS: Final = 256
LEAST_ROWS: Final = 1000
MOST_ROWS: Final = 2**31 - 1


def options(*added: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator that adds several options."""

    def add(command: Command) -> Command:
        for option in reversed(added):
            command = option(command)
        return command

    return add


def not_empty(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return ``value``. Raises InputError where it is empty, which is usually an unset variable of the shell."""
    if value is not None and not value.strip():
        raise InputError(f"{parameter.opts[0]} is empty: give a value, or leave it out", code="empty-option")
    return value


def none_empty(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``values``. Raises InputError where one is empty."""
    for value in values:
        not_empty(context, parameter, value)
    return values


def complete_scenario(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the shipped scenarios, TOML files and folders that begin with ``incomplete``, or leave it to the shell."""
    start, last = os.path.split(incomplete)
    try:
        entries = sorted(entry for entry in Path(start or ".").iterdir() if entry.name.startswith(last))
    except OSError:
        entries = []
    visible = [entry for entry in entries if last or not entry.name.startswith(".")]
    files = [os.path.join(start, entry.name) for entry in visible if entry.suffix == ".toml"]  # noqa: PTH118 - keeps ./
    folders = [os.path.join(start, entry.name, "") for entry in visible if entry.is_dir()]  # noqa: PTH118
    names = [name for name in shipped() if name.startswith(incomplete)]
    needs_quotes = any(shlex.quote(path) != path for path in (*files, *folders))
    if needs_quotes or (folders and not names and not files):
        # the shell itself completes a folder without a space behind it, and quotes what it would run otherwise
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(value) for value in (*names, *files, *folders)]


def complete_locale(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return Faker's locales that begin with ``incomplete``: the names of folders, as importing Faker takes long."""
    spec = find_spec("faker")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = {entry.name for folder in folders for entry in Path(folder, "providers").glob("*/*_[A-Z][A-Z]")}
    return sorted(name for name in found if name.startswith(incomplete))


PLAN_OPTIONS: Final = options(
    click.option(
        "--scale",
        callback=not_empty,
        default="1x",
        metavar="SCALE",
        show_default=True,
        help="Size of the data, such as 100x or 2.5.",
    ),
    click.option("--users", type=int, metavar="N", help="Number of users.  [default: from --scale]"),
    click.option("--channels", type=int, metavar="N", help="Number of channels.  [default: from --scale]"),
    click.option(
        "--messages-per-channel",
        type=int,
        metavar="N",
        help="Number of messages in each channel, not counting replies.  [default: from --scale]",
    ),
    click.option(
        "--max-members", type=int, metavar="N", help="Largest number of members of a channel.  [default: all users]"
    ),
    click.option(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        show_default=True,
        help="Seed of the random values; the same seed and --as-of give the same rows.",
    ),
    click.option(
        "--as-of",
        callback=not_empty,
        metavar="TIME",
        help="Latest time in the data, such as 2026-06-01 or 2026-06-01T12:30, in UTC.  [default: now]",
    ),
    click.option(
        "--locale",
        callback=not_empty,
        shell_complete=complete_locale,
        default="en_US",
        metavar="LOCALE",
        show_default=True,
        help="Locale of names and texts, as Faker names it, such as de_DE.",
    ),
    click.option(
        "--scenario",
        callback=not_empty,
        shell_complete=complete_scenario,
        default="default",
        metavar="FILE",
        show_default=True,
        help=f"Scenario to load: {', '.join(shipped())}, or a TOML file.",
    ),
    click.option(
        "--schema",
        callback=not_empty,
        metavar="SCHEMA",
        help="Schema of the tables.  [default: where the server finds the users]",
    ),
    click.option(
        "--metadata",
        callback=not_empty,
        metavar="MODULE:NAME",
        help="SQLAlchemy base or MetaData of the app, whose defaults fill columns.  [default: none]",
    ),
    click.option(
        "--plugin",
        "plugins",
        callback=none_empty,
        multiple=True,
        metavar="MODULE:NAME",
        help="Function or class that makes the rows of another table; may be repeated.  [default: none]",
    ),
)
DATABASE_OPTION: Final = click.option(
    "--database-url",
    metavar="URL",
    help="Database to use: postgresql://user:password@host:port/database.  "
    "[default: $BULKSEED_DATABASE_URL, else $DATABASE_URL, else the embedded PostgreSQL]",
)


def schema_name(_: click.Context, __: click.Parameter, name: str) -> str:
    """Return ``name``. Raises InputError where no schema can have this name."""
    check_ledger_schema(name)
    return name


def seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    """Return ``value``, a time in seconds. Raises InputError for NaN."""
    if math.isnan(value):
        raise InputError(
            "--retry-for nan is not a number: give a number of seconds, such as 60", code="invalid-duration"
        )
    return value


LEDGER_OPTION: Final = click.option(
    "--ledger-schema",
    callback=schema_name,
    metavar="SCHEMA",
    default=LEDGER_SCHEMA,
    show_default=True,
    help="Schema of the ledger, where runs are recorded; load creates it if it is missing.",
)


def use_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    """Return ``value``, and print JSON from now on if it is true."""
    if value and (output := ctx.find_object(Output)):
        output.use_json(ctx.find_root())
    return value


JSON_OPTION: Final = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,  # an error in another option must be JSON too
    callback=use_json,
    envvar="BULKSEED_JSON",
    help="Print the result, or the error, as one JSON object on stdout.",
)
QUIET_OPTION: Final = click.option("--quiet", is_flag=True, help="Print only errors, and the object of --json.")
CONSENT_OPTIONS: Final = options(
    click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
    click.option(
        "--allow",
        callback=not_empty,
        metavar="HOST/DB",
        help="Allow writing to HOST/DB although its name looks like production.",
    ),
)


def work_options() -> Callable[[Command], Command]:
    """Return the options for how rows are loaded, of ``load`` and ``resume``."""
    return options(
        click.option(
            "--workers",
            type=click.IntRange(1, MOST_WORKERS),
            metavar="N",
            help=f"Processes that load, with one connection each.  [default: one per core, at most {DEFAULT_WORKERS}]",
        ),
        click.option(
            "--format",
            "copy_format",
            type=click.Choice(get_args(Format)),
            default="auto",
            show_default=True,
            help="COPY format, in which rows are sent; auto uses binary for each table whose column types allow it.",
        ),
    )


def failure_options(on_error: OnError) -> Callable[[Command], Command]:
    """Return the options for what to do after an error; ``on_error`` is the default."""
    return options(
        click.option(
            "--on-error",
            type=click.Choice(get_args(OnError)),
            default=on_error,
            show_default=True,
            help="After an error, undo the run, or keep it for `bulkseed resume`.",
        ),
        click.option(
            "--retry-for",
            type=click.FloatRange(0),
            callback=seconds,
            default=int(RETRY_SECONDS),
            metavar="SECONDS",
            show_default=True,
            help="Longest wait for a server that is down; 0 turns off all retries.",
        ),
    )


SHARD_OPTION: Final = click.option(
    "--rows-per-shard",
    type=click.IntRange(LEAST_ROWS, MOST_ROWS),
    default=ROWS_PER_SHARD,
    metavar="N",
    show_default=True,
    help="Rows per transaction, approximately.",
)


def first_ids_text(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Return ``text``. Raises InputError where it gives neither ids nor the number of a run."""
    if not_empty(context, parameter, text) is not None and text is not None:
        parse_first_ids(text)
    return text


CHECK_OPTIONS: Final = options(
    work_options(),
    click.option(
        "--defer",
        type=click.Choice(get_args(Defer)),
        default="auto",
        show_default=True,
        help="Drop indexes and keys for the load and rebuild them after it; auto does so where it is faster.",
    ),
    SHARD_OPTION,
    click.option(
        "--first-ids",
        callback=first_ids_text,
        metavar="IDS",
        help="First ids of the rows: users=1,channels=1,messages=1, or the number of a run, for the same as it has.  "
        "[default: the next free ids]",
    ),
)
LOAD_OPTIONS: Final = options(CHECK_OPTIONS, failure_options("undo"))
