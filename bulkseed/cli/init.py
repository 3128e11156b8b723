"""``bulkseed init``."""

from __future__ import annotations

import click

from bulkseed.cli import report
from bulkseed.cli.consent import Consent, require_consent
from bulkseed.cli.log_options import log_options
from bulkseed.cli.options import CONSENT_OPTIONS, DATABASE_OPTION, JSON_OPTION
from bulkseed.cli.runner import open_database, run
from bulkseed.plan.scenario import Scenario
from bulkseed.plan.tables import Model
from bulkseed.target.reference_schema import create_missing

__all__ = ["init_command"]


@click.command("init")
@DATABASE_OPTION
@JSON_OPTION
@CONSENT_OPTIONS
@log_options
def init_command(database_url: str | None, as_json: bool, yes: bool, allow: str | None) -> None:
    """Create missing reference tables and the reaction catalogue."""
    with open_database(database_url) as database:
        question = f"Create the missing reference tables in {database.address}?"
        require_consent(
            database, Consent(yes, allow), question, "only the reaction catalogue to add", Model(Scenario()).names
        )
        created: list[str] = run(create_missing, database.address)
        if as_json:
            report.print_json({"made": created, "database_url": str(database.address)})
        else:
            print(f"created {', '.join(created)}" if created else "nothing is missing", f"in {database.address}")
