"""PostgreSQL's binary formats of the types that pgpq has none for: numeric, jsonb and arrays of anything.

They are not documented, but what the server's own functions read has not changed since 7.4: ``numeric_recv``,
``jsonb_recv`` and ``array_recv`` (https://github.com/postgres/postgres/tree/master/src/backend/utils/adt). All numbers
in them are big-endian.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["array", "is_listed", "jsonb", "numeric", "offsets_of"]

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
