"""Bad input and hostile names: each is refused in one sentence, with status 2, and the database is as it was."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import pytest

from bulkseed.__main__ import failed, main
from bulkseed.embedded import Server
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connected
from bulkseed.sql import identifier
from support.databases import address_of
from support.queries import run_sql

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

CATALOGUE: Final = """
SELECT jsonb_build_array(
    (SELECT jsonb_agg(jsonb_build_array(nspname, nspacl::text) ORDER BY 1) FROM pg_namespace
     WHERE nspname !~ '^pg_(toast_)?temp_'),
    (SELECT jsonb_agg(jsonb_build_array(oid::regclass::text, relkind, relfilenode, relacl::text, reloptions)
                      ORDER BY oid) FROM pg_class WHERE oid >= 16384 AND NOT relnamespace::regnamespace::text ~ '^pg_'),
    (SELECT jsonb_agg(jsonb_build_array(attrelid::regclass::text, attname, atttypid, attnotnull, attisdropped)
                      ORDER BY attrelid, attnum) FROM pg_attribute WHERE attrelid >= 16384),
    (SELECT jsonb_agg(jsonb_build_array(oid, pg_get_constraintdef(oid), convalidated) ORDER BY oid) FROM pg_constraint
     WHERE oid >= 16384),
    (SELECT jsonb_agg(jsonb_build_array(indexrelid, pg_get_indexdef(indexrelid), indisvalid) ORDER BY indexrelid)
     FROM pg_index WHERE indexrelid >= 16384),
    (SELECT jsonb_agg(to_jsonb(s) ORDER BY s::text) FROM pg_sequences AS s),
    (SELECT jsonb_agg(jsonb_build_array(rolname, rolconfig) ORDER BY 1) FROM pg_roles
     WHERE rolname = current_user)
)::text
"""


State = tuple[dict[str, str], str]


async def state(address: Address) -> State:
    """All rows of all tables, as a digest, and all of the schema: objects, sequences, rights, roles."""
    async with connected(address) as connection:
        tables = await connection.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        rows = {
            f"{schema}.{table}": await connection.fetchval(
                "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) "
                f"FROM {identifier(schema, table)} AS t"
            )
            for schema, table in tables
        }
        return rows, await connection.fetchval(CATALOGUE)


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


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that is to be refused; returns what it says."""

    def run(arguments: list[str], said: str, untouched: Untouched) -> str:
        status = main(arguments)
        printed = capsys.readouterr()
        assert status == 2, printed
        assert printed.out == ""
        assert re.fullmatch(rf"(?s)bulkseed: .*{said}.*\n", printed.err), printed.err
        assert all(line.isprintable() for line in printed.err.split("\n"))
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


