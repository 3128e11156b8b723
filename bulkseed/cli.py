"""The command line. Results go to stdout, progress and messages to stderr."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, get_args

import anyio
import click

from bulkseed import report
from bulkseed.address import Address
from bulkseed.cleanup import CleanupReport, cleanup, recorded_runs
from bulkseed.consent import CONSENT_OPTIONS, Consent, check_disk, obtain
from bulkseed.deferring import Defer
from bulkseed.embedded import Listen, running
from bulkseed.errors import InputError
from bulkseed.estimate import expected_bytes, expected_rows
from bulkseed.faker_corpus import corpus_of
from bulkseed.initialise import initialise
from bulkseed.lanes import Format
from bulkseed.load import LoadReport, load
from bulkseed.machine import available_cores
from bulkseed.plan import Plan, parse_as_of, scaled_counts
from bulkseed.progress import shown
from bulkseed.runner import Database, Interrupted, opened, run
from bulkseed.serving import DEFAULT_PORT, is_free, kept_password, set_password
from bulkseed.verify import VerifyReport, verify

__all__ = ["cli"]

MOST_WORKERS: Final = 256
DEFAULT_WORKERS: Final = 8
"""Each worker takes a core, some 90 MB of memory, and a connection with a process of the server's."""

Command = TypeVar("Command", bound=Callable[..., Any])


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


