"""Encoders of Arrow batches: as tuples, or in COPY's binary format. They use no connection."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.copy.binary_rows import (
    HEADER,
    TRAILER,
    Field,
    Fixed,
    Variable,
    binary_array,
    join_fields,
    octets_of,
)
from bulkseed.copy.wire_values import (
    EMPTY,
    LOWER_INCLUDED,
    UPPER_INCLUDED,
)
from bulkseed.errors import RunError
from bulkseed.plan.plan import EPOCH, microseconds

__all__ = [
    "BINARY_TYPES",
    "MICROSECONDS",
    "MULTIRANGES",
    "RANGES",
    "TIME_OF_DAY",
    "WIRE_TYPES",
    "ArrayOf",
    "Attribute",
    "Chunk",
    "CompositeOf",
    "Record",
    "Type",
    "base_types",
    "encode_array",
    "encode_binary",
    "encode_jsonb",
    "encode_numeric",
    "encode_records",
    "is_list",
    "is_octets",
    "is_range",
    "list_offsets",
]

Words = npt.NDArray[np.uint64]

GROUP_DIGITS: Final = 4
"""Decimal digits in one "digit" of numeric, which is stored in base 10,000."""

NEGATIVE: Final = 0x4000

LIMB_BITS: Final = 32
LOW_LIMB: Final = np.uint64(2**LIMB_BITS - 1)

EPOCH_DAYS: Final = 10_957
"""Days from 1970-01-01 to 2000-01-01, PostgreSQL's own epoch."""

DAY: Final = 86_400_000_000
"""Microseconds of a day."""

CHUNK_OCTETS: Final = 2**18
"""Octets from which a chunk is sent: so many that the parts of small batches are joined, and large ones are not."""

PART_ROWS: Final = 2**16
PART_OCTETS: Final = 2**27
"""The rows, and the octets of Arrow's arrays, that are encoded at once: their binary form has less than 2 GiB."""

NOTHING: Final = pa.scalar(b"", pa.binary())
VERSION: Final = pa.scalar(b"\x01", pa.binary())


