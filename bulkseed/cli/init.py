"""``bulkseed init``."""

from __future__ import annotations

import click

from bulkseed.cli import report
from bulkseed.cli.consent import Consent, obtain
from bulkseed.cli.options import CONSENT_OPTIONS, DATABASE_OPTION, JSON_OPTION
from bulkseed.cli.runner import opened, run
from bulkseed.plan.scenario import Scenario
from bulkseed.plan.tables import Model
from bulkseed.target.reference_schema import create_missing

__all__ = ["init_command"]


@click.command("init")
@DATABASE_OPTION
@JSON_OPTION
@CONSENT_OPTIONS
def init_command(database_url: str | None, as_json: bool, yes: bool, allow: str | None) -> None:
    """Make the reference tables and the reaction catalogue where they are missing."""
    with opened(database_url) as database:
        question = f"Make what is missing of the reference tables in {database.address}?"
        obtain(database, Consent(yes, allow), question, "none to come but the catalogue's", Model(Scenario()).names)
        made: list[str] = run(create_missing, database.address)
        if as_json:
            report.print_json({"made": made, "database_url": str(database.address)})
        else:
            print(f"made {', '.join(made)}" if made else "everything is there", f"in {database.address}")
