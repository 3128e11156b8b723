"""Copy plans: the columns and the format in which each table is copied."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bulkseed.copy.column_mapping import Keys
from bulkseed.copy.writer import CopyFormat, CopyPlan
from bulkseed.errors import TargetError
from bulkseed.load_options import Format
from bulkseed.plan.tables import Table
from bulkseed.postgres.connection import Connection
from bulkseed.sql import identifier
from bulkseed.target.target import Target, TargetColumn, column_mapping_of, read_types, type_of

__all__ = ["columns_of", "format_reason", "plan_copies", "plan_copy", "with_keys"]


logger = logging.getLogger(__name__)


async def plan_copies(connection: Connection, target: Target, format: Format) -> dict[str, CopyPlan]:
    """Return the copy plan of each table, by bulkseed's name. Raises TargetError as plan_copy does.

    The plans hold as long as the tables' columns keep their types, so that each load or resume of a run makes its own.
    """
    copy_plans = {}
    for table in target.model.tables:
        name = target.model.name(table.name)
        copy_plan = await plan_copy(connection, name, columns_of(target, table), target.schema, format)
        reason = format_reason(copy_plan, target.columns[table.name].values(), format)
        logger.info("COPY format of %s: %s%s", name, copy_plan.format, f" ({reason})" if reason else "")
        given = target.model.scenario.fields.get(table.name, {})
        fields = {target.model.field_source(table.name, column): field for column, field in given.items()}
        mappings = tuple(
            replace(mapping, json="text") if is_json(fields.get(mapping.source)) else mapping
            for mapping in copy_plan.mappings
        )
        copy_plans[table.name] = replace(copy_plan, mappings=mappings)
    return copy_plans


def format_reason(copy_plan: CopyPlan, columns: Iterable[TargetColumn], format: Format) -> str:
    """Return why the COPY format is not binary, for example because of the types of ``columns``; empty if it is."""
    if copy_plan.format == "binary":
        return ""
    if format == "records":
        return "--format records"
    declared = {column.name: column.type for column in columns}
    return ", ".join(f"{name} is of type {declared[name]}" for name in copy_plan.columns if name not in copy_plan.types)


def is_json(field: Any) -> bool:
    """Return whether the text of a field is JSON already, for columns of json and jsonb: that of a template is."""
    return isinstance(field, Mapping) and "template" in field


def with_keys(copy_plan: CopyPlan, table: Table, keys: Mapping[str, Keys]) -> CopyPlan:
    """Return the copy plan with ``keys``, by table, for the columns of type uuid that hold ids of these tables."""
    holds = table.holds
    mappings = tuple(
        replace(mapping, keys=keys.get(holds.get(mapping.source, ""))) if mapping.type == "uuid" else mapping
        for mapping in copy_plan.mappings
    )
    return replace(copy_plan, mappings=mappings)


def columns_of(target: Target, table: Table) -> dict[str, str]:
    """Return the names in the target of the columns that a load fills, by their names in a batch."""
    known = {column.name: target.model.column(table.name, column.name) for column in table.columns}
    fields = target.model.scenario.fields.get(table.name, ())
    return known | {target.model.field_source(table.name, name): name for name in fields}


async def plan_copy(
    connection: Connection,
    table: str,
    columns: Mapping[str, str] | Sequence[str],
    schema: str | None = None,
    format: Format = "auto",
) -> CopyPlan:
    """Return the plan for a COPY into ``table``, which the search_path finds where ``schema`` is None.

    ``columns`` are the names in the table by the names in the batches, whose values are then converted; or just the
    names in the table, for batches that have its columns already.

    Raises TargetError, naming the column, where ``format`` is ``binary`` and the type of a column does not allow it.
    """
    rows = await read_types(connection, identifier(schema, table) if schema else identifier(table))
    by_name = {row["name"]: row for row in rows}
    names = tuple(columns.values()) if isinstance(columns, Mapping) else tuple(columns)
    types = {name: type_ for name in names if (type_ := type_of(by_name[name])) is not None}
    others = [name for name in names if name not in types]
    if others and format == "binary":
        declared = by_name[others[0]]["declared"]
        raise TargetError(
            f"the column {table}.{others[0]} is of type {declared}, which cannot be sent in the binary format: "
            "load with --format auto, or give it a common type",
            code="no-binary-format",
        )
    copy_format: CopyFormat = "records" if others or format == "records" else "binary"
    sources = columns.items() if isinstance(columns, Mapping) else ()
    mappings = tuple(column_mapping_of(source, by_name[name]) for source, name in sources)
    return CopyPlan(table, names, schema, copy_format, types, mappings)
