"""``bulkseed verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from bulkseed.cli.command import command
from bulkseed.cli.options import DATABASE_OPTION, JSON_OPTION, LEDGER_OPTION, QUIET_OPTION
from bulkseed.cli.output import print_json

if TYPE_CHECKING:
    from bulkseed.verifier.verify import VerifyReport

__all__ = ["verify_command"]

BROKEN_RULE: Final = 3
"""The exit status if a rule is broken."""


@command("verify")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
def verify_command(
    run_number: int | None, database_url: str | None, ledger_schema: str, as_json: bool, quiet: bool
) -> int:
    """Check every rule with SQL, for one run or all runs.

    RUN is the number of a run, as `bulkseed runs` lists it; without it, all runs are checked.
    """
    from bulkseed.cli import report
    from bulkseed.cli.progress import show_progress
    from bulkseed.cli.runner import open_database, run
    from bulkseed.verifier.verify import verify

    with open_database(database_url, tables=False) as database, show_progress(quiet=quiet) as listener:
        reports: list[VerifyReport] = run(
            lambda: verify(database.address, run_number, listener=listener, ledger_schema=ledger_schema)
        )
    holds = all(result.holds for result in reports)
    if as_json:
        print_json({"holds": holds, "runs": [result.to_dict() for result in reports]})
    elif not quiet:
        report.print_verify(reports)
    return 0 if holds else BROKEN_RULE
