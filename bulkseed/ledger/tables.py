"""The ledger's own tables: in a schema of the target, created with the first run and dropped with the last."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from typing import Final

import asyncpg

from bulkseed.deferral import DDL, describe_holders, find_unfinished_runs
from bulkseed.errors import TargetError
from bulkseed.listeners import ProgressListener
from bulkseed.load_options import LEDGER_SCHEMA
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.postgres.row_security import find_active_row_security
from bulkseed.postgres.transaction import safe_transaction, trial_transaction
from bulkseed.sql import SQL, compose, identifier, literal

__all__ = [
    "SCHEMA",
    "TABLES",
    "Ledger",
    "check_ledger",
    "check_ledger_privileges",
    "check_readable",
    "drop_empty_ledger",
    "exists",
    "find_other_ledgers",
    "make_ledger",
    "try_ledger",
    "version",
]

SCHEMA: Final = LEDGER_SCHEMA
"""The ledger's schema, unless the user names another."""

COMMENT: Final = "what bulkseed loaded, so that it can be verified and removed"
"""On a schema that was created for the ledger, and is therefore dropped with it."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The schema where a target's runs are recorded: one of its own, or an existing one."""

    schema: str = SCHEMA

    def table(self, name: str) -> SQL:
        """Return the name of one of the ledger's tables, qualified and quoted."""
        return identifier(self.schema, name)

    def command(self, words: str) -> str:
        """Return a command of bulkseed, such as ``resume 3``, in backquotes and with the option for this ledger."""
        return f"`bulkseed {words}{self.option}`"

    @property
    def option(self) -> str:
        """The option that names this ledger, with a space before it; empty for the default schema."""
        return "" if self.schema == SCHEMA else f" --ledger-schema {shlex.quote(self.schema)}"

    @property
    def runs(self) -> SQL:
        """The table of runs."""
        return self.table("runs")

    @property
    def shards(self) -> SQL:
        """The table of loaded shards."""
        return self.table("shards")

    @property
    def deferred(self) -> SQL:
        """The table of definitions that :mod:`bulkseed.deferral` saves."""
        return self.table("deferred")


RUNS: Final = """
CREATE TABLE {version} (number integer PRIMARY KEY);
INSERT INTO {version} VALUES (1);
CREATE TABLE {runs} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_schema text NOT NULL,
    plan jsonb NOT NULL,
    placement jsonb NOT NULL,
    made_by jsonb NOT NULL,
    rows jsonb,
    seconds jsonb,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
"""

SHARDS: Final = """
ALTER TABLE {runs}
    ADD state text NOT NULL DEFAULT 'whole' CHECK (state IN ('loading', 'whole', 'undoing')),
    ADD expected jsonb,
    ADD rows_per_shard integer;
UPDATE {runs} SET expected = rows;
ALTER TABLE {runs} ALTER state DROP DEFAULT, ALTER expected SET NOT NULL;
CREATE TABLE {shards} (
    run bigint NOT NULL REFERENCES {runs} ON DELETE CASCADE,
    number integer NOT NULL,
    rows jsonb NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, number)
);
COMMENT ON TABLE {shards} IS 'the shards that are in, each recorded by the transaction that loaded it';
{create_deferred}
UPDATE {version} SET number = 2;
"""

CLAIMS: Final = """
ALTER TABLE {runs}
    ADD token uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD origin uuid,
    ADD login text,
    ADD client text,
    ADD resumed integer NOT NULL DEFAULT 0;
ALTER TABLE {runs} ALTER token DROP DEFAULT;
COMMENT ON COLUMN {runs}.token IS 'of the command that loads it: a command that holds another has lost the run';
COMMENT ON COLUMN {runs}.origin IS 'the token that it began with';
UPDATE {version} SET number = 3;
"""

SEQUENCES: Final = """
ALTER TABLE {runs} ADD reserved jsonb;
ALTER TABLE {runs} SET (fillfactor = 10);
COMMENT ON COLUMN {runs}.reserved IS 'what it took from sequences, with their state before';
UPDATE {version} SET number = 4;
"""
"""The rows of runs have a page each, with room for three further versions: a full disk does not keep the state of a run
from being changed."""

