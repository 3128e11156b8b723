"""Which lane a table's COPY takes: the binary one where the server's own types of all its columns allow it.

Binary COPY does not check types: bytes made for another type may load as wrong values. So what decides is the
catalog, read when the load begins, and not the name of a type in a model or a migration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from bulkseed.connection import Connection
from bulkseed.copy import CopyInto, Lane
from bulkseed.encoders import BINARY_TYPES, ArrayOf, Type
from bulkseed.errors import TargetError
from bulkseed.identifiers import qualified, quoted
from bulkseed.tables import TABLES
from bulkseed.target import Target

__all__ = ["Format", "choose_lanes", "copy_into"]

Format = Literal["auto", "records", "binary"]
"""The lane that is asked for: ``auto`` is binary for each table that allows it."""

TYPES_SQL: Final = """
WITH RECURSIVE base AS (
    SELECT attname, atttypid AS type, 0 AS arrays, NULL::oid AS element,
           format_type(atttypid, atttypmod) AS declared
    FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE e.oid END, arrays + (e.oid IS NOT NULL)::int,
           coalesce(e.oid, element), declared
    FROM base JOIN pg_type AS t ON t.oid = type LEFT JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE t.typtype = 'd' OR e.oid IS NOT NULL
)
SELECT attname AS name, declared, element,
       CASE WHEN arrays > 1 THEN NULL
            WHEN t.typtype = 'e' THEN 'enum'
            WHEN t.typtype = 'b' AND (t.typnamespace = 'pg_catalog'::regnamespace OR t.typname = 'citext')
            THEN t.typname::text END AS base
FROM base JOIN pg_type AS t ON t.oid = type
WHERE t.typtype <> 'd' AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)
"""
"""A table's columns with the types below any depth of domains: of arrays those of their elements, and what the arrays
are declared with. An array of domains over arrays has none. citext's extension may be in any schema."""


async def choose_lanes(connection: Connection, target: Target, format: Format) -> dict[str, CopyInto]:
    """Where the COPY of each table goes and the lane that it takes, by table. Raises TargetError as copy_into does.

    It holds as long as the tables' columns keep their types: each run of a plan chooses anew.
    """
    return {
        table.name: await copy_into(connection, table.name, table.column_names, target.schema, format)
        for table in TABLES
    }


async def copy_into(
    connection: Connection, table: str, columns: Sequence[str], schema: str | None = None, format: Format = "auto"
) -> CopyInto:
    """Where and how to COPY into ``columns`` of ``table`` (of the search_path without a schema).

    Raises TargetError, naming the column, where ``format`` is ``binary`` and a column's type does not allow that.
    """
    rows = await connection.fetch(TYPES_SQL, qualified(schema, table) if schema else quoted(table))
    found = {row["name"]: row for row in rows}
    types = {name: type_of(found[name]) for name in columns if found[name]["base"] in BINARY_TYPES}
    others = [name for name in columns if name not in types]
    if others and format == "binary":
        declared = found[others[0]]["declared"]
        raise TargetError(
            f"the column {table}.{others[0]} is of type {declared}, which the binary lane does not know: "
            "load with --format auto, or give it a common type"
        )
    lane: Lane = "records" if others or format == "records" else "binary"
    return CopyInto(table, tuple(columns), schema, lane, types)


def type_of(row: Mapping[str, Any]) -> Type:
    return row["base"] if row["element"] is None else ArrayOf(row["base"], row["element"])
