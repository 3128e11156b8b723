"""``bulkseed load``, which is what ``bulkseed`` alone does."""

from __future__ import annotations

from typing import Any

import click

from bulkseed.choices import Defer, Format, OnError
from bulkseed.cli.commands.outcome import told
from bulkseed.cli.consent import Consent, check_disk, obtain
from bulkseed.cli.options import (
    CONSENT_OPTIONS,
    DATABASE_OPTION,
    JSON_OPTION,
    LEDGER_OPTION,
    LOAD_OPTIONS,
    PLAN_OPTIONS,
    QUIET_OPTION,
    default_workers,
)
from bulkseed.cli.progress import shown
from bulkseed.cli.runner import opened, run
from bulkseed.errors import InputError
from bulkseed.loader.completion import LoadReport
from bulkseed.loader.load import load
from bulkseed.loader.stopping import Stop
from bulkseed.plan.estimate import expected_bytes, expected_rows
from bulkseed.postgres.retry import Patience
from bulkseed.scenarios.planning import make_plan

__all__ = ["load_command"]


@click.command("load")
@PLAN_OPTIONS
@LOAD_OPTIONS
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
@CONSENT_OPTIONS
@click.argument("rest", nargs=-1, metavar="")
def load_command(
    workers: int | None,
    defer: Defer,
    copy_format: Format,
    rows_per_shard: int,
    on_error: OnError,
    retry_for: float,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    yes: bool,
    allow: str | None,
    rest: tuple[str, ...],
    **of_plan: Any,
) -> None:
    """Fill the database (what bulkseed alone does)."""
    if rest:
        raise InputError(f"{rest[0]!r} is not an option of a load: name a command first, as in `bulkseed verify …`")
    plan = make_plan(**of_plan)
    with opened(database_url) as database:
        tables = plan.model.sql_names
        check_disk(database, {tables[name]: size for name, size in expected_bytes(plan).items()})
        rows = f"about {sum(expected_rows(plan).values()):,.0f}"
        question = f"Load {rows} rows into {database.address}?"
        obtain(database, Consent(yes, allow, quiet), question, f"{rows} to come", list(tables.values()))
        stop = Stop()
        with shown(quiet=quiet) as watcher:
            done: LoadReport = run(
                lambda: load(
                    plan,
                    database.address,
                    watcher=watcher,
                    rows_per_shard=rows_per_shard,
                    workers=workers or default_workers(),
                    defer=defer,
                    format=copy_format,
                    on_error=on_error,
                    patience=Patience(seconds=retry_for),
                    ledger_schema=ledger_schema,
                    stop=stop,
                ),
                stop=stop,
            )
        told(done, database, database_url, ledger_schema, as_json=as_json, quiet=quiet)
