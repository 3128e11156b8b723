"""What a load, or what goes on with one, says at its end."""

from __future__ import annotations

import shlex

from bulkseed.cli import report
from bulkseed.cli.runner import Database
from bulkseed.ledger import Ledger
from bulkseed.loader.completion import LoadReport

__all__ = ["told"]


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
