"""Fields that need no list: numbers in sequence, UUIDs, and other columns of the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa

from bulkseed.fields.rows import FieldRows
from bulkseed.fields.source import Distinct, Entry, Source
from bulkseed.randomness.streams import Words

__all__ = ["UUID_CHARACTERS", "Copy", "Sequence", "Uuid", "uuid_texts"]

UUID_CHARACTERS: Final = 36
UUID_HYPHENS: Final = (8, 13, 18, 23)

PAIRS: Final = np.array([f"{octet:02x}".encode() for octet in range(256)], dtype="S2").view(np.uint16)
"""The two hexadecimal digits of each octet."""


@dataclass(frozen=True, eq=False)
class Sequence(Source):
    """``sequence = { start = 1, step = 1 }``: the row's number in the run, counted so."""

    start: int
    step: int

    @classmethod
    def read(cls, entry: Entry) -> Self:
        given: Mapping[str, int] = entry.given["sequence"]
        return cls(given.get("start", 1), given.get("step", 1))

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
        return uuid_texts(rows.words(each=2))

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return pa.string()

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return UUID_CHARACTERS

    def distinct(self) -> Distinct | None:
        return "always"


@dataclass(frozen=True, eq=False)
class Copy(Source):
    """``copy = "created_at"``: what another column of the row has."""

    column: str

    @classmethod
    def read(cls, entry: Entry) -> Self:
        return cls(entry.column(entry.given["copy"]))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def values(self, rows: FieldRows) -> pa.Array:
        return rows.values(self.column)

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return None if schema is None else schema.field(self.column).type

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return columns.get(self.column)


def uuid_texts(words: Words) -> pa.StringArray:
    """Version-4 UUIDs (RFC 9562, section 5.4) in their usual 36 characters, of two words each."""
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
