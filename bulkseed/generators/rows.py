"""Rows as plain tuples, made into batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa

from bulkseed.errors import RunError
from bulkseed.generators.context import BATCH_ROWS, MOST_BATCH_ROWS, TIMESTAMP
from bulkseed.plan import microseconds

__all__ = ["array_of", "batches_of"]


def batches_of(made: Iterable[Any], table: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of what a table's maker yields: tuples with a value for each of ``columns``, or RecordBatches.

    Raises RunError, naming the table, for a row of another width, a batch of other columns, and values of a column
    that do not go together.
    """
    rows: list[Sequence[Any]] = []
    for each in made:
        if isinstance(each, pa.RecordBatch):
            if rows:
                yield batch_of(rows, table, columns)
                rows = []
            if set(each.schema.names) != set(columns):
                raise RunError(
                    f"a batch of {table} has the columns {', '.join(each.schema.names)}: give it {', '.join(columns)}"
                )
            for start in range(0, each.num_rows, MOST_BATCH_ROWS):
                yield each.select(list(columns)).slice(start, MOST_BATCH_ROWS)
            continue
        if not isinstance(each, tuple | list) or len(each) != len(columns):
            raise RunError(
                f"a row of {table} is {each!r:.80}: yield tuples of {len(columns)} values ({', '.join(columns)}), "
                "or Arrow batches"
            )
        rows.append(each)
        if len(rows) == BATCH_ROWS:
            yield batch_of(rows, table, columns)
            rows = []
    if rows:
        yield batch_of(rows, table, columns)


def batch_of(rows: Sequence[Sequence[Any]], table: str, columns: Sequence[str]) -> pa.RecordBatch:
    arrays = []
    for place, column in enumerate(columns):
        values = [row[place] for row in rows]
        try:
            arrays.append(array_of(values))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError) as error:
            raise RunError(
                f"values of {table}.{column} cannot be sent ({error}): yield values of one kind, or None"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def array_of(values: Sequence[Any]) -> pa.Array:
    """Python's values of one kind as Arrow's: a naive datetime is UTC, a dict becomes JSON, a UUID its text."""
    sample = next((value for value in values if value is not None), None)
    match sample:
        case datetime():
            return pa.array([None if each is None else moment(each) for each in values], pa.int64()).view(TIMESTAMP)
        case UUID():
            return pa.array([None if each is None else str(each) for each in values], pa.string())
        case dict():
            return pa.array([None if each is None else json.dumps(each) for each in values], pa.string())
    return pa.array(values)


def moment(value: datetime) -> int:
    return microseconds(value.replace(tzinfo=UTC) if value.tzinfo is None else value)
