"""``bulkseed cleanup``."""

from __future__ import annotations

import click

from bulkseed.cleaner.cleanup import CleanupReport, cleanup, recorded_runs
from bulkseed.cli import report
from bulkseed.cli.consent import Consent, obtain
from bulkseed.cli.options import CONSENT_OPTIONS, DATABASE_OPTION, JSON_OPTION, LEDGER_OPTION, QUIET_OPTION
from bulkseed.cli.progress import progress_display
from bulkseed.cli.runner import opened, run

__all__ = ["cleanup_command"]


@click.command("cleanup")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
@click.option("--cascade", is_flag=True, help="Also remove rows of others that point at seeded ones.")
@CONSENT_OPTIONS
def cleanup_command(
    run_number: int | None,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    cascade: bool,
    yes: bool,
    allow: str | None,
) -> None:
    """Remove what bulkseed put in, of one run or all, and nothing else."""
    with opened(database_url, tables=False) as database:
        found = run(lambda: recorded_runs(database.address, run_number, ledger_schema=ledger_schema))
        rows = sum(sum(each.rows.values()) for each in found)
        runs = "run " + ", ".join(str(each.number) for each in found)
        others = " and all rows that point at them" if cascade else ""
        question = f"Remove the {rows:,} rows of {runs}{others} from {database.address}?"
        tables = list(dict.fromkeys(table for each in found for table in each.names.tables()))
        obtain(database, Consent(yes, allow, quiet), question, f"{rows:,} to be removed", tables, always=True)
        with progress_display(quiet=quiet) as listener:
            # as they were when the question was asked
            chosen = [each.claim for each in found]
            done: CleanupReport = run(
                lambda: cleanup(
                    database.address, chosen, cascade=cascade, listener=listener, ledger_schema=ledger_schema
                )
            )
        if as_json:
            report.print_json(report.cleanup_json(done, str(database.address)))
        elif not quiet:
            report.print_cleanup(done)
