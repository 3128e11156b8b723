"""The command line. Results go to stdout, progress and messages to stderr."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import anyio
import click

from bulkseed import report
from bulkseed.address import Address
from bulkseed.cleaning import CleanupReport, cleanup, recorded_runs
from bulkseed.completion import LoadReport
from bulkseed.consent import Consent, check_disk, obtain
from bulkseed.deferring import Defer
from bulkseed.embedded import Listen, running
from bulkseed.errors import InputError
from bulkseed.estimate import expected_bytes, expected_rows
from bulkseed.history import History, history
from bulkseed.initialise import initialise
from bulkseed.lanes import Format
from bulkseed.ledger import Ledger, Run
from bulkseed.loading import load
from bulkseed.model import Model
from bulkseed.options import (
    CONSENT_OPTIONS,
    DATABASE_OPTION,
    JSON_OPTION,
    LEDGER_OPTION,
    LOAD_OPTIONS,
    PLAN_OPTIONS,
    QUIET_OPTION,
    SHARD_OPTION,
    default_workers,
    failure_options,
    work_options,
)
from bulkseed.patience import Patience
from bulkseed.planning import make_plan
from bulkseed.progress import shown
from bulkseed.resuming import interrupted_run, resume
from bulkseed.runner import Database, Interrupted, opened, run
from bulkseed.scenario import Scenario
from bulkseed.serving import DEFAULT_PORT, is_free, kept_password, set_password
from bulkseed.stopping import Stop
from bulkseed.undoing import OnError
from bulkseed.verifying import VerifyReport, verify

__all__ = ["cli"]


class DefaultsToLoad(click.Group):
    """A group whose command is ``load`` where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["load", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of a load come first: it is what ``bulkseed`` alone does."""
        load_command = self.commands["load"]
        with formatter.section("Options of a load"):
            formatter.write_dl([row for each in load_command.params if (row := each.get_help_record(ctx))])
        super().format_options(ctx, formatter)


@click.group(cls=DefaultsToLoad, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bulkseed", prog_name="bulkseed", message="%(prog)s %(version)s")
def cli() -> None:
    """Fill a PostgreSQL with believable chat data: users, channels, memberships, messages, reactions.

    With no command it loads. With no database named it uses an embedded PostgreSQL in your data folder.
    """


@cli.command("load")
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
        told(done, database, next_commands(database, database_url, ledger_schema), as_json, quiet)


def told(done: LoadReport, database: Database, following: dict[str, str], as_json: bool, quiet: bool) -> None:
    url = str(database.address)
    if as_json:
        report.print_json(report.load_json(done, url))
    elif not quiet:
        report.print_load(done, url, following)


@cli.command("resume")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@work_options()
@failure_options("keep")
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
@CONSENT_OPTIONS
def resume_command(
    run_number: int | None,
    workers: int | None,
    copy_format: Format,
    on_error: OnError,
    retry_for: float,
    database_url: str | None,
    ledger_schema: str,
    as_json: bool,
    quiet: bool,
    yes: bool,
    allow: str | None,
) -> None:
    """Finish a load that was interrupted: the rows that are not in, then indexes and keys."""
    with opened(database_url) as database:
        address = database.address
        found = run(lambda: interrupted_run(address, run_number, ledger_schema=ledger_schema))
        if found is None:
            return nothing_told(run_number, as_json, quiet)
        check_disk(database, lacking_bytes(found))
        rows = f"{max(0, sum(found.expected.values()) - sum(found.rows.values())):,}"
        question = f"Load the {rows} rows that run {found.number} lacks into {address}?"
        obtain(database, Consent(yes, allow, quiet), question, f"{rows} to come", found.names.tables())
        stop = Stop()
        with shown(quiet=quiet) as watcher:
            done: LoadReport | None = run(
                lambda: resume(
                    address,
                    found.number,
                    watcher=watcher,
                    workers=workers or default_workers(),
                    format=copy_format,
                    on_error=on_error,
                    patience=Patience(seconds=retry_for),
                    ledger_schema=ledger_schema,
                    stop=stop,
                ),
                stop=stop,
            )
        if done is None:  # another has finished it meanwhile
            return nothing_told(run_number, as_json, quiet)
        return told(done, database, next_commands(database, database_url, ledger_schema), as_json, quiet)


def lacking_bytes(found: Run) -> dict[str, float]:
    """The expected bytes of the rows that are not in."""
    return {
        found.names.name(table): size * max(0.0, 1 - found.rows[table] / max(1, found.expected[table]))
        for table, size in expected_bytes(found.plan).items()
    }


def nothing_told(number: int | None, as_json: bool, quiet: bool) -> None:
    if as_json:
        report.print_json({"run": None})
    elif not quiet:
        print("nothing to resume:", "every run is whole" if number is None else f"run {number} is whole")


@cli.command("runs")
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
def runs_command(database_url: str | None, ledger_schema: str, as_json: bool) -> None:
    """List what was loaded: state, rows, when, by whom, and how long it took."""
    with opened(database_url) as database:
        found: list[History] = run(lambda: history(database.address, ledger_schema=ledger_schema))
    if as_json:
        report.print_json({"runs": [each.to_json() for each in found]})
    else:
        report.print_runs(found)


def next_commands(database: Database, option: str | None, ledger_schema: str) -> dict[str, str]:
    # without the password, which PGPASSWORD or ~/.pgpass may give
    shown_url = Address(database.address.url._replace(password=None))
    named = f" --database-url {shlex.quote(str(shown_url))}" if option else ""
    named += Ledger(ledger_schema).option
    commands = {f"bulkseed verify{named}": "prove every rule with SQL"}
    if database.server is not None:
        commands["bulkseed psql"] = "look at the rows"
        commands["bulkseed serve"] = "keep the database up for a load test, and print its URL"
    commands[f"bulkseed cleanup{named}"] = "take the rows out again"
    return commands


@cli.command("init")
@DATABASE_OPTION
@JSON_OPTION
@CONSENT_OPTIONS
def init_command(database_url: str | None, as_json: bool, yes: bool, allow: str | None) -> None:
    """Make the reference tables and the reaction catalogue where they are missing."""
    with opened(database_url) as database:
        question = f"Make what is missing of the reference tables in {database.address}?"
        obtain(database, Consent(yes, allow), question, "none to come but the catalogue's", Model(Scenario()).names)
        made: list[str] = run(initialise, database.address)
        if as_json:
            report.print_json({"made": made, "database_url": str(database.address)})
        else:
            print(f"made {', '.join(made)}" if made else "everything is there", f"in {database.address}")


@cli.command("plan")
@PLAN_OPTIONS
@SHARD_OPTION
@JSON_OPTION
def plan_command(rows_per_shard: int, as_json: bool, **of_plan: Any) -> None:
    """Show the rows, bytes and shards to expect of each table; write nothing."""
    plan = make_plan(**of_plan)
    if as_json:
        report.print_json(report.plan_json(plan, rows_per_shard))
    else:
        report.print_plan(plan, rows_per_shard)


@cli.command("verify")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@DATABASE_OPTION
@LEDGER_OPTION
@JSON_OPTION
@QUIET_OPTION
def verify_command(
    run_number: int | None, database_url: str | None, ledger_schema: str, as_json: bool, quiet: bool
) -> int:
    """Prove every rule with SQL over the loaded tables, for one run or all."""
    with opened(database_url) as database, shown(quiet=quiet) as watcher:
        found: list[VerifyReport] = run(
            lambda: verify(database.address, run_number, watcher=watcher, ledger_schema=ledger_schema)
        )
    holds = all(each.holds for each in found)
    if as_json:
        report.print_json({"holds": holds, "runs": [each.to_json() for each in found]})
    elif not quiet:
        report.print_verify(found)
    return 0 if holds else 1


@cli.command("cleanup")
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
    with opened(database_url) as database:
        found = run(lambda: recorded_runs(database.address, run_number, ledger_schema=ledger_schema))
        rows = sum(sum(each.rows.values()) for each in found)
        runs = "run " + ", ".join(str(each.number) for each in found)
        others = " and all rows that point at them" if cascade else ""
        question = f"Remove the {rows:,} rows of {runs}{others} from {database.address}?"
        tables = list(dict.fromkeys(table for each in found for table in each.names.tables()))
        obtain(database, Consent(yes, allow, quiet), question, f"{rows:,} to be removed", tables, always=True)
        with shown(quiet=quiet) as watcher:
            # as they were when the question was asked
            chosen = [each.claim for each in found]
            done: CleanupReport = run(
                lambda: cleanup(database.address, chosen, cascade=cascade, watcher=watcher, ledger_schema=ledger_schema)
            )
        if as_json:
            report.print_json(report.cleanup_json(done, str(database.address)))
        elif not quiet:
            report.print_cleanup(done)


@cli.command("psql", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS OF PSQL]")
def psql_command(arguments: tuple[str, ...]) -> int:
    """Open the embedded database with its own psql."""
    with running() as server:
        client = subprocess.Popen([server.binaries / "psql", *arguments, server.url])
        while True:
            try:
                return client.wait()
            except KeyboardInterrupt:
                continue  # psql ends its query, not itself


@cli.command("serve")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    metavar="N",
    help=f"The port on 127.0.0.1.  [default: {DEFAULT_PORT}, or any free one]",
)
def serve_command(port: int | None) -> None:
    """Keep the embedded server up on a port of this machine until Ctrl-C, and print its URL."""
    if port is None:
        port = DEFAULT_PORT if is_free(DEFAULT_PORT) else 0
    with opened(None, listen=Listen(port)) as database:
        server = database.server
        assert server is not None
        password = kept_password(server.home)
        run(set_password, database.address, password)
        print(f"postgresql://{server.user}:{password}@127.0.0.1:{server.tcp_port}/{server.database}", flush=True)
        print("bulkseed: serving until Ctrl-C", file=sys.stderr)
        try:
            run(anyio.sleep_forever)
        except (Interrupted, KeyboardInterrupt):
            print("bulkseed: stopping", file=sys.stderr)
