"""Wrong input and hostile names: each is refused with status 2 and its fix, and the database stays as it was."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import click
import pytest

from bulkseed.__main__ import main, report_failure
from bulkseed.cli.main import COMMANDS
from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, InputError, ServerUnavailableError, TargetError
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.sql import identifier
from support.commands import Problem, reported_errors
from support.databases import address_of
from support.queries import run_sql
from support.whole_database import State, state

TABLES: Final = (*TABLE_NAMES, "reactions")
SECRET: Final = "s3cret"
DROP: Final = '"; DROP TABLE users; --'

HOSTILE: Final = {
    "quotes": "a\"b'c`d",
    "a statement": DROP,
    "a statement in a string": "'; DROP TABLE users; --",
    "spaces": "  two  words ",
    "a keyword": "select",
    "capitals": "Users",
    "percent": "100%s %(x)s %20 {0} $1 :name",
    "a backslash": "back\\slash\\'",
    "a newline": "new\nline\ttab",
    "an escape": "\x1b[31mred\x1b[0m",
    "unicode": "naïve Ünïcødé 日本語",
    "an emoji": "🦄👩‍👩‍👧",
    "right to left": "\u202edcba",
    "63 bytes": "x" * 62 + '"',
    "63 bytes of emoji": "🦄" * 15 + "xyz",
    "dots": "a.b.c",
    "dollars": "$$; DROP TABLE users; $$",
    "comments": "/* -- */",
    "a URL's characters": "a/b?c#d@e:f&g=h+i",
    "the ledger's name": "bulkseed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Untouched:
    """A database and what is in it, which is to stay so."""

    address: Address
    state: State


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at a terminal, nothing in the environment."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name in os.environ:
        if name.startswith("PG") or name.endswith("DATABASE_URL"):
            monkeypatch.delenv(name)


Refused = Callable[[list[str], Problem, Untouched], str]


def usage(*facts: str) -> Problem:
    """A command line that the parser refuses."""
    return Problem(click.UsageError, None, facts)


def wrong(*facts: str, code: str | None = None) -> Problem:
    """Wrong input."""
    return Problem(InputError, code, facts)


def schema_name(*facts: str) -> Problem:
    """A name that no schema of a ledger can have."""
    return wrong("--ledger-schema", *facts, code="invalid-schema-name")


def no_answer(*facts: str) -> Problem:
    """A server that does not answer, or refuses the connection."""
    return Problem(ConnectError, None, facts)


def target(*facts: str) -> Problem:
    """A database that does not fit."""
    return Problem(TargetError, None, facts)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that is refused because of a problem, and return its error message."""

    def run(arguments: list[str], problem: Problem, untouched: Untouched) -> str:
        with reported_errors() as errors:
            status = main(arguments)
        printed = capsys.readouterr()
        [error] = errors
        assert status == (4 if isinstance(error, ServerUnavailableError) else 2), printed
        assert printed.out == ""
        problem.check(error, printed.err)
        for secret in (SECRET, "Traceback", "Error("):
            assert secret not in printed.err
        assert asyncio.run(state(untouched.address)) == untouched.state
        return printed.err

    return run


@pytest.fixture(scope="session")
def shared(server: Server, templates: dict[str, str]) -> Untouched:
    """A database with rows of a run, which no test here changes."""
    admin = address_of(server, "postgres")
    asyncio.run(run_sql(admin, f"CREATE DATABASE untouched TEMPLATE {templates['seeded']} STRATEGY file_copy"))
    address = address_of(server, "untouched")
    return Untouched(address, asyncio.run(state(address)))


