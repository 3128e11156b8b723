"""Which lane a table's COPY takes: the binary one where the server's own types of all its columns allow it.

Binary COPY does not check types: bytes made for another type may load as wrong values. So what decides is the
catalog, read when the load begins, and not the name of a type in a model or a migration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from bulkseed.connection import Connection
from bulkseed.copy import CopyInto, Lane
from bulkseed.encoders import BINARY_TYPES
from bulkseed.errors import TargetError
from bulkseed.fitting import Fit
from bulkseed.identifiers import qualified, quoted
from bulkseed.tables import Table
from bulkseed.target import Target

__all__ = ["Format", "choose_lanes", "copy_into"]

Format = Literal["auto", "records", "binary"]
"""The lane that is asked for: ``auto`` is binary for each table that allows it."""

TYPES_SQL: Final = """
WITH RECURSIVE base AS (
    SELECT attname, atttypid AS type, format_type(atttypid, atttypmod) AS declared
    FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, t.typbasetype, declared FROM base JOIN pg_type AS t ON t.oid = type WHERE t.typtype = 'd'
)
SELECT attname AS name, declared, t.typname AS base,
       t.typtype = 'b' AND (t.typnamespace = 'pg_catalog'::regnamespace OR t.typname = 'citext') AS known
FROM base JOIN pg_type AS t ON t.oid = type WHERE t.typtype <> 'd'
"""
"""A table's columns with the types below any depth of domains. citext's extension may be in any schema."""


async def choose_lanes(connection: Connection, target: Target, format: Format) -> dict[str, CopyInto]:
    """Where the COPY of each table goes and the lane that it takes, by table. Raises TargetError as copy_into does.

    It holds as long as the tables' columns keep their types: each run of a plan chooses anew.
    """
    return {
        table.name: await copy_into(
            connection, target.model.name(table.name), columns_of(target, table), target.schema, format
        )
        for table in target.model.tables
    }


def columns_of(target: Target, table: Table) -> dict[str, str]:
    """The columns that a load fills: what a batch calls each, and what the app does."""
    known = {column.name: target.model.column(table.name, column.name) for column in table.columns}
    return known | {name: name for name in target.model.scenario.fields.get(table.name, ())}


async def copy_into(
    connection: Connection,
    table: str,
    columns: Mapping[str, str] | Sequence[str],
    schema: str | None = None,
    format: Format = "auto",
) -> CopyInto:
    """Where and how to COPY into ``table`` (of the search_path without a schema).

    ``columns`` are those of the batches, with what the table calls each where that differs.

    Raises TargetError, naming the column, where ``format`` is ``binary`` and a column's type does not allow that.
    """
    rows = await connection.fetch(TYPES_SQL, qualified(schema, table) if schema else quoted(table))
    found = {row["name"]: row for row in rows}
    named = columns if isinstance(columns, Mapping) else {name: name for name in columns}
    names = tuple(named.values())
    types = {
        name: found[name]["base"] for name in names if found[name]["known"] and found[name]["base"] in BINARY_TYPES
    }
    others = [name for name in names if name not in types]
    if others and format == "binary":
        declared = found[others[0]]["declared"]
        raise TargetError(
            f"the column {table}.{others[0]} is of type {declared}, which the binary lane does not know: "
            "load with --format auto, or make it an integer, text, boolean or timestamp"
        )
    lane: Lane = "records" if others or format == "records" else "binary"
    fits = tuple(Fit(source, column) for source, column in named.items())
    return CopyInto(table, names, schema, lane, types, fits)
