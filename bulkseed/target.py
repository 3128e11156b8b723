"""The target: the tables as they are in the database, checked before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.ext.asyncio import AsyncConnection

from bulkseed.errors import TargetError
from bulkseed.identifiers import qualified
from bulkseed.tables import BY_RULES, CATALOGUE, TABLES, Column, Kind, Table

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


@dataclass(frozen=True, slots=True)
class Target:
    """The tables to load, in one schema of the database."""

    schema: str
    columns: Mapping[str, Mapping[str, TargetColumn]]

    def name(self, table: str) -> str:
        """The table's name, qualified and quoted."""
        return qualified(self.schema, table)

    def highest_id(self, table: str, column: str) -> int:
        """The largest id that the column can hold, and every column by which the tables point at it."""
        holders = [(table, column), *((child, name) for child, name, parent in BY_RULES if parent == table)]
        return int(min(2 ** self.columns[child][name].bits - 1 for child, name in holders))


async def read_target(connection: AsyncConnection, content_characters: int) -> Target:
    """The tables of the connection's schema, reflected and checked (the catalogue of reactions too).

    ``content_characters`` is the longest message that the plan's locale can make. Raises TargetError, which
    names all that does not fit: missing tables and columns, types, lengths, columns that nothing fills.
    """
    return await connection.run_sync(reflected, content_characters)


SCHEMA: Final = """
SELECT coalesce((SELECT nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE c.oid = to_regclass('users')), current_schema())
"""
"""Where the search_path finds ``users``: a login's own schema, which comes first in it, may hold the ledger alone."""


def reflected(connection: sa.Connection, content_characters: int) -> Target:
    inspector = sa.inspect(connection)
    schema = connection.execute(sa.text(SCHEMA)).scalar_one()
    if schema is None:
        raise TargetError("the connection has no schema to look for tables in: correct search_path for this login")
    wanted = (*TABLES, CATALOGUE)
    there = set(inspector.get_table_names(schema=schema))
    missing = [table.name for table in wanted if table.name not in there]
    views = set(inspector.get_view_names(schema=schema)) | set(inspector.get_materialized_view_names(schema=schema))
    if views.intersection(missing):
        names = [name for name in missing if name in views]
        raise TargetError(
            f"{plural('relation', names)} no table in schema {schema!r} but a view: name a schema of tables"
        )
    if missing:
        raise TargetError(
            f"{plural('table', missing)} missing in schema {schema!r}: "
            "make them with your migrations, or with `bulkseed init`"
        )
    lengths = {row[:2]: row[2:] for row in connection.execute(sa.text(LENGTHS), {"schema": schema})}
    problems: list[str] = []
    columns: dict[str, dict[str, TargetColumn]] = {}
    for table in wanted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # of types that only other columns have
            found = {each["name"]: each for each in inspector.get_columns(table.name, schema=schema)}
        columns[table.name] = {
            name: target_column(each, *lengths.get((table.name, name), (None, False))) for name, each in found.items()
        }
        for column in table.columns:
            longest = content_characters if column.name == "content" else column.longest
            problems += misfits(table, column, found.get(column.name), columns[table.name], longest)
        problems += unfilled(table, found) if table is not CATALOGUE else []
    if problems:
        raise TargetError("; ".join(problems))
    return Target(schema, columns)


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
    table: Table, column: Column, found: Any, columns: Mapping[str, TargetColumn], longest: int | None
) -> list[str]:
    name = f"{table.name}.{column.name}"
    if found is None:
        return [f"the column {name} is missing: add it as a column of type {column.kind}"]
    there = columns[column.name]
    if there.kind != column.kind:
        return [f"the column {name} is of type {there.type}: it must be of a {column.kind} type"]
    if there.type.startswith("char(") and (column.name, there.length) != ("join_code", longest):
        return [f"the column {name} is of type {there.type}, which pads with spaces: it must be varchar or text"]
    if found.get("computed"):
        return [f"the column {name} is generated: it must take values"]
    if there.length is not None and longest is not None and there.length < longest:
        return [f"the column {name} holds {there.length} characters: it must hold {longest}"]
    if column.nullable and not found["nullable"]:
        return [f"the column {name} is NOT NULL: it must allow null"]
    return []


def unfilled(table: Table, found: Mapping[str, Any]) -> list[str]:
    return [
        f"nothing fills the NOT NULL column {table.name}.{name}: give it a default"
        for name, each in found.items()
        if name not in table.column_names
        and not each["nullable"]
        and each["default"] is None
        and not each.get("identity")
        and not each.get("computed")
    ]
