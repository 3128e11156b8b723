"""Rows as plain tuples, made into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from bulkseed.errors import RunError
from bulkseed.fields.arrays import Unfit, array_of
from bulkseed.generators.context import BATCH_ROWS, MOST_BATCH_ROWS

__all__ = ["batches_of"]


def batches_of(made: Iterable[Any], table: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of what a table's maker yields: tuples with a value for each of ``columns``, or RecordBatches (it may
    return one too).

    Raises RunError, naming the table, for a row of another width, a batch of other columns, and values of a column
    that do not go together.
    """
    if isinstance(made, pa.RecordBatch):
        made = [made]
    if not isinstance(made, Iterable):
        raise RunError(
            f"what makes {table} returned {made!r:.80}: let it yield tuples of {len(columns)} values, or Arrow batches"
        )
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
        except Unfit as unfit:
            raise RunError(
                f"a value of {table}.{column} is {values[unfit.place]!r:.80}, which {unfit.problem}: "
                "yield values of one kind, or None"
            ) from None
    return pa.RecordBatch.from_arrays(arrays, list(columns))
