"""The ledger's own tables: in a schema of the target, made with the first run and gone with the last."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from typing import Final

import asyncpg

from bulkseed import deferral
from bulkseed.errors import TargetError
from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, identifier

__all__ = ["SCHEMA", "Ledger", "check_ledger", "drop_ledger", "exists", "make_ledger", "other_ledgers", "version"]

SCHEMA: Final = "bulkseed"
"""The ledger's schema, unless the user names another."""

COMMENT: Final = "what bulkseed loaded, so that it can be verified and removed"
"""On a schema that was made for the ledger, and so goes with it."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where a target's runs are recorded: a schema of its own, or one that is there and has room for the tables."""

    schema: str = SCHEMA

    def table(self, name: str) -> SQL:
        """One of the ledger's tables, qualified and quoted."""
        return identifier(self.schema, name)

    def command(self, words: str) -> str:
        """A command of bulkseed's for the user to type, such as ``resume 3``, with where the ledger is."""
        return f"`bulkseed {words}{self.option}`"

    @property
    def option(self) -> str:
        """What a command is to be given to find the ledger, with a space before it; empty where it is as usual."""
        return "" if self.schema == SCHEMA else f" --ledger-schema {shlex.quote(self.schema)}"

    @property
    def runs(self) -> SQL:
        """The table of runs."""
        return self.table("runs")

    @property
    def shards(self) -> SQL:
        """The table of shards that are in."""
        return self.table("shards")

    @property
    def deferred(self) -> SQL:
        """The table of definitions that :mod:`bulkseed.deferral` saves."""
        return self.table("deferred")


RUNS: Final = """
CREATE TABLE {version} (number integer NOT NULL);
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

SHARDS: Final = f"""
ALTER TABLE {{runs}}
    ADD state text NOT NULL DEFAULT 'whole' CHECK (state IN ('loading', 'whole', 'undoing')),
    ADD expected jsonb,
    ADD rows_per_shard integer;
UPDATE {{runs}} SET expected = rows;
ALTER TABLE {{runs}} ALTER state DROP DEFAULT, ALTER expected SET NOT NULL;
CREATE TABLE {{shards}} (
    run bigint NOT NULL REFERENCES {{runs}} ON DELETE CASCADE,
    number integer NOT NULL,
    rows jsonb NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, number)
);
COMMENT ON TABLE {{shards}} IS 'the shards that are in, each recorded by the transaction that loaded it';
{deferral.DDL.replace("{table}", "{deferred}")}
UPDATE {{version}} SET number = 2;
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

MIGRATIONS: Final = (RUNS, SHARDS, CLAIMS)
"""What makes each version from the one before."""

VERSION: Final = len(MIGRATIONS)

TABLES: Final = ("runs", "version", "shards", "deferred")

MARKS: Final = """
SELECT count(*) FILTER (WHERE (c.relname, a.attname) IN (('runs', 'placement'), ('version', 'number'))) = 2 AS ours,
       min(c.relname::text) AS taken
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname IN ('placement', 'number')
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[])
"""
"""Whether the tables of the ledger are in the schema $1, or else another table that has a name of theirs.

From the catalogue: to_regclass() raises an error where the login may not use the schema."""


async def exists(connection: Connection, ledger: Ledger) -> bool:
    """Whether the ledger is there. Raises TargetError where other tables have its tables' names."""
    found = await connection.fetchrow(MARKS, ledger.schema, list(TABLES))
    if not found["ours"] and found["taken"] is not None:
        raise TargetError(
            f"the schema {ledger.schema!r} has a table {found['taken']!r} that is not bulkseed's, and runs cannot be "
            "recorded there: name another schema with --ledger-schema"
        )
    return bool(found["ours"])


async def other_ledgers(connection: Connection, ledger: Ledger) -> list[Ledger]:
    """The ledgers in other schemas of the database that this login may read."""
    rows = await connection.fetch(
        """
        SELECT n.nspname FROM pg_namespace AS n
        JOIN pg_class AS r ON r.relnamespace = n.oid AND r.relname = 'runs'
        JOIN pg_class AS v ON v.relnamespace = n.oid AND v.relname = 'version'
        JOIN pg_class AS d ON d.relnamespace = n.oid AND d.relname = 'deferred'
        JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attname = 'placement'
        WHERE n.nspname <> $1 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(r.oid, 'SELECT')
          AND has_table_privilege(v.oid, 'SELECT') AND has_table_privilege(d.oid, 'SELECT')
        ORDER BY 1
        """,
        ledger.schema,
    )
    return [Ledger(row["nspname"]) for row in rows]


