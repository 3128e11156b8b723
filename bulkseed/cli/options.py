"""The options that commands share, and the plan that those of a load make."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, get_args

import click

from bulkseed.choices import Defer, Format, OnError, available_cores
from bulkseed.errors import InputError
from bulkseed.ledger import SCHEMA
from bulkseed.plan.shards import ROWS_PER_SHARD
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.scenarios import shipped

__all__ = [
    "CONSENT_OPTIONS",
    "DATABASE_OPTION",
    "JSON_OPTION",
    "LEDGER_OPTION",
    "LOAD_OPTIONS",
    "PLAN_OPTIONS",
    "QUIET_OPTION",
    "SHARD_OPTION",
    "default_workers",
    "failure_options",
    "options",
    "work_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_WORKERS: Final = 256
DEFAULT_WORKERS: Final = 8
"""Each worker takes a core, some 90 MB of memory, and a connection with a process of the server's."""
LEAST_ROWS: Final = 1000
MOST_ROWS: Final = 2**31 - 1


def options(*added: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator."""

    def add(command: Command) -> Command:
        for option in reversed(added):
            command = option(command)
        return command

    return add


PLAN_OPTIONS: Final = options(
    click.option("--scale", default="1x", metavar="S", show_default=True, help="How large, such as 100x or 2.5."),
    click.option("--users", type=int, metavar="N", help="How many users; wins over the scale."),
    click.option("--channels", type=int, metavar="N", help="How many channels; wins over the scale."),
    click.option("--messages-per-channel", type=int, metavar="N", help="How many in each, before replies."),
    click.option("--max-members", type=int, metavar="N", help="The most members of a channel.  [default: all users]"),
    click.option("--seed", type=int, default=1, metavar="N", show_default=True, help="The same seed, the same rows."),
    click.option("--as-of", metavar="WHEN", help="The latest moment in the data, ISO 8601.  [default: now]"),
    click.option("--locale", default="en_US", metavar="L", show_default=True, help="Of names and texts, as Faker's."),
    click.option(
        "--scenario",
        default="default",
        metavar="FILE",
        show_default=True,
        help=f"The shape of the data, and the app's own tables: {', '.join(shipped())}, or a TOML file.",
    ),
    click.option("--schema", metavar="SCHEMA", help="Where the tables are.  [default: as search_path has it]"),
    click.option(
        "--metadata",
        metavar="MODULE:NAME",
        help="The app's SQLAlchemy models: a base or a MetaData, whose defaults fill columns too.",
    ),
    click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="MODULE:NAME",
        help="A further table, made by code of yours; may be given more than once.",
    ),
)
DATABASE_OPTION: Final = click.option(
    "--database-url",
    metavar="URL",
    help="The database.  [default: $BULKSEED_DATABASE_URL, $DATABASE_URL, or the embedded one]",
)
LONGEST_NAME: Final = 63
"""Bytes of a name in PostgreSQL, as it is usually built."""


def schema_name(_: click.Context, __: click.Parameter, name: str) -> str:
    """The name of a schema that can be made. Raises InputError for another."""
    size = len(name.encode(errors="surrogateescape"))
    known = "\0" not in name and not any("\ud800" <= each <= "\udfff" for each in name)
    if not (known and 0 < size <= LONGEST_NAME) or name.startswith("pg_") or name == "information_schema":
        raise InputError(
            f"--ledger-schema {name!r} cannot be the name of a schema: give 1 to {LONGEST_NAME} bytes of UTF-8, "
            "not beginning with pg_"
        )
    return name


def seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    """A time to wait. Raises InputError for what is no number."""
    if math.isnan(value):
        raise InputError("--retry-for nan is no number: give seconds, such as 60")
    return value


LEDGER_OPTION: Final = click.option(
    "--ledger-schema",
    callback=schema_name,
    metavar="SCHEMA",
    default=SCHEMA,
    show_default=True,
    help="Where runs are recorded: made if it is missing.",
)
JSON_OPTION: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
QUIET_OPTION: Final = click.option("--quiet", is_flag=True, help="Print nothing but errors, and --json's object.")
CONSENT_OPTIONS: Final = options(
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option(
        "--allow", metavar="HOST/DB", help="Write to this very database, though its name looks like production."
    ),
)


def work_options() -> Callable[[Command], Command]:
    """How rows are loaded, by a load and by what goes on with one."""
    return options(
        click.option(
            "--workers",
            type=click.IntRange(1, MOST_WORKERS),
            metavar="N",
            help="Processes that load, over a connection each.  "
            f"[default: one for each core, at most {DEFAULT_WORKERS}]",
        ),
        click.option(
            "--format",
            "copy_format",
            type=click.Choice(get_args(Format)),
            default="auto",
            show_default=True,
            help="How rows are sent: as COPY's binary format, or as records that the driver encodes.",
        ),
    )


def failure_options(on_error: OnError) -> Callable[[Command], Command]:
    """What is done about errors; ``on_error`` where the user does not say."""
    return options(
        click.option(
            "--on-error",
            type=click.Choice(get_args(OnError)),
            default=on_error,
            show_default=True,
            help="What becomes of the run then: undone at once, or kept for `bulkseed resume`.",
        ),
        click.option(
            "--retry-for",
            type=click.FloatRange(0),
            callback=seconds,
            default=RetryPolicy().seconds,
            metavar="SECONDS",
            show_default=True,
            help="How long a server that went away is waited for; 0: nothing is tried again.",
        ),
    )


SHARD_OPTION: Final = click.option(
    "--rows-per-shard",
    type=click.IntRange(LEAST_ROWS, MOST_ROWS),
    default=ROWS_PER_SHARD,
    metavar="N",
    show_default=True,
    help="About how many rows are in for good, or lost, at once.",
)
LOAD_OPTIONS: Final = options(
    work_options(),
    click.option(
        "--defer",
        type=click.Choice(get_args(Defer)),
        default="auto",
        show_default=True,
        help="Drop indexes and keys for the load, and rebuild them after it.",
    ),
    SHARD_OPTION,
    failure_options("undo"),
)


def default_workers() -> int:
    """As many as there are cores, within reason."""
    return min(available_cores(), DEFAULT_WORKERS)