OPTIONS: Final[dict[str, tuple[list[str], Problem]]] = {
    "scale empty": (["--scale", ""], wrong("--scale", code="empty-option")),
    "scale nan": (["--scale", "nan"], wrong("--scale", "nan")),
    "scale infinite": (["--scale", "infx"], wrong("--scale", "infx")),
    "scale of other digits": (["--scale", "\uff11\uff10x"], wrong("--scale", "\uff11\uff10x")),
    "scale with an underscore": (["--scale", "1_000x"], wrong("--scale", "1_000x")),
    "scale that commands a terminal": (["--scale", "\x1b[2J"], wrong("--scale", r"\x1b[2J")),
    "scale of bytes": (["--scale", "\udcff"], wrong("--scale", r"\udcff")),
    "seed a fraction": (["--seed", "1.5"], usage("--seed", "1.5")),
    "seed empty": (["--seed", ""], usage("--seed", "bulkseed load --help")),
    "users too many": (["--users", "9" * 30], wrong("users", "999,999", "2,000,000,000")),
    "users a power": (["--users", "1e3"], usage("--users", "1e3")),
    "no users": (["--users", "0"], wrong("0 users", "--users", "2")),
    "channels negative": (["--channels", "-1"], wrong("-1 channels", "--channels", "1")),
    "no messages": (["--messages-per-channel", "0"], wrong("0 messages", "--messages-per-channel", "1")),
    "members negative": (["--max-members", "-3"], wrong("--max-members", "-3")),
    "as_of empty": (["--as-of", ""], wrong("--as-of", code="empty-option")),
    "as_of no such month": (["--as-of", "2026-13-01"], wrong("--as-of", "2026-13-01", "ISO 8601")),
    "as_of no such hour": (["--as-of", "2026-06-01T25:00"], wrong("--as-of", "2026-06-01T25:00", "ISO 8601")),
    "as_of a statement": (["--as-of", DROP], wrong("--as-of", DROP, "ISO 8601")),
    "locale empty": (["--locale", ""], wrong("--locale", code="empty-option")),
    "scenario empty": (["--scenario", ""], wrong("--scenario", code="empty-option")),
    "schema empty": (["--schema", " "], wrong("--schema", code="empty-option")),
    "metadata empty": (["--metadata", ""], wrong("--metadata", code="empty-option")),
    "plugin empty": (["--plugin", "a:b", "--plugin", ""], wrong("--plugin", code="empty-option")),
    "allow empty": (["--allow", ""], wrong("--allow", code="empty-option")),
    "locale a path": (["--locale", "../../etc/passwd"], wrong("locale", "../../etc/passwd")),
    "locale a statement": (["--locale", DROP], wrong("locale", DROP)),
    "locale an emoji": (["--locale", "🦄"], wrong("locale", "🦄")),
    "locale with a newline": (["--locale", "en_US\n"], wrong("locale", r"en_US\n")),
    "no workers": (["--workers", "0"], usage("--workers", " 0 ")),
    "workers too many": (["--workers", "257"], usage("--workers", "257")),
    "workers a word": (["--workers", "two"], usage("--workers", "two")),
    "defer something else": (["--defer", "sometimes"], usage("--defer", "sometimes", "auto", "always", "never")),
    "format something else": (["--format", "csv"], usage("--format", "csv", "auto", "records", "binary")),
    "format empty": (["--format", ""], usage("--format", "auto", "records", "binary")),
    "allow without a name": (["--allow"], usage("--allow")),
    "allow another": (["--allow", "db-prod/app"], wrong("--allow", "db-prod/app", "/untouched")),
    "an unknown command like a known one": (["lod"], usage("lod", "load")),
    "an unknown command": (["frobnicate"], usage("frobnicate", *COMMANDS)),
    "a command twice": (["load", "load"], wrong("load", code="unexpected-argument")),
    "a scale without its option": (["load", "10x"], wrong("--scale 10x", code="unexpected-argument")),
    "a scale alone": (["2.5x"], usage("--scale 2.5x")),
    "a word of no meaning": (["load", "more"], wrong("'more'", "bulkseed load --help", code="unexpected-argument")),
    "an unknown option": (["-x"], usage("-x", "bulkseed load --help")),
    "a value for a flag": (["--json=yes"], usage("--json")),
    "verify a word": (["verify", "abc"], usage("RUN", "abc", "bulkseed verify --help")),
    "verify a run that is not recorded": (["verify", "9"], wrong("9", "1")),
    "verify a huge number": (["verify", "9" * 30], wrong("9" * 30)),
    "cleanup a fraction": (["cleanup", "1.5", "--yes"], usage("RUN", "1.5", "bulkseed cleanup --help")),
    "cleanup a run that is not recorded": (["cleanup", "0", "--yes"], wrong("0", "1")),
    "cleanup two": (["cleanup", "1", "2", "--yes"], usage("2", "bulkseed cleanup --help")),
    "cleanup without a terminal": (["cleanup"], wrong("run 1", "/untouched", "--yes", code="confirmation-needed")),
    "cleanup a statement": (["cleanup", DROP, "--yes"], usage("RUN", DROP, "bulkseed cleanup --help")),
    "plan with an option of load": (["plan", "--yes"], usage("--yes", "bulkseed plan --help")),
    "init with an argument": (["init", "x"], usage("x", "bulkseed init --help")),
    "a ledger without a name": (["--ledger-schema", ""], schema_name("''")),
    "a ledger in the system's schema": (["--ledger-schema", "pg_catalog"], schema_name("pg_catalog")),
    "a ledger in a reserved schema": (["--ledger-schema", "pg_mine"], schema_name("pg_mine")),
    "a ledger's name too long": (["--ledger-schema", "x" * 64], schema_name("x" * 64)),
    "a ledger's name of bytes": (["--ledger-schema", "\udcff"], schema_name(r"\udcff")),
    "a ledger's name with NUL": (["--ledger-schema", "a\0b"], schema_name(r"a\x00b")),
    "a ledger that does not exist": (["verify", "--ledger-schema", DROP], wrong(DROP)),
    "resume a word": (["resume", "x"], usage("RUN", "x", "bulkseed resume --help")),
    "resume a run that is not recorded": (["resume", "7"], wrong("7", "1")),
    "runs with an argument": (["runs", "1"], usage("1", "bulkseed runs --help")),
    "no rows in a shard": (["--rows-per-shard", "0"], usage("--rows-per-shard", " 0 ")),
    "an unknown way to end": (["--on-error", "ignore"], usage("--on-error", "ignore", "undo", "keep")),
    "a negative time to retry": (["--retry-for", "-1"], usage("--retry-for", "-1")),
    "a time to retry that is no number": (
        ["--retry-for", "nan"],
        wrong("--retry-for", "nan", code="invalid-duration"),
    ),
    "serve on an impossible port": (["serve", "--port", "70000"], usage("--port", "70000")),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case: str, shared: Untouched, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, problem = OPTIONS[case]
    monkeypatch.setenv("BULKSEED_DATABASE_URL", shared.address.dsn)
    refused(arguments, problem, shared)


URLS: Final[dict[str, tuple[str, Problem]]] = {
    "blank": (" ", wrong("--database-url")),
    "no URL": ("s3cret", wrong("postgresql://")),
    "one slash": ("postgresql:/u:s3cret@h/d", wrong("postgresql://")),
    "another database's": ("mysql://u:s3cret@h/d", wrong("mysql", "postgresql://")),
    "a file's": ("sqlite:///s3cret.db", wrong("sqlite", "postgresql://")),
    "another program's driver": ("postgresql+ssh://u:s3cret@h/d", wrong("postgresql+ssh", "postgresql://u:***@h/d")),
    "an @ in the password": ("postgresql://u:half@s3cret@h/d", wrong("%40")),
    "an argument without a name": ("postgresql://u:s3cret@h/d?=1", wrong("parameter", "''")),
    "a NUL in an argument's name": ("postgresql://u:s3cret@h/d?a%00b=1", wrong("parameter", r"a\x00b")),
    "an open bracket": ("postgresql://u:s3cret@[::1/d", wrong("postgresql://")),
    "a port that is a word": ("postgresql://u:s3cret@h:port/d", wrong("postgresql://")),
    "a port too high": ("postgresql://u:s3cret@127.0.0.1:99999/d", wrong("port", "99999")),
    "a port below": ("postgresql://u:s3cret@127.0.0.1/d?port=-1", wrong("port", "-1")),
    "more ports than hosts": ("postgresql://u:s3cret@/d?host=127.0.0.1&port=1,2", wrong("2", "port", "1", "host")),
    "NUL in the database": ("postgresql://u:s3cret@127.0.0.1:1/d%00options%00-c", wrong("dbname", "NUL")),
    "NUL in the user": ("postgresql://u%00x:s3cret@127.0.0.1:1/d", wrong("user", "NUL")),
    "NUL in the password": ("postgresql://u:s3cret%00@127.0.0.1:1/d", wrong("password", "NUL")),
    "NUL in an option": ("postgresql://u:s3cret@127.0.0.1:1/d?options=%00", wrong("options", "NUL")),
    "bytes": ("postgresql://u:s3cret@127.0.0.1:1/d\udcff", wrong("postgresql://")),
    "sslmode": ("postgresql://u:s3cret@127.0.0.1:1/d?sslmode=s%20", wrong("sslmode", "'s '", "verify-full")),
    "a root that does not exist": (
        "postgresql://u:s3cret@127.0.0.1:1/d?sslmode=verify-ca&sslrootcert=/no",
        wrong("sslrootcert", "/no"),
    ),
    "TLS's version": ("postgresql://u:s3cret@127.0.0.1:1/d?ssl_min_protocol_version=TLSv9", wrong("TLSv9")),
    "TLS's negotiation": ("postgresql://u:s3cret@127.0.0.1:1/d?sslnegotiation=x", wrong("sslnegotiation")),
    "session attributes": (
        "postgresql://u:s3cret@127.0.0.1:1/d?target_session_attrs=x",
        wrong("target_session_attrs", "'x'", "read-write"),
    ),
    "replication": ("postgresql://u:s3cret@127.0.0.1:1/d?replication=true", wrong("replication")),
    "a service that does not exist": ("postgresql://u:s3cret@/d?service=nowhere", wrong("nowhere", "PGSERVICEFILE")),
    "a socket that does not exist": ("postgresql:///d?host=/no/such", no_answer("/no/such")),
    "a socket's name too long": ("postgresql:///d?host=/" + "x" * 200, no_answer("/xxx")),
    "a host that does not exist": ("postgresql://u:s3cret@no-such-host.invalid/d", no_answer("no-such-host.invalid")),
    "a host's name too long": ("postgresql://u:s3cret@" + "a" * 70 + ".invalid/d", no_answer("aaa.invalid")),
    "a host of statements": ("postgresql://u:s3cret@a%22%3B%20DROP/d", no_answer('a"; DROP')),
    "no server": ("postgresql://u:s3cret@127.0.0.1:1/d", no_answer("127.0.0.1:1")),
}  # fmt: skip


@pytest.mark.parametrize("case", URLS)
def test_urls(case: str, shared: Untouched, refused: Refused) -> None:
    url, problem = URLS[case]
    told = refused(["load", "--yes", "--database-url", url], problem, shared)
    assert refused(["check", "--database-url", url], problem, shared) == told


@pytest.mark.parametrize("part", ["user", "database", "password", "schema"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_names_that_do_not_exist(kind: str, part: str, shared: Untouched, listening: Server, refused: Refused) -> None:
    """Each is sent to the server unchanged, and refused by it."""
    name = HOSTILE[kind]
    port, encoded = listening.tcp_port, quote(name, safe="")
    through = f"host={quote(str(listening.socket_dir), safe='')}&port={port}"
    url, problem = {
        "user": (f"postgresql://{quote(name + '!', safe='')}@/postgres?{through}", no_answer("user")),
        "database": (f"postgresql://bulkseed@/{quote(name + '!', safe='')}?{through}", no_answer("database")),
        "password": (f"postgresql://bulkseed:{encoded}@127.0.0.1:{port}/postgres", no_answer("password")),
        "schema": (
            f"postgresql://bulkseed@/postgres?{through}&options="
            + quote("-c search_path=" + identifier(name).replace("\\", "\\\\").replace(" ", "\\ "), safe=""),
            target("--schema", "search_path"),
        ),
    }[part]
    if part == "schema" and any(character.isspace() and character != " " for character in name):
        pytest.skip("the server splits its options at such white space")
    shown = refused(["--yes", "--database-url", url], problem, shared)
    if part == "password":
        assert kind == "the ledger's name" or name not in shown


TARGETS: Final[dict[str, tuple[str, list[str], Problem]]] = {
    "a missing table": ("DROP TABLE message_reactions", [], target("message_reactions", "public", "bulkseed init")),
    "no table": ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", [], target(*TABLES, "public", "bulkseed init")),
    "no schema": ("DROP SCHEMA public CASCADE", [], target("schema", "--schema", "search_path")),
    "a missing column": ("ALTER TABLE users DROP bio", [], target("users.bio")),
    "another case": ('ALTER TABLE users RENAME bio TO "Bio"', [], target("users.bio")),
    "a table of another case": ('ALTER TABLE users RENAME TO "Users"', [], target("users", "public")),
    "varchar too short": ("ALTER TABLE users ALTER email TYPE varchar(50)", [], target("users.email", "50", "80")),
    "a domain too short": (
        "CREATE DOMAIN short AS varchar(50); ALTER TABLE users ALTER email TYPE short",
        [],
        target("users.email", "50", "80"),
    ),
    "a domain of a domain": (
        "CREATE DOMAIN s AS varchar(50); CREATE DOMAIN t AS s; ALTER TABLE users ALTER email TYPE t",
        [],
        target("users.email", "50", "80"),
    ),
    "a text for a boolean": (
        "ALTER TABLE users ALTER is_active TYPE text",
        [],
        target("users.is_active", "text", "boolean"),
    ),
    "a time of day": (
        "ALTER TABLE messages ALTER created_at TYPE time",
        [],
        target("messages.created_at", "time", "timestamptz"),
    ),
    "a number for a text": ("ALTER TABLE users ALTER bio TYPE int USING NULL", [], target("users.bio", "int4", "text")),
    "an array": ("ALTER TABLE users ALTER bio TYPE text[] USING NULL", [], target("users.bio", "text[]")),
    "an enum": ("CREATE TYPE e AS ENUM ('a'); ALTER TABLE users ALTER bio TYPE e USING NULL", [], target("users.bio")),
    "char that pads": (
        "ALTER TABLE users ALTER name TYPE char(255)",
        [],
        target("users.name", "character(255)", "varchar"),
    ),
    "numeric ids": (
        "ALTER TABLE message_reactions DROP CONSTRAINT message_reactions_user_id_fkey, ALTER user_id TYPE numeric",
        [],
        target("message_reactions.user_id", "numeric", "bigint"),
    ),
    "a view": (
        "ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people",
        [],
        target("users", "view"),
    ),
    "a materialized view": (
        "ALTER TABLE users RENAME TO people; CREATE MATERIALIZED VIEW users AS SELECT * FROM people",
        [],
        target("users", "view"),
    ),
    "a generated column": (
        "ALTER TABLE users DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED",
        [],
        target("users.bio", "generated"),
    ),
    "NOT NULL that nothing fills": (
        "ALTER TABLE users ADD phone text NOT NULL",
        [],
        target("NOT NULL", "users.phone", "[fields.users]"),
    ),
    "a hostile NOT NULL": (
        f"ALTER TABLE users ADD {identifier(DROP)} text NOT NULL",
        [],
        target("NOT NULL", DROP, "[fields.users]"),
    ),
    "NOT NULL where null must be": (
        "ALTER TABLE channels ALTER join_code SET NOT NULL",
        [],
        target("channels.join_code", "NOT NULL"),
    ),
    "no catalogue": ("DELETE FROM reactions", [], target("reactions", "is_system")),
    "a catalogue of others": ("UPDATE reactions SET is_system = false", [], target("reactions", "is_system")),
    "a sequence that counts down": (
        "ALTER SEQUENCE users_id_seq INCREMENT -1 MINVALUE -100",
        [],
        target("users_id_seq", "users"),
    ),
    "a sequence nearly at its end": ("ALTER SEQUENCE messages_id_seq MAXVALUE 50", [], target("240", "messages", "50")),
    "a sequence at its end": (
        "ALTER SEQUENCE users_id_seq MAXVALUE 5; SELECT setval('users_id_seq', 5)",
        [],
        target("20", "users", "6", "5"),
    ),
    "ids at their end": (
        "INSERT INTO users (id, auth0_id, email, is_active, created_at, name) OVERRIDING SYSTEM VALUE "
        "VALUES (9223372036854775807, 'a', 'a', true, now(), 'a')",
        [],
        target("20", "users", "9,223,372,036,854,775,807"),
    ),
    "smallint that points": (
        "ALTER TABLE user_channels DROP CONSTRAINT user_channels_user_id_fkey, ALTER user_id TYPE smallint",
        ["--users", "40000", "--channels", "1", "--messages-per-channel", "1"],
        target("40,000", "users", "32,767"),
    ),
    "a domain that pads": (
        "CREATE DOMAIN c AS char(255); ALTER TABLE users ALTER name TYPE c",
        [],
        target("users.name", "type c", "varchar"),
    ),
    "a domain that is never null": (
        "CREATE DOMAIN d AS text NOT NULL; ALTER TABLE channels ALTER description TYPE d",
        [],
        target("channels.description", "NOT NULL"),
    ),
    "a name": ("ALTER TABLE users ALTER email TYPE name", [], target("users.email", "63", "80")),
    "row security": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users OWNER TO trainee",
        ["trainee"],
        target("trainee"),
    ),
    "row security forced": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY; "
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO trainee; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO trainee",
        ["trainee"],
        target('"public"."users"', "trainee", "BYPASSRLS"),
    ),
    "no rights": ("SELECT", ["trainee"], target('GRANT SELECT, INSERT, DELETE ON "public"."users" TO trainee')),
    "no right to insert": (
        "GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO trainee; "
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO trainee",
        ["trainee"],
        target('GRANT INSERT ON "public"."users" TO trainee'),
    ),
    "no right to a sequence": (
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO trainee",
        ["trainee"],
        target("GRANT USAGE, UPDATE ON SEQUENCE users_id_seq TO trainee"),
    ),
    "no right to the schema": (
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        ["trainee"],
        target("schema"),
    ),
    "no right to make the ledger": (
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO trainee; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO trainee",
        ["trainee"],
        target("bulkseed", "GRANT CREATE ON DATABASE", "trainee", "--ledger-schema"),
    ),
    "no right to connect": (
        "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
        ["trainee"],
        no_answer(),
    ),
    "read only": (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());"
        " END $$",
        [],
        target("default_transaction_read_only"),
    ),
    "a newer ledger": (
        "CREATE SCHEMA bulkseed; CREATE TABLE bulkseed.runs (plan int, placement int, made_by int, target_schema int); "
        "CREATE TABLE bulkseed.version AS SELECT 99 AS number",
        [],
        target("99", "4"),
    ),
    "a schema of the ledger's name": (
        "CREATE SCHEMA bulkseed; CREATE TABLE bulkseed.runs ()",
        [],
        target("bulkseed", "runs", "--ledger-schema"),
    ),
    "init of a table that does not go with the others": (
        "DROP TABLE message_reactions, messages; ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE",
        ["init"],
        target("users"),
    ),
    "verify of nothing": ("SELECT", ["verify"], wrong("run")),
    "cleanup of another run": ("SELECT", ["cleanup", "7", "--yes"], wrong("run")),
}


