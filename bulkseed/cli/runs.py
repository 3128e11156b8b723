"""``bulkseed runs``."""

from __future__ import annotations

import click

from bulkseed.cli import report
from bulkseed.cli.options import DATABASE_OPTION, JSON_OPTION, LEDGER_OPTION
from bulkseed.cli.runner import opened, run
from bulkseed.ledger.runs import History, history

__all__ = ["runs_command"]


@click.command("runs")
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
def runs_command(database_url: str | None, ledger_schema: str, as_json: bool) -> None:
    """List what was loaded: state, rows, when, by whom, and how long it took."""
    with opened(database_url, tables=False) as database:
        found: list[History] = run(lambda: history(database.address, ledger_schema=ledger_schema))
    if as_json:
        report.print_json({"runs": [each.to_json() for each in found]})
    else:
        report.print_runs(found)
