"""Encoders: Arrow batches to tuples, or to COPY's binary format. They know bytes and values, not connections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder

from bulkseed.errors import RunError
from bulkseed.plan.plan import EPOCH, microseconds

__all__ = [
    "BINARY_TYPES",
    "ArrayOf",
    "Chunk",
    "Record",
    "Type",
    "array",
    "binary",
    "is_listed",
    "is_octets",
    "jsonb",
    "numeric",
    "offsets_of",
    "records",
]

Words = npt.NDArray[np.uint64]

GROUP_DIGITS: Final = 4
"""Decimal digits in one of numeric's "digits", which count to 10,000."""

NEGATIVE: Final = 0x4000

LIMB_BITS: Final = 32
LOW_LIMB: Final = np.uint64(2**LIMB_BITS - 1)

EPOCH_DAYS: Final = 10_957
"""Days from 1970 to 2000, from where PostgreSQL counts."""

DAY: Final = 86_400_000_000

NOTHING: Final = pa.scalar(b"", pa.binary())
VERSION: Final = pa.scalar(b"\x01", pa.binary())


def numeric(column: pa.Array) -> pa.Array:
    """decimal128 values of scale 0 or more as numeric's octets, with as many decimals as the scale says."""
    precision, scale = column.type.precision, column.type.scale
    after = -(-scale // GROUP_DIGITS)
    before = max(0, -(-(precision - scale) // GROUP_DIGITS))
    pad = GROUP_DIGITS * after - scale
    octets = np.zeros((len(column), 4 + before + after), dtype=">i2")
    # how many groups, where the first of them stands, sign and scale; the server drops zeros at both ends
    octets[:, :4] = before + after, before - 1, 0, scale
    octets[:, 2] = (words_of(column, "<i8")[:, 1] < 0) * NEGATIVE
    words = words_of(pc.abs(column), "<u4").astype(np.uint64).T[: -(-(10**precision).bit_length() // LIMB_BITS)]
    limbs = scaled([*words, np.zeros_like(words[0])], 10**pad)
    for group in range(before + after - 1, -1, -1):
        octets[:, 4 + group] = divided(limbs, 10**GROUP_DIGITS)
    return nulled(fixed(octets), column)


def words_of(column: pa.Array, dtype: str) -> npt.NDArray[Any]:
    """The 16 octets of each decimal, as words, the lowest first."""
    words = np.frombuffer(column.buffers()[1], dtype=dtype).reshape(-1, 16 // np.dtype(dtype).itemsize)
    return words[column.offset : column.offset + len(column)]


def scaled(limbs: list[Words], factor: int) -> list[Words]:
    found = []
    carry = np.zeros_like(limbs[0])
    for limb in limbs:
        product = limb * np.uint64(factor) + carry
        found.append(product & LOW_LIMB)
        carry = product >> np.uint64(LIMB_BITS)
    return found


def divided(limbs: list[Words], divisor: int) -> Words:
    """Divide numbers in place, by long division; returns the remainders."""
    remainder = np.zeros_like(limbs[0])
    for place in range(len(limbs) - 1, -1, -1):
        dividend = remainder << np.uint64(LIMB_BITS) | limbs[place]
        limbs[place], remainder = np.divmod(dividend, np.uint64(divisor))
    return remainder


def jsonb(column: pa.Array) -> pa.Array:
    """JSON texts as jsonb's octets: the version of the format, 1, and the text."""
    return pc.binary_join_element_wise(VERSION, column.cast(pa.binary()), NOTHING)


def is_listed(given: pa.DataType) -> bool:
    """Whether values of the type are lists."""
    return bool(pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given))


def offsets_of(column: pa.Array) -> npt.NDArray[np.int64]:
    """Where each list begins in ``column.flatten()``, and where the last one ends: one more than there are lists."""
    # not the column's own: it may be a slice, and null lists may have elements
    sizes = np.asarray(pc.list_value_length(column).fill_null(0), dtype=np.int64)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])


def array(elements: pa.Array, offsets: npt.NDArray[np.int64], valid: pa.Array, element_oid: int) -> pa.Array:
    """Octets of one-dimensional arrays: array i has the elements from ``offsets[i]`` to ``offsets[i + 1]``.

    Null where ``valid`` is false. ``element_oid`` is the server's number for the elements' type, which it compares.
    """
    header = np.empty((len(valid), 5), dtype=">u4")
    # dimensions, whether there are nulls (which the server sees for itself), type; the dimension's size and lower bound
    header[:, :] = 1, 0, element_oid, 0, 1
    header[:, 3] = np.diff(offsets)
    bodies = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), field(elements)), NOTHING)
    made = pc.binary_join_element_wise(fixed(header).cast(pa.binary()), bodies, NOTHING)
    return pc.if_else(valid, made, pa.scalar(None, made.type))


