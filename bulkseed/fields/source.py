"""What fields are made of: their entries in the scenario, the rows that they fill, and sources of values."""

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
from bulkseed.text.faker_source import Fakes

__all__ = ["Distinct", "Entry", "FieldRow", "FieldRows", "Source", "normalised", "revived"]


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


Distinct = Literal["always", "run"]
"""Values that are all different: from those of other runs too, or within one run."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a scenario file says of a field, in the course of being read: of the structure that
    ``scenarios/structure.py`` describes.

    ``schema`` is that of the batches that the field will be filled for, None where it is not known.
    """

    where: str
    given: Mapping[str, Any]
    fakes: Fakes
    schema: pa.Schema | None

    def error(self, problem: str) -> InputError:
        """The error that says ``problem`` of the field."""
        return InputError(f"{self.where}: {problem}")

    def column(self, name: str) -> str:
        """``name``, that of another column of the row. Raises InputError where there is none."""
        if self.schema is not None and name not in self.schema.names:
            near = suggestion(name, self.schema.names, f"there are {', '.join(self.schema.names)}")
            raise self.error(f"the table has no column {name}: {near}")
        return name


class Source(ABC):
    """Where the values of a field come from."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The other columns of the row that it reads."""
        return ()

    @abstractmethod
    def values(self, rows: FieldRows) -> pa.Array:
        """A value for each of ``rows``."""

    @abstractmethod
    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        """The type of the values, where that is known."""

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        """The most characters of a value, where numbers and ids of rows go to ``greatest``, and texts of other columns
        are as long as ``columns`` says. None where it is not known.
        """
        return None

    def extremes(self) -> pa.Array | None:
        """Values such that what holds these holds all."""
        return None

    def distinct(self) -> Distinct | None:
        """Whether no two rows have the same value."""
        return None


READERS: Final[dict[str, Callable[[str], object]]] = {
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
}


def normalised(given: object, where: str) -> Any:
    """``given`` with each date or time as an object of one key: ``{"$date": "2026-06-01"}``, ``$datetime``, ``$time``.

    Of what JSON knows it makes the same again. Raises InputError, naming ``where``, for what neither TOML nor JSON has.
    """
    match given:
        case None | bool() | str():
            return given
        case int():
            if not -(2**63) <= given < 2**63:
                raise InputError(f"{where}: {given} does not fit into 64 bits: give a smaller number, or a text")
            return given
        case float():
            if not math.isfinite(given):
                raise InputError(f"{where}: {given} is not a finite number: give another")
            return given
        case datetime():
            return {"$datetime": given.isoformat()}
        case date():
            return {"$date": given.isoformat()}
        case time():
            return {"$time": given.isoformat()}
        case Mapping():
            return {str(key): normalised(value, where) for key, value in given.items()}
        case list() | tuple():
            return [normalised(value, where) for value in given]
    raise InputError(
        f"{where}: a value of the type {type(given).__name__} cannot be kept with the run: give text, numbers, dates, "
        "times, lists or tables"
    )


def revived(given: object, where: str) -> Any:
    """What :func:`normalised` was given; dates and times that were not normalised stay as they are.

    Raises InputError, naming ``where``, for an object such as ``$date`` that holds none.
    """
    if isinstance(given, Mapping):
        [*keys] = given
        if len(keys) == 1 and keys[0] in READERS:
            try:
                return READERS[keys[0]](given[keys[0]])
            except (TypeError, ValueError):
                raise InputError(f"{where}: {given[keys[0]]!r} is not a {keys[0][1:]}: write it in ISO 8601") from None
        return {key: revived(value, where) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [revived(value, where) for value in given]
    return given
