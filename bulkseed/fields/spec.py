"""Fields that a function of the user's fills: for many rows at once, or for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from bulkseed.arrays import ConversionError, array_of, in_microseconds
from bulkseed.errors import BulkseedError, RunError
from bulkseed.fields.choices import Choice, Copy, Sequence, Uuid, Value
from bulkseed.fields.fakers import Fake
from bulkseed.fields.ranges import After, Uniform
from bulkseed.fields.source import Distinct, Entry, FieldRow, FieldRows, SharedRows, Source, normalised, revived
from bulkseed.fields.templates import Template
from bulkseed.imports import imported, said
from bulkseed.randomness.draws import chance
from bulkseed.text.faker_source import Fakes

__all__ = ["Call", "FieldSpec", "distinct", "expected_arrow", "extremes", "fill", "longest", "parse_field"]


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
        except ConversionError as unfit:
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


KINDS: Final[Mapping[str, Callable[[Entry], Source]]] = {
    "faker": Fake.read,
    "choice": Choice.read,
    "template": Template.read,
    "value": Value.read,
    "uniform": Uniform.read,
    "uuid": Uuid.read,
    "copy": Copy.read,
    "sequence": Sequence.read,
    "after": After.read,
    "call": Call.read,
}
"""How each kind of field is read, by the key that names it."""

FAKER: Final = "faker:"
ANY_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """What fills a column: a frozen value that can be pickled, made by :func:`parse_field`.

    ``given`` is what it was made of, as JSON can keep it; ``null`` is the share of rows that have none.
    """

    where: str
    given: Any = field(hash=False)
    null: float
    source: Source = field(compare=False, repr=False)

    @property
    def reads(self) -> tuple[str, ...]:
        """The other columns of the row, by bulkseed's names, that must be there to fill it.

        A function of the user's may read any: what it reads is not known.
        """
        return self.source.reads


def parse_field(where: str, given: object, fakes: Fakes, schema: pa.Schema | None = None) -> FieldSpec:
    """The field that ``given`` describes: as read from TOML, of the structure in ``scenarios/structure.py``, or as
    :func:`normalised` made of that.

    ``where`` names it in errors, such as ``fields.users.phone``. Names of other columns are checked where ``schema``,
    that of the table's batches, is given. A function or a Faker provider of the user's is imported, and a Faker method
    called once. Raises InputError for what cannot be.
    """
    kept = normalised(given, where)
    revived_given = revived(given, where)
    if isinstance(revived_given, str):
        revived_given = {"faker": revived_given.removeprefix(FAKER).strip()}
    entry = Entry(where, revived_given, fakes, schema)
    [read] = [KINDS[key] for key in revived_given if key in KINDS]
    return FieldSpec(where, kept, revived_given.get("null", 0.0), read(entry))


def fill(spec: FieldSpec, rows: FieldRows) -> pa.Array:
    """A value for each of ``rows``, the same whatever batch they are in.

    Raises RunError, naming the field and the row, for what a function of the user's does wrong.
    """
    made = spec.source.values(rows)
    if not spec.null:
        return made
    nulls = chance(rows.words("null"), spec.null)
    return made.take(pa.array(np.arange(len(made)), mask=nulls))


def expected_arrow(spec: FieldSpec, schema: pa.Schema | None = None) -> pa.DataType | None:
    """The type of what :func:`fill` gives; None for what is not known before.

    ``schema`` is that of the table's batches, which a copy's type follows from. The first call for a field of Faker's
    makes its pool. Raises InputError where Faker gives what no column can hold.
    """
    return spec.source.arrow(schema)


def longest(spec: FieldSpec, *, greatest: int = ANY_ID, columns: Mapping[str, int] | None = None) -> int | None:
    """The most characters of a text that it can give; None where there are no texts, or it is not known.

    ``greatest`` is the greatest id or number that a row of the table may have, ``columns`` the most characters of the
    table's other columns, by bulkseed's names.
    """
    return spec.source.longest(greatest, columns or {})


def extremes(spec: FieldSpec) -> pa.Array | None:
    """Values such that a type that holds these holds all that it gives: all of them, or the two ends of a range.

    None where they are not known.
    """
    return spec.source.extremes()


def distinct(spec: FieldSpec) -> Distinct | None:
    """``always`` where no two rows of the table have the same value, those of other runs included; ``run`` where none
    within a run have; None where values repeat, or it is not known.
    """
    return spec.source.distinct()
