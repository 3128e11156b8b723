"""``bulkseed load``, which is what ``bulkseed`` alone does, and ``bulkseed resume``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from bulkseed.choices import Defer, Format, OnError
from bulkseed.cli import report
from bulkseed.cli.consent import Consent, check_disk, obtain
from bulkseed.cli.options import (
    CONSENT_OPTIONS,
    DATABASE_OPTION,
    JSON_OPTION,
    LEDGER_OPTION,
    LOAD_OPTIONS,
    PLAN_OPTIONS,
    QUIET_OPTION,
    default_workers,
    failure_options,
    work_options,
)
from bulkseed.cli.progress import progress_display
from bulkseed.cli.runner import Database, opened, run
from bulkseed.errors import InputError
from bulkseed.ledger import Ledger, Run
from bulkseed.listeners import Stop
from bulkseed.loader.completion import LoadReport
from bulkseed.loader.load import interrupted_run, load, resume
from bulkseed.plan.activity import expected_bytes, expected_rows
from bulkseed.postgres.transaction import RetryPolicy
from bulkseed.scenarios.planning import make_plan

__all__ = ["load_command", "resume_command", "told"]


def told(
    done: LoadReport, database: Database, option: str | None, ledger_schema: str, *, as_json: bool, quiet: bool
) -> None:
    """Print what was loaded, and which commands may follow; ``option`` is the database as it was named."""
    url = str(database.address)
    if as_json:
        report.print_json(report.load_json(done, url))
    elif not quiet:
        report.print_load(done, url, next_commands(database, option, ledger_schema))


def next_commands(database: Database, option: str | None, ledger_schema: str) -> dict[str, str]:
    named = f" --database-url {shlex.quote(str(database.address.without_passwords))}" if option else ""
    named += Ledger(ledger_schema).option
    commands = {f"bulkseed verify{named}": "prove every rule with SQL"}
    if database.server is not None:
        commands["bulkseed psql"] = "look at the rows"
        commands["bulkseed serve"] = "keep the database up for a load test, and print its URL"
    commands[f"bulkseed cleanup{named}"] = "take the rows out again"
    return commands


@click.command("load")
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
    on_error: OnError,
    retry_for: float,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    yes: bool,
    allow: str | None,
    rest: tuple[str, ...],
    **of_plan: Any,
) -> None:
    """Fill the database (what bulkseed alone does)."""
    if rest:
        raise InputError(f"{rest[0]!r} is not an option of a load: name a command first, as in `bulkseed verify …`")
    plan = make_plan(**of_plan)
    with opened(database_url) as database:
        tables = plan.model.sql_names
        check_disk(database, {tables[name]: size for name, size in expected_bytes(plan).items()})
        rows = f"about {sum(expected_rows(plan).values()):,.0f}"
        question = f"Load {rows} rows into {database.address}?"
        obtain(database, Consent(yes, allow, quiet), question, f"{rows} to come", list(tables.values()))
        stop = Stop()
        with progress_display(quiet=quiet) as listener:
            done: LoadReport = run(
                lambda: load(
                    plan,
                    database.address,
                    listener=listener,
                    rows_per_shard=rows_per_shard,
                    workers=workers or default_workers(),
                    defer=defer,
                    format=copy_format,
                    on_error=on_error,
                    retry_policy=RetryPolicy(seconds=retry_for),
                    ledger_schema=ledger_schema,
                    stop=stop,
                ),
                stop=stop,
            )
        told(done, database, database_url, ledger_schema, as_json=as_json, quiet=quiet)


@click.command("resume")
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
    """Finish a load that was interrupted: the rows that are not in, then indexes and keys."""
    with opened(database_url) as database:
        address = database.address
        found = run(lambda: interrupted_run(address, run_number, ledger_schema=ledger_schema))
        if found is None:
            return nothing_told(run_number, as_json, quiet)
        check_disk(database, lacking_bytes(found))
        rows = f"{max(0, sum(found.expected.values()) - sum(found.rows.values())):,}"
        question = f"Load the {rows} rows that run {found.number} lacks into {address}?"
        obtain(database, Consent(yes, allow, quiet), question, f"{rows} to come", found.names.tables())
        stop = Stop()
        with progress_display(quiet=quiet) as listener:
            done: LoadReport | None = run(
                lambda: resume(
                    address,
                    found.number,
                    listener=listener,
                    workers=workers or default_workers(),
                    format=copy_format,
                    on_error=on_error,
                    retry_policy=RetryPolicy(seconds=retry_for),
                    ledger_schema=ledger_schema,
                    stop=stop,
                ),
                stop=stop,
            )
        if done is None:  # another has finished it meanwhile
            return nothing_told(run_number, as_json, quiet)
        return told(done, database, database_url, ledger_schema, as_json=as_json, quiet=quiet)


def lacking_bytes(found: Run) -> dict[str, float]:
    """The expected bytes of the rows that are not in."""
    return {
        found.names.name(table): size * max(0.0, 1 - found.rows[table] / max(1, found.expected[table]))
        for table, size in expected_bytes(found.plan).items()
    }


def nothing_told(number: int | None, as_json: bool, quiet: bool) -> None:
    if as_json:
        report.print_json({"run": None})
    elif not quiet:
        print("nothing to resume:", "every run is whole" if number is None else f"run {number} is whole")