VERSION: Final = 4
"""The version that the last of :func:`migrations` makes."""

TABLES: Final = ("runs", "version", "shards", "deferred")

FIND_TABLES: Final = """
SELECT count(*) FILTER (WHERE (c.relname, a.attname) IN (('runs', 'placement'), ('version', 'number'))) = 2
       AS is_ledger,
       min(c.relname::text) AS name_in_use
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname IN ('placement', 'number')
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[])
"""
"""Whether the schema $1 has the ledger's tables, and the name of a table there that is one of the names $2.

From the catalogue: to_regclass() raises an error if the user may not use the schema."""


async def exists(connection: Connection, ledger: Ledger) -> bool:
    """Return whether the ledger exists. Raises TargetError if another table has the name of one of its tables."""
    row = await connection.fetchrow(FIND_TABLES, ledger.schema, list(TABLES))
    if not row["is_ledger"] and row["name_in_use"] is not None:
        raise TargetError(
            f"the schema {ledger.schema!r} has a table {row['name_in_use']!r} that is not bulkseed's, so runs cannot "
            "be recorded there: name another schema with --ledger-schema",
            code="ledger-name-in-use",
        )
    return bool(row["is_ledger"])


LACKING: Final = """
SELECT quote_ident(current_user) AS "user", has_schema_privilege(n.oid, 'USAGE') AS may_use,
       ARRAY(SELECT relname::text FROM pg_class AS c WHERE relnamespace = n.oid AND relkind = 'r'
             AND relname = ANY ($2::text[]) AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY 1) AS unreadable,
       ARRAY(SELECT relname::text FROM pg_class AS c WHERE relnamespace = n.oid AND relkind = 'r'
             AND relname = ANY ($2::text[]) AND row_security_active(c.oid) ORDER BY 1) AS restricted
FROM pg_namespace AS n WHERE nspname = $1
"""


async def check_readable(connection: Connection, ledger: Ledger) -> None:
    """Raise TargetError if the user may not read the runs of an existing ledger, or not all of them."""
    row = await connection.fetchrow(LACKING, ledger.schema, ["runs", "version", "shards"])
    if row is None:
        return
    user, schema = row["user"], identifier(ledger.schema)
    grants = [] if row["may_use"] else [f"GRANT USAGE ON SCHEMA {schema} TO {user}"]
    if row["unreadable"]:
        grants.append(f"GRANT SELECT ON {', '.join(map(ledger.table, row['unreadable']))} TO {user}")
    if grants:
        raise TargetError(
            f"the user {user} may not read the ledger in schema {schema}, where runs are recorded: {'; '.join(grants)}",
            code="missing-privilege",
        )
    for name in row["restricted"]:
        active = await find_active_row_security(connection, ledger.table(name))
        if active is not None:
            raise TargetError(
                f"row-level security of {ledger.table(name)}, where runs are recorded, hides rows from the user "
                f"{active.user}: {active.fix}",
                code="row-security",
            )


async def find_other_ledgers(connection: Connection, ledger: Ledger) -> list[Ledger]:
    """Return the ledgers in other schemas of the database that the user may read."""
    rows = await connection.fetch(
        """
        SELECT n.nspname FROM pg_namespace AS n
        JOIN pg_class AS r ON r.relnamespace = n.oid AND r.relname = 'runs'
        JOIN pg_class AS v ON v.relnamespace = n.oid AND v.relname = 'version'
        JOIN pg_class AS d ON d.relnamespace = n.oid AND d.relname = 'deferred'
        JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attname = 'placement'
        WHERE n.nspname <> $1 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(r.oid, 'SELECT')
          AND has_table_privilege(v.oid, 'SELECT') AND has_table_privilege(d.oid, 'SELECT')
          AND NOT (row_security_active(r.oid) OR row_security_active(v.oid) OR row_security_active(d.oid))
        ORDER BY 1
        """,
        ledger.schema,
    )
    return [Ledger(row["nspname"]) for row in rows]


async def version(connection: Connection, ledger: Ledger) -> int:
    """Return the version of the ledger's tables. Raises TargetError for a version that this bulkseed does not know."""
    number: int = await connection.fetchval(compose("SELECT number FROM {version}", version=ledger.table("version")))
    if number > VERSION:
        raise TargetError(
            f"the ledger in schema {ledger.schema!r} is of version {number}, and this bulkseed knows versions up to "
            f"{VERSION}: use a newer bulkseed",
            code="newer-ledger",
        )
    return number


