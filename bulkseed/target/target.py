"""The target: the tables as they are in the database, checked before anything is written to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import pyarrow as pa

from bulkseed.copy.column_mapping import ColumnMapping, find_incompatibility
from bulkseed.copy.encoders import BINARY_TYPES, ArrayOf, Attribute, CompositeOf, Type
from bulkseed.errors import TargetError, common_code, suggestion
from bulkseed.plan.tables import Column, Kind, Model, Names, Table
from bulkseed.postgres.connection import Connection, preflight_errors
from bulkseed.sql import identifier
from bulkseed.target.column_advice import leave_out, toml_key, with_field
from bulkseed.target.reference_schema import TABLE_KINDS, describe_kind

__all__ = [
    "ARROW_TYPES",
    "COLUMNS_SQL",
    "HAS_TRIGGERS",
    "ID_BITS",
    "Problem",
    "Target",
    "TargetColumn",
    "column_mapping_of",
    "raise_problems",
    "read_target",
    "read_types",
    "type_of",
]

HEADER: Final = 4
"""The difference between a type modifier and the declared length, or precision and scale (VARHDRSZ)."""
NAME_LENGTH: Final = 63
"""Characters of a ``name``."""

TYPES_SQL: Final = """
WITH RECURSIVE base AS (
    SELECT attname, attnum, atttypid AS declared_type, atttypid AS type, atttypmod AS modifier, 0 AS arrays,
           NULL::oid AS element, format_type(atttypid, atttypmod) AS declared, attcollation AS collated
    FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, attnum, declared_type, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE e.oid END,
           CASE WHEN t.typtype <> 'd' OR t.typtypmod < 0 THEN modifier WHEN modifier < 0 THEN t.typtypmod
                ELSE least(t.typtypmod, modifier) END,
           arrays + (e.oid IS NOT NULL)::int, coalesce(e.oid, element), declared, collated
    FROM base JOIN pg_type AS t ON t.oid = type LEFT JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE t.typtype = 'd' OR e.oid IS NOT NULL
)
SELECT attname AS name, declared, declared_type::bigint, element, modifier, t.typname::text AS typname,
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels,
       CASE WHEN arrays > 1 THEN NULL
            WHEN t.typtype = 'e' THEN 'enum'
            WHEN t.typtype IN ('b', 'r', 'm') AND (t.typnamespace = 'pg_catalog'::regnamespace OR t.typname = 'citext')
            THEN t.typname::text END AS base,
       EXISTS (SELECT FROM pg_collation WHERE oid = collated AND NOT collisdeterministic)
           AS is_nondeterministic,
       CASE WHEN t.typtype = 'c' AND arrays <= 1 THEN t.typrelid::regclass::text END AS composite
FROM base JOIN pg_type AS t ON t.oid = type
WHERE t.typtype <> 'd' AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)
ORDER BY attnum
"""
"""The columns of a table, or the attributes of a composite type, with their base types, below domains of any depth; for
arrays, the types of the elements. ``base`` is null for arrays of domains over arrays, for composites, and for types of
other schemas, but for citext, whose extension may be in any schema. ``composite`` is the composite type, as SQL;
``is_nondeterministic`` tells whether texts that differ may be equal by the column's collation."""

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
"""The columns of a table: whether they allow null (which a domain at any depth may forbid), whether the server fills
them (as an identity column, or by a default other than null: the column's own, else that of the outermost domain), and
whether they are generated."""


async def read_types(connection: Connection, table: str) -> list[Mapping[str, Any]]:
    """Return the rows of TYPES_SQL for ``table``, as SQL; ``attributes`` are those of a composite type, else None."""
    rows = [dict(row) for row in await connection.fetch(TYPES_SQL, table)]
    for row in rows:
        row["attributes"] = await read_types(connection, row["composite"]) if row["composite"] else None
    return [*rows]


def type_of(row: Mapping[str, Any]) -> Type | None:
    """Return the type of a row of :func:`read_types`; None if the binary format does not support it."""
    base: str | CompositeOf | None = row["base"] if row["base"] in BINARY_TYPES else None
    if row["attributes"] is not None:
        types = {each["name"]: (each["declared_type"], type_of(each)) for each in row["attributes"]}
        attributes = [Attribute(name, oid, type_) for name, (oid, type_) in types.items() if type_ is not None]
        base = CompositeOf(row["typname"], tuple(attributes)) if len(attributes) == len(types) else None
    return base if base is None or row["element"] is None else ArrayOf(base, row["element"])


