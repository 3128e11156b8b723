"""Encoders: from Arrow batches to what COPY takes. They know bytes and values, not connections."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from bulkseed.plan import EPOCH

__all__ = ["records"]

Record = tuple[Any, ...]


def records(batch: pa.RecordBatch, zoned: Collection[str] = ()) -> list[Record]:
    """The rows of ``batch`` as tuples for ``copy_records_to_table``, in the order of its columns.

    Timestamps become naive datetimes in UTC, and aware ones for the columns in ``zoned``
    (asyncpg takes a naive datetime for ``timestamptz`` as local time).
    """
    columns = [
        values(column, zoned=field.name in zoned) for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return list(zip(*columns, strict=True))


def values(column: pa.Array, *, zoned: bool) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        if zoned:
            return [EPOCH + timedelta(microseconds=each) for each in column.cast(pa.int64()).to_numpy().tolist()]
        # NumPy makes datetimes some five times quicker than to_pylist
        found: list[Any] = column.to_numpy(zero_copy_only=False).astype("datetime64[us]").tolist()
        return found
    if column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        numbers: list[Any] = np.asarray(column).tolist()
        return numbers
    listed: list[Any] = column.to_pylist()
    return listed
