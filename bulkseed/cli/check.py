"""``bulkseed check``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from bulkseed.cli.command import command
from bulkseed.cli.options import (
    CHECK_OPTIONS,
    DATABASE_OPTION,
    JSON_OPTION,
    LEDGER_OPTION,
    PLAN_OPTIONS,
    QUIET_OPTION,
)
from bulkseed.cli.output import print_json
from bulkseed.load_options import Defer, Format, default_workers, parse_first_ids

if TYPE_CHECKING:
    from bulkseed.cli.runner import Database
    from bulkseed.loader.check import CheckReport

__all__ = ["check_command"]

OWN: Final = ("as_json", "quiet")
"""The options that a load has too, and that do not change what it does."""


@command("check")
@PLAN_OPTIONS
@CHECK_OPTIONS
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
def check_command(
    workers: int | None,
    defer: Defer,
    copy_format: Format,
    rows_per_shard: int,
    first_ids: str | None,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    **plan_options: Any,
) -> None:
    """Check whether a load would start; write nothing.

    It takes the options of the load, and shows what the load would do.
    """
    from bulkseed.cli import report
    from bulkseed.cli.consent import check_embedded_disk
    from bulkseed.cli.progress import show_progress
    from bulkseed.cli.runner import open_database, run
    from bulkseed.loader.check import check
    from bulkseed.plan.activity import expected_bytes
    from bulkseed.scenarios.planning import make_plan
    from bulkseed.text.fakes import share_faker

    # else the plan's trial values and the load's values would each start a process
    click.get_current_context().with_resource(share_faker())
    plan = make_plan(**plan_options)
    with open_database(database_url, tables=False, quiet=quiet) as database:
        check_embedded_disk(database, expected_bytes(plan))
        with show_progress(quiet=quiet) as listener:
            result: CheckReport = run(
                lambda: check(
                    plan,
                    database.address,
                    listener=listener,
                    rows_per_shard=rows_per_shard,
                    workers=workers or default_workers(),
                    defer=defer,
                    copy_format=copy_format,
                    first_ids=None if first_ids is None else parse_first_ids(first_ids),
                    ledger_schema=ledger_schema,
                    embedded=database.server is not None,
                )
            )
        url, to_load = str(database.address), load_command_for(click.get_current_context(), database, result)
        if as_json:
            print_json(report.check_json(result, url, to_load))
        elif not quiet:
            report.print_check(result, str(database), to_load)


def load_command_for(context: click.Context, database: Database, result: CheckReport) -> str:
    """Return the command that would load, with the options of this one, and without passwords."""
    words = ["bulkseed", "load"]
    for option in context.command.params:
        name = option.name or ""
        if name in OWN or context.get_parameter_source(name) != ParameterSource.COMMANDLINE:
            continue
        given = context.params[name]
        for value in given if option.multiple else [given]:
            text = str(database.address.without_passwords) if name == "database_url" else str(value)
            words += [option.opts[0], text]
    if result.production:
        words += ["--allow", result.title]
    return shlex.join(words)
