"""How each table is copied: its columns with their types in the catalogue, and in which format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bulkseed.choices import Format
from bulkseed.copy.column_mapping import Fit, Keys
from bulkseed.copy.encoders import BINARY_TYPES, ArrayOf, Type
from bulkseed.copy.writer import CopyInto, Lane
from bulkseed.errors import TargetError
from bulkseed.identifiers import qualified, quoted
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection
from bulkseed.target.target import Target

__all__ = ["COLUMNS_SQL", "TYPES_SQL", "choose_lanes", "copy_into", "fit_of", "type_of", "with_keys"]

HEADER: Final = 4
"""What a type's modifier has beyond the length, or the precision and scale, that was declared."""
NAME_LENGTH: Final = 63

TYPES_SQL: Final = """
WITH RECURSIVE base AS (
    SELECT attname, atttypid AS type, atttypmod AS modifier, 0 AS arrays, NULL::oid AS element,
           format_type(atttypid, atttypmod) AS declared
    FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE e.oid END,
           CASE WHEN t.typtype <> 'd' OR t.typtypmod < 0 THEN modifier WHEN modifier < 0 THEN t.typtypmod
                ELSE least(t.typtypmod, modifier) END,
           arrays + (e.oid IS NOT NULL)::int, coalesce(e.oid, element), declared
    FROM base JOIN pg_type AS t ON t.oid = type LEFT JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE t.typtype = 'd' OR e.oid IS NOT NULL
)
SELECT attname AS name, declared, element, modifier, t.typname::text AS typname,
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels,
       CASE WHEN arrays > 1 THEN NULL
            WHEN t.typtype = 'e' THEN 'enum'
            WHEN t.typtype = 'b' AND (t.typnamespace = 'pg_catalog'::regnamespace OR t.typname = 'citext')
            THEN t.typname::text END AS base
FROM base JOIN pg_type AS t ON t.oid = type
WHERE t.typtype <> 'd' AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)
"""
"""A table's columns with the types below any depth of domains: of arrays those of their elements, and what the arrays
are declared with. An array of domains over arrays has no base. citext's extension may be in any schema."""

COLUMNS_SQL: Final = """
WITH RECURSIVE below AS (
    SELECT attnum, atttypid AS type FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attnum, t.typbasetype FROM below JOIN pg_type AS t ON t.oid = type WHERE t.typtype = 'd'
)
SELECT attname AS name,
       NOT (attnotnull OR bool_or(t.typtype = 'd' AND t.typnotnull)) AS nullable,
       attidentity <> '' OR coalesce(
           CASE WHEN atthasdef THEN min(pg_get_expr(adbin, adrelid))
                ELSE min(t.typdefault) FILTER (WHERE t.oid = atttypid AND t.typtype = 'd') END NOT LIKE 'NULL::%', false
       ) AS filled,
       attgenerated <> '' AS generated
FROM pg_attribute JOIN below USING (attnum) JOIN pg_type AS t ON t.oid = type
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = $1::text::regclass
GROUP BY attnum, attname, atttypid, attnotnull, atthasdef, attidentity, attgenerated ORDER BY attnum
"""
"""A table's columns: whether they allow null (which a domain at any depth may forbid), whether the server fills them
(by an identity, or by a default that is not null: its own, or else that of the outermost domain), and whether they are
generated."""


def type_of(row: Mapping[str, Any]) -> Type:
    """The type of a row of TYPES_SQL; its ``base`` is one that the binary lane knows."""
    return row["base"] if row["element"] is None else ArrayOf(row["base"], row["element"])


def fit_of(source: str, row: Mapping[str, Any]) -> Fit:
    """How the column ``source`` of a batch goes into the column of a row of TYPES_SQL."""
    base, modifier = row["base"], row["modifier"]
    length = precision = scale = None
    if base == "name":
        length = NAME_LENGTH
    elif modifier >= HEADER and base in {"varchar", "bpchar"}:
        length = modifier - HEADER
    elif modifier >= HEADER and base == "numeric":
        precision = (modifier - HEADER) >> 16 & 0xFFFF
        scale = ((modifier - HEADER & 0x7FF) ^ 0x400) - 0x400
    return Fit(
        source=source,
        name=row["name"],
        type=row["typname"],
        array=row["element"] is not None,
        length=length,
        precision=precision,
        scale=scale,
        labels=tuple(row["labels"]) if base == "enum" else None,
    )


async def choose_lanes(connection: Connection, target: Target, format: Format) -> dict[str, CopyInto]:
    """Where the COPY of each table goes and the lane that it takes, by table. Raises TargetError as copy_into does.

    It holds as long as the tables' columns keep their types: each run of a plan chooses anew.
    """
    lanes = {}
    for table in target.model.tables:
        name = target.model.name(table.name)
        into = await copy_into(connection, name, columns_of(target, table), target.schema, format)
        given = target.model.scenario.fields.get(table.name, {})
        fits = tuple(replace(fit, json="text") if is_json(given.get(fit.source)) else fit for fit in into.fits)
        lanes[table.name] = replace(into, fits=fits)
    return lanes


def is_json(given: Any) -> bool:
    """Whether the text that a field gives is JSON already, for columns of json: what a template puts together."""
    return isinstance(given, Mapping) and "template" in given


def with_keys(into: CopyInto, table: Table, keys: Mapping[str, Keys]) -> CopyInto:
    """The same, where ids of the tables that ``keys`` has go in as UUIDs."""
    holds = table.holds
    fits = tuple(
        fit if fit.type != "uuid" else replace(fit, keys=keys.get(holds.get(fit.source, ""))) for fit in into.fits
    )
    return replace(into, fits=fits)


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

    ``columns`` are those of the batches with what the table calls each, for values to be made to fit; or the table's
    own, for batches that have those already.

    Raises TargetError, naming the column, where ``format`` is ``binary`` and a column's type does not allow that.
    """
    rows = await connection.fetch(TYPES_SQL, qualified(schema, table) if schema else quoted(table))
    found = {row["name"]: row for row in rows}
    names = tuple(columns.values()) if isinstance(columns, Mapping) else tuple(columns)
    types = {name: type_of(found[name]) for name in names if found[name]["base"] in BINARY_TYPES}
    others = [name for name in names if name not in types]
    if others and format == "binary":
        declared = found[others[0]]["declared"]
        raise TargetError(
            f"the column {table}.{others[0]} is of type {declared}, which the binary lane does not know: "
            "load with --format auto, or give it a common type"
        )
    lane: Lane = "records" if others or format == "records" else "binary"
    named = columns.items() if isinstance(columns, Mapping) else ()
    fits = tuple(fit_of(source, found[name]) for source, name in named)
    return CopyInto(table, names, schema, lane, types, fits)
