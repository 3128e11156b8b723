"""The rows that a field is filled for: what a callable of the user's gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkseed.errors import RunError, suggestion
from bulkseed.fields.arrays import python_values
from bulkseed.randomness.draws import Ints
from bulkseed.randomness.streams import Streams, Words

__all__ = ["FieldRow", "FieldRows"]


@dataclass(frozen=True)
class FieldRows:
    """Rows of ``table`` whose ``column`` is to be filled.

    ``numbers`` are the rows' places in the run's rows of the table, from 0 and ascending: the key of all randomness.
    ``batch`` has the other columns of the same rows, by bulkseed's names. ``as_of`` is the run's now, in microseconds
    since 1970 UTC. ``first`` is the id of the table's row 0 (0 where it has no ids): what ``unique`` values count from.
    """

    streams: Streams
    table: str
    column: str
    numbers: Ints
    batch: pa.RecordBatch
    as_of: int
    first: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def words(self, part: str = "", each: int = 1) -> Words:
        """``each`` random 64-bit words for each row: uint64, shape ``(len(self) * each,)``.

        Another ``part`` has other words; the same rows have the same words in any batch.
        """
        if not len(self):
            return np.empty(0, dtype=np.uint64)
        places = self.numbers if each == 1 else (self.numbers[:, None] * each + np.arange(each)).ravel()
        # the column comes last, so that no part of one is another's
        return self.streams.words_at(self.table, f"field/{part}/{self.column}", places)

    def random(self, part: str = "") -> npt.NDArray[np.float64]:
        """A random number in [0, 1) for each row: float64, shape ``(len(self),)``."""
        return (self.words(part) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def values(self, column: str) -> pa.Array:
        """Another column of the rows. Raises RunError where there is none of that name."""
        if column not in self.batch.schema.names:
            near = suggestion(column, self.batch.schema.names, f"it has {', '.join(self.batch.schema.names)}")
            raise RunError(f"{self.table}.{self.column}: its table has no column {column}: {near}")
        return self.batch.column(column)


class FieldRow:
    """A row, for a callable that is called for each: ``row.number`` (from 0), ``row.email``, ``row["email"]``.

    Columns are Python's values, times without zone in UTC; ``row.random`` is a :class:`random.Random` of its own.
    """

    __slots__ = ("_all", "_place", "_random", "number")

    def __init__(self, every: SharedRows, place: int) -> None:
        self._all, self._place = every, place
        self._random: Random | None = None
        self.number = int(every.rows.numbers[place])

    @property
    def random(self) -> Random:
        """Random numbers of this row's own: always the same for it."""
        if self._random is None:
            self._random = Random(int(self._all.words[self._place]))  # noqa: S311 (not for secrets)
        return self._random

    def __getitem__(self, column: str) -> Any:
        return self._all.column(column)[self._place]

    def __getattr__(self, column: str) -> Any:
        if column.startswith("_"):
            raise AttributeError(column)
        return self[column]


@dataclass
class SharedRows:
    """What the rows of a batch share: columns as Python's values, made when they are first asked for."""

    rows: FieldRows
    words: Words
    found: dict[str, list[Any]] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        if name not in self.found:
            self.found[name] = python_values(self.rows.values(name))
        return self.found[name]
