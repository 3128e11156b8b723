"""Encoders: from Arrow batches to what COPY takes. They know bytes and values, not connections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder

from bulkseed.errors import RunError
from bulkseed.plan import EPOCH, microseconds

__all__ = ["BINARY_TYPES", "Chunk", "Record", "binary", "records"]

Record = tuple[Any, ...]
MICROSECONDS: Final = pa.timestamp("us")


EDGES: Final = tuple(microseconds(each.replace(tzinfo=UTC)) for each in (datetime.min, datetime.max))
TIMES: Final = (EDGES[0] + 1, EDGES[1] - 1)
"""The times that both encoders load, in microseconds from 1970: those of Python's datetime without the first and the
last, which asyncpg takes for ``-infinity`` and ``infinity``. PostgreSQL's own range is wider."""


def records(batch: pa.RecordBatch, zoned: Collection[str] = (), table: str = "batch") -> list[Record]:
    """The rows of ``batch`` as tuples for ``copy_records_to_table``, in the order of its columns.

    Timestamps become naive datetimes in UTC, and aware ones for the columns in ``zoned``
    (asyncpg takes a naive datetime for ``timestamptz`` as local time). Raises RunError, naming ``table``, for a
    timestamp that is none of TIMES.
    """
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.type == MICROSECONDS:
            check_times(column, f"{table}.{field.name}")
    columns = [
        values(column, zoned=field.name in zoned) for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return list(zip(*columns, strict=True))


def values(column: pa.Array, *, zoned: bool = False) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        if zoned:
            numbers = values(column.cast(pa.int64()))
            return [None if each is None else EPOCH + timedelta(microseconds=each) for each in numbers]
        # NumPy makes datetimes some five times quicker than to_pylist
        found: list[Any] = column.to_numpy(zero_copy_only=False).astype("datetime64[us]").tolist()
        return found
    if column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        plain: list[Any] = np.asarray(column).tolist()
        return plain
    listed: list[Any] = column.to_pylist()
    return listed


def check_times(column: pa.Array, name: str) -> None:
    if (value := outside(column.view(pa.int64()), *TIMES)) is not None:
        raise RunError(
            f"the column {name} cannot take the time {value} µs from 1970: make times within the years 1 to 9999"
        )


def outside(numbers: pa.Array, least: int, greatest: int) -> int | None:
    """The least or the greatest number where it is beyond the limit."""
    ends = pc.min_max(numbers).as_py()
    return next((end for end in ends.values() if end is not None and not least <= end <= greatest), None)


class Chunk(NamedTuple):
    """A piece of COPY's binary format, and how many rows end in it."""

    data: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class BinaryType:
    """How a type of PostgreSQL is encoded: as which type of Arrow, and from which."""

    arrow: pa.DataType
    takes: Callable[[pa.DataType], bool]


TEXT: Final = BinaryType(pa.string(), lambda given: pa.types.is_string(given) or pa.types.is_large_string(given))
TIME: Final = BinaryType(MICROSECONDS, lambda given: pa.types.is_timestamp(given) and given.unit == "us")

BINARY_TYPES: Final = {
    "int2": BinaryType(pa.int16(), pa.types.is_integer),
    "int4": BinaryType(pa.int32(), pa.types.is_integer),
    "int8": BinaryType(pa.int64(), pa.types.is_integer),
    "bool": BinaryType(pa.bool_(), pa.types.is_boolean),
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": TEXT,
    "name": TEXT,
    "citext": TEXT,
    "timestamp": TIME,
    "timestamptz": TIME,
}
"""The types of PostgreSQL, by ``pg_type.typname``, that :func:`binary` encodes."""


def binary(batches: Iterable[pa.RecordBatch], types: Mapping[str, str], table: str) -> Iterator[Chunk]:
    """The rows of ``batches`` in COPY's binary format, from its header to its trailer.

    ``types`` has the base type (a key of BINARY_TYPES) of each column of the COPY, in its order; columns of a batch
    are taken by name. Integers become as narrow as their column; timestamps are microseconds in UTC. The server does
    not check types, so they must be the table's. Raises RunError, naming ``table``, for a value that its column
    cannot hold, and for a column of a batch that is of another kind.

    The format: https://www.postgresql.org/docs/current/sql-copy.html, under "Binary Format".
    """
    schema = pa.schema([(name, BINARY_TYPES[type_name].arrow) for name, type_name in types.items()])
    encoder = ArrowToPostgresBinaryEncoder(schema)
    yield Chunk(encoder.write_header(), 0)
    rows = 0
    for batch in batches:
        columns = [fitted(batch.column(name), type_name, f"{table}.{name}") for name, type_name in types.items()]
        data = encoder.write_batch(pa.record_batch(columns, schema=schema))
        rows += batch.num_rows
        if data:  # pgpq collects about 1 MiB first
            yield Chunk(data, rows)
            rows = 0
    yield Chunk(encoder.finish(), rows)


def fitted(column: pa.Array, type_name: str, name: str) -> pa.Array:
    wanted = BINARY_TYPES[type_name]
    if not wanted.takes(column.type):
        raise RunError(f"the column {name} is of type {type_name}, and cannot take Arrow's {column.type}: convert it")
    if wanted is TIME:
        check_times(column, name)
    elif pa.types.is_integer(wanted.arrow) and column.type != wanted.arrow:
        half = 2 ** (wanted.arrow.bit_width - 1)
        if (value := outside(column, -half, half - 1)) is not None:
            raise RunError(f"the column {name} is of type {type_name}, and cannot take {value}: give it a wider type")
    return column if column.type == wanted.arrow else column.cast(wanted.arrow, safe=False)