def options(*added: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(added):
            command = option(command)
        return command

    return add


PLAN_OPTIONS: Final = options(
    click.option("--scale", default="1x", metavar="S", show_default=True, help="How large, such as 100x or 2.5."),
    click.option("--users", type=int, metavar="N", help="How many users; wins over the scale."),
    click.option("--channels", type=int, metavar="N", help="How many channels; wins over the scale."),
    click.option("--messages-per-channel", type=int, metavar="N", help="How many in each, before replies."),
    click.option("--max-members", type=int, metavar="N", help="The most members of a channel.  [default: all users]"),
    click.option("--seed", type=int, default=1, metavar="N", show_default=True, help="The same seed, the same rows."),
    click.option("--as-of", metavar="WHEN", help="The latest moment in the data, ISO 8601.  [default: now]"),
    click.option("--locale", default="en_US", metavar="L", show_default=True, help="Of names and texts, as Faker's."),
)
DATABASE_OPTION: Final = click.option(
    "--database-url",
    metavar="URL",
    help="The database.  [default: $BULKSEED_DATABASE_URL, $DATABASE_URL, or the embedded one]",
)
JSON_OPTION: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
QUIET_OPTION: Final = click.option("--quiet", is_flag=True, help="Print nothing but errors, and --json's object.")
LOAD_OPTIONS: Final = options(
    click.option(
        "--workers",
        type=click.IntRange(1, MOST_WORKERS),
        metavar="N",
        help=f"Processes that load, over a connection each.  [default: one for each core, at most {DEFAULT_WORKERS}]",
    ),
    click.option(
        "--defer",
        type=click.Choice(get_args(Defer)),
        default="auto",
        show_default=True,
        help="Drop indexes and keys for the load, and rebuild them after it.",
    ),
    click.option(
        "--format",
        "copy_format",
        type=click.Choice(get_args(Format)),
        default="auto",
        show_default=True,
        help="How rows are sent: as COPY's binary format, or as records that the driver encodes.",
    ),
)


@click.group(cls=DefaultsToLoad, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bulkseed", prog_name="bulkseed", message="%(prog)s %(version)s")
def cli() -> None:
    """Fill a PostgreSQL with believable chat data: users, channels, memberships, messages, reactions.

    With no command it loads. With no database named it uses an embedded PostgreSQL in your data folder.
    """


def plan_of(
    scale: str,
    users: int | None,
    channels: int | None,
    messages_per_channel: int | None,
    max_members: int | None,
    seed: int,
    as_of: str | None,
    locale: str,
) -> Plan:
    now = datetime.now(UTC)
    scaled = scaled_counts(scale)

    def count(name: str, alone: int | None) -> int:
        return scaled[name] if alone is None else alone

    return Plan(
        users=count("users", users),
        channels=count("channels", channels),
        messages_per_channel=count("messages_per_channel", messages_per_channel),
        as_of=now if as_of is None else parse_as_of(as_of, now),
        seed=seed,
        max_members=max_members,
        locale=corpus_of(locale).locale,
    )


@cli.command("load")
@PLAN_OPTIONS
@LOAD_OPTIONS
@DATABASE_OPTION
@JSON_OPTION
@QUIET_OPTION
@CONSENT_OPTIONS
@click.argument("rest", nargs=-1, metavar="")
def load_command(
    workers: int | None,
    defer: Defer,
    copy_format: Format,
    database_url: str | None,
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
    plan = plan_of(**of_plan)
    with opened(database_url) as database:
        check_disk(database, expected_bytes(plan))
        rows = f"about {sum(expected_rows(plan).values()):,.0f}"
        question = f"Load {rows} rows into {database.address}?"
        obtain(database, Consent(yes, allow, quiet), question, f"{rows} to come")
        with shown(quiet=quiet) as watcher:
            done: LoadReport = run(
                lambda: load(
                    plan,
                    database.address,
                    watcher=watcher,
                    workers=workers or min(available_cores(), DEFAULT_WORKERS),
                    defer=defer,
                    format=copy_format,
                )
            )
        url = str(database.address)
        if as_json:
            report.print_json(report.load_json(done, url))
        elif not quiet:
            report.print_load(done, url, next_commands(database, database_url))


def next_commands(database: Database, option: str | None) -> dict[str, str]:
    # without the password, which PGPASSWORD or ~/.pgpass may give
    shown_url = Address(database.address.url.set(password=None))
    named = f" --database-url '{shown_url}'" if option else ""
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
        obtain(database, Consent(yes, allow), question, "none to come but the catalogue's")
        made: list[str] = run(initialise, database.address)
        if as_json:
            report.print_json({"made": made, "database_url": str(database.address)})
        else:
            print(f"made {', '.join(made)}" if made else "everything is there", f"in {database.address}")


@cli.command("plan")
@PLAN_OPTIONS
@JSON_OPTION
def plan_command(as_json: bool, **of_plan: Any) -> None:
    """Show the rows, bytes and shards to expect of each table; write nothing."""
    plan = plan_of(**of_plan)
    if as_json:
        report.print_json(report.plan_json(plan))
    else:
        report.print_plan(plan)


@cli.command("verify")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@DATABASE_OPTION
@JSON_OPTION
@QUIET_OPTION
def verify_command(run_number: int | None, database_url: str | None, as_json: bool, quiet: bool) -> int:
    """Prove every rule with SQL over the loaded tables, for one run or all."""
    with opened(database_url) as database, shown(quiet=quiet) as watcher:
        found: list[VerifyReport] = run(lambda: verify(database.address, run_number, watcher=watcher))
    holds = all(each.holds for each in found)
    if as_json:
        report.print_json({"holds": holds, "runs": [each.to_json() for each in found]})
    elif not quiet:
        report.print_verify(found)
    return 0 if holds else 1


@cli.command("cleanup")
@click.argument("run_number", metavar="[RUN]", type=int, required=False)
@DATABASE_OPTION
@JSON_OPTION
@QUIET_OPTION
@click.option("--cascade", is_flag=True, help="Also remove rows of others that point at seeded ones.")
@CONSENT_OPTIONS
def cleanup_command(
    run_number: int | None,
    database_url: str | None,
    as_json: bool,
    quiet: bool,
    cascade: bool,
    yes: bool,
    allow: str | None,
) -> None:
    """Remove what bulkseed put in, of one run or all, and nothing else."""
    with opened(database_url) as database:
        found = run(recorded_runs, database.address, run_number)
        rows = sum(sum(each.rows.values()) for each in found)
        runs = "run " + ", ".join(str(each.number) for each in found)
        others = " and all rows that point at them" if cascade else ""
        question = f"Remove the {rows:,} rows of {runs}{others} from {database.address}?"
        schemas = sorted({each.schema for each in found})
        obtain(database, Consent(yes, allow, quiet), question, f"{rows:,} to be removed", always=True, schemas=schemas)
        with shown(quiet=quiet) as watcher:
            numbers = [each.number for each in found]
            done: CleanupReport = run(lambda: cleanup(database.address, numbers, cascade=cascade, watcher=watcher))
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
