"""Fields that a function of the user's fills: for many rows at once, or for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from bulkseed.errors import BulkseedError, RunError
from bulkseed.fields.arrays import Unfit, array_of, in_microseconds
from bulkseed.fields.rows import FieldRow, FieldRows, SharedRows
from bulkseed.fields.source import Entry, Source
from bulkseed.imports import imported, said

__all__ = ["Call"]


@dataclass(frozen=True, eq=False)
class Call(Source):
    """``call = "myapp.seed:phones"``, called with FieldRows; with ``per = "row"`` for each FieldRow."""

    where: str
    reference: str
    each_row: bool

    @classmethod
    def read(cls, entry: Entry) -> Self:
        reference: str = entry.given["call"]
        if not callable(imported(reference, entry.where)):
            raise entry.error(f"{reference} cannot be called: name a function")
        return cls(entry.where, reference, entry.given.get("per") == "row")

    @property
    def function(self) -> Callable[[Any], Any]:
        """The user's function."""
        found: Callable[[Any], Any] = imported(self.reference, self.where)
        return found

    def values(self, rows: FieldRows) -> pa.Array:
        if not len(rows):
            return pa.nulls(0)
        given = self.of_each(rows) if self.each_row else self.of_all(rows)
        if isinstance(given, pa.Array):
            return in_microseconds(given)
        try:
            return array_of(given)
        except Unfit as unfit:
            problem = f"gave {given[unfit.place]!r}, which {unfit.problem}: return values of one kind"
            raise self.error(rows, unfit.place, problem) from None

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return None

    def of_each(self, rows: FieldRows) -> list[Any]:
        function, shared = self.function, SharedRows(rows, rows.words())
        return [self.called(function, FieldRow(shared, place), rows, place) for place in range(len(rows))]

    def of_all(self, rows: FieldRows) -> pa.Array | list[Any]:
        made = as_values(self.called(self.function, rows, rows, 0))
        if made is None:
            raise self.error(rows, 0, "gave no values: return an Arrow array, a NumPy array or a list")
        if len(made) != len(rows):
            raise self.error(rows, 0, f"gave {len(made):,} values for {len(rows):,} rows: return one for each")
        return made

    def called(self, function: Callable[[Any], Any], given: FieldRows | FieldRow, rows: FieldRows, place: int) -> Any:
        try:
            return function(given)
        except BulkseedError:
            raise
        except Exception as error:
            raise self.error(rows, place, f"failed ({said(error)}): mend it") from error

    def error(self, rows: FieldRows, place: int, problem: str) -> RunError:
        at = "row" if self.each_row else "the batch from row"
        return RunError(f"{self.where}: at {at} {rows.numbers[place]:,} of {rows.table}, {self.reference} {problem}")


def as_values(made: Any) -> pa.Array | list[Any] | None:
    """What a function of many rows returned, as an Arrow array or a list; None where it is neither of the two."""
    match made:
        case pa.ChunkedArray():
            return made.combine_chunks()
        case pa.Array() | list():
            return made
        case tuple():
            return list(made)
        case np.ndarray() if made.ndim == 1:
            return made.tolist() if made.dtype == object else pa.array(made)
    return None
