"""Temporary copies of the tables to load, and rows of the load in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import asyncpg
import pyarrow as pa

from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.errors import ConnectionLostError, InputError, RunError
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.transaction import RollBack
from bulkseed.sql import SQL, compose, identifier, join, trusted
from bulkseed.target.target import Problem, Target

__all__ = ["equal_columns", "fill_copy", "make_copy"]

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


async def fill_copy(
    connection: Connection,
    target: Target,
    table: Table,
    copy_plan: CopyPlan,
    batches: Iterable[pa.RecordBatch],
    name: str,
    *,
    not_null: bool = True,
) -> tuple[set[str], list[Problem]]:
    """Make a copy of the table as :func:`make_copy` does, and copy rows into it, in a ``trial_transaction``.

    Return the columns that have their defaults, and the problem of values that the copy refuses. ``not_null``: whether
    the columns of ``copy_plan`` stay NOT NULL. Raises RollBack without the privilege TEMPORARY, since the load itself
    then finds the problems, and ConnectionLostError.
    """
    try:
        defaults = await make_copy(connection, target, table, copy_plan.columns if not_null else (), name)
    except asyncpg.InsufficientPrivilegeError:
        raise RollBack from None  # nobody sees this exception
    into = replace(copy_plan, table=name, schema="pg_temp")
    try:
        with translate_errors(connection, f"trying {target.sql_name(table.name)}"):
            await copy_batches(connection, into, iter(batches), lambda _: None)
    except ConnectionLostError:
        raise
    except (RunError, InputError) as error:
        return defaults, [Problem(error.code, str(error).replace(str(into), target.model.name(table.name)))]
    return defaults, []


def equal_columns(keys: Iterable[str], columns: Iterable[str]) -> SQL:
    """Return the condition that the ``keys`` of p equal the ``columns`` of t."""
    return join(
        " AND ",
        (
            compose("{key} = {column}", key=identifier("p", key), column=identifier("t", column))
            for key, column in zip(keys, columns, strict=True)
        ),
    )
