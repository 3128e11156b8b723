"""SQLAlchemy metadata of the app: the tables and columns that it has, and the defaults of its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from bulkseed.errors import InputError, suggestion
from bulkseed.fields import normalise
from bulkseed.imports import import_object
from bulkseed.plan.scenario import Scenario
from bulkseed.plan.tables import Model, Table

__all__ = ["add_metadata"]

DEFAULT_FUNCTIONS: Final[dict[str, Any]] = {"uuid4": {"uuid": 4}, "dict": {"value": {}}, "list": {"value": []}}
"""Fields for the functions that models give as defaults, by the function's name. Others may return other values in
another run, and get no field.
"""

DIALECT: Final[sa.Dialect] = postgresql.dialect()  # type: ignore[no-untyped-call]


def add_metadata(scenario: Scenario, source: str) -> Scenario:
    """Return the scenario with the schema of the models at ``source`` and fields for the columns that they fill.

    ``source`` names a declarative base or a MetaData as ``module:name``. The columns are those that are NOT NULL and
    have a default in Python (``default=``) but none in the server. Raises InputError, with a line for each problem, for
    tables and columns of the scenario that the models do not have.
    """
    base = import_object(source, "--metadata")
    metadata = base if isinstance(base, sa.MetaData) else getattr(base, "metadata", None)
    if not isinstance(metadata, sa.MetaData):
        raise InputError(
            f"--metadata {source} is not SQLAlchemy metadata: name a declarative base or a MetaData as module:name",
            code="not-metadata",
        )
    model = Model(scenario)
    tables = {table.name: table for table in metadata.tables.values() if scenario.schema in {None, table.schema}}
    problems = list(find_differences(model, tables))
    if problems:
        heading = f"the models of {source} do not fit the scenario {scenario.name}:"
        raise InputError("\n".join((heading, *problems)), code="metadata-mismatch")
    schemas = {tables[model.name(table)].schema for table in model.names}
    if len(schemas) > 1:
        names = ", ".join(sorted(str(schema) for schema in schemas))
        raise InputError(
            f"the models of {source} have the tables in several schemas ({names}): name one with --schema",
            code="several-schemas",
        )
    fields = {name: dict(columns) for name, columns in scenario.fields.items()}
    for table in model.tables:
        for column, field in find_defaults(model, table, tables[model.name(table.name)]):
            fields.setdefault(table.name, {}).setdefault(column, field)
    return replace(scenario, schema=scenario.schema or next(iter(schemas)), fields=fields)


def find_differences(model: Model, tables: Mapping[str, sa.Table]) -> Iterator[str]:
    """Yield a problem, with its fix, for each table and column of ``model`` that is not in ``tables``."""
    for table in model.by_name.values():
        name = model.name(table.name)
        if name not in tables:
            fix = suggestion(name, tables, "name it in [tables], or set it to false there")
            yield f"the models have no table {name}: {fix}"
            continue
        columns = tables[name].columns.keys()
        for column in table.columns:
            actual = model.column(table.name, column.name)
            if actual not in columns:
                fix = suggestion(actual, columns, f"name it in [columns.{table.name}], or set it to false there")
                yield f"{name} has no column {actual}: {fix}"


def find_defaults(model: Model, table: Table, app_table: sa.Table) -> Iterator[tuple[str, Any]]:
    """Yield each column that the app's model fills by itself, with the field that makes the same values."""
    filled = {model.column(table.name, column.name) for column in table.columns}
    for column in app_table.columns:
        default = column.default
        if column.name in filled or column.nullable or column.server_default is not None or default is None:
            continue
        field: Any = None
        if isinstance(default, sa.ColumnDefault) and default.is_scalar:
            process = column.type.dialect_impl(DIALECT).bind_processor(DIALECT)
            field = {"value": process(default.arg) if process is not None else default.arg}
        elif isinstance(default, sa.ColumnDefault) and default.is_callable:
            field = DEFAULT_FUNCTIONS.get(getattr(default.arg, "__name__", ""))
        if field is not None:
            yield column.name, normalise(field, f"--metadata, {app_table.name}.{column.name}")