async def version(connection: Connection, ledger: Ledger) -> int:
    """The version of the ledger's tables. Raises TargetError for one that this bulkseed does not know."""
    found: int = await connection.fetchval(f"SELECT number FROM {ledger.table('version')}")
    if found > VERSION:
        raise TargetError(
            f"the ledger in schema {ledger.schema!r} is of version {found}, this bulkseed knows {VERSION}: "
            "use a newer bulkseed"
        )
    return found


async def check_ledger(connection: Connection, ledger: Ledger) -> None:
    """Raises TargetError where this login cannot keep the ledger, or a newer bulkseed has made it."""
    schema = identifier(ledger.schema)
    user, database = await connection.fetchrow("SELECT quote_ident(current_user), quote_ident(current_database())")
    if await exists(connection, ledger):
        lacking = await connection.fetchval(
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
        if lacking:
            raise TargetError(
                f"this login may not write to the ledger in schema {schema}, where runs are recorded: "
                f"GRANT USAGE ON SCHEMA {schema} TO {user} and GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}, "
                "or name another schema with --ledger-schema"
            )
        if await version(connection, ledger) < VERSION and not await owned(connection, ledger):
            raise TargetError(
                f"the ledger in schema {schema} was made by an older bulkseed, and this login may not change its "
                "tables: load as their owner once"
            )
    elif await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", ledger.schema):
        if not await connection.fetchval(
            "SELECT has_schema_privilege($1, 'USAGE') AND has_schema_privilege($1, 'CREATE')", ledger.schema
        ):
            raise TargetError(
                f"this login may not make tables in the schema {schema}, where runs are to be recorded: "
                f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}, or name another schema with --ledger-schema"
            )
    elif not await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')"):
        raise TargetError(
            f"this login may not create the schema {schema}, where runs are recorded: GRANT CREATE ON DATABASE "
            f"{database} TO {user}, or name a schema where it may make tables with --ledger-schema"
        )


async def owned(connection: Connection, ledger: Ledger) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1::text::regclass", ledger.runs
        )
    )


async def make_ledger(connection: Connection, ledger: Ledger) -> None:
    """Make the ledger's tables, or bring them to this version; a schema that is not there is made for them."""
    there = await version(connection, ledger) if await exists(connection, ledger) else 0
    if not there and not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", ledger.schema
    ):
        await connection.execute(f"CREATE SCHEMA {identifier(ledger.schema)}")
        await connection.execute(f"COMMENT ON SCHEMA {identifier(ledger.schema)} IS '{COMMENT}'")
    for migration in MIGRATIONS[there:]:
        await connection.execute(migration.format(**{name: ledger.table(name) for name in TABLES}))


async def drop_ledger(connection: Connection, ledger: Ledger) -> None:
    """Drop the ledger where no run is in it, nothing waits to be rebuilt, and this login owns it.

    Its schema goes too where it was made for the ledger, and nothing else is in it.
    """
    if not await owned(connection, ledger) or await connection.fetchval(f"SELECT EXISTS (SELECT FROM {ledger.runs})"):
        return
    if await version(connection, ledger) > 1:
        if await deferral.unfinished(connection, ledger.deferred):
            return
        await connection.execute(f"DROP TABLE {ledger.shards}, {ledger.deferred}")
    await connection.execute(f"DROP TABLE {ledger.runs}, {ledger.table('version')}")
    made_for_it = await connection.fetchval(
        "SELECT obj_description(oid, 'pg_namespace') = $2 AND pg_has_role(nspowner, 'USAGE') "
        "FROM pg_namespace WHERE nspname = $1",
        ledger.schema,
        COMMENT,
    )
    if made_for_it:
        with contextlib.suppress(asyncpg.DependentObjectsStillExistError):  # something of the user's is in it
            async with connection.transaction():
                await connection.execute(f"DROP SCHEMA {identifier(ledger.schema)}")
