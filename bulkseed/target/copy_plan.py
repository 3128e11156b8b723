"""How each table is copied: into which columns, and in which format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bulkseed.choices import Format
from bulkseed.copy.column_mapping import Keys
from bulkseed.copy.encoders import BINARY_TYPES
from bulkseed.copy.writer import CopyFormat, CopyInto
from bulkseed.errors import TargetError
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection
from bulkseed.sql import identifier
from bulkseed.target.target import TYPES_SQL, Target, column_mapping_of, type_of

__all__ = ["choose_lanes", "copy_into", "with_keys"]


async def choose_lanes(connection: Connection, target: Target, format: Format) -> dict[str, CopyInto]:
    """Where the COPY of each table goes and the lane that it takes, by table. Raises TargetError as copy_into does.

    It holds as long as the tables' columns keep their types: each run of a plan chooses anew.
    """
    lanes = {}
    for table in target.model.tables:
        name = target.model.name(table.name)
        into = await copy_into(connection, name, columns_of(target, table), target.schema, format)
        given = target.model.scenario.fields.get(table.name, {})
        mappings = tuple(replace(fit, json="text") if is_json(given.get(fit.source)) else fit for fit in into.mappings)
        lanes[table.name] = replace(into, mappings=mappings)
    return lanes


def is_json(given: Any) -> bool:
    """Whether the text that a field gives is JSON already, for columns of json: what a template puts together."""
    return isinstance(given, Mapping) and "template" in given


def with_keys(into: CopyInto, table: Table, keys: Mapping[str, Keys]) -> CopyInto:
    """The same, where ids of the tables that ``keys`` has go in as UUIDs."""
    holds = table.holds
    mappings = tuple(
        fit if fit.type != "uuid" else replace(fit, keys=keys.get(holds.get(fit.source, ""))) for fit in into.mappings
    )
    return replace(into, mappings=mappings)


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
    rows = await connection.fetch(TYPES_SQL, identifier(schema, table) if schema else identifier(table))
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
    lane: CopyFormat = "records" if others or format == "records" else "binary"
    named = columns.items() if isinstance(columns, Mapping) else ()
    mappings = tuple(column_mapping_of(source, found[name]) for source, name in named)
    return CopyInto(table, names, schema, lane, types, mappings)
