"""``bulkseed verify``."""

from __future__ import annotations

import click

from bulkseed.cli import report
from bulkseed.cli.options import DATABASE_OPTION, JSON_OPTION, LEDGER_OPTION, QUIET_OPTION
from bulkseed.cli.progress import progress_display
from bulkseed.cli.runner import opened, run
from bulkseed.verifier.verify import VerifyReport, verify

__all__ = ["verify_command"]


@click.command("verify")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
def verify_command(
    run_number: int | None, database_url: str | None, ledger_schema: str, as_json: bool, quiet: bool
) -> int:
    """Prove every rule with SQL over the loaded tables, for one run or all."""
    with opened(database_url, tables=False) as database, progress_display(quiet=quiet) as listener:
        found: list[VerifyReport] = run(
            lambda: verify(database.address, run_number, listener=listener, ledger_schema=ledger_schema)
        )
    holds = all(each.holds for each in found)
    if as_json:
        report.print_json({"holds": holds, "runs": [each.to_json() for each in found]})
    elif not quiet:
        report.print_verify(found)
    return 0 if holds else 1