async def check_ledger_privileges(connection: Connection, ledger: Ledger, otherwise: str = "") -> None:
    """Raise TargetError if the user may not write to an existing ledger; ``otherwise`` is another remedy."""
    user, schema = await connection.fetchval("SELECT quote_ident(current_user)"), identifier(ledger.schema)
    lacks_privileges = await connection.fetchval(
        """
        SELECT CASE WHEN has_schema_privilege(n.oid, 'USAGE') THEN
            EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relkind = 'r' AND relname = ANY ($2::text[])
                    AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                             AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')))
            ELSE true END
        FROM pg_namespace AS n WHERE nspname = $1
        """,
        ledger.schema,
        list(TABLES),
    )
    if lacks_privileges:
        raise TargetError(
            f"the user {user} lacks privileges on the ledger, where runs are recorded: "
            f"GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}"
            f"{otherwise}",
            code="missing-privilege",
        )


async def check_ledger(connection: Connection, ledger: Ledger) -> None:
    """Raise TargetError if the user may not write to the ledger, or a newer bulkseed has created it."""
    schema = identifier(ledger.schema)
    user, database = await connection.fetchrow("SELECT quote_ident(current_user), quote_ident(current_database())")
    if await exists(connection, ledger):
        await check_ledger_privileges(connection, ledger, "; or name another schema with --ledger-schema")
        if await version(connection, ledger) < VERSION and not await is_owned(connection, ledger):
            raise TargetError(
                f"the ledger in schema {schema} was created by an older bulkseed, and only the owner of its tables can "
                "upgrade it: load once as their owner",
                code="older-ledger",
            )
    elif await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", ledger.schema):
        if not await connection.fetchval(
            "SELECT has_schema_privilege($1, 'USAGE') AND has_schema_privilege($1, 'CREATE')", ledger.schema
        ):
            raise TargetError(
                f"the user {user} may not create tables in the schema {schema}, where runs are to be recorded: "
                f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}, or name another schema with --ledger-schema",
                code="missing-privilege",
            )
    elif not await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')"):
        raise TargetError(
            f"the user {user} may not create the schema {schema}, where runs are recorded: GRANT CREATE ON DATABASE "
            f"{database} TO {user}, or name with --ledger-schema a schema in which the user may create tables",
            code="missing-privilege",
        )


async def is_owned(connection: Connection, ledger: Ledger) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1::text::regclass", ledger.runs
        )
    )


async def make_ledger(connection: Connection, ledger: Ledger) -> None:
    """Create the ledger's tables, and their schema if need be, or bring the tables to the present version."""
    number = await version(connection, ledger) if await exists(connection, ledger) else 0
    if not number and not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", ledger.schema
    ):
        schema = identifier(ledger.schema)
        await connection.execute(compose("CREATE SCHEMA {schema}", schema=schema))
        await connection.execute(
            compose("COMMENT ON SCHEMA {schema} IS {comment}", schema=schema, comment=literal(COMMENT))
        )
    if 0 < number < VERSION:
        await add_version_key(connection, ledger)
    for migration in migrations(ledger)[number:]:
        await connection.execute(migration)


async def add_version_key(connection: Connection, ledger: Ledger) -> None:
    """Give the table of the version the primary key that older ledgers lack.

    A table without a key refuses UPDATE if a publication includes it, and each migration updates this one.
    """
    table = ledger.table("version")
    has_key = "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = $1::text::regclass AND indisprimary)"
    if not await connection.fetchval(has_key, table):
        await connection.execute(compose("ALTER TABLE {version} ADD PRIMARY KEY (number)", version=table))