@pytest.fixture(scope="session", autouse=True)
def trainee(server: Server) -> None:
    """A login without rights."""
    asyncio.run(run_sql(address_of(server, "postgres"), "DROP ROLE IF EXISTS trainee", "CREATE ROLE trainee LOGIN"))


@pytest.fixture
def changed(database: Address) -> Callable[[str], None]:
    """Changes the test's database."""
    return lambda sql: asyncio.run(run_sql(database, sql))


@pytest.mark.parametrize("case", TARGETS)
def test_targets(case: str, database: Address, changed: Callable[[str], None], refused: Refused) -> None:
    change, more, problem = TARGETS[case]
    changed(change)
    as_trainee = more[:1] == ["trainee"]
    address = Address(database.url._replace(username="trainee")) if as_trainee else database
    arguments = more[1:] if as_trainee else more
    untouched = Untouched(database, asyncio.run(state(database)))
    told = refused([*arguments, "--database-url", address.dsn], problem, untouched)
    if arguments[:1] not in (["init"], ["verify"], ["cleanup"]):
        assert refused(["check", *arguments, "--database-url", address.dsn], problem, untouched) == told


async def moved(address: Address, schema: str) -> None:
    """Have the reference tables, their indexes and their constraints in the schema, all with hostile names."""
    async with open_connection(address) as connection:
        if schema != "public":
            await connection.execute(f"ALTER SCHEMA public RENAME TO {identifier(schema)}")
        await connection.execute(
            f"ALTER DATABASE {identifier(address.database)} SET search_path = {identifier(schema)}"
        )
        renames = await connection.fetch(
            """
            SELECT format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', conrelid::regclass, conname,
                          left($1, 10) || row_number() OVER (ORDER BY conname)) AS sql
            FROM pg_constraint WHERE conrelid >= 16384 AND contype IN ('p', 'u', 'f')
            UNION ALL
            SELECT format('ALTER INDEX %s RENAME TO %I', indexrelid::regclass,
                          left($1, 10) || 'i' || row_number() OVER (ORDER BY indexrelid))
            FROM pg_index WHERE indexrelid >= 16384 AND NOT indisunique AND indrelid::regclass::text !~ 'pg_'
            """,
            schema,
        )
        for row in renames:
            await connection.execute(row["sql"])


