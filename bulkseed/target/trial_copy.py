"""Temporary copies of the tables to load, and rows of the load in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.sql import SQL, compose, identifier, join
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.target import Target
from bulkseed.target.trial_sample import Samples

__all__ = ["copy_samples", "equal_columns", "make_copy"]

NOT_NULL: Final = """
SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull
  AND attgenerated = '' AND attname <> ALL ($2::text[])
"""
"""The NOT NULL columns that a COPY does not name."""


async def make_copy(connection: Connection, target: Target, table: Table, copy_plan: CopyPlan, name: str) -> None:
    """Make an empty copy of the table in pg_temp, to be dropped at the end of the transaction.

    It has no defaults, as those would move sequences; the columns that they fill may be null. Raises asyncpg's errors.
    """
    original = target.sql_name(table.name)
    await connection.execute(
        compose(
            "CREATE TEMP TABLE {copy} (LIKE {table} INCLUDING GENERATED) ON COMMIT DROP",
            copy=identifier(name),
            table=original,
        )
    )
    not_null = await connection.fetch(NOT_NULL, original, list(copy_plan.columns))
    if not_null:
        actions = (compose("ALTER {column} DROP NOT NULL", column=identifier(row["attname"])) for row in not_null)
        await connection.execute(
            compose("ALTER TABLE {copy} {actions}", copy=identifier(name), actions=join(", ", actions))
        )


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