def field(values: pa.Array) -> pa.Array:
    """Each value's octets behind their number, which is -1 for a null."""
    octets = payload(values)
    lengths = np.asarray(pc.binary_length(octets).fill_null(-1)).astype(">i4")
    return pc.binary_join_element_wise(
        fixed(lengths.reshape(-1, 1)).cast(pa.binary()), octets.cast(pa.binary()).fill_null(b""), NOTHING
    )


def payload(values: pa.Array) -> pa.Array:
    """The octets of each value, as pgpq makes those of a column."""
    kind = values.type
    if pa.types.is_string(kind):
        return values.cast(pa.binary())
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return values
    if pa.types.is_timestamp(kind):
        numbers = np.asarray(values.view(pa.int64()).fill_null(0)) - EPOCH_DAYS * DAY
    elif pa.types.is_date32(kind):
        numbers = np.asarray(values.view(pa.int32()).fill_null(0)) - np.int32(EPOCH_DAYS)
    else:
        numbers = np.asarray(values.cast(pa.uint8()).fill_null(0) if pa.types.is_boolean(kind) else values.fill_null(0))
    return nulled(fixed(numbers.astype(numbers.dtype.newbyteorder(">")).reshape(-1, 1)), values)


def fixed(rows: npt.NDArray[Any]) -> pa.Array:
    """The octets of each row of a table of numbers."""
    size = rows.dtype.itemsize * rows.shape[1]
    return pa.Array.from_buffers(pa.binary(size), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])


def nulled(made: pa.Array, column: pa.Array) -> pa.Array:
    """What was made of a column's values, null where they are."""
    return pc.if_else(column.is_valid(), made, pa.scalar(None, made.type)) if column.null_count else made


Record = tuple[Any, ...]
MICROSECONDS: Final = pa.timestamp("us")
OCTETS: Final = pa.binary(16)

EDGES: Final = tuple(microseconds(each.replace(tzinfo=UTC)) for each in (datetime.min, datetime.max))
TIMES: Final = (EDGES[0] + 1, EDGES[1] - 1)
"""The times that both encoders load, in microseconds from 1970: those of Python's datetime without the first and the
last, which asyncpg takes for ``-infinity`` and ``infinity``. PostgreSQL's own range is wider."""

DAYS: Final = ((date.min - EPOCH.date()).days + 1, (date.max - EPOCH.date()).days - 1)
"""The dates that both encoders load, in days from 1970: as for TIMES."""


