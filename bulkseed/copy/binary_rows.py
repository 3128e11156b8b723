"""Rows of COPY's binary format, laid out from whole columns with NumPy and Arrow, without a loop over rows.

The format: https://www.postgresql.org/docs/current/sql-copy.html, under "Binary Format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["HEADER", "TRAILER", "Field", "Fixed", "Variable", "binary_array", "join_fields", "octets_of"]

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""The signature, flags (none), and the length of the header's extension (none)."""

TRAILER: Final = b"\xff\xff"

MOST_OCTETS: Final = 2**31 - 1
"""Octets of all values of an Arrow array of ``binary``, whose offsets are of 32 bits."""

LENGTH: Final = np.dtype(">i4")
COUNT: Final = np.dtype(">i2")
NULL: Final = -1

NOTHING: Final = pa.scalar(b"", pa.binary())

Column = npt.NDArray[Any]


class Fixed(NamedTuple):
    """A column of values of one width: an array of shape (rows,), whose items are written in big-endian byte order.

    ``valid``, of the same shape, is false for nulls; it is None where there are none.
    """

    values: Column
    valid: npt.NDArray[np.bool_] | None = None


class Variable(NamedTuple):
    """A column of values of any length: an Arrow array of ``binary``, with its nulls."""

    values: pa.Array


Field = Fixed | Variable
"""A column of the rows."""


@dataclass(slots=True)
class Block:
    """Columns of fixed width that are adjacent in each of ``rows``: their indexes, or None where all rows have them."""

    rows: npt.NDArray[np.intp] | None = None
    formats: list[np.dtype[Any]] = field(default_factory=list)
    columns: list[Column | int] = field(default_factory=list)

    def add(self, format: np.dtype[Any], column: Column | int) -> None:
        """Add a column, of shape (rows,), or a number that all rows have."""
        self.formats.append(format)
        self.columns.append(column)

    def octets(self, rows: int) -> Column:
        """Return the octets of the block in each row, of ``rows``, that has it: a one-dimensional array of items."""
        layout = row_layout(*self.formats)
        opaque = np.dtype((np.void, layout.itemsize))
        first = np.zeros(1, layout)
        for name, column in zip(layout.names or (), self.columns, strict=True):
            if isinstance(column, int):
                first[name] = column
        octets = np.full(rows if self.rows is None else len(self.rows), first.view(opaque)[0])
        table = octets.view(layout)
        for name, column in zip(layout.names or (), self.columns, strict=True):
            if not isinstance(column, int):
                table[name] = column if self.rows is None else column[self.rows]
        return octets


@lru_cache
def row_layout(*formats: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a structure of items of ``formats``, without gaps; making one takes as long as 1,000 rows."""
    return np.dtype([(f"f{place}", format) for place, format in enumerate(formats)])


def join_fields(fields: Sequence[Field], rows: int, *, counted: bool = True) -> pa.Array:
    """Return the octets of each row: an array of ``binary``, without nulls, of ``rows`` items.

    A row is the number of its fields (where ``counted``), then for each field the length, -1 for a null, and the
    octets. Raises pyarrow.ArrowInvalid where all rows have 2 GiB or more.
    """
    pieces: list[pa.Array] = []
    blocks = [Block()]
    if counted:
        blocks[-1].add(COUNT, len(fields))
    for column in fields:
        if isinstance(column, Variable):
            blocks[-1].add(LENGTH, np.asarray(pc.binary_length(column.values).fill_null(NULL)))
            pieces += [lay_out(blocks, rows), column.values]
            blocks = [Block()]
            continue
        values, valid = column
        size = values.dtype.itemsize
        if valid is None:
            blocks[-1].add(LENGTH, size)
            blocks[-1].add(values.dtype.newbyteorder(">"), values)
        else:
            blocks[-1].add(LENGTH, np.where(valid, np.int32(size), np.int32(NULL)))
            blocks += [Block(np.flatnonzero(valid)), Block()]
            blocks[-2].add(values.dtype.newbyteorder(">"), values)
    if blocks[0].formats or not pieces:
        pieces.append(lay_out(blocks, rows))
    if len(pieces) == 1:
        return pieces[0]
    return pc.binary_join_element_wise(*pieces, NOTHING, null_handling="replace", null_replacement=b"")


def lay_out(blocks: Sequence[Block], rows: int) -> pa.Array:
    """Return the octets of the blocks, row by row: an array of ``binary`` of ``rows`` items."""
    filled = [(block.rows, block.octets(rows)) for block in blocks if block.formats]
    if len(filled) == 1:
        octets = filled[0][1]
        return binary_array(octets, np.arange(rows + 1, dtype=np.int64) * octets.dtype.itemsize)
    widths = np.full(rows, sum(octets.dtype.itemsize for present, octets in filled if present is None))
    for present, octets in filled:
        if present is not None:
            widths[present] += octets.dtype.itemsize
    offsets = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(widths, out=offsets[1:])
    data = np.empty(offsets[-1], dtype=np.uint8)
    starts = offsets[:-1].copy()
    for present, octets in filled:
        if len(octets):
            size = octets.dtype.itemsize
            # an item for each octet at which a block may begin: the items overlap
            places: Column = np.ndarray(len(data) - size + 1, octets.dtype, data, strides=(1,))
            places[starts if present is None else starts[present]] = octets
            starts[slice(None) if present is None else present] += size
    return binary_array(data, offsets)


def binary_array(data: Column, offsets: npt.NDArray[np.int64], valid: pa.Array | None = None) -> pa.Array:
    """Return an array of ``binary``, whose item i has the octets of ``data`` from ``offsets[i]`` to ``offsets[i + 1]``.

    Items are null where ``valid`` is false. Raises pyarrow.ArrowInvalid where an offset is 2 GiB or more.
    """
    if offsets[-1] > MOST_OCTETS:
        raise pa.ArrowInvalid(f"{offsets[-1]:,} octets are too many for an array of binary: encode fewer rows at once")
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(data))]
    array = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
    return array if valid is None or not valid.false_count else pc.if_else(valid, array, pa.scalar(None, pa.binary()))


def octets_of(joined: pa.Array) -> memoryview:
    """Return the octets of all items of what :func:`join_fields` made, one after another, without copying them."""
    _, offsets, data = joined.buffers()
    return memoryview(data)[: np.frombuffer(offsets, np.int32)[len(joined)]]
