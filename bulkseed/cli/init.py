"""``bulkseed init``."""

from __future__ import annotations

from bulkseed.cli.command import command
from bulkseed.cli.options import CONSENT_OPTIONS, DATABASE_OPTION, JSON_OPTION, QUIET_OPTION
from bulkseed.cli.output import print_json

__all__ = ["init_command"]


@command("init")
@DATABASE_OPTION
@JSON_OPTION
@QUIET_OPTION
@CONSENT_OPTIONS
def init_command(database_url: str | None, as_json: bool, quiet: bool, yes: bool, allow: str | None) -> None:
    """Create missing reference tables and the reaction catalogue.

    The reference tables are users, channels, user_channels, messages, reactions and message_reactions. You do not need
    them if you load into the tables of your app.
    """
    from bulkseed.cli.consent import Consent, require_consent
    from bulkseed.cli.runner import open_database, run
    from bulkseed.plan.scenario import Scenario
    from bulkseed.plan.tables import Model
    from bulkseed.target.reference_schema import create_missing

    with open_database(database_url, quiet=quiet) as database:
        question = f"Create the missing reference tables in {database}?"
        require_consent(
            database,
            Consent(yes, allow, quiet),
            question,
            "only the reaction catalogue to add",
            Model(Scenario()).names,
        )
        created: list[str] = run(create_missing, database.address)
        if as_json:
            print_json({"made": created, "database_url": str(database.address)})
        elif not quiet:
            print(f"created {', '.join(created)}" if created else "nothing is missing", f"in {database}")
