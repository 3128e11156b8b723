"""The target: the tables as they are in the database, checked before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bulkseed.columns import TYPES_SQL, fit_of
from bulkseed.errors import TargetError
from bulkseed.fitting import Fit, why_not
from bulkseed.identifiers import qualified
from bulkseed.model import Model, Names
from bulkseed.suggestions import suggestion
from bulkseed.tables import Column, Kind, Table

__all__ = ["ARROW_TYPES", "Target", "TargetColumn", "read_target"]

BITS: Final = {"int2": 15, "int4": 31, "int8": 63, "uuid": 62}

ARROW_TYPES: Final[dict[Kind, pa.DataType]] = {
    "integer": pa.int64(),
    "text": pa.string(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
"""What the generators make of each kind of column."""


class Any62(NamedTuple):
    """Stands for the keys of a run that is not there yet."""

    def octets(self, ids: pa.Array) -> pa.Array:
        """Of none."""
        return pa.nulls(len(ids), pa.binary(16))


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column as the database has it: its type as declared, and how values become of it."""

    name: str
    type: str
    fit: Fit

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


async def read_target(connection: AsyncConnection, model: Model) -> Target:
    """The tables of ``model``, reflected and checked (the catalogue of reactions too).

    They are in the scenario's schema, or where the connection's search_path has them. Raises TargetError, which names
    all that does not fit: missing tables and columns, types, lengths, columns that nothing fills.
    """
    return await connection.run_sync(reflected, model)


SCHEMA: Final = """
SELECT coalesce((SELECT nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE c.oid = to_regclass(quote_ident(:users))), current_schema())
"""
"""Where the search_path finds the users: a login's own schema, which comes first in it, may hold the ledger alone."""


def schema_of(connection: sa.Connection, inspector: sa.Inspector, model: Model) -> str:
    if (named := model.scenario.schema) is not None:
        if named not in (there := inspector.get_schema_names()):
            mend = suggestion(named, there, "give --schema one of those that there are")
            raise TargetError(f"there is no schema {named!r} in the database: {mend}")
        return named
    found = connection.execute(sa.text(SCHEMA), {"users": model.name("users")}).scalar_one()
    if found is None:
        raise TargetError(
            "the connection has no schema to look for tables in: name one with --schema, "
            "or correct search_path for this login"
        )
    return str(found)


def reflected(connection: sa.Connection, model: Model) -> Target:
    inspector = sa.inspect(connection)
    schema = schema_of(connection, inspector, model)
    wanted = list(model.by_name.values())
    there = set(inspector.get_table_names(schema=schema))
    problems = absent_tables(inspector, model, schema, [each.name for each in wanted], there)
    columns: dict[str, dict[str, TargetColumn]] = {}
    for table in wanted:
        name = model.name(table.name)
        if name not in there:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # of types that only other columns have
            found = {each["name"]: each for each in inspector.get_columns(name, schema=schema)}
        rows = connection.exec_driver_sql(TYPES_SQL, (qualified(schema, name),)).mappings()
        all_columns = {row["name"]: TargetColumn(row["name"], row["declared"], fit_of("", dict(row))) for row in rows}
        columns[table.name] = {
            column.name: all_columns[actual]
            for column in table.columns
            if (actual := model.column(table.name, column.name)) in all_columns
        }
        columns[table.name] |= {each: all_columns[each] for each in fields_of(model, table) if each in all_columns}
        for column in table.columns:
            problems += misfits(model, table, column, found, columns[table.name])
        problems += unknown(model, table, found)
        problems += unfilled(model, table, found) if table.name in model.names else []
    problems += unlike(model, columns)
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
    found: Mapping[str, Any],
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
    if found[actual].get("computed"):
        return [f"the column {name} is generated: it must take values"]
    if column.kind != "any":
        is_id = column.name in table.holds
        whole = column.longest if (column.name,) in table.unique else None
        if reason := why_not(ARROW_TYPES[column.kind], whole, replace(there.fit, keys=Any62() if is_id else None)):
            return [f"the column {name} {reason}"]
        if is_id and there.bits == 0:
            return [f"the column {name} is of type {there.type}, and holds ids: make it bigint or uuid"]
        if there.fit.type == "bpchar" and (column.name, there.fit.length) != ("join_code", column.longest):
            return [f"the column {name} is of type {there.type}, which pads with spaces: it must be varchar or text"]
    if column.nullable and not found[actual]["nullable"]:
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


def unknown(model: Model, table: Table, found: Mapping[str, Any]) -> list[str]:
    """The fields of the scenario for which there is no column."""
    problems = []
    for name in fields_of(model, table):
        if name not in found:
            mend = suggestion(name, found, "add the column with your migrations, or leave the field out")
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
