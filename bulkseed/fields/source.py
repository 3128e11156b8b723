"""Parts of fields: their entries in the scenario file, the rows that they fill, and the sources of values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from random import Random
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkseed.arrays import python_values
from bulkseed.errors import InputError, RunError, suggestion
from bulkseed.randomness.draws import Ints, Streams, Words
from bulkseed.text.fakes import Fakes

__all__ = ["Distinct", "Entry", "FieldRow", "FieldRows", "SharedRows", "Source", "normalise", "restore"]


@dataclass(frozen=True)
class FieldRows:
    """Rows of ``table`` for which a field fills ``column``.

    ``numbers`` are the positions of the rows among the run's rows of the table: int64, from 0, ascending; all
    randomness is keyed by them. ``batch`` has the other columns of the same rows, by bulkseed's names. ``as_of`` is the
    run's current time, in microseconds since 1970 UTC. ``first`` is the id of row 0 of the table, from which ``unique``
    values count; 0 for a table without ids.
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
        """Return ``each`` random 64-bit words for each row: uint64, shape ``(len(self) * each,)``.

        Every ``part`` has its own words. The words of a row are the same in any batch.
        """
        if not len(self):
            return np.empty(0, dtype=np.uint64)
        positions = self.numbers if each == 1 else (self.numbers[:, None] * each + np.arange(each)).ravel()
        # the column comes last: no part and column together have the key of another part and column
        return self.streams.words_at(self.table, f"field/{part}/{self.column}", positions)

    def random(self, part: str = "") -> npt.NDArray[np.float64]:
        """Return a random number in [0, 1) for each row: float64, shape ``(len(self),)``."""
        return (self.words(part) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def values(self, column: str) -> pa.Array:
        """Return another column of the rows. Raises RunError if the table has no column of this name."""
        if column not in self.batch.schema.names:
            fix = suggestion(column, self.batch.schema.names, f"it has {', '.join(self.batch.schema.names)}")
            raise RunError(
                f"{self.table}.{self.column}: the table has no column {column}: {fix}", code="unknown-column"
            )
        return self.batch.column(column)


class FieldRow:
    """A row, for a function that is called once for each row: ``row.number`` (from 0), ``row.email``, ``row["email"]``.

    Columns have Python values; times have no zone and are in UTC. Each row has its own :class:`random.Random` as
    ``row.random``.
    """

    __slots__ = ("_batch", "_index", "_random", "number")

    def __init__(self, batch: SharedRows, index: int) -> None:
        self._batch, self._index = batch, index
        self._random: Random | None = None
        self.number = int(batch.rows.numbers[index])

    @property
    def random(self) -> Random:
        """The row's own random numbers, the same every time that the plan is loaded."""
        if self._random is None:
            self._random = Random(int(self._batch.words[self._index]))  # noqa: S311 (not for secrets)
        return self._random

    def __getitem__(self, column: str) -> Any:
        return self._batch.column(column)[self._index]

    def __getattr__(self, column: str) -> Any:
        if column.startswith("_"):
            raise AttributeError(column)
        return self[column]


@dataclass
class SharedRows:
    """Data that the rows of a batch share: columns as Python values, converted on first use."""

    rows: FieldRows
    words: Words
    converted: dict[str, list[Any]] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        if name not in self.converted:
            self.converted[name] = python_values(self.rows.values(name))
        return self.converted[name]


Distinct = Literal["always", "run"]
"""The scope in which no two values are equal: ``always`` across all runs, or within one ``run``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The description of a field in a scenario file, with the structure that ``scenarios/file_schema.py`` defines.

    ``where`` is the dotted key of the field, for errors; ``options`` are the keys and values of the field. ``schema``
    is that of the table's batches; None if it is not known.
    """

    where: str
    options: Mapping[str, Any]
    fakes: Fakes
    schema: pa.Schema | None

    def error(self, problem: str, *, code: str) -> InputError:
        """Return the error that tells the ``problem`` of the field, with its fix."""
        return InputError(f"{self.where}: {problem}", code=code)

    def check_column(self, name: str) -> str:
        """Return ``name``. Raises InputError if the table is known and has no column of this name."""
        if self.schema is not None and name not in self.schema.names:
            fix = suggestion(name, self.schema.names, f"it has {', '.join(self.schema.names)}")
            raise self.error(f"the table has no column {name}: {fix}", code="unknown-column")
        return name


class Source(ABC):
    """The values of a field: one class for each kind of field."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The other columns of the row that the values depend on, by bulkseed's names."""
        return ()

    @abstractmethod
    def values(self, rows: FieldRows) -> pa.Array:
        """Return a value for each of ``rows``: shape ``(len(rows),)``."""

    @abstractmethod
    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        """Return the type of the values; None if it is not known."""

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        """Return the most characters of a value; None if that is not known, or the values are no texts.

        ``greatest`` is the greatest number or id of a row; ``columns`` has the most characters of other columns.
        """
        return None

    def extremes(self) -> pa.Array | None:
        """Return values such that a type that holds them holds all values; None if they are not known."""
        return None

    def distinct(self) -> Distinct | None:
        """Return the scope in which no two values are equal; None if values repeat, or it is not known."""
        return None


READERS: Final[dict[str, Callable[[str], object]]] = {
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
}


def normalise(given: object, where: str) -> Any:
    """Return ``given`` as JSON values: dates and times become objects with one key, ``$date``, ``$datetime`` or
    ``$time``, such as ``{"$date": "2026-06-01"}``. Values of JSON stay as they are.

    ``where`` is the dotted key of the value, for errors. Raises InputError for numbers that are not finite or need more
    than 64 bits, and for types that neither TOML nor JSON has.
    """
    match given:
        case None | bool() | str():
            return given
        case int():
            if not -(2**63) <= given < 2**63:
                raise InputError(
                    f"{where}: {given} does not fit into 64 bits: give a smaller number, or a text",
                    code="number-out-of-range",
                )
            return given
        case float():
            if not math.isfinite(given):
                raise InputError(f"{where}: {given} is not a finite number: give another number", code="not-finite")
            return given
        case datetime():
            return {"$datetime": given.isoformat()}
        case date():
            return {"$date": given.isoformat()}
        case time():
            return {"$time": given.isoformat()}
        case Mapping():
            return {str(key): normalise(value, where) for key, value in given.items()}
        case list() | tuple():
            return [normalise(value, where) for value in given]
    raise InputError(
        f"{where}: a value of the type {type(given).__name__} cannot be kept with the run: give text, numbers, dates, "
        "times, lists or tables",
        code="unusable-value",
    )


def restore(given: object, where: str) -> Any:
    """Return the value from which :func:`normalise` made ``given``. Dates and times stay as they are.

    ``where`` is the dotted key of the value, for errors. Raises InputError for an object of ``$date``, ``$datetime`` or
    ``$time`` whose text is not a date or time.
    """
    if isinstance(given, Mapping):
        [*keys] = given
        if len(keys) == 1 and keys[0] in READERS:
            try:
                return READERS[keys[0]](given[keys[0]])
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{where}: {given[keys[0]]!r} is not a {keys[0][1:]}: write it in ISO 8601", code="wrong-date"
                ) from error
        return {key: restore(value, where) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [restore(value, where) for value in given]
    return given
