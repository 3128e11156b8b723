"""``bulkseed runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkseed.cli.command import command
from bulkseed.cli.options import DATABASE_OPTION, JSON_OPTION, LEDGER_OPTION
from bulkseed.cli.output import print_json

if TYPE_CHECKING:
    from bulkseed.ledger.runs import History

__all__ = ["runs_command"]


@command("runs")
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
def runs_command(database_url: str | None, ledger_schema: str, as_json: bool) -> None:
    """List the recorded runs: state, rows, start, duration, user."""
    from bulkseed.cli import report
    from bulkseed.cli.runner import open_database, run
    from bulkseed.ledger.runs import read_history

    with open_database(database_url, tables=False) as database:
        runs: list[History] = run(lambda: read_history(database.address, ledger_schema=ledger_schema))
    if as_json:
        print_json({"runs": [recorded.to_json() for recorded in runs]})
    else:
        report.print_runs(runs)
