"""``bulkseed cleanup``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bulkseed.cli.command import command, is_from_environment
from bulkseed.cli.options import CONSENT_OPTIONS, DATABASE_OPTION, JSON_OPTION, LEDGER_OPTION, QUIET_OPTION
from bulkseed.cli.output import print_json

if TYPE_CHECKING:
    from bulkseed.cleaner.cleanup import CleanupReport
    from bulkseed.cleaner.compare_rows import Changed

__all__ = ["cleanup_command"]


@command("cleanup")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
@click.option("--cascade", is_flag=True, help="Also remove rows not made by bulkseed that reference loaded rows.")
@click.option(
    "--changed",
    type=click.Choice(["remove", "keep"]),
    help="Remove or keep rows that have ids of the run, but mostly other values than it loaded.",
)
@CONSENT_OPTIONS
@click.pass_context
def cleanup_command(
    context: click.Context,
    run_number: int | None,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    cascade: bool,
    changed: Changed | None,
    yes: bool,
    allow: str | None,
) -> None:
    """Remove the rows of one run or of all runs, and no others.

    RUN is the number of a run, as `bulkseed runs` lists it; without it, all runs are removed. It asks before it removes
    anything.
    """
    from bulkseed.cleaner.cleanup import cleanup, find_removable_runs
    from bulkseed.cli import report
    from bulkseed.cli.consent import Consent, require_consent
    from bulkseed.cli.progress import show_progress
    from bulkseed.cli.runner import open_database, run

    is_others = (cascade and is_from_environment(context, "cascade")) or (
        changed == "remove" and is_from_environment(context, "changed")
    )
    if is_others and is_from_environment(context, "yes"):
        yes = False  # two variables that are left over must not remove rows of others
    with open_database(database_url, tables=False) as database:
        runs = run(lambda: find_removable_runs(database.address, run_number, ledger_schema=ledger_schema))
        if not runs:
            return print_nothing_to_remove(str(database.address), as_json, quiet)
        rows = sum(sum(recorded.rows.values()) for recorded in runs)
        numbers = f"run{'s' * (len(runs) > 1)} {', '.join(str(recorded.number) for recorded in runs)}"
        others = " and all rows that reference them" if cascade else ""
        question = f"Remove the {rows:,} rows of {numbers}{others} from {database}?"
        tables = list(dict.fromkeys(table for recorded in runs for table in recorded.names.sql_tables()))
        require_consent(database, Consent(yes, allow, quiet), question, f"{rows:,} to remove", tables, always=True)
        with show_progress(quiet=quiet) as listener:
            # claims, not numbers: a run that another command changed since the question is refused
            chosen = [recorded.claim for recorded in runs]
            result: CleanupReport = run(
                lambda: cleanup(
                    database.address,
                    chosen,
                    cascade=cascade,
                    changed=changed or "refuse",
                    listener=listener,
                    ledger_schema=ledger_schema,
                )
            )
        if as_json:
            print_json(report.cleanup_json(result, str(database.address)))
        elif not quiet:
            report.print_cleanup(result)
        return None


def print_nothing_to_remove(url: str, as_json: bool, quiet: bool) -> None:
    from bulkseed.cleaner.cleanup import NOTHING_REMOVED
    from bulkseed.cli import report

    if as_json:
        print_json(report.cleanup_json(NOTHING_REMOVED, url))
    elif not quiet:
        print("nothing to remove: no run is recorded in this database")