def column_mapping_of(source: str, row: Mapping[str, Any], *, parses: bool = False) -> ColumnMapping:
    """Return the mapping of the column ``source`` of a batch to the column of a row of :func:`read_types`."""
    base, modifier = row["base"], row["modifier"]
    length = precision = scale = None
    if base == "name":
        length = NAME_LENGTH
    elif modifier >= HEADER and base in {"varchar", "bpchar"}:
        length = modifier - HEADER
    elif base in {"bit", "varbit"}:
        length = modifier if modifier >= 0 else None
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
        attributes=None
        if row["attributes"] is None
        else tuple(column_mapping_of(each["name"], each, parses=True) for each in row["attributes"]),
        parses=parses,
    )


ID_BITS: Final = {"int2": 15, "int4": 31, "int8": 63, "uuid": 62}

ARROW_TYPES: Final[dict[Kind, pa.DataType]] = {
    "integer": pa.int64(),
    "text": pa.string(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
"""The Arrow type that the generators produce for each kind of column."""


class PlaceholderKeys(NamedTuple):
    """Stands for the keys of a run before its ids are reserved."""

    def octets(self, ids: pa.Array) -> pa.Array:
        """Return nulls: only the type of the result is used."""
        return pa.nulls(len(ids), pa.binary(16))


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of the database: its name, its type as declared, and the conversion of values to this type."""

    name: str
    type: str
    mapping: ColumnMapping

    @property
    def id_bits(self) -> int:
        """The bits of the largest id that the column can hold; 0 where its type is not for ids."""
        return ID_BITS.get(self.mapping.type, 0)


@dataclass(frozen=True)
class Target(Names):
    """The tables to load, in one schema of the database, with their columns by bulkseed's names.

    The fields of the scenario (:attr:`bulkseed.plan.scenario.Scenario.fields`) are among the columns, by the names that
    they have in batches (:meth:`bulkseed.plan.tables.Model.field_source`).
    """

    columns: Mapping[str, Mapping[str, TargetColumn]] = field(default_factory=dict)

    def has_uuids(self, table: str) -> bool:
        """Return whether the ids of the table are UUIDs."""
        return any(self.columns[table][key].mapping.type == "uuid" for key in self.model.by_name[table].key[:1])

    def highest_id(self, table: str, column: str) -> int:
        """Return the largest id that the column and all columns that reference it can hold."""
        holders = [
            (table, column),
            *((child, name) for child, name, parent in self.model.references() if parent == table),
        ]
        return int(min(2 ** self.columns[child][name].id_bits - 1 for child, name in holders))


class ColumnRules(NamedTuple):
    """The facts of a row of COLUMNS_SQL."""

    nullable: bool
    filled: bool
    generated: bool


class Problem(NamedTuple):
    """One reason why the tables cannot be loaded, with the fix: a code of errors, and a line of text."""

    code: str
    message: str


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise a TargetError with a line for each problem; do nothing without problems.

    Its code is that of the problems, or ``unfit-tables`` if they have several.
    """
    if problems:
        code = common_code((problem.code for problem in problems), "unfit-tables")
        raise TargetError("\n".join(dict.fromkeys(problem.message for problem in problems)), code=code)


async def read_target(connection: Connection, model: Model) -> Target:
    """Read the tables of ``model`` from the system catalogs, check them, and return them as the target.

    The tables are those of the scenario's schema, or those that the search_path finds; the catalogue of reactions is
    one of them. Raises TargetError with a line for each problem: missing tables and columns, types and lengths that
    cannot take the values, NOT NULL columns that nothing fills.
    """
    with preflight_errors(connection, "reading the tables"):
        schema = await find_schema(connection, model)
        kinds = {row["name"]: row["kind"] for row in await connection.fetch(RELATIONS, schema)}
        existing = [name for name, kind in kinds.items() if kind in TABLE_KINDS]
        tables = list(model.by_name.values())
        problems = find_missing_tables(model, schema, [table.name for table in tables], existing, kinds)
        columns: dict[str, dict[str, TargetColumn]] = {}
        for table in tables:
            if (name := model.name(table.name)) not in existing:
                continue
            table_name = identifier(schema, name)
            rows = await connection.fetch(COLUMNS_SQL, table_name)
            rules = {row["name"]: ColumnRules(row["nullable"], row["filled"], row["generated"]) for row in rows}
            in_table = {
                row["name"]: TargetColumn(row["name"], row["declared"], column_mapping_of("", row))
                for row in await read_types(connection, table_name)
            }
            columns[table.name] = {
                column.name: in_table[actual]
                for column in table.columns
                if (actual := model.column(table.name, column.name)) in in_table
            }
            columns[table.name] |= {
                model.field_source(table.name, field): in_table[field]
                for field in fields_of(model, table)
                if field in in_table
            }
            for column in table.columns:
                problems += check_column(model, table, column, rules, columns[table.name])
            problems += find_fields_without_column(model, table, rules)
            if table.name in model.names and not await connection.fetchval(HAS_TRIGGERS, table_name):
                problems += find_fields_with_nulls(model, table, rules)
                problems += find_unfilled_columns(model, table, rules, in_table)  # those of triggers are tried
    problems += check_id_types(model, columns)
    raise_problems(problems)
    return Target(schema, model, columns)


HAS_TRIGGERS: Final = """
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgtype & 7 = 7
               AND tgenabled IN ('O', 'A') AND NOT tgisinternal)
"""
"""Whether a table has triggers BEFORE INSERT FOR EACH ROW, which may fill columns."""

SCHEMA: Final = """
SELECT coalesce((SELECT nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE c.oid = to_regclass(quote_ident($1))), current_schema())
"""
"""The schema in which the search_path finds the users, else the first schema of the path: a user's own schema, which
comes first in it, may contain the ledger only."""

SCHEMAS: Final = r"SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' ORDER BY nspname"

RELATIONS: Final = """
SELECT relname AS name, relkind::text AS kind FROM pg_class
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) ORDER BY relname
"""


async def find_schema(connection: Connection, model: Model) -> str:
    if (named := model.scenario.schema) is not None:
        existing = [row["nspname"] for row in await connection.fetch(SCHEMAS)]
        if named not in existing:
            fix = suggestion(named, existing, "create it with your migrations, or give --schema another")
            raise TargetError(f"there is no schema {named!r} in the database: {fix}", code="missing-schema")
        return named
    found = await connection.fetchval(SCHEMA, model.name("users"))
    if found is None:
        raise TargetError(
            "the connection has no schema to look for tables in: name one with --schema, "
            "or correct the user's search_path",
            code="no-schema",
        )
    return str(found)


def fields_of(model: Model, table: Table) -> list[str]:
    return list(model.scenario.fields.get(table.name, {}))


def find_missing_tables(
    model: Model, schema: str, wanted: Sequence[str], existing: Collection[str], kinds: Mapping[str, str]
) -> list[Problem]:
    missing = [model.name(name) for name in wanted if model.name(name) not in existing]
    problems = [
        Problem(
            "not-a-table",
            f"the relation {name} in schema {schema!r} is {describe_kind(kinds[name])} and not a table: "
            "name a schema of tables",
        )
        for name in missing
        if name in kinds
    ]
    missing = [name for name in missing if name not in kinds]
    own = {*model.scenario.tables.values(), *(model.name(extra.name) for extra in model.scenario.extras)}
    for name in list(missing):
        if name in own and (near := suggestion(name, existing, "")):
            missing.remove(name)
            problems.append(
                Problem("missing-table", f"the table {name} is missing in schema {schema!r}: {near} for {name}?")
            )
    if not missing:
        return problems
    init = "" if own.issuperset(missing) else ", or with `bulkseed init`"
    verb, noun = ("is", "it") if len(missing) == 1 else ("are", "them")
    tables = f"table{'s' * (len(missing) > 1)} {', '.join(missing)}"
    return [
        *problems,
        Problem(
            "missing-table",
            f"the {tables} {verb} missing in schema {schema!r}: create {noun} with your migrations{init}",
        ),
    ]


def check_column(
    model: Model,
    table: Table,
    column: Column,
    rules: Mapping[str, ColumnRules],
    columns: Mapping[str, TargetColumn],
) -> list[Problem]:
    actual = model.column(table.name, column.name)
    name = f"{model.name(table.name)}.{actual}"
    if actual not in rules:
        near = suggestion(actual, rules, "")
        of_type = f" of type {column.kind}" if column.kind != "any" else ""
        meant = f" ({near}?)" if near else ""
        section = f"[columns.{toml_key(table.name)}]"
        fix = f"give its name in the scenario's {section}"
        if not model.is_needed(table.name, column.name):
            line = f"`{toml_key(column.name)} = false`"
            fix = f"leave it out with {line} in the scenario's {section}, or give its name there"
        return [
            Problem("missing-column", f"the column {name} is missing{meant}: {fix}, or add it as a column{of_type}")
        ]
    found = columns[column.name]
    if rules[actual].generated:
        otherwise = leave_out(model, table, column.name, filled=True)
        return [
            Problem(
                "generated-column",
                f"the column {name} is a generated column, which takes no values: make it an ordinary column, "
                f"{otherwise}",
            )
        ]
    is_filled = rules[actual].nullable or rules[actual].filled
    otherwise = leave_out(model, table, column.name, filled=is_filled, mapping=found.mapping)
    if column.kind != "any":
        is_id = column.name in table.holds
        longest = column.longest if (column.name,) in table.unique else None
        mapping = replace(found.mapping, keys=PlaceholderKeys() if is_id else None)
        if reason := find_incompatibility(ARROW_TYPES[column.kind], longest, mapping):
            return [Problem(reason.code, f"the column {name} {reason.clause}, {otherwise}")]
        if is_id and found.id_bits == 0:
            return [
                Problem(
                    "column-type",
                    f"the column {name} is of type {found.type}, which cannot store ids: make it bigint or uuid, "
                    f"{otherwise}",
                )
            ]
        if column.kind == "timestamp" and found.mapping.type in {"time", "timetz"}:
            # a field may copy the time of day
            return [
                Problem(
                    "column-type",
                    f"the column {name} is of type {found.type}, which has no day: make it timestamptz or date, "
                    f"{otherwise}",
                )
            ]
        if found.mapping.type == "bpchar" and (column.name, found.mapping.length) != ("join_code", column.longest):
            return [
                Problem(
                    "column-type",
                    f"the column {name} is of type {found.type}, which pads with spaces: make it varchar or text, "
                    f"{otherwise}",
                )
            ]
    if column.nullable and not rules[actual].nullable:
        return [
            Problem(
                "column-not-null",
                f"the column {name} is NOT NULL, and some rows to load have null there: drop the constraint, "
                f"{otherwise}",
            )
        ]
    return []


def check_id_types(model: Model, columns: Mapping[str, Mapping[str, TargetColumn]]) -> list[Problem]:
    """Return a problem for each column whose type, uuid or integer, differs from that of the ids it references."""
    problems = []
    for child, column, parent in model.references():
        referencing, referenced = columns.get(child, {}).get(column), columns.get(parent, {}).get("id")
        if referencing and referenced and (referencing.mapping.type == "uuid") != (referenced.mapping.type == "uuid"):
            names = f"{model.name(child)}.{referencing.name}", f"{model.name(parent)}.{referenced.name}"
            problems.append(
                Problem(
                    "id-types-differ",
                    f"the column {names[0]} is of type {referencing.type}, and {names[1]} of {referenced.type}: "
                    "give both the same type, "
                    f"{leave_out(model, model.by_name[child], column, filled=True)}",
                )
            )
    return problems


def find_fields_without_column(model: Model, table: Table, rules: Mapping[str, ColumnRules]) -> list[Problem]:
    problems = []
    for name in fields_of(model, table):
        if name not in rules:
            fix = suggestion(name, rules, "add the column with your migrations, or leave the field out")
            problems.append(
                Problem(
                    "field-without-column",
                    f"[fields.{table.name}] fills {name}, which {model.name(table.name)} does not have: {fix}",
                )
            )
    return problems


def find_fields_with_nulls(model: Model, table: Table, rules: Mapping[str, ColumnRules]) -> list[Problem]:
    return [
        Problem(
            "column-not-null",
            f"the column {model.name(table.name)}.{name} is NOT NULL, and its field gives null to a share of the rows: "
            f"leave `null` out of the field in the scenario's [fields.{toml_key(table.name)}]",
        )
        for name, given in model.scenario.fields.get(table.name, {}).items()
        if name in rules and not rules[name].nullable and isinstance(given, Mapping) and given.get("null")
    ]


def find_unfilled_columns(
    model: Model, table: Table, rules: Mapping[str, ColumnRules], columns: Mapping[str, TargetColumn]
) -> list[Problem]:
    filled = {model.column(table.name, column.name) for column in table.columns} | {*fields_of(model, table)}
    return [
        Problem(
            "unfilled-column",
            f"nothing fills the NOT NULL column {model.name(table.name)}.{name}: give it a default, "
            f"or {with_field(table.name, name, columns[name].mapping if name in columns else None)}",
        )
        for name, column in rules.items()
        if name not in filled and not (column.nullable or column.filled or column.generated)
    ]