@pytest.mark.parametrize("kind", list(HOSTILE)[::3])  # each takes seconds, and what quotes them is the same
def test_a_load_among_hostile_names(
    kind: str, server: Server, templates: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Database, schema, login, indexes and constraints are named so; a load works as elsewhere, and leaves no trace."""
    name = HOSTILE[kind]
    schema = name if name != "bulkseed" else "public"
    admin = address_of(server, "postgres")
    create = f"CREATE DATABASE {identifier(name + '_'[: 63 - len(name.encode())])} TEMPLATE {templates['reference']}"
    database = name + "_"[: 63 - len(name.encode())]
    login = name if name != "bulkseed" else "bulkseed's"
    asyncio.run(
        run_sql(
            admin,
            f"{create} STRATEGY file_copy",
            f"CREATE ROLE {identifier(login)} LOGIN PASSWORD 'p'",
        )
    )
    address = Address(admin.url._replace(database=database))
    try:
        asyncio.run(moved(address, schema))
        asyncio.run(
            run_sql(
                address,
                f"ALTER DATABASE {identifier(database)} OWNER TO {identifier(login)}",
                f"ALTER SCHEMA {identifier(schema)} OWNER TO {identifier(login)}",
                *(f"ALTER TABLE {identifier(schema, each)} OWNER TO {identifier(login)}" for each in TABLES),
            )
        )
        url = (
            f"postgresql://{quote(login, safe='')}@/{quote(database, safe='')}"
            f"?host={quote(str(server.socket_dir), safe='')}&port={server.port}"
        )
        ours = Address.parse(url)
        assert (ours.database, ours.parameters["user"]) == (database, login)
        before = asyncio.run(contents(ours, schema)), dumped(server, ours)
        ledger = "l" + name.encode()[:62].decode(errors="ignore")
        for arguments in (
            ["--workers", "1", "--defer", "always", "--json"],
            ["verify", "--json"],
            ["cleanup", "--yes", "--json"],
        ):
            named = [*arguments, "--ledger-schema", ledger, "--database-url", url]
            assert main(named) == 0, capsys.readouterr().err
            capsys.readouterr()
        assert (asyncio.run(contents(ours, schema)), dumped(server, ours)) == before
    finally:
        asyncio.run(
            run_sql(admin, f"DROP DATABASE {identifier(database)} WITH (FORCE)", f"DROP ROLE {identifier(login)}")
        )


async def contents(address: Address, schema: str) -> dict[str, int]:
    async with open_connection(address) as connection:
        names = [
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
        ]
        return {name: await connection.fetchval(f"SELECT count(*) FROM {identifier(schema, name)}") for name in names}


def dumped(server: Server, address: Address) -> str:
    # a name of its own would be taken for a URL or a list of parameters
    value = address.database.replace("\\", "\\\\").replace("'", "\\'")
    named = f"dbname='{value}' host='{server.socket_dir}' port={server.port} user=bulkseed"
    done = subprocess.run(
        [server.binaries / "pg_dump", "--schema-only", "-d", named], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_errors_keep_their_lines_and_command_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    message = "a:  first\tproblem\n\n  b: \x1b[2Jsecond\r\nbulkseed: \u202ethird\x85fourth\n"
    assert report_failure(message, 2, "some-code") == 2
    assert capsys.readouterr().err == (
        "bulkseed: error [some-code]: a: first problem\n  b: \\x1b[2Jsecond\n  bulkseed: \\u202ethird fourth\n"
    )