TRIAL_SECONDS: Final = 10
PASSED: Final = (asyncpg.InsufficientPrivilegeError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
"""Errors of a trial that others report, with their own fix."""
MADE_MEANWHILE: Final = (
    asyncpg.DuplicateSchemaError,
    asyncpg.DuplicateTableError,
    asyncpg.UniqueViolationError,
    asyncpg.LockNotAvailableError,
)
"""Errors of a trial during which another command makes the ledger."""


async def try_ledger(connection: Connection, ledger: Ledger) -> None:
    """Make the ledger, or its present version, and drop it, in a transaction that is rolled back.

    Raises TargetError where the server forbids either, as event triggers may. asyncpg's errors of connections and
    privileges pass.
    """
    if await exists(connection, ledger):
        if await version(connection, ledger) == VERSION:
            return
    elif not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_event_trigger WHERE evtenabled <> 'D')"):
        return  # only an event trigger can forbid what the user has the privilege for
    doing = "created"
    try:
        async with trial_transaction(connection):
            await connection.execute(compose("SET LOCAL lock_timeout = '{seconds}s'", seconds=TRIAL_SECONDS))
            await make_ledger(connection, ledger)
            doing = "dropped again"
            await drop_ledger(connection, ledger)
    except MADE_MEANWHILE:
        return
    except PASSED:
        raise
    except asyncpg.PostgresError as error:
        raise TargetError(
            f"the ledger in schema {ledger.schema!r}, where runs are recorded, cannot be {doing}: the server refuses: "
            f"{server_message(error)}: if an event trigger forbids it, disable it for the load and the cleanup",
            code="ledger-refused",
        ) from error


def migrations(ledger: Ledger) -> tuple[SQL, ...]:
    """Return the statements that make each version of the tables from the one before."""
    runs, shards, version = ledger.runs, ledger.shards, ledger.table("version")
    create_deferred = compose(DDL, table=ledger.deferred)
    return (
        compose(RUNS, runs=runs, version=version),
        compose(SHARDS, runs=runs, shards=shards, version=version, create_deferred=create_deferred),
        compose(CLAIMS, runs=runs, version=version),
        compose(SEQUENCES, runs=runs, version=version),
    )


DROP_SECONDS: Final = 0.8
"""How long the tables are waited for, during which nobody else can read them."""


async def drop_empty_ledger(connection: Connection, ledger: Ledger, listener: ProgressListener) -> None:
    """Drop the ledger as :func:`drop_ledger` does, in a transaction of its own; a note says why if it stays.

    The caller holds the load lock, so that no run begins meanwhile.
    """
    try:
        async with safe_transaction(connection):
            await connection.execute(
                compose("SET LOCAL lock_timeout = '{milliseconds}ms'", milliseconds=round(DROP_SECONDS * 1000))
            )
            if await exists(connection, ledger):
                await drop_ledger(connection, ledger)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = "the connection was lost"
        if isinstance(error, asyncpg.LockNotAvailableError):
            why = f"it is used by {await describe_holders(connection, [ledger.table(name) for name in TABLES])}"
        elif not connection.is_closed():
            why = " ".join(str(error).split())
        listener.note(f"the empty ledger in schema {ledger.schema} stays ({why}); the next cleanup drops it")


async def drop_ledger(connection: Connection, ledger: Ledger) -> None:
    """Drop the ledger if it has no run, no definition waits to be rebuilt, and the user owns it.

    Its schema is dropped too if it was created for the ledger and is empty.
    """
    if not await is_owned(connection, ledger):
        return
    if await connection.fetchval(compose("SELECT EXISTS (SELECT FROM {runs})", runs=ledger.runs)):
        return
    if await version(connection, ledger) > 1:
        if await find_unfinished_runs(connection, ledger.deferred):
            return
        await connection.execute(
            compose("DROP TABLE {shards}, {deferred}", shards=ledger.shards, deferred=ledger.deferred)
        )
    await connection.execute(compose("DROP TABLE {runs}, {version}", runs=ledger.runs, version=ledger.table("version")))
    is_schema_ours = await connection.fetchval(
        "SELECT obj_description(oid, 'pg_namespace') = $2 AND pg_has_role(nspowner, 'USAGE') "
        "FROM pg_namespace WHERE nspname = $1",
        ledger.schema,
        COMMENT,
    )
    if is_schema_ours:
        with contextlib.suppress(asyncpg.DependentObjectsStillExistError):  # the user has put something into it
            async with connection.transaction():
                await connection.execute(compose("DROP SCHEMA {schema}", schema=identifier(ledger.schema)))