OPTIONS: Final[dict[str, tuple[list[str], str]]] = {
    "scale empty": (["--scale", ""], "'' is not a positive number"),
    "scale nan": (["--scale", "nan"], "'nan' is not a positive number"),
    "scale infinite": (["--scale", "infx"], "'infx' is not a positive number"),
    "scale of other digits": (["--scale", "\uff11\uff10x"], "is not a positive number"),
    "scale with an underscore": (["--scale", "1_000x"], "'1_000x' is not a positive number"),
    "scale that commands a terminal": (["--scale", "\x1b[2J"], r"'\\x1b\[2J' is not a positive number"),
    "scale of bytes": (["--scale", "\udcff"], "is not a positive number"),
    "seed a fraction": (["--seed", "1.5"], r"--seed.*1\.5"),
    "seed empty": (["--seed", ""], "--seed.*see `bulkseed load --help`"),
    "users too many": (["--users", "9" * 30], "more than one run can make"),
    "users a power": (["--users", "1e3"], "--users.*1e3"),
    "no users": (["--users", "0"], "0 users cannot make"),
    "channels negative": (["--channels", "-1"], "-1 channels cannot make"),
    "no messages": (["--messages-per-channel", "0"], "0 messages cannot make"),
    "members negative": (["--max-members", "-3"], "--max-members -3 is too few"),
    "as_of empty": (["--as-of", ""], "''.*ISO 8601"),
    "as_of no such month": (["--as-of", "2026-13-01"], "'2026-13-01'.*ISO 8601"),
    "as_of no such hour": (["--as-of", "2026-06-01T25:00"], "ISO 8601"),
    "as_of a statement": (["--as-of", DROP], "DROP TABLE users; --'.*ISO 8601"),
    "locale empty": (["--locale", ""], "no locale ''"),
    "locale a path": (["--locale", "../../etc/passwd"], "no locale '../../etc/passwd'"),
    "locale a statement": (["--locale", DROP], "no locale .*DROP TABLE"),
    "locale an emoji": (["--locale", "🦄"], "no locale '🦄'"),
    "locale with a newline": (["--locale", "en_US\n"], r"no locale 'en_US\\n'"),
    "no workers": (["--workers", "0"], "--workers.* 0 "),
    "workers too many": (["--workers", "257"], "--workers.*257"),
    "workers a word": (["--workers", "two"], "--workers.*two"),
    "defer something else": (["--defer", "sometimes"], "--defer.*sometimes.*auto.*always.*never"),
    "format something else": (["--format", "csv"], "--format.*csv.*auto.*records.*binary"),
    "binary for what is not": (["--format", ""], "--format.*auto.*records.*binary"),
    "allow without a name": (["--allow"], "--allow"),
    "allow another": (["--allow", "db-prod/app"], "but the target is"),
    "a command that there is not": (["lod"], "No such command 'lod': did you mean load"),
    "a command like none": (["frobnicate"], "No such command 'frobnicate': see --help"),
    "a command twice": (["load", "load"], "'load' is not an option of a load"),
    "an option that there is not": (["-x"], "-x.*see `bulkseed load --help`"),
    "a value for a flag": (["--json=yes"], "--json"),
    "verify a word": (["verify", "abc"], "RUN.*abc.*see `bulkseed verify --help`"),
    "verify a run that there is not": (["verify", "9"], "no run 9: it has 1"),
    "verify a huge number": (["verify", "9" * 30], "no run 9"),
    "cleanup a fraction": (["cleanup", "1.5", "--yes"], r"RUN.*1\.5.*see `bulkseed cleanup --help`"),
    "cleanup a run that there is not": (["cleanup", "0", "--yes"], "no run 0: it has 1"),
    "cleanup two": (["cleanup", "1", "2", "--yes"], r"\b2\b.*see `bulkseed cleanup --help`"),
    "cleanup and nobody to ask": (["cleanup"], "nobody is there to answer .*give --yes"),
    "cleanup a statement": (["cleanup", DROP, "--yes"], "RUN.*DROP TABLE users; --.*see `bulkseed cleanup --help`"),
    "plan with an option of a load": (["plan", "--yes"], "--yes.*see `bulkseed plan --help`"),
    "init with an argument": (["init", "x"], r"\bx\b.*see `bulkseed init --help`"),
    "a ledger without a name": (["--ledger-schema", ""], "--ledger-schema"),
    "a ledger in the system's schema": (["--ledger-schema", "pg_catalog"], "pg_catalog"),
    "a ledger in a reserved schema": (["--ledger-schema", "pg_mine"], "pg_mine"),
    "a ledger's name too long": (["--ledger-schema", "x" * 64], "--ledger-schema"),
    "a ledger's name of bytes": (["--ledger-schema", "\udcff"], "--ledger-schema"),
    "a ledger's name with NUL": (["--ledger-schema", "a\0b"], "--ledger-schema"),
    "a ledger that there is not": (["verify", "--ledger-schema", DROP], "no run of bulkseed"),
    "resume a word": (["resume", "x"], r"RUN.*\bx\b.*see `bulkseed resume --help`"),
    "resume a run that there is not": (["resume", "7"], "no run 7"),
    "runs with an argument": (["runs", "1"], r"\b1\b.*see `bulkseed runs --help`"),
    "no rows in a shard": (["--rows-per-shard", "0"], "--rows-per-shard.* 0 "),
    "an error's other end": (["--on-error", "ignore"], "--on-error.*ignore.*undo.*keep"),
    "to wait less than nothing": (["--retry-for", "-1"], "--retry-for.*-1"),
    "to wait for what is no number": (["--retry-for", "nan"], "--retry-for"),
    "serve at no port": (["serve", "--port", "70000"], "--port.*70000"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case: str, shared: Untouched, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, said = OPTIONS[case]
    monkeypatch.setenv("DATABASE_URL", shared.address.dsn)
    refused(arguments, said, shared)


URLS: Final[dict[str, tuple[str, str]]] = {
    "blank": (" ", "--database-url is empty"),
    "no URL": ("s3cret", "the database URL cannot be read"),
    "one slash": ("postgresql:/u:s3cret@h/d", "the database URL cannot be read"),
    "another database's": ("mysql://u:s3cret@h/d", "begins with 'mysql'"),
    "a file's": ("sqlite:///s3cret.db", "begins with 'sqlite'"),
    "another driver's": ("postgresql+psycopg://u:s3cret@h/d", r"begins with 'postgresql\+psycopg'"),
    "an @ in the password": ("postgresql://u:half@s3cret@h/d", "write it as %40"),
    "an argument without a name": ("postgresql://u:s3cret@h/d?=1", "a connection parameter is called ''"),
    "a NUL in an argument's name": ("postgresql://u:s3cret@h/d?a%00b=1", "a connection parameter is called"),
    "an open bracket": ("postgresql://u:s3cret@[::1/d", "the database URL cannot be read"),
    "a port that is a word": ("postgresql://u:s3cret@h:port/d", "the database URL cannot be read"),
    "a port too high": ("postgresql://u:s3cret@127.0.0.1:99999/d", "port '99999'"),
    "a port below": ("postgresql://u:s3cret@127.0.0.1/d?port=-1", "port '-1'"),
    "more ports than hosts": ("postgresql://u:s3cret@/d?host=127.0.0.1&port=1,2", "port .* 2 .* 1 host"),
    "NUL in the database": ("postgresql://u:s3cret@127.0.0.1:1/d%00options%00-c", "dbname .* NUL"),
    "NUL in the user": ("postgresql://u%00x:s3cret@127.0.0.1:1/d", "user .* NUL"),
    "NUL in the password": ("postgresql://u:s3cret%00@127.0.0.1:1/d", "password .* NUL"),
    "NUL in an option": ("postgresql://u:s3cret@127.0.0.1:1/d?options=%00", "options .* NUL"),
    "bytes": ("postgresql://u:s3cret@127.0.0.1:1/d\udcff", "the database URL cannot be read"),
    "sslmode": ("postgresql://u:s3cret@127.0.0.1:1/d?sslmode=s%20", "sslmode 's '"),
    "a root that is not there": ("postgresql://u:s3cret@127.0.0.1:1/d?sslmode=verify-ca&sslrootcert=/no", "/no of ssl"),
    "TLS's version": ("postgresql://u:s3cret@127.0.0.1:1/d?ssl_min_protocol_version=TLSv9", "cannot be made .*TLSv9"),
    "TLS's negotiation": ("postgresql://u:s3cret@127.0.0.1:1/d?sslnegotiation=x", "sslnegotiation"),
    "session attributes": ("postgresql://u:s3cret@127.0.0.1:1/d?target_session_attrs=x", "target_session_attrs 'x'"),
    "replication": ("postgresql://u:s3cret@127.0.0.1:1/d?replication=true", "replication"),
    "a service that is not there": ("postgresql://u:s3cret@/d?service=nowhere", "there is no service 'nowhere'"),
    "a socket that is not there": ("postgresql:///d?host=/no/such", "no PostgreSQL answers at /no/such"),
    "a socket's name too long": ("postgresql:///d?host=/" + "x" * 200, "(no PostgreSQL answers|cannot be made)"),
    "a host that there is not": ("postgresql://u:s3cret@no-such-host.invalid/d", "no PostgreSQL answers at no-such-"),
    "a host's name too long": ("postgresql://u:s3cret@" + "a" * 70 + ".invalid/d", "cannot be made"),
    "a host of statements": ("postgresql://u:s3cret@a%22%3B%20DROP/d", "(no PostgreSQL answers|cannot be made)"),
    "nobody there": ("postgresql://u:s3cret@127.0.0.1:1/d", "no PostgreSQL answers at 127.0.0.1:1 "),
}  # fmt: skip


@pytest.mark.parametrize("case", URLS)
def test_urls(case: str, shared: Untouched, refused: Refused) -> None:
    url, said = URLS[case]
    refused(["--yes", "--database-url", url], said, shared)


@pytest.mark.parametrize("part", ["user", "database", "password", "schema"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_names_that_there_are_not(kind: str, part: str, shared: Untouched, listening: Server, refused: Refused) -> None:
    """Each is refused by the server, which is told it as it is."""
    name = HOSTILE[kind]
    port, encoded = listening.tcp_port, quote(name, safe="")
    through = f"host={quote(str(listening.socket_dir), safe='')}&port={port}"
    url, said = {
        "user": (
            f"postgresql://{quote(name + '!', safe='')}@/postgres?{through}",
            "does not let us in .*: correct the user",
        ),
        "database": (f"postgresql://bulkseed@/{quote(name + '!', safe='')}?{through}", "there is no database .* at "),
        "password": (f"postgresql://bulkseed:{encoded}@127.0.0.1:{port}/postgres", "does not let us in"),
        "schema": (
            f"postgresql://bulkseed@/postgres?{through}&options="
            + quote("-c search_path=" + identifier(name).replace("\\", "\\\\").replace(" ", "\\ "), safe=""),
            "no schema to look for tables in",
        ),
    }[part]
    if part == "schema" and any(each.isspace() and each != " " for each in name):
        pytest.skip("the server splits its options at it")
    shown = refused(["--yes", "--database-url", url], said, shared)
    if part == "password":
        assert kind == "the ledger's name" or name not in shown


TARGETS: Final[dict[str, tuple[str, list[str], str]]] = {
    "a missing table": ("DROP TABLE message_reactions", [], "table message_reactions is missing"),
    "no table": ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", [], "tables users, .* are missing"),
    "no schema": ("DROP SCHEMA public CASCADE", [], "no schema to look for tables in"),
    "a missing column": ("ALTER TABLE users DROP bio", [], "column users.bio is missing"),
    "another case": ('ALTER TABLE users RENAME bio TO "Bio"', [], "column users.bio is missing"),
    "a table of another case": ('ALTER TABLE users RENAME TO "Users"', [], "table users is missing"),
    "varchar too short": ("ALTER TABLE users ALTER email TYPE varchar(50)", [], "users.email holds 50 characters"),
    "a domain too short": (
        "CREATE DOMAIN short AS varchar(50); ALTER TABLE users ALTER email TYPE short",
        [],
        "users.email holds 50 characters",
    ),
    "a domain of a domain": (
        "CREATE DOMAIN s AS varchar(50); CREATE DOMAIN t AS s; ALTER TABLE users ALTER email TYPE t",
        [],
        "users.email holds 50 characters",
    ),
    "a text for a boolean": ("ALTER TABLE users ALTER is_active TYPE text", [], "make it boolean"),
    "a time of day": ("ALTER TABLE messages ALTER created_at TYPE time", [], "created_at is of type time"),
    "a number for a text": ("ALTER TABLE users ALTER bio TYPE int USING NULL", [], "users.bio is of type int4"),
    "an array": ("ALTER TABLE users ALTER bio TYPE text[] USING NULL", [], "users.bio is of type"),
    "an enum": ("CREATE TYPE e AS ENUM ('a'); ALTER TABLE users ALTER bio TYPE e USING NULL", [], "users.bio is of"),
    "char that pads": ("ALTER TABLE users ALTER name TYPE char(255)", [], "pads with spaces"),
    "numeric ids": (
        "ALTER TABLE message_reactions DROP CONSTRAINT message_reactions_user_id_fkey, ALTER user_id TYPE numeric",
        [],
        "user_id is of type numeric",
    ),
    "a view": (
        "ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people",
        [],
        "no table in schema 'public' but a view",
    ),
    "a materialized view": (
        "ALTER TABLE users RENAME TO people; CREATE MATERIALIZED VIEW users AS SELECT * FROM people",
        [],
        "no table in schema 'public' but a view",
    ),
    "a generated column": (
        "ALTER TABLE users DROP bio, ADD bio text GENERATED ALWAYS AS (name) STORED",
        [],
        "users.bio is generated",
    ),
    "NOT NULL that nothing fills": ("ALTER TABLE users ADD phone text NOT NULL", [], "nothing fills .*users.phone"),
    "a hostile NOT NULL": (
        f"ALTER TABLE users ADD {identifier(DROP)} text NOT NULL",
        [],
        "nothing fills .*DROP TABLE users; --: give it a default",
    ),
    "NOT NULL where null must be": ("ALTER TABLE channels ALTER join_code SET NOT NULL", [], "join_code is NOT NULL"),
    "no catalogue": ("DELETE FROM reactions", [], "no row with is_system true"),
    "a catalogue of others": ("UPDATE reactions SET is_system = false", [], "no row with is_system true"),
    "a sequence that counts down": ("ALTER SEQUENCE users_id_seq INCREMENT -1 MINVALUE -100", [], "counts down"),
    "a sequence nearly at its end": ("ALTER SEQUENCE messages_id_seq MAXVALUE 50", [], "pass 50, the most"),
    "a sequence at its end": (
        "ALTER SEQUENCE users_id_seq MAXVALUE 5; SELECT setval('users_id_seq', 5)",
        [],
        "more ids from .* pass 5",
    ),
    "ids at their end": (
        "INSERT INTO users (id, auth0_id, email, is_active, created_at, name) OVERRIDING SYSTEM VALUE "
        "VALUES (9223372036854775807, 'a', 'a', true, now(), 'a')",
        [],
        "more ids from .* pass 9,223,372,036,854,775,807",
    ),
    "smallint that points": (
        "ALTER TABLE user_channels DROP CONSTRAINT user_channels_user_id_fkey, ALTER user_id TYPE smallint",
        ["--users", "40000", "--channels", "1", "--messages-per-channel", "1"],
        "40,000 more ids .* pass 32,767",
    ),
    "a domain that pads": (
        "CREATE DOMAIN c AS char(255); ALTER TABLE users ALTER name TYPE c",
        [],
        "users.name is of type c, which pads with spaces",
    ),
    "a domain that is never null": (
        "CREATE DOMAIN d AS text NOT NULL; ALTER TABLE channels ALTER description TYPE d",
        [],
        "channels.description is NOT NULL",
    ),
    "a name": ("ALTER TABLE users ALTER email TYPE name", [], "users.email holds 63 characters: it must hold 80"),
    "row security": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users OWNER TO trainee",
        ["trainee"],
        "(row security is active|lacks rights|may not create)",
    ),
    "row security forced": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY; "
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO trainee; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO trainee",
        ["trainee"],
        'row security is active on "public"."users" for trainee',
    ),
    "no rights": ("SELECT", ["trainee"], "the login trainee lacks rights: GRANT SELECT"),
    "no right to insert": (
        "GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO trainee; "
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO trainee",
        ["trainee"],
        'GRANT INSERT ON "public"."users" TO trainee',
    ),
    "no right to a sequence": (
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO trainee",
        ["trainee"],
        "GRANT USAGE, UPDATE ON SEQUENCE .*users_id_seq.* TO trainee",
    ),
    "no right to the schema": (
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        ["trainee"],
        "(no schema|lacks)",
    ),
    "no right to make the ledger": (
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO trainee; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO trainee",
        ["trainee"],
        "may not create the schema .*bulkseed.*GRANT CREATE ON DATABASE",
    ),
    "no right to connect": (
        "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
        ["trainee"],
        "(does not let us in|refuses a connection)",
    ),
    "read only": (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());"
        " END $$",
        [],
        "only allows reading",
    ),
    "a newer ledger": (
        "CREATE SCHEMA bulkseed; CREATE TABLE bulkseed.runs (plan int, placement int, made_by int, target_schema int); "
        "CREATE TABLE bulkseed.version AS SELECT 99 AS number",
        [],
        "version 99",
    ),
    "a schema of the ledger's name": (
        "CREATE SCHEMA bulkseed; CREATE TABLE bulkseed.runs ()",
        [],
        "has a table 'runs' that is not bulkseed's",
    ),
    "init of a table that does not go with the others": (
        "DROP TABLE message_reactions, messages; ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE",
        ["init"],
        "reference tables cannot be made .*migrations",
    ),
    "verify of nothing": ("SELECT", ["verify"], "no run of bulkseed"),
    "cleanup of nothing": ("SELECT", ["cleanup", "--yes"], "no run of bulkseed"),
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
    change, more, said = TARGETS[case]
    changed(change)
    as_trainee = more[:1] == ["trainee"]
    address = Address(database.url._replace(username="trainee")) if as_trainee else database
    arguments = more[1:] if as_trainee else more
    untouched = Untouched(database, asyncio.run(state(database)))
    refused([*arguments, "--database-url", address.dsn], said, untouched)


async def moved(address: Address, schema: str) -> None:
    """Have the reference tables, their indexes and their constraints in the schema, all with hostile names."""
    async with connected(address) as connection:
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
    async with connected(address) as connection:
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
    assert failed("a:  first\tproblem\n\n  b: \x1b[2Jsecond\r\nbulkseed: \u202ethird\x85fourth\n", 2) == 2
    assert capsys.readouterr().err == (
        "bulkseed: a: first problem\n  b: \\x1b[2Jsecond\n  bulkseed: \\u202ethird fourth\n"
    )
