"""The target: the tables as they are in the database, checked before anything is written."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.ext.asyncio import AsyncConnection

from bulkseed.errors import TargetError
from bulkseed.model import Model, Names
from bulkseed.tables import Column, Kind, Table

__all__ = ["Target", "TargetColumn", "read_target"]

INTEGER_BITS: Final = {sa.SmallInteger: 15, sa.BigInteger: 63, sa.Integer: 31}


LENGTHS: Final = """
WITH RECURSIVE base AS (
    SELECT c.relname, a.attname, a.atttypid AS type, a.atttypmod AS modifier
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT relname, attname, t.typbasetype, t.typtypmod FROM base JOIN pg_type AS t ON t.oid = type AND t.typtype = 'd'
)
SELECT relname, attname, min(CASE WHEN type = 'name'::regtype THEN 63 ELSE modifier - 4 END) AS length,
       bool_or(type = 'bpchar'::regtype) AS pads
FROM base WHERE type = 'name'::regtype OR (type IN ('varchar'::regtype, 'bpchar'::regtype) AND modifier >= 4)
GROUP BY relname, attname
"""
"""The most characters of columns that have a limit, below any depth of domains, which SQLAlchemy does not tell."""


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column as the database has it. ``bits`` is an integer's size."""

    name: str
    type: str
    kind: Kind | None
    bits: int = 63
    length: int | None = None


@dataclass(frozen=True)
class Target(Names):
    """The tables to load, in one schema of the database; their columns by bulkseed's own names.

    Fields (:attr:`bulkseed.scenario.Scenario.fields`) are there by the app's names, as they have no other.
    """

    columns: Mapping[str, Mapping[str, TargetColumn]] = field(default_factory=dict)

    def has_uuids(self, table: str) -> bool:
        """Whether the ids of the table are UUIDs."""
        return any(self.columns[table][key].type == "uuid" for key in self.model.by_name[table].key[:1])

    def highest_id(self, table: str, column: str) -> int:
        """The largest id that the column can hold, and every column by which the tables point at it."""
        holders = [
            (table, column),
            *((child, name) for child, name, parent in self.model.references() if parent == table),
        ]
        return int(min(2 ** self.columns[child][name].bits - 1 for child, name in holders))


async def read_target(connection: AsyncConnection, model: Model, content_characters: int) -> Target:
    """The tables of ``model``, reflected and checked (the catalogue of reactions too).

    They are in the scenario's schema, or where the connection's search_path has them. ``content_characters`` is the
    longest message that the plan's locale can make. Raises TargetError, which names all that does not fit: missing
    tables and columns, types, lengths, columns that nothing fills.
    """
    return await connection.run_sync(reflected, model, content_characters)


SCHEMA: Final = """
SELECT coalesce((SELECT nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE c.oid = to_regclass(quote_ident(:users))), current_schema())
"""
"""Where the search_path finds the users: a login's own schema, which comes first in it, may hold the ledger alone."""


def schema_of(connection: sa.Connection, inspector: sa.Inspector, model: Model) -> str:
    if (named := model.scenario.schema) is not None:
        if named not in (there := inspector.get_schema_names()):
            near = difflib.get_close_matches(named, there, n=1)
            mend = f"did you mean {near[0]}?" if near else "give --schema one of those that there are"
            raise TargetError(f"there is no schema {named!r} in the database: {mend}")
        return named
    found = connection.execute(sa.text(SCHEMA), {"users": model.name("users")}).scalar_one()
    if found is None:
        raise TargetError(
            "the connection has no schema to look for tables in: name one with --schema, "
            "or correct search_path for this login"
        )
    return str(found)


def reflected(connection: sa.Connection, model: Model, content_characters: int) -> Target:
    inspector = sa.inspect(connection)
    schema = schema_of(connection, inspector, model)
    wanted = list(model.by_name.values())
    there = set(inspector.get_table_names(schema=schema))
    problems = absent_tables(inspector, model, schema, [each.name for each in wanted], there)
    lengths = {row[:2]: row[2:] for row in connection.execute(sa.text(LENGTHS), {"schema": schema})}
    columns: dict[str, dict[str, TargetColumn]] = {}
    for table in wanted:
        name = model.name(table.name)
        if name not in there:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # of types that only other columns have
            found = {each["name"]: each for each in inspector.get_columns(name, schema=schema)}
        all_columns = {
            each: target_column(values, *lengths.get((name, each), (None, False))) for each, values in found.items()
        }
        columns[table.name] = {
            column.name: all_columns[actual]
            for column in table.columns
            if (actual := model.column(table.name, column.name)) in all_columns
        }
        columns[table.name] |= {each: all_columns[each] for each in fields_of(model, table) if each in all_columns}
        for column in table.columns:
            longest = content_characters if column.name == "content" else column.longest
            problems += misfits(model, table, column, found, columns[table.name], longest)
        problems += unknown(model, table, found)
        problems += unfilled(model, table, found) if table.name in model.names else []
    if problems:
        raise TargetError("; ".join(problems))
    return Target(schema, model, columns)


