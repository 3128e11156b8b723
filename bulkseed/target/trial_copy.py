"""Temporary copies of the tables to load, and rows of the load in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.sql import SQL, compose, identifier, join, trusted
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.target import Target
from bulkseed.target.trial_sample import Samples

__all__ = ["copy_samples", "equal_columns", "make_copy"]

NOT_NULL: Final = """
SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull
  AND attgenerated = '' AND attname <> ALL ($2::text[])
"""
"""The NOT NULL columns but for $2."""


DEFAULTS: Final = """
WITH defaults AS MATERIALIZED (SELECT oid, adrelid, adnum, adbin FROM pg_attrdef WHERE adrelid = $1::text::regclass),
     written AS MATERIALIZED (SELECT oid, adrelid, adnum, pg_get_expr(adbin, adrelid) AS value FROM defaults)
SELECT a.attname AS name, d.value
FROM written AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE a.attgenerated = '' AND d.value !~* 'nextval|setval'
  AND NOT EXISTS (SELECT FROM pg_depend AS p WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                  AND p.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))
"""
"""The defaults of a table that move no sequence: those that call no function of the database. Others are not written
out, as ``pg_get_expr`` waits for locks of their tables."""


async def make_copy(
    connection: Connection, target: Target, table: Table, not_null: Iterable[str], name: str
) -> set[str]:
    """Make an empty copy of the table in pg_temp, to be dropped at the end of the transaction.

    Only the columns ``not_null`` stay NOT NULL. Returns the columns that have their defaults, which are those that move
    no sequence. Raises asyncpg's errors.
    """
    original = target.sql_name(table.name)
    await connection.execute(
        compose(
            "CREATE TEMP TABLE {copy} (LIKE {table} INCLUDING GENERATED) ON COMMIT DROP",
            copy=identifier(name),
            table=original,
        )
    )
    nullable = await connection.fetch(NOT_NULL, original, list(not_null))
    defaults = await connection.fetch(DEFAULTS, original)
    actions = [compose("ALTER {column} DROP NOT NULL", column=identifier(row["attname"])) for row in nullable]
    actions += [
        compose("ALTER {column} SET DEFAULT {value}", column=identifier(row["name"]), value=trusted(row["value"]))
        for row in defaults
    ]
    if actions:
        await connection.execute(
            compose("ALTER TABLE {copy} {actions}", copy=identifier(name), actions=join(", ", actions))
        )
    return {row["name"] for row in defaults}


async def copy_samples(
    connection: Connection, target: Target, table: Table, copy_plan: CopyPlan, samples: Samples, name: str
) -> None:
    """Copy the samples of the table into its copy in pg_temp. Raises the errors of copy_batches."""
    into = replace(with_keys(copy_plan, table, samples.keys), table=name, schema="pg_temp")
    with translate_errors(connection, f"trying {target.sql_name(table.name)}"):
        await copy_batches(connection, into, iter(samples.batches.get(table.name, ())), lambda _: None)


def equal_columns(keys: Iterable[str], columns: Iterable[str]) -> SQL:
    """Return the condition that the ``keys`` of p equal the ``columns`` of t."""
    return join(
        " AND ",
        (
            compose("{key} = {column}", key=identifier("p", key), column=identifier("t", column))
            for key, column in zip(keys, columns, strict=True)
        ),
    )
