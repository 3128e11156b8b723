"""``bulkseed resume``."""

from __future__ import annotations

import click

from bulkseed.choices import Format, OnError
from bulkseed.cli import report
from bulkseed.cli.commands.outcome import told
from bulkseed.cli.consent import Consent, check_disk, obtain
from bulkseed.cli.options import (
    CONSENT_OPTIONS,
    DATABASE_OPTION,
    JSON_OPTION,
    LEDGER_OPTION,
    QUIET_OPTION,
    default_workers,
    failure_options,
    work_options,
)
from bulkseed.cli.progress import shown
from bulkseed.cli.runner import opened, run
from bulkseed.ledger import Run
from bulkseed.loader.completion import LoadReport
from bulkseed.loader.resume import interrupted_run, resume
from bulkseed.loader.stopping import Stop
from bulkseed.plan.estimate import expected_bytes
from bulkseed.postgres.retry import Patience

__all__ = ["resume_command"]


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
        with shown(quiet=quiet) as watcher:
            done: LoadReport | None = run(
                lambda: resume(
                    address,
                    found.number,
                    watcher=watcher,
                    workers=workers or default_workers(),
                    format=copy_format,
                    on_error=on_error,
                    patience=Patience(seconds=retry_for),
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
