"""What the catalogue says of a table's columns: their types, below any domain, as encoders and fits want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bulkseed.copy.column_mapping import Fit
from bulkseed.copy.encoders import ArrayOf, Type

__all__ = ["COLUMNS_SQL", "TYPES_SQL", "fit_of", "type_of"]

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
