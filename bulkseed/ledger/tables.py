"""The ledger's own tables: a schema ``bulkseed`` in the target, made with the first run and gone with the last."""

from __future__ import annotations

import contextlib
from typing import Final

import asyncpg

from bulkseed import deferral
from bulkseed.connection import Connection
from bulkseed.errors import TargetError

__all__ = ["SCHEMA", "check_ledger", "drop_ledger", "exists", "make_ledger", "version"]

SCHEMA: Final = "bulkseed"

RUNS: Final = f"""
COMMENT ON SCHEMA {SCHEMA} IS 'what bulkseed loaded, so that it can be verified and removed';
CREATE TABLE {SCHEMA}.version (number integer NOT NULL);
INSERT INTO {SCHEMA}.version VALUES (1);
CREATE TABLE {SCHEMA}.runs (
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
ALTER TABLE {SCHEMA}.runs
    ADD state text NOT NULL DEFAULT 'whole' CHECK (state IN ('loading', 'whole', 'undoing')),
    ADD expected jsonb,
    ADD rows_per_shard integer;
UPDATE {SCHEMA}.runs SET expected = rows;
ALTER TABLE {SCHEMA}.runs ALTER state DROP DEFAULT, ALTER expected SET NOT NULL;
CREATE TABLE {SCHEMA}.shards (
    run bigint NOT NULL REFERENCES {SCHEMA}.runs ON DELETE CASCADE,
    number integer NOT NULL,
    rows jsonb NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, number)
);
COMMENT ON TABLE {SCHEMA}.shards IS 'the shards that are in, each recorded by the transaction that loaded it';
{deferral.DDL}
UPDATE {SCHEMA}.version SET number = 2;
"""

MIGRATIONS: Final = (RUNS, SHARDS)
"""What makes each version from the one before."""

VERSION: Final = len(MIGRATIONS)


async def exists(connection: Connection) -> bool:
    """Whether there is a ledger in the database."""
    # from the catalogue: to_regclass() raises an error where the login may not use the schema
    return bool(
        await connection.fetchval(
            "SELECT count(*) = 2 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = $1 AND c.relname IN ('runs', 'version')",
            SCHEMA,
        )
    )


async def version(connection: Connection) -> int:
    """The version of the ledger's tables. Raises TargetError for one that this bulkseed does not know."""
    found: int = await connection.fetchval(f"SELECT number FROM {SCHEMA}.version")
    if found > VERSION:
        raise TargetError(
            f"the schema {SCHEMA} is of version {found}, this bulkseed knows {VERSION}: use a newer bulkseed"
        )
    return found


async def check_ledger(connection: Connection) -> None:
    """Raises TargetError where this login cannot keep the ledger, or a newer bulkseed has made it."""
    if await exists(connection):
        lacking = await connection.fetchval(
            """
            SELECT CASE WHEN has_schema_privilege($1, 'USAGE') THEN
                EXISTS (SELECT FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r'
                        AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                                 AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')))
            ELSE true END
            """,
            SCHEMA,
        )
        if lacking:
            raise TargetError(
                f"this login may not write to the schema {SCHEMA}, where runs are recorded: "
                f"GRANT USAGE ON SCHEMA {SCHEMA} and ALL ON ALL TABLES IN SCHEMA {SCHEMA} to it"
            )
        if await version(connection) < VERSION and not await owned(connection):
            raise TargetError(
                f"the schema {SCHEMA} was made by an older bulkseed, and this login may not change its tables: "
                "load as their owner once"
            )
    elif not await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')"):
        raise TargetError(
            f"this login may not create the schema {SCHEMA}, where runs are recorded: GRANT CREATE ON DATABASE to it"
        )


async def owned(connection: Connection) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1::text::regclass", f"{SCHEMA}.runs"
        )
    )


async def make_ledger(connection: Connection) -> None:
    """Make the ledger's tables, or bring them to this version."""
    there = await version(connection) if await exists(connection) else 0
    if not there and not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", SCHEMA):
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    for migration in MIGRATIONS[there:]:
        await connection.execute(migration)


async def drop_ledger(connection: Connection) -> None:
    """Drop the ledger where no run is in it, nothing waits to be rebuilt, and this login owns it."""
    empty = await connection.fetchval(
        f"SELECT NOT EXISTS (SELECT FROM {SCHEMA}.runs) AND "
        "(SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1)",
        SCHEMA,
    )
    if not empty:
        return
    if await version(connection) > 1:
        if await deferral.unfinished(connection):
            return
        await connection.execute(f"DROP TABLE {SCHEMA}.shards, {deferral.TABLE}")
    await connection.execute(f"DROP TABLE {SCHEMA}.runs, {SCHEMA}.version")
    with contextlib.suppress(asyncpg.DependentObjectsStillExistError):  # something of the user's is in it
        async with connection.transaction():
            await connection.execute(f"DROP SCHEMA {SCHEMA}")
