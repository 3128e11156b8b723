"""Fields of listed or counted values: choices, constants, UUIDs, sequences and copies of other columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from bulkseed.arrays import ConversionError, array_of, longest_in
from bulkseed.fields.source import Distinct, Entry, FieldRows, Source
from bulkseed.randomness.draws import Words, below, thresholds_of, weighted

__all__ = ["UUID_CHARACTERS", "Choice", "Copy", "Sequence", "Uuid", "Value", "make_uuid_texts"]


def convert_options(entry: Entry, values: list[Any]) -> pa.Array:
    """Return ``values`` as an Arrow array. Raises InputError for values that one column cannot hold."""
    try:
        return array_of(values)
    except ConversionError as error:
        raise entry.error(
            f"{values[error.place]!r} {error.problem}: give values of one kind", code="unusable-value"
        ) from error


@dataclass(frozen=True, eq=False)
class Options(Source):
    """Values of which all are known."""

    options: pa.Array

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return self.options.type

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return longest_in(self.options)

    def extremes(self) -> pa.Array | None:
        return self.options


@dataclass(frozen=True, eq=False)
class Choice(Options):
    """``choice = ["free", "pro"]``: one of the values; equally likely without ``weights``."""

    thresholds: Words | None

    @classmethod
    def read(cls, entry: Entry) -> Self:
        options: list[Any] = entry.options["choice"]
        if "weights" not in entry.options:
            return cls(convert_options(entry, options), None)
        weights: list[float] = entry.options["weights"]
        if len(weights) != len(options):
            raise entry.error(
                f"there are {len(weights)} weights for {len(options)} values: give a weight for each value",
                code="wrong-weights",
            )
        if not any(weights):
            raise entry.error("all weights are 0: give at least one above 0", code="wrong-weights")
        return cls(convert_options(entry, options), thresholds_of([Fraction(weight) for weight in weights]))

    def values(self, rows: FieldRows) -> pa.Array:
        words = rows.words()
        if self.thresholds is None:
            return self.options.take(pa.array(below(words, len(self.options))))
        return self.options.take(pa.array(weighted(words, self.thresholds)))


@dataclass(frozen=True, eq=False)
class Value(Options):
    """``value = true``: the same value for all rows."""

    @classmethod
    def read(cls, entry: Entry) -> Self:
        return cls(convert_options(entry, [entry.options["value"]]))

    def values(self, rows: FieldRows) -> pa.Array:
        return self.options.take(pa.array(np.zeros(len(rows), dtype=np.int64)))


UUID_CHARACTERS: Final = 36
UUID_HYPHENS: Final = (8, 13, 18, 23)

PAIRS: Final = np.array([f"{octet:02x}".encode() for octet in range(256)], dtype="S2").view(np.uint16)
"""The two hexadecimal digits of each octet: uint16, shape (256,)."""


@dataclass(frozen=True, eq=False)
class Sequence(Source):
    """``sequence = { start = 1, step = 1 }``: ``start`` plus ``step`` times the row's number in the run, from 0."""

    start: int
    step: int

    @classmethod
    def read(cls, entry: Entry) -> Self:
        steps: Mapping[str, int] = entry.options["sequence"]
        return cls(steps.get("start", 1), steps.get("step", 1))

    def values(self, rows: FieldRows) -> pa.Array:
        return pa.array(self.start + self.step * rows.numbers)

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return pa.int64()

    def distinct(self) -> Distinct | None:
        return "run" if self.step else None


@dataclass(frozen=True, eq=False)
class Uuid(Source):
    """``uuid = 4``: a random UUID."""

    @classmethod
    def read(cls, entry: Entry) -> Self:
        return cls()

    def values(self, rows: FieldRows) -> pa.Array:
        return make_uuid_texts(rows.words(each=2))

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return pa.string()

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return UUID_CHARACTERS

    def distinct(self) -> Distinct | None:
        return "always"


@dataclass(frozen=True, eq=False)
class Copy(Source):
    """``copy = "created_at"``: the value of another column of the row."""

    column: str

    @classmethod
    def read(cls, entry: Entry) -> Self:
        return cls(entry.check_column(entry.options["copy"]))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def values(self, rows: FieldRows) -> pa.Array:
        return rows.values(self.column)

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return None if schema is None else schema.field(self.column).type

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return columns.get(self.column)


def make_uuid_texts(words: Words) -> pa.StringArray:
    """Return version-4 UUIDs (RFC 9562, section 5.4) as texts of 36 characters, one for every two of ``words``."""
    octets = words.astype("<u8", copy=False).view(np.uint8).reshape(-1, 16).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = PAIRS[octets].view(np.uint8)
    texts = np.full((len(octets), UUID_CHARACTERS), ord("-"), dtype=np.uint8)
    begin = 0
    for number, end in enumerate((*UUID_HYPHENS, UUID_CHARACTERS)):
        texts[:, begin:end] = digits[:, begin - number : end - number]
        begin = end + 1
    offsets = np.arange(len(octets) + 1, dtype=np.int32) * UUID_CHARACTERS
    return pa.StringArray.from_buffers(len(octets), pa.py_buffer(offsets), pa.py_buffer(texts))
