"""Batches with what a scenario's fields add to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from bulkseed.generators.context import Context
from bulkseed.generators.part import Numbering
from bulkseed.plan.plan import Plan, microseconds

if TYPE_CHECKING:
    from bulkseed.fields import FieldSpec

__all__ = ["fields_of", "filled"]


def filled(context: Context, table: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches of a table with a further column for each of its fields, by the app's names."""
    if not context.plan.scenario.fields.get(table):
        yield from batches
        return
    # imported here: most plans have no fields
    from bulkseed.fields import FieldRows, fill  # noqa: PLC0415

    fields = fields_of(context.plan)[table]
    numbering = Numbering(context, table)
    first = context.placement.first(table) if table == numbering.parent else 0
    for batch in batches:
        numbers = numbering.numbers(batch)
        arrays, names = list(batch.columns), list(batch.schema.names)
        for column, spec in fields.items():
            rows = FieldRows(context.streams, table, column, numbers, batch, context.as_of, first)
            arrays.append(fill(spec, rows))
            names.append(column)
        yield pa.RecordBatch.from_arrays(arrays, names)


@lru_cache(maxsize=4)
def fields_of(plan: Plan) -> Mapping[str, Mapping[str, FieldSpec]]:
    """What fills the columns that a plan's scenario adds, by table and the app's column."""
    from bulkseed.fields import parse_field  # noqa: PLC0415
    from bulkseed.text.faker_values import Fakes  # noqa: PLC0415

    fakes = Fakes(plan.locale, plan.seed, microseconds(plan.as_of), plan.scenario.providers)
    return {
        table: {column: parse_field(f"fields.{table}.{column}", given, fakes) for column, given in columns.items()}
        for table, columns in plan.scenario.fields.items()
    }