def fields_of(model: Model, table: Table) -> list[str]:
    return list(model.scenario.fields.get(table.name, {}))


def absent_tables(
    inspector: sa.Inspector, model: Model, schema: str, wanted: Sequence[str], there: Collection[str]
) -> list[str]:
    missing = [model.name(name) for name in wanted if model.name(name) not in there]
    if not missing:
        return []
    views = set(inspector.get_view_names(schema=schema)) | set(inspector.get_materialized_view_names(schema=schema))
    if names := [name for name in missing if name in views]:
        return [f"{plural('relation', names)} no table in schema {schema!r} but a view: name a schema of tables"]
    near = {
        name: difflib.get_close_matches(name, there, n=1) for name in missing if name in model.scenario.tables.values()
    }
    meant = [f"did you mean {found[0]} for {name}?" for name, found in near.items() if found]
    mend = " ".join(meant) or "make them with your migrations, or with `bulkseed init`"
    return [f"{plural('table', missing)} missing in schema {schema!r}: {mend}"]


def plural(noun: str, names: list[str]) -> str:
    return f"the {noun} {names[0]} is" if len(names) == 1 else f"the {noun}s {', '.join(names)} are"


def target_column(found: Any, length: int | None, pads: bool) -> TargetColumn:
    sql_type = found["type"]
    kind, bits = classified(sql_type)
    return TargetColumn(found["name"], f"char({length})" if pads else str(sql_type).lower(), kind, bits, length)


def classified(sql_type: Any) -> tuple[Kind | None, int]:
    if isinstance(sql_type, DOMAIN):
        return classified(sql_type.data_type)
    if isinstance(sql_type, sa.Integer):
        return "integer", next(bits for kind, bits in INTEGER_BITS.items() if isinstance(sql_type, kind))
    if isinstance(sql_type, sa.Boolean):
        return "boolean", 0
    if isinstance(sql_type, sa.DateTime):
        return "timestamp", 0
    if isinstance(sql_type, sa.String) and not isinstance(sql_type, sa.Enum):
        return "text", 0
    return None, 0


def misfits(
    model: Model,
    table: Table,
    column: Column,
    found: Mapping[str, Any],
    columns: Mapping[str, TargetColumn],
    longest: int | None,
) -> list[str]:
    actual = model.column(table.name, column.name)
    name = f"{model.name(table.name)}.{actual}"
    if actual not in found:
        near = difflib.get_close_matches(actual, found, n=1)
        what = f" of type {column.kind}" if column.kind != "any" else ""
        meant = f" (did you mean {near[0]}?)" if near else ""
        return [
            f"the column {name} is missing{meant}: add it as a column{what}, or say in the scenario's "
            f"[columns.{table.name}] what it is called, or that {column.name} = false"
        ]
    there = columns[column.name]
    if column.kind not in {"any", there.kind}:
        return [f"the column {name} is of type {there.type}: it must be of a {column.kind} type"]
    if there.type.startswith("char(") and (column.name, there.length) != ("join_code", longest):
        return [f"the column {name} is of type {there.type}, which pads with spaces: it must be varchar or text"]
    if found[actual].get("computed"):
        return [f"the column {name} is generated: it must take values"]
    if there.length is not None and longest is not None and there.length < longest:
        return [f"the column {name} holds {there.length} characters: it must hold {longest}"]
    if column.nullable and not found[actual]["nullable"]:
        return [f"the column {name} is NOT NULL: it must allow null"]
    return []


def unknown(model: Model, table: Table, found: Mapping[str, Any]) -> list[str]:
    """The fields of the scenario for which there is no column."""
    problems = []
    for name in fields_of(model, table):
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            mend = f"did you mean {near[0]}?" if near else "add the column with your migrations, or leave the field out"
            problems.append(f"[fields.{table.name}] fills {name}, which {model.name(table.name)} does not have: {mend}")
    return problems


def unfilled(model: Model, table: Table, found: Mapping[str, Any]) -> list[str]:
    filled = {model.column(table.name, column.name) for column in table.columns} | {*fields_of(model, table)}
    return [
        f"nothing fills the NOT NULL column {model.name(table.name)}.{name}: give it a default, "
        f"or a field in the scenario's [fields.{table.name}]"
        for name, each in found.items()
        if name not in filled
        and not each["nullable"]
        and each["default"] is None
        and not each.get("identity")
        and not each.get("computed")
    ]
