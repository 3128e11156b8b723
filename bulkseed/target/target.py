"""The target: the tables as they are in the database, checked before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import pyarrow as pa

from bulkseed.copy.column_mapping import ColumnMapping, incompatibility
from bulkseed.copy.encoders import ArrayOf, Type
from bulkseed.errors import TargetError, suggestion
from bulkseed.plan.tables import Column, Kind, Model, Names, Table
from bulkseed.postgres.connection import Connection, preflight_errors
from bulkseed.sql import identifier

__all__ = [
    "ARROW_TYPES",
    "COLUMNS_SQL",
    "TYPES_SQL",
    "Target",
    "TargetColumn",
    "column_mapping_of",
    "read_target",
    "type_of",
]

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


def column_mapping_of(source: str, row: Mapping[str, Any]) -> ColumnMapping:
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
    return ColumnMapping(
        source=source,
        name=row["name"],
        type=row["typname"],
        array=row["element"] is not None,
        length=length,
        precision=precision,
        scale=scale,
        labels=tuple(row["labels"]) if base == "enum" else None,
    )


BITS: Final = {"int2": 15, "int4": 31, "int8": 63, "uuid": 62}

ARROW_TYPES: Final[dict[Kind, pa.DataType]] = {
    "integer": pa.int64(),
    "text": pa.string(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
"""What the generators make of each kind of column."""


class PlaceholderKeys(NamedTuple):
    """Stands for the keys of a run that is not there yet."""

    def octets(self, ids: pa.Array) -> pa.Array:
        """Of none."""
        return pa.nulls(len(ids), pa.binary(16))


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column as the database has it: its type as declared, and how values become of it."""

    name: str
    type: str
    fit: ColumnMapping

    @property
    def bits(self) -> int:
        """Of an id that it can hold."""
        return BITS.get(self.fit.type, 0)


@dataclass(frozen=True)
class Target(Names):
    """The tables to load, in one schema of the database; their columns by bulkseed's own names.

    Fields (:attr:`bulkseed.scenario.Scenario.fields`) are there by the app's names, as they have no other.
    """

    columns: Mapping[str, Mapping[str, TargetColumn]] = field(default_factory=dict)

    def has_uuids(self, table: str) -> bool:
        """Whether the ids of the table are UUIDs."""
        return any(self.columns[table][key].fit.type == "uuid" for key in self.model.by_name[table].key[:1])

    def highest_id(self, table: str, column: str) -> int:
        """The largest id that the column can hold, and every column by which the tables point at it."""
        holders = [
            (table, column),
            *((child, name) for child, name, parent in self.model.references() if parent == table),
        ]
        return int(min(2 ** self.columns[child][name].bits - 1 for child, name in holders))


class Found(NamedTuple):
    """A column as the catalogue has it: a row of COLUMNS_SQL."""

    nullable: bool
    filled: bool
    generated: bool


async def read_target(connection: Connection, model: Model) -> Target:
    """The tables of ``model``, as the catalogue has them, checked (the catalogue of reactions too).

    They are in the scenario's schema, or where the connection's search_path has them. Raises TargetError, which names
    all that does not fit: missing tables and columns, types, lengths, columns that nothing fills.
    """
    with preflight_errors(connection, "reading the tables"):
        schema = await schema_of(connection, model)
        kinds = {row["name"]: row["kind"] for row in await connection.fetch(RELATIONS, schema)}
        there = [name for name, kind in kinds.items() if kind in TABLES]
        wanted = list(model.by_name.values())
        problems = absent_tables(model, schema, [each.name for each in wanted], there, kinds)
        columns: dict[str, dict[str, TargetColumn]] = {}
        for table in wanted:
            if (name := model.name(table.name)) not in there:
                continue
            table_name = identifier(schema, name)
            rows = await connection.fetch(COLUMNS_SQL, table_name)
            found = {row["name"]: Found(row["nullable"], row["filled"], row["generated"]) for row in rows}
            types = {row["name"]: row for row in await connection.fetch(TYPES_SQL, table_name)}
            of_types = {
                name: TargetColumn(name, row["declared"], column_mapping_of("", row)) for name, row in types.items()
            }
            columns[table.name] = {
                column.name: of_types[actual]
                for column in table.columns
                if (actual := model.column(table.name, column.name)) in of_types
            }
            columns[table.name] |= {each: of_types[each] for each in fields_of(model, table) if each in of_types}
            for column in table.columns:
                problems += misfits(model, table, column, found, columns[table.name])
            problems += unknown(model, table, found)
            problems += unfilled(model, table, found) if table.name in model.names else []
    problems += unlike(model, columns)
    if problems:
        raise TargetError("; ".join(problems))
    return Target(schema, model, columns)


SCHEMA: Final = """
SELECT coalesce((SELECT nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE c.oid = to_regclass(quote_ident($1))), current_schema())
"""
"""Where the search_path finds the users: a login's own schema, which comes first in it, may hold the ledger alone."""

SCHEMAS: Final = r"SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' ORDER BY nspname"