def records(batch: pa.RecordBatch, zoned: Collection[str] = (), table: str = "batch") -> list[Record]:
    """The rows of ``batch`` as tuples for ``copy_records_to_table``, in the order of its columns.

    Timestamps become naive datetimes in UTC, and aware ones for the columns in ``zoned``
    (asyncpg takes a naive datetime for ``timestamptz`` as local time); binaries of 16 octets become UUIDs, and lists
    lists of such values. Raises RunError, naming ``table``, for a time that is none of TIMES, and a date of DAYS.
    """
    columns = [
        values(column, f"{table}.{field.name}", zoned=field.name in zoned)
        for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return list(zip(*columns, strict=True))


def values(column: pa.Array, name: str, *, zoned: bool) -> list[Any]:
    kind = column.type
    if is_listed(kind):
        elements = values(column.flatten(), name, zoned=zoned)
        lists = [elements[start:stop] for start, stop in pairwise(offsets_of(column).tolist())]
        return [each if valid else None for each, valid in zip(lists, column.is_valid().to_pylist(), strict=True)]
    if pa.types.is_timestamp(kind):
        if kind == MICROSECONDS:
            check_times(column, name)
        if zoned:
            numbers = values(column.cast(pa.int64()), name, zoned=False)
            return [None if each is None else EPOCH + timedelta(microseconds=each) for each in numbers]
        # NumPy makes datetimes some five times quicker than to_pylist
        found: list[Any] = column.to_numpy(zero_copy_only=False).astype("datetime64[us]").tolist()
        return found
    if column.null_count == 0 and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        plain: list[Any] = np.asarray(column).tolist()
        return plain
    if pa.types.is_date32(kind):
        check_dates(column, name)
    listed: list[Any] = column.to_pylist()
    if kind == OCTETS:
        return [None if each is None else UUID(bytes=each) for each in listed]
    return listed


def check_times(column: pa.Array, name: str) -> None:
    if (value := outside(column.view(pa.int64()), *TIMES)) is not None:
        raise RunError(
            f"the column {name} cannot take the time {value} µs from 1970: make times within the years 1 to 9999"
        )


def check_dates(column: pa.Array, name: str) -> None:
    if (value := outside(column.view(pa.int32()), *DAYS)) is not None:
        raise RunError(
            f"the column {name} cannot take the date {value} days from 1970: make dates within the years 1 to 9999"
        )


def check_single(column: pa.Array, name: str) -> None:
    beyond = pc.and_not(pc.is_inf(column.cast(pa.float32(), safe=False)), pc.is_inf(column))
    if len(found := column.filter(beyond)):
        raise RunError(f"the column {name} is of type float4, and cannot take {found[0]}: give it a wider type")


def outside(numbers: pa.Array, least: int, greatest: int) -> int | None:
    """The least or the greatest number where it is beyond the limit."""
    ends = pc.min_max(numbers).as_py()
    return next((end for end in ends.values() if end is not None and not least <= end <= greatest), None)


class Chunk(NamedTuple):
    """A piece of COPY's binary format, and how many rows end in it."""

    data: bytes
    rows: int


class ArrayOf(NamedTuple):
    """An array of a type of BINARY_TYPES; the server compares its own number (``pg_type.oid``) for the elements."""

    base: str
    element_oid: int

    def __str__(self) -> str:
        return f"{self.base}[]"


Type = str | ArrayOf
"""A type that :func:`binary` encodes: a key of BINARY_TYPES, or an array of one."""


@dataclass(frozen=True, slots=True)
class BinaryType:
    """How a type of PostgreSQL is encoded: as which type of Arrow, and from which.

    ``check`` raises RunError for a column with values that the type cannot hold; ``make`` makes its octets where
    pgpq cannot.
    """

    arrow: pa.DataType
    takes: Callable[[pa.DataType], bool]
    check: Callable[[pa.Array, str], None] | None = None
    make: Callable[[pa.Array], pa.Array] | None = None


def is_text(given: pa.DataType) -> bool:
    return bool(pa.types.is_string(given) or pa.types.is_large_string(given))


def is_microseconds(given: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(given) and given.unit == "us")


def is_octets(given: pa.DataType) -> bool:
    """Whether values are the 16 octets of UUIDs."""
    return bool(given == OCTETS)


def is_decimal(given: pa.DataType) -> bool:
    return bool(pa.types.is_decimal128(given) and given.scale >= 0)


TEXT: Final = BinaryType(pa.string(), is_text)
TIME: Final = BinaryType(MICROSECONDS, is_microseconds, check_times)

BINARY_TYPES: Final = {
    "int2": BinaryType(pa.int16(), pa.types.is_integer),
    "int4": BinaryType(pa.int32(), pa.types.is_integer),
    "int8": BinaryType(pa.int64(), pa.types.is_integer),
    "float4": BinaryType(pa.float32(), pa.types.is_floating, check_single),
    "float8": BinaryType(pa.float64(), pa.types.is_floating),
    "numeric": BinaryType(pa.binary(), is_decimal, make=numeric),
    "bool": BinaryType(pa.bool_(), pa.types.is_boolean),
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": TEXT,
    "name": TEXT,
    "citext": TEXT,
    "enum": TEXT,
    "json": TEXT,
    "jsonb": BinaryType(pa.binary(), is_text, make=jsonb),
    "uuid": BinaryType(OCTETS, is_octets),
    "date": BinaryType(pa.date32(), pa.types.is_date32, check_dates),
    "timestamp": TIME,
    "timestamptz": TIME,
}
"""The types of PostgreSQL, by ``pg_type.typname``, that :func:`binary` encodes; ``enum`` is any enumeration."""


def binary(batches: Iterable[pa.RecordBatch], types: Mapping[str, Type], table: str) -> Iterator[Chunk]:
    """The rows of ``batches`` in COPY's binary format, from its header to its trailer.

    ``types`` has the base type (a key of BINARY_TYPES, or an array of one) of each column of the COPY, in its order;
    columns of a batch are taken by name. Integers become as narrow as their column; timestamps are microseconds in
    UTC. The server does not check types, so they must be the table's. Raises RunError, naming ``table``, for a value
    that its column cannot hold, and for a column of a batch that is of another kind.

    The format: https://www.postgresql.org/docs/current/sql-copy.html, under "Binary Format".
    """
    schema = pa.schema([(name, arrow_of(type_)) for name, type_ in types.items()])
    encoder = ArrowToPostgresBinaryEncoder(schema)
    yield Chunk(encoder.write_header(), 0)
    rows = 0
    for batch in batches:
        columns = [fitted(batch.column(name), type_, f"{table}.{name}") for name, type_ in types.items()]
        data = encoder.write_batch(pa.record_batch(columns, schema=schema))
        rows += batch.num_rows
        if data:  # pgpq collects about 1 MiB first
            yield Chunk(data, rows)
            rows = 0
    yield Chunk(encoder.finish(), rows)


def arrow_of(type_: Type) -> pa.DataType:
    return pa.binary() if isinstance(type_, ArrayOf) else BINARY_TYPES[type_].arrow


def fitted(column: pa.Array, type_: Type, name: str) -> pa.Array:
    """The column as pgpq is to be given it."""
    if isinstance(type_, ArrayOf):
        if not is_listed(column.type):
            raise unfit(name, type_, column)
        elements = fitted(column.flatten(), type_.base, name)
        return array(elements, offsets_of(column), column.is_valid(), type_.element_oid)
    wanted = BINARY_TYPES[type_]
    if not wanted.takes(column.type):
        raise unfit(name, type_, column)
    if wanted.check is not None:
        wanted.check(column, name)
    if pa.types.is_integer(wanted.arrow) and column.type != wanted.arrow:
        half = 2 ** (wanted.arrow.bit_width - 1)
        if (value := outside(column, -half, half - 1)) is not None:
            raise RunError(f"the column {name} is of type {type_}, and cannot take {value}: give it a wider type")
    if wanted.make is not None:
        column = wanted.make(column)
    return column if column.type == wanted.arrow else column.cast(wanted.arrow, safe=False)


def unfit(name: str, type_: Type, column: pa.Array) -> RunError:
    return RunError(f"the column {name} is of type {type_}, and cannot take Arrow's {column.type}: convert it")
