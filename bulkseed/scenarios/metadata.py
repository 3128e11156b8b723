"""The app's own SQLAlchemy metadata: which tables and columns it has, and what its models fill without being asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from bulkseed.errors import InputError, suggestion
from bulkseed.fields import normalised
from bulkseed.imports import imported
from bulkseed.plan.scenario import Scenario
from bulkseed.plan.tables import Model, Table

__all__ = ["with_metadata"]

CALLED: Final[dict[str, Any]] = {"uuid4": {"uuid": 4}, "dict": {"value": {}}, "list": {"value": []}}
"""What the functions are worth that models give as defaults, by name; of others nothing is known that holds twice."""

DIALECT: Final[sa.Dialect] = postgresql.dialect()  # type: ignore[no-untyped-call]


def with_metadata(scenario: Scenario, source: str) -> Scenario:
    """The scenario with what the models at ``module:name`` (a declarative base, or a MetaData) know beyond it.

    That is their schema, and fields for the columns that they fill themselves: NOT NULL, without a default of the
    server's, but with one of Python's (``default=``). Raises InputError, which names all of them, for tables and
    columns of the scenario that the models do not have.
    """
    found = imported(source, "--metadata")
    metadata = found if isinstance(found, sa.MetaData) else getattr(found, "metadata", None)
    if not isinstance(metadata, sa.MetaData):
        raise InputError(
            f"--metadata {source} has no tables of SQLAlchemy's: name a declarative base, or a MetaData, as module:name"
        )
    model = Model(scenario)
    there = {each.name: each for each in metadata.tables.values() if scenario.schema in {None, each.schema}}
    problems = list(differences(model, there))
    if problems:
        raise InputError(f"the models of {source} do not go with the scenario {scenario.name}: {'; '.join(problems)}")
    schemas = {there[model.name(table)].schema for table in model.names}
    if len(schemas) > 1:
        listed = ", ".join(sorted(str(schema) for schema in schemas))
        raise InputError(
            f"the models of {source} have the tables in several schemas ({listed}): name one with --schema"
        )
    fields = {name: dict(columns) for name, columns in scenario.fields.items()}
    for table in model.tables:
        for column, given in defaults(model, table, there[model.name(table.name)]):
            fields.setdefault(table.name, {}).setdefault(column, given)
    return replace(scenario, schema=scenario.schema or next(iter(schemas)), fields=fields)


def differences(model: Model, there: Mapping[str, sa.Table]) -> Iterator[str]:
    for table in model.by_name.values():
        name = model.name(table.name)
        if name not in there:
            yield f"there is no table {name}: {suggestion(name, there, 'name it in [tables], or leave it out there')}"
            continue
        columns = there[name].columns.keys()
        for column in table.columns:
            actual = model.column(table.name, column.name)
            if actual not in columns:
                mend = suggestion(actual, columns, f"name it in [columns.{table.name}], or leave it out there")
                yield f"{name} has no column {actual}: {mend}"


def defaults(model: Model, table: Table, found: sa.Table) -> Iterator[tuple[str, Any]]:
    """The columns that the model fills itself, each with the field that does the same."""
    filled = {model.column(table.name, column.name) for column in table.columns}
    for column in found.columns:
        given = column.default
        if column.name in filled or column.nullable or column.server_default is not None or given is None:
            continue
        value: Any = None
        if isinstance(given, sa.ColumnDefault) and given.is_scalar:
            process = column.type.dialect_impl(DIALECT).bind_processor(DIALECT)
            value = {"value": process(given.arg) if process is not None else given.arg}
        elif isinstance(given, sa.ColumnDefault) and given.is_callable:
            value = CALLED.get(getattr(given.arg, "__name__", ""))
        if value is not None:
            yield column.name, normalised(value, f"--metadata, {found.name}.{column.name}")