RELATIONS: Final = """
SELECT relname AS name, relkind::text AS kind FROM pg_class
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) ORDER BY relname
"""
TABLES: Final = {"r", "p"}
OTHERS: Final = {
    "v": "view",
    "m": "view",
    "f": "foreign table",
    "S": "sequence",
    "c": "type",
    "i": "index",
    "I": "index",
}
"""Of ``pg_class.relkind``: tables, partitioned ones too, and what else can have the name of one."""


async def schema_of(connection: Connection, model: Model) -> str:
    if (named := model.scenario.schema) is not None:
        there = [row["nspname"] for row in await connection.fetch(SCHEMAS)]
        if named not in there:
            mend = suggestion(named, there, "give --schema one of those that there are")
            raise TargetError(f"there is no schema {named!r} in the database: {mend}")
        return named
    found = await connection.fetchval(SCHEMA, model.name("users"))
    if found is None:
        raise TargetError(
            "the connection has no schema to look for tables in: name one with --schema, "
            "or correct search_path for this login"
        )
    return str(found)


def fields_of(model: Model, table: Table) -> list[str]:
    return list(model.scenario.fields.get(table.name, {}))


def absent_tables(
    model: Model, schema: str, wanted: Sequence[str], there: Collection[str], kinds: Mapping[str, str]
) -> list[str]:
    missing = [model.name(name) for name in wanted if model.name(name) not in there]
    if not missing:
        return []
    if names := [name for name in missing if name in kinds]:
        kind = OTHERS.get(kinds[names[0]], "relation of another kind")
        return [f"{plural('relation', names)} no table in schema {schema!r} but a {kind}: name a schema of tables"]
    own = {*model.scenario.tables.values(), *(model.name(extra.name) for extra in model.scenario.extras)}
    near = {name: suggestion(name, there, "") for name in missing if name in own}
    meant = [f"{found} for {name}?" for name, found in near.items() if found]
    init = "" if own.issuperset(missing) else ", or with `bulkseed init`"
    mend = " ".join(meant) or f"make {'it' if len(missing) == 1 else 'them'} with your migrations{init}"
    return [f"{plural('table', missing)} missing in schema {schema!r}: {mend}"]


def plural(noun: str, names: list[str]) -> str:
    return f"the {noun} {names[0]} is" if len(names) == 1 else f"the {noun}s {', '.join(names)} are"


def misfits(
    model: Model,
    table: Table,
    column: Column,
    found: Mapping[str, Found],
    columns: Mapping[str, TargetColumn],
) -> list[str]:
    actual = model.column(table.name, column.name)
    name = f"{model.name(table.name)}.{actual}"
    if actual not in found:
        near = suggestion(actual, found, "")
        what = f" of type {column.kind}" if column.kind != "any" else ""
        meant = f" ({near}?)" if near else ""
        return [
            f"the column {name} is missing{meant}: add it as a column{what}, or say in the scenario's "
            f"[columns.{table.name}] what it is called, or that {column.name} = false"
        ]
    there = columns[column.name]
    if found[actual].generated:
        return [f"the column {name} is generated: it must take values"]
    if column.kind != "any":
        is_id = column.name in table.holds
        whole = column.longest if (column.name,) in table.unique else None
        if reason := incompatibility(
            ARROW_TYPES[column.kind], whole, replace(there.fit, keys=PlaceholderKeys() if is_id else None)
        ):
            return [f"the column {name} {reason}"]
        if is_id and there.bits == 0:
            return [f"the column {name} is of type {there.type}, and holds ids: make it bigint or uuid"]
        if there.fit.type == "bpchar" and (column.name, there.fit.length) != ("join_code", column.longest):
            return [f"the column {name} is of type {there.type}, which pads with spaces: it must be varchar or text"]
    if column.nullable and not found[actual].nullable:
        return [f"the column {name} is NOT NULL: it must allow null"]
    return []


def unlike(model: Model, columns: Mapping[str, Mapping[str, TargetColumn]]) -> list[str]:
    """The columns that hold ids of another type than the table's that they are of."""
    problems = []
    for child, column, parent in model.references():
        one, other = columns.get(child, {}).get(column), columns.get(parent, {}).get("id")
        if one and other and (one.fit.type == "uuid") != (other.fit.type == "uuid"):
            names = f"{model.name(child)}.{one.name}", f"{model.name(parent)}.{other.name}"
            problems.append(
                f"the column {names[0]} is of type {one.type}, and {names[1]} of {other.type}: make them alike"
            )
    return problems


def unknown(model: Model, table: Table, found: Mapping[str, Found]) -> list[str]:
    """The fields of the scenario for which there is no column."""
    problems = []
    for name in fields_of(model, table):
        if name not in found:
            mend = suggestion(name, found, "add the column with your migrations, or leave the field out")
            problems.append(f"[fields.{table.name}] fills {name}, which {model.name(table.name)} does not have: {mend}")
    return problems


def unfilled(model: Model, table: Table, found: Mapping[str, Found]) -> list[str]:
    filled = {model.column(table.name, column.name) for column in table.columns} | {*fields_of(model, table)}
    return [
        f"nothing fills the NOT NULL column {model.name(table.name)}.{name}: give it a default, "
        f"or a field in the scenario's [fields.{table.name}]"
        for name, each in found.items()
        if name not in filled and not (each.nullable or each.filled or each.generated)
    ]
