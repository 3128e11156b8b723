"""``bulkseed load`` and ``bulkseed resume``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from bulkseed.cli.command import command
from bulkseed.cli.options import (
    CONSENT_OPTIONS,
    DATABASE_OPTION,
    JSON_OPTION,
    LEDGER_OPTION,
    LOAD_OPTIONS,
    PLAN_OPTIONS,
    QUIET_OPTION,
    failure_options,
    work_options,
)
from bulkseed.cli.output import print_json
from bulkseed.errors import InputError
from bulkseed.load_options import Defer, Format, OnError, default_workers, parse_first_ids

if TYPE_CHECKING:
    from bulkseed.cli.runner import Database
    from bulkseed.ledger import Run
    from bulkseed.loader.complete import LoadReport

__all__ = ["load_command", "resume_command"]


def print_result(result: LoadReport, database: Database, ledger_schema: str, *, as_json: bool, quiet: bool) -> None:
    """Print what was loaded, and useful next commands."""
    from bulkseed.cli import report

    url = str(database.address)
    if as_json:
        print_json(report.load_json(result, url))
    elif not quiet:
        report.print_load(result, str(database), next_commands(database, ledger_schema))
        if database.source == "option" and str(database.address.without_passwords) != url:
            print("the password is left out of these commands: set PGPASSWORD, or add it to ~/.pgpass")


def next_commands(database: Database, ledger_schema: str) -> dict[str, str]:
    """Return the commands that may follow a load, and what each does.

    They name the database by its URL where the option did; a variable that names it is still set.
    """
    from bulkseed.ledger import Ledger

    named = database.source == "option"
    option = f" --database-url {shlex.quote(str(database.address.without_passwords))}" if named else ""
    ledger = Ledger(ledger_schema).option
    commands = {
        f"bulkseed verify{option}{ledger}": "check every rule with SQL",
        f"bulkseed psql{option}": "open the database in psql",
    }
    if database.server is not None:
        commands["bulkseed serve"] = "keep the server running for a load test, and print its URL"
    commands[f"bulkseed cleanup{option}{ledger}"] = "remove the loaded rows"
    return commands


def advice_on_argument(argument: str) -> str:
    """Return what to write instead of ``argument``."""
    from bulkseed.cli.main import COMMANDS, SCALE_LIKE

    if SCALE_LIKE.fullmatch(argument):
        return f"write `bulkseed load --scale {argument}`"
    if argument in COMMANDS:
        return f"put the command first, as in `bulkseed {argument} …`"
    return "give options only, as `bulkseed load --help` lists them"


@command("load")
@PLAN_OPTIONS
@LOAD_OPTIONS
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
@CONSENT_OPTIONS
@click.argument("rest", nargs=-1, metavar="")
def load_command(
    workers: int | None,
    defer: Defer,
    copy_format: Format,
    rows_per_shard: int,
    first_ids: str | None,
    on_error: OnError,
    retry_for: float,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    yes: bool,
    allow: str | None,
    rest: tuple[str, ...],
    **plan_options: Any,
) -> None:
    """Load rows into the database.

    The database that you name must have the tables: those of your app, or those that `bulkseed init` creates. The
    embedded one gets them by itself.
    """
    from bulkseed.cli.consent import Consent, check_embedded_disk, require_consent
    from bulkseed.cli.progress import show_progress
    from bulkseed.cli.runner import open_database, run
    from bulkseed.listeners import Stop
    from bulkseed.loader.load import load
    from bulkseed.plan.activity import expected_bytes, expected_rows
    from bulkseed.postgres.transaction import RetryPolicy
    from bulkseed.scenarios.planning import make_plan
    from bulkseed.text.fakes import share_faker

    if rest:
        raise InputError(
            f"load takes no argument {rest[0]!r}: {advice_on_argument(rest[0])}", code="unexpected-argument"
        )
    # else the plan's trial values and the load's values would each start a process
    click.get_current_context().with_resource(share_faker())
    plan = make_plan(**plan_options)
    with open_database(database_url, quiet=quiet) as database:
        tables = plan.model.sql_names
        check_embedded_disk(database, expected_bytes(plan))
        rows = f"about {sum(expected_rows(plan).values()):,.0f}"
        question = f"Load {rows} rows into {database}?"
        require_consent(database, Consent(yes, allow, quiet), question, f"{rows} to load", list(tables.values()))
        stop = Stop()
        with show_progress(quiet=quiet) as listener:
            result: LoadReport = run(
                lambda: load(
                    plan,
                    database.address,
                    listener=listener,
                    rows_per_shard=rows_per_shard,
                    workers=workers or default_workers(),
                    defer=defer,
                    copy_format=copy_format,
                    first_ids=None if first_ids is None else parse_first_ids(first_ids),
                    on_error=on_error,
                    retry_policy=RetryPolicy(seconds=retry_for),
                    ledger_schema=ledger_schema,
                    stop=stop,
                ),
                stop=stop,
            )
        print_result(result, database, ledger_schema, as_json=as_json, quiet=quiet)


@command("resume")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@work_options()
@failure_options("keep")
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
@CONSENT_OPTIONS
def resume_command(
    run_number: int | None,
    workers: int | None,
    copy_format: Format,
    on_error: OnError,
    retry_for: float,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    yes: bool,
    allow: str | None,
) -> None:
    """Finish an interrupted load: missing rows, indexes, keys.

    RUN is the number of a run, as `bulkseed runs` lists it; without it, the interrupted run is finished.
    """
    from bulkseed.cli.consent import Consent, check_disk, require_consent
    from bulkseed.cli.progress import show_progress
    from bulkseed.cli.runner import open_database, run
    from bulkseed.errors import InputError
    from bulkseed.listeners import Stop
    from bulkseed.loader.load import find_interrupted_run, resume
    from bulkseed.postgres.transaction import RetryPolicy

    with open_database(database_url, quiet=quiet) as database:
        address = database.address
        interrupted = run(lambda: find_interrupted_run(address, run_number, ledger_schema=ledger_schema))
        if interrupted is None:
            return print_nothing_to_resume(run_number, as_json, quiet)
        check_disk(database, estimate_missing_bytes(interrupted))
        rows = f"about {max(0, sum(interrupted.expected.values()) - sum(interrupted.rows.values())):,}"
        question = f"Load the missing rows of run {interrupted.number} ({rows}) into {database}?"
        require_consent(
            database, Consent(yes, allow, quiet), question, f"{rows} to load", interrupted.names.sql_tables()
        )
        stop = Stop()
        with show_progress(quiet=quiet) as listener:
            try:
                result: LoadReport | None = run(
                    lambda: resume(
                        address,
                        # the claim, not the number: a run that changed since the question is refused
                        interrupted.claim,
                        listener=listener,
                        workers=workers or default_workers(),
                        copy_format=copy_format,
                        on_error=on_error,
                        retry_policy=RetryPolicy(seconds=retry_for),
                        ledger_schema=ledger_schema,
                        stop=stop,
                    ),
                    stop=stop,
                )
            except InputError as error:
                if error.code != "run-changed" or run(
                    lambda: find_interrupted_run(address, interrupted.number, ledger_schema=ledger_schema)
                ):
                    raise
                result = None
        if result is None:  # another command has finished it meanwhile
            return print_nothing_to_resume(run_number, as_json, quiet)
        return print_result(result, database, ledger_schema, as_json=as_json, quiet=quiet)


def estimate_missing_bytes(interrupted: Run) -> dict[str, float]:
    """Return the expected bytes of the rows that are not loaded yet, by the app's name of the table."""
    from bulkseed.plan.activity import expected_bytes

    return {
        interrupted.names.sql_name(table): size
        * max(0.0, 1 - interrupted.rows[table] / max(1, interrupted.expected[table]))
        for table, size in expected_bytes(interrupted.plan).items()
    }


def print_nothing_to_resume(number: int | None, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json({"run": None})
    elif not quiet:
        print("nothing to resume:", "no run was interrupted" if number is None else f"run {number} is complete")
