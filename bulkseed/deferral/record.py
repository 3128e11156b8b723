"""Definitions in the ledger: saved before the first is dropped, so that no crash can lose one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bulkseed.deferral.definition import Deferred
from bulkseed.postgres.connection import Connection

__all__ = ["DDL", "forget_rebuilt", "mark_rebuilt", "save", "unfinished"]

DDL: Final = """
CREATE TABLE {table} (
    run bigint NOT NULL,
    place integer NOT NULL,
    definition jsonb NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rebuilt_at timestamptz,
    PRIMARY KEY (run, place)
);
COMMENT ON TABLE {table} IS
    'indexes, keys and foreign keys dropped for a load; those without rebuilt_at have yet to be made again';
"""
"""Makes the table, whose qualified name is to be put in; its schema, the ledger's, must be there.

It has no foreign key to the runs on purpose: definitions must outlive a run whose row is gone.
"""


async def save(connection: Connection, table: str, run: int, deferred: Iterable[Deferred]) -> None:
    """Write the definitions under the number of a run into ``table`` (qualified), as all of these functions do.

    The caller commits, *before* it drops the first.

    Raises what asyncpg raises; a second save under the same run is a UniqueViolationError.
    """
    texts = [each.to_json() for each in deferred]
    await connection.execute(
        f"INSERT INTO {table} (run, place, definition) "
        "SELECT $1, place, definition::jsonb FROM unnest($2::text[]) WITH ORDINALITY AS u (definition, place)",
        run,
        texts,
    )


async def unfinished(connection: Connection, table: str) -> dict[int, tuple[Deferred, ...]]:
    """The definitions that have yet to be rebuilt, by run, in the order in which they were saved.

    Empty where there are none, or no such table. A load must look here first: what another has dropped
    cannot be seen in the catalogue.
    """
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        return {}
    found: dict[int, tuple[Deferred, ...]] = {}
    for row in await connection.fetch(
        f"SELECT run, definition::text AS definition FROM {table} WHERE rebuilt_at IS NULL ORDER BY run, place"
    ):
        found[row["run"]] = (*found.get(row["run"], ()), Deferred.from_json(row["definition"]))
    return found


async def mark_rebuilt(connection: Connection, table: str, run: int, deferred: Iterable[Deferred]) -> None:
    """Record that these definitions of a run are in place again. The caller commits."""
    await connection.execute(
        f"UPDATE {table} SET rebuilt_at = clock_timestamp() "
        "WHERE run = $1 AND rebuilt_at IS NULL AND definition = ANY ($2::text[]::jsonb[])",
        run,
        [each.to_json() for each in deferred],
    )


async def forget_rebuilt(connection: Connection, table: str, run: int) -> None:
    """Delete the definitions of a run that are in place again; nothing where there is no such table."""
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        await connection.execute(f"DELETE FROM {table} WHERE run = $1 AND rebuilt_at IS NOT NULL", run)