def encode_numeric(column: pa.Array) -> pa.Array:
    """Return the octets of ``numeric`` for decimal128 values of scale 0 or more, with as many decimals as the scale.

    The layout is that of numeric_send: https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/numeric.c
    """
    precision, scale = column.type.precision, column.type.scale
    after = -(-scale // GROUP_DIGITS)
    before = max(0, -(-(precision - scale) // GROUP_DIGITS))
    pad = GROUP_DIGITS * after - scale
    words = words_of(pc.abs(column), "<u4").astype(np.uint64).T[: -(-(10**precision).bit_length() // LIMB_BITS)]
    limbs = multiply([*words, np.zeros_like(words[0])], 10**pad)
    octets = np.empty((len(column), 4 + before + after), dtype=">i2")
    groups = octets[:, 4:]
    for group in range(before + after - 1, -1, -1):
        groups[:, group] = divide_in_place(limbs, 10**GROUP_DIGITS)
    # only the groups from the first to the last that are not zero are sent: none for a zero
    used = groups != 0
    first = np.argmax(used, axis=1)
    end = np.where(used.any(axis=1), before + after - np.argmax(used[:, ::-1], axis=1), first)
    # number of groups, power of 10,000 of the first, sign, scale
    octets[:, 0] = end - first
    octets[:, 1] = np.where(end > first, before - 1 - first, 0)
    octets[:, 2] = (words_of(column, "<i8")[:, 1] < 0) * NEGATIVE
    octets[:, 3] = scale
    places = np.arange(-4, before + after)
    sent = (places < 0) | ((places >= first[:, None]) & (places < end[:, None]))
    return binary_array(octets[sent], cumulate(octets.itemsize * np.count_nonzero(sent, axis=1)), column.is_valid())


def words_of(column: pa.Array, dtype: str) -> npt.NDArray[Any]:
    """Return the 16 octets of each decimal as words of ``dtype``, the least significant first: a row for each."""
    words = np.frombuffer(column.buffers()[1], dtype=dtype).reshape(-1, 16 // np.dtype(dtype).itemsize)
    return words[column.offset : column.offset + len(column)]


def multiply(limbs: list[Words], factor: int) -> list[Words]:
    products = []
    carry = np.zeros_like(limbs[0])
    for limb in limbs:
        product = limb * np.uint64(factor) + carry
        products.append(product & LOW_LIMB)
        carry = product >> np.uint64(LIMB_BITS)
    return products


def divide_in_place(limbs: list[Words], divisor: int) -> Words:
    """Divide the numbers in place, by long division, and return the remainders."""
    remainder = np.zeros_like(limbs[0])
    for index in range(len(limbs) - 1, -1, -1):
        dividend = remainder << np.uint64(LIMB_BITS) | limbs[index]
        limbs[index], remainder = np.divmod(dividend, np.uint64(divisor))
    return remainder


def encode_jsonb(column: pa.Array) -> pa.Array:
    """Return the octets of ``jsonb`` for JSON texts: the version of the format, 1, and the text."""
    return pc.binary_join_element_wise(VERSION, column.cast(pa.binary()), NOTHING)


def is_list(arrow_type: pa.DataType) -> bool:
    """Return whether values of the type are lists."""
    return bool(
        pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)
    )


def list_offsets(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return the index in ``column.flatten()`` of the first element of each list, and the total number of elements."""
    # the column's own offsets do not serve: it may be a slice, and null lists may have elements
    return cumulate(np.asarray(pc.list_value_length(column).fill_null(0)))


def cumulate(sizes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return where each of adjacent items begins, and where the last ends, from their sizes."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])


def encode_array(elements: pa.Array, offsets: npt.NDArray[np.int64], valid: pa.Array, element_oid: int) -> pa.Array:
    """Return the octets of one-dimensional arrays: array i has the elements from ``offsets[i]`` to ``offsets[i + 1]``.

    An array is null where ``valid`` is false. ``element_oid`` is the ``pg_type.oid`` of the elements, which the server
    compares.
    """
    sizes = np.diff(offsets)
    header = np.empty((len(valid), 5), dtype=">u4")
    # number of dimensions, whether there are nulls, type of the elements; the dimension's size and lower bound
    header[:, 0] = sizes > 0
    header[:, 1] = np.diff(cumulate(np.asarray(elements.is_null()))[offsets]) > 0
    header[:, 2] = element_oid
    header[:, 3] = sizes
    header[:, 4] = 1
    sent = np.ones(header.shape, dtype=np.bool_)
    sent[:, 3:] = sizes[:, None] > 0  # an empty array has no dimension
    headers = binary_array(header[sent], cumulate(header.itemsize * np.count_nonzero(sent, axis=1)))
    arrays = pc.binary_join_element_wise(headers, join_items(elements, offsets), NOTHING)
    return pc.if_else(valid, arrays, pa.scalar(None, arrays.type))


def join_items(items: pa.Array, offsets: npt.NDArray[np.int64]) -> pa.Array:
    """Return the lengths and octets of the items from ``offsets[i]`` to ``offsets[i + 1]``: an array of ``binary``."""
    joined = join_fields([field_of(items)], len(items), counted=False)
    starts = np.frombuffer(joined.buffers()[1], np.int32).astype(np.int64)[offsets]
    return binary_array(np.frombuffer(octets_of(joined), np.uint8), starts)


def encode_range(column: pa.Array, subtype: str) -> pa.Array:
    """Return the octets of ranges of ``subtype``, from structures that :func:`is_range` takes."""
    lower, upper, flags = column.flatten()
    bounds = []
    for bound in (lower, upper):
        field = field_of(encode_column(bound, subtype, f"{subtype} of a range"))
        bounds.append(pc.if_else(bound.is_valid(), join_fields([field], len(bound), counted=False), NOTHING))
    octets = numbers_of(flags, np.dtype(np.uint8))
    flag_octets = binary_array(octets, np.arange(len(octets) + 1, dtype=np.int64))
    ranges = pc.binary_join_element_wise(flag_octets, *bounds, NOTHING)
    return pc.if_else(column.is_valid(), ranges, pa.scalar(None, ranges.type))


def encode_multirange(column: pa.Array, subtype: str) -> pa.Array:
    """Return the octets of multiranges, from lists of structures that :func:`is_range` takes."""
    offsets = list_offsets(column)
    counts = np.diff(offsets).astype(">i4")
    headers = binary_array(counts, np.arange(len(counts) + 1, dtype=np.int64) * counts.itemsize)
    joined = pc.binary_join_element_wise(headers, join_items(encode_range(column.flatten(), subtype), offsets), NOTHING)
    return pc.if_else(column.is_valid(), joined, pa.scalar(None, joined.type))


def encode_composite(column: pa.Array, type_: CompositeOf, name: str) -> pa.Array:
    """Return the octets of composites, from structures with a child for each attribute, in their order."""
    pieces = [pa.scalar(len(type_.attributes).to_bytes(4), pa.binary())]
    for child, attribute in zip(column.flatten(), type_.attributes, strict=True):
        field = field_of(encode_column(child, attribute.type, f"{name}.{attribute.name}"))
        pieces += [
            pa.scalar(attribute.oid.to_bytes(4), pa.binary()),
            join_fields([field], len(column), counted=False),
        ]
    composites = pc.binary_join_element_wise(*pieces, NOTHING)
    if isinstance(composites, pa.Scalar):  # a type without attributes
        composites = pa.repeat(composites, len(column))
    return pc.if_else(column.is_valid(), composites, pa.scalar(None, composites.type))


NUMBERS: Final[dict[pa.DataType, np.dtype[Any]]] = {
    pa.int16(): np.dtype(np.int16),
    pa.int32(): np.dtype(np.int32),
    pa.int64(): np.dtype(np.int64),
    pa.float32(): np.dtype(np.float32),
    pa.float64(): np.dtype(np.float64),
}


def field_of(values: pa.Array) -> Field:
    """Return a column of a type of Arrow that BINARY_TYPES has, as it is laid out in rows."""
    arrow_type = values.type
    if pa.types.is_string(arrow_type) or pa.types.is_binary(arrow_type):
        return Variable(values.view(pa.binary()))
    if pa.types.is_timestamp(arrow_type):
        numbers = numbers_of(values, np.dtype(np.int64)) - EPOCH_DAYS * DAY
    elif arrow_type == TIME_OF_DAY:
        numbers = numbers_of(values, np.dtype(np.int64))
    elif pa.types.is_date32(arrow_type):
        numbers = numbers_of(values, np.dtype(np.int32)) - np.int32(EPOCH_DAYS)
    elif pa.types.is_boolean(arrow_type):
        numbers = numbers_of(values.cast(pa.uint8()), np.dtype(np.uint8))
    elif arrow_type == OCTETS:
        numbers = numbers_of(values, np.dtype((np.void, OCTETS.byte_width)))
    else:
        numbers = numbers_of(values, NUMBERS[arrow_type])
    return Fixed(numbers, np.asarray(values.is_valid()) if values.null_count else None)


def numbers_of(values: pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the items of an array of values of fixed width, where nulls have any value: not a copy."""
    if not len(values):
        return np.empty(0, dtype)
    return np.frombuffer(values.buffers()[1], dtype, len(values), values.offset * dtype.itemsize)


Record = tuple[Any, ...]
MICROSECONDS: Final = pa.timestamp("us")
OCTETS: Final = pa.binary(16)
TIME_OF_DAY: Final = pa.time64("us")

EDGES: Final = tuple(microseconds(moment.replace(tzinfo=UTC)) for moment in (datetime.min, datetime.max))
TIMES: Final = (EDGES[0] + 1, EDGES[1] - 1)
"""The first and the last time that both encoders load, in microseconds from 1970: those of Python's datetime without
its own first and last, which asyncpg sends as ``-infinity`` and ``infinity``. PostgreSQL's own range is wider."""

DAYS: Final = ((date.min - EPOCH.date()).days + 1, (date.max - EPOCH.date()).days - 1)
"""The first and the last date that both encoders load, in days from 1970, for the same reason as TIMES."""


def encode_records(batch: pa.RecordBatch, zoned: Collection[str] = (), table: str = "batch") -> list[Record]:
    """Return the rows of ``batch`` as tuples for ``copy_records_to_table``, in the order of its columns.

    Timestamps become naive datetimes in UTC, and aware ones for the columns in ``zoned``, which are ``timestamptz``
    (asyncpg reads a naive datetime for these as local time); binaries of 16 octets become UUIDs; lists become lists of
    these values; structures become tuples, or ranges where :func:`is_range` takes them, and timestamps in these are
    aware where they have a zone. Raises RunError, naming ``table``, for a time outside TIMES and a date outside DAYS.
    """
    columns = [
        to_python(column, f"{table}.{field.name}", zoned=field.name in zoned)
        for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return list(zip(*columns, strict=True))


def to_python(column: pa.Array, name: str, *, zoned: bool) -> list[Any]:
    """Return the values of ``column`` as asyncpg takes them. Raises RunError as :func:`encode_records` does."""
    arrow_type = column.type
    if is_list(arrow_type):
        elements = to_python(column.flatten(), name, zoned=zoned)
        # asyncpg takes lists in lists for arrays of more dimensions, and a tuple for a multirange
        make = tuple if is_multirange(arrow_type) else list
        lists = [make(elements[start:stop]) for start, stop in pairwise(list_offsets(column).tolist())]
        return [items if valid else None for items, valid in zip(lists, column.is_valid().to_pylist(), strict=True)]
    if pa.types.is_struct(arrow_type):
        children = [
            to_python(child, name, zoned=pa.types.is_timestamp(child.type) and child.type.tz is not None)
            for child in column.flatten()
        ]
        structure = to_range if is_range(arrow_type) else lambda *values: values
        structures = [structure(*values) for values in zip(*children, strict=True)] if children else [()] * len(column)
        return [each if valid else None for each, valid in zip(structures, column.is_valid().to_pylist(), strict=True)]
    if pa.types.is_timestamp(arrow_type):
        if is_microseconds(arrow_type):
            check_times(column, name)
        if zoned:
            numbers = to_python(column.cast(pa.int64()), name, zoned=False)
            return [None if number is None else EPOCH + timedelta(microseconds=number) for number in numbers]
        # NumPy makes datetimes some five times quicker than to_pylist
        times: list[Any] = column.to_numpy(zero_copy_only=False).astype("datetime64[us]").tolist()
        return times
    if column.null_count == 0 and (pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type)):
        plain: list[Any] = np.asarray(column).tolist()
        return plain
    if pa.types.is_date32(arrow_type):
        check_dates(column, name)
    values: list[Any] = column.to_pylist()
    if arrow_type == OCTETS:
        return [None if value is None else UUID(bytes=value) for value in values]
    return values


def to_range(lower: Any, upper: Any, flags: int | None) -> asyncpg.Range | None:
    if flags is None:
        return None
    return asyncpg.Range(
        lower,
        upper,
        lower_inc=bool(flags & LOWER_INCLUDED),
        upper_inc=bool(flags & UPPER_INCLUDED),
        empty=bool(flags & EMPTY),
    )


def check_times(column: pa.Array, name: str) -> None:
    if (value := extreme_beyond(column.view(pa.int64()), *TIMES)) is not None:
        raise RunError(
            f"the column {name} cannot take the time {value} µs from 1970: make times within the years 1 to 9999",
            code="value-out-of-range",
        )


def check_dates(column: pa.Array, name: str) -> None:
    if (value := extreme_beyond(column.view(pa.int32()), *DAYS)) is not None:
        raise RunError(
            f"the column {name} cannot take the date {value} days from 1970: make dates within the years 1 to 9999",
            code="value-out-of-range",
        )


def check_times_of_day(column: pa.Array, name: str) -> None:
    if (value := extreme_beyond(column.view(pa.int64()), 0, DAY - 1)) is not None:
        raise RunError(
            f"the column {name} cannot take the time {value} µs from midnight: make times of a day",
            code="value-out-of-range",
        )


def check_float4(column: pa.Array, name: str) -> None:
    beyond = pc.and_not(pc.is_inf(column.cast(pa.float32(), safe=False)), pc.is_inf(column))
    if len(refused := column.filter(beyond)):
        raise RunError(
            f"the column {name} is of type float4, and cannot take {refused[0]}: give it a wider type",
            code="value-out-of-range",
        )


def extreme_beyond(numbers: pa.Array, least: int, greatest: int) -> int | None:
    """Return the smallest number if it is below ``least``, else the largest if it is above ``greatest``, else None."""
    ends = pc.min_max(numbers).as_py()
    return next((end for end in ends.values() if end is not None and not least <= end <= greatest), None)


class Chunk(NamedTuple):
    """A piece of COPY's binary format, and the number of rows that end in it."""

    data: bytes | memoryview
    rows: int


class ArrayOf(NamedTuple):
    """An array of a type of BINARY_TYPES, or of composites; the server compares ``element_oid``, the ``pg_type.oid`` of
    the elements.
    """

    base: str | CompositeOf
    element_oid: int

    def __str__(self) -> str:
        return f"{self.base}[]"


class Attribute(NamedTuple):
    """An attribute of a composite type; the server compares ``oid``, the ``pg_type.oid`` of its declared type."""

    name: str
    oid: int
    type: Type


class CompositeOf(NamedTuple):
    """A composite type: its name, and its attributes in their order."""

    name: str
    attributes: tuple[Attribute, ...]

    def __str__(self) -> str:
        return self.name


Type = str | ArrayOf | CompositeOf
"""A type that :func:`encode_binary` encodes: a key of BINARY_TYPES, a composite of such types, or an array of one."""


def base_types(type_: Type) -> Iterator[str]:
    """Yield the keys of BINARY_TYPES that ``type_`` consists of."""
    match type_:
        case ArrayOf():
            yield from base_types(type_.base)
        case CompositeOf():
            yield from chain.from_iterable(base_types(attribute.type) for attribute in type_.attributes)
        case str():
            yield type_


@dataclass(frozen=True, slots=True)
class BinaryType:
    """The encoding of a type of PostgreSQL: the type of Arrow that is laid out, and the types that are accepted.

    ``check`` raises RunError for a column with values that the type cannot hold; ``encode`` makes the octets of types
    that are not laid out as they are.
    """

    arrow: pa.DataType
    accepts: Callable[[pa.DataType], bool]
    check: Callable[[pa.Array, str], None] | None = None
    encode: Callable[[pa.Array], pa.Array] | None = None


def is_text(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))


def is_microseconds(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(arrow_type) and arrow_type.unit == "us")


def is_time_of_day(arrow_type: pa.DataType) -> bool:
    return bool(arrow_type == TIME_OF_DAY)


def is_octets(arrow_type: pa.DataType) -> bool:
    """Return whether values of the type are the 16 octets of UUIDs."""
    return bool(arrow_type == OCTETS)


def is_range(arrow_type: pa.DataType) -> bool:
    """Return whether values of the type are ranges: structures of the bounds, and the flags of the range."""
    return bool(
        pa.types.is_struct(arrow_type)
        and [child.name for child in arrow_type] == ["lower", "upper", "flags"]
        and arrow_type.field(2).type == pa.uint8()
    )


def is_multirange(arrow_type: pa.DataType) -> bool:
    return is_list(arrow_type) and is_range(arrow_type.value_type)


def is_decimal(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_decimal128(arrow_type) and arrow_type.scale >= 0)


TEXT: Final = BinaryType(pa.string(), is_text)
TIME: Final = BinaryType(MICROSECONDS, is_microseconds, check_times)
WIRE: Final = BinaryType(pa.binary(), pa.types.is_binary)
"""Values that are the octets of COPY already (:mod:`bulkseed.copy.wire_values`)."""

WIRE_TYPES: Final = ("timetz", "interval", "inet", "cidr", "macaddr", "macaddr8", "bit", "varbit", "tsvector")

RANGES: Final = {
    "int4range": "int4",
    "int8range": "int8",
    "numrange": "numeric",
    "tsrange": "timestamp",
    "tstzrange": "timestamptz",
    "daterange": "date",
}
"""The ranges of PostgreSQL, with the types of their bounds."""

MULTIRANGES: Final = {name.replace("range", "multirange"): name for name in RANGES}
"""The multiranges of PostgreSQL, with their ranges."""

BINARY_TYPES: Final = {
    "int2": BinaryType(pa.int16(), pa.types.is_integer),
    "int4": BinaryType(pa.int32(), pa.types.is_integer),
    "int8": BinaryType(pa.int64(), pa.types.is_integer),
    "float4": BinaryType(pa.float32(), pa.types.is_floating, check_float4),
    "float8": BinaryType(pa.float64(), pa.types.is_floating),
    "numeric": BinaryType(pa.binary(), is_decimal, encode=encode_numeric),
    "bool": BinaryType(pa.bool_(), pa.types.is_boolean),
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": TEXT,
    "name": TEXT,
    "citext": TEXT,
    "enum": TEXT,
    "json": TEXT,
    "jsonb": BinaryType(pa.binary(), is_text, encode=encode_jsonb),
    "uuid": BinaryType(OCTETS, is_octets),
    "date": BinaryType(pa.date32(), pa.types.is_date32, check_dates),
    "timestamp": TIME,
    "timestamptz": TIME,
    "time": BinaryType(TIME_OF_DAY, is_time_of_day, check_times_of_day),
    "bytea": WIRE,
    **dict.fromkeys(WIRE_TYPES, WIRE),
    **{
        name: BinaryType(pa.binary(), is_range, encode=partial(encode_range, subtype=subtype))
        for name, subtype in RANGES.items()
    },
    **{
        name: BinaryType(pa.binary(), is_multirange, encode=partial(encode_multirange, subtype=RANGES[range_name]))
        for name, range_name in MULTIRANGES.items()
    },
}
"""The types of PostgreSQL, by ``pg_type.typname``, that :func:`encode_binary` encodes; ``enum`` is any enumeration."""


def encode_binary(batches: Iterable[pa.RecordBatch], types: Mapping[str, Type], table: str) -> Iterator[Chunk]:
    """Yield the rows of ``batches`` in COPY's binary format, from its header to its trailer.

    ``types`` has the base type (a key of BINARY_TYPES, a composite, or an array of one) of each column of the COPY, in
    its order; columns of a batch are found by name. Integers are narrowed to the type of their column; timestamps are
    microseconds in UTC. The server does not check types, so they must be the table's. Raises RunError, naming
    ``table``, for a value that its column cannot hold, and for a column of a batch whose type is not accepted.

    The format: https://www.postgresql.org/docs/current/sql-copy.html, under "Binary Format".
    """
    yield Chunk(HEADER, 0)
    waiting: list[memoryview] = []
    rows = 0
    for batch in batches:
        for part in split_batch(batch):
            columns = [encode_column(part.column(name), type_, f"{table}.{name}") for name, type_ in types.items()]
            waiting.append(octets_of(join_fields([field_of(column) for column in columns], part.num_rows)))
            rows += part.num_rows
            if sum(map(len, waiting)) >= CHUNK_OCTETS:
                yield Chunk(waiting[0] if len(waiting) == 1 else b"".join(waiting), rows)
                waiting, rows = [], 0
    yield Chunk(b"".join([*waiting, TRAILER]), rows)


def split_batch(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Return the batch, in parts where it has more rows or octets than are encoded at once."""
    rows = batch.num_rows
    # whole buffers are counted quickly, the octets of a slice of them slowly
    octets = batch.nbytes if batch.get_total_buffer_size() > PART_OCTETS else 0
    parts = max(-(-rows // PART_ROWS), -(-octets // PART_OCTETS))
    if parts <= 1 or rows <= 1:
        return [batch]
    return [batch.slice(start, -(-rows // parts)) for start in range(0, rows, -(-rows // parts))]


def encode_column(column: pa.Array, type_: Type, name: str) -> pa.Array:
    """Return the column with the Arrow type that is laid out for ``type_``. Raises RunError as encode_binary does."""
    if isinstance(type_, ArrayOf):
        if not is_list(column.type):
            raise type_error(name, type_, column)
        elements = encode_column(column.flatten(), type_.base, name)
        return encode_array(elements, list_offsets(column), column.is_valid(), type_.element_oid)
    if isinstance(type_, CompositeOf):
        if not pa.types.is_struct(column.type) or column.type.num_fields != len(type_.attributes):
            raise type_error(name, type_, column)
        return encode_composite(column, type_, name)
    encoding = BINARY_TYPES[type_]
    if not encoding.accepts(column.type):
        raise type_error(name, type_, column)
    if encoding.check is not None:
        encoding.check(column, name)
    if pa.types.is_integer(encoding.arrow) and column.type != encoding.arrow:
        half = 2 ** (encoding.arrow.bit_width - 1)
        if (value := extreme_beyond(column, -half, half - 1)) is not None:
            raise RunError(
                f"the column {name} is of type {type_}, and cannot take {value}: give it a wider type",
                code="value-out-of-range",
            )
    if encoding.encode is not None:
        column = encoding.encode(column)
    return column if column.type == encoding.arrow else column.cast(encoding.arrow, safe=False)


def type_error(name: str, type_: Type, column: pa.Array) -> RunError:
    return RunError(
        f"the column {name} is of type {type_}, and cannot take Arrow's {column.type}: convert its values",
        code="column-type",
    )
