"""Specifications of fields, and fields filled by a function of the user's, for many rows at once or for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from bulkseed.arrays import ConversionError, array_of, in_microseconds
from bulkseed.errors import BulkseedError, RunError
from bulkseed.fields.fakers import Fake, FakePool
from bulkseed.fields.ranges import After, Uniform
from bulkseed.fields.source import Distinct, Entry, FieldRow, FieldRows, SharedRows, Source, normalise, restore
from bulkseed.fields.templates import FAKER_PLACEHOLDER, Template
from bulkseed.fields.values import Choice, Copy, Sequence, Uuid, Value
from bulkseed.imports import describe_error, import_object
from bulkseed.randomness.draws import chance
from bulkseed.text.fakes import Fakes

__all__ = [
    "Call",
    "FieldSpec",
    "distinct",
    "expected_arrow",
    "extremes",
    "fill",
    "longest",
    "parse_field",
    "pools_of",
    "uses_faker",
]


@dataclass(frozen=True, eq=False)
class Call(Source):
    """``call = "myapp.seed:phones"``: called with FieldRows, or with each FieldRow if ``per = "row"``."""

    where: str
    reference: str
    per_row: bool

    @classmethod
    def read(cls, entry: Entry) -> Self:
        reference: str = entry.options["call"]
        if not callable(import_object(reference, entry.where)):
            raise entry.error(f"{reference} cannot be called: name a function", code="not-a-function")
        return cls(entry.where, reference, entry.options.get("per") == "row")

    @property
    def function(self) -> Callable[[Any], Any]:
        """The user's function."""
        function: Callable[[Any], Any] = import_object(self.reference, self.where)
        return function

    def values(self, rows: FieldRows) -> pa.Array:
        if not len(rows):
            return pa.nulls(0)
        values = self.call_per_row(rows) if self.per_row else self.call_per_batch(rows)
        if isinstance(values, pa.Array):
            return in_microseconds(values)
        try:
            return array_of(values)
        except ConversionError as error:
            problem = f"returned {values[error.place]!r}, which {error.problem}: return values of one kind"
            raise self.error(rows, error.place, problem, code="wrong-result") from error

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return None

    def call_per_row(self, rows: FieldRows) -> list[Any]:
        function, shared = self.function, SharedRows(rows, rows.words())
        return [self.call(function, FieldRow(shared, index), rows, index) for index in range(len(rows))]

    def call_per_batch(self, rows: FieldRows) -> pa.Array | list[Any]:
        result = self.call(self.function, rows, rows, 0)
        values = to_values(result)
        if values is None:
            problem = f"returned {type(result).__name__}: return an Arrow array, a NumPy array or a list"
            raise self.error(rows, 0, problem, code="wrong-result")
        if len(values) != len(rows):
            problem = f"returned {len(values):,} values for {len(rows):,} rows: return a value for each row"
            raise self.error(rows, 0, problem, code="wrong-result")
        return values

    def call(self, function: Callable[[Any], Any], argument: FieldRows | FieldRow, rows: FieldRows, index: int) -> Any:
        """Return what ``function`` returns. Raises RunError, with the row at ``index`` of ``rows``, if it fails."""
        try:
            return function(argument)
        except BulkseedError:
            raise
        except (Exception, SystemExit) as error:
            problem = f"failed ({describe_error(error)}): fix the function"
            raise self.error(rows, index, problem, code="function-failed") from error

    def error(self, rows: FieldRows, index: int, problem: str, *, code: str) -> RunError:
        at = "row" if self.per_row else "the batch from row"
        return RunError(
            f"{self.where}: at {at} {rows.numbers[index]:,} of {rows.table}, {self.reference} {problem}", code=code
        )


def to_values(result: Any) -> pa.Array | list[Any] | None:
    """Return the result of a function of many rows as an Arrow array or a list; None if it is not a column."""
    match result:
        case pa.ChunkedArray():
            return result.combine_chunks()
        case pa.Array() | list():
            return result
        case tuple():
            return list(result)
        case np.ndarray() if result.ndim == 1:
            return result.tolist() if result.dtype == object else pa.array(result)
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
"""The function that reads each kind of field, by the key that names the kind."""

FAKER: Final = "faker:"
ANY_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """The specification of a field: a frozen value that can be pickled, made by :func:`parse_field`.

    ``where`` is the dotted key of the field in the scenario file; ``declaration`` is the field there, as JSON values;
    ``null`` is the share of rows without a value.
    """

    where: str
    declaration: Any = field(hash=False)
    null: float
    source: Source = field(compare=False, repr=False)

    @property
    def reads(self) -> tuple[str, ...]:
        """The other columns of the row that the values depend on, by bulkseed's names.

        Empty for a function of the user's, which may read any column.
        """
        return self.source.reads

    @property
    def copies(self) -> str | None:
        """The other column of the row that the field copies, without leaving any out; None for other fields."""
        return self.source.column if isinstance(self.source, Copy) and not self.null else None


def parse_field(where: str, given: object, fakes: Fakes, schema: pa.Schema | None = None) -> FieldSpec:
    """Return the specification of the field ``given``: as read from TOML, with the structure that
    ``scenarios/file_schema.py`` defines, or as :func:`normalise` returned it.

    ``where`` is the dotted key of the field, for errors, such as ``fields.users.phone``. If ``schema``, that of the
    table's batches, is given, names of other columns are checked. Imports the user's function or Faker provider, and
    calls a Faker method once. Raises InputError for values, names and functions that the field cannot have.
    """
    declaration = normalise(given, where)
    options = restore(given, where)
    if isinstance(options, str):
        options = {"faker": options.removeprefix(FAKER).strip()}
    entry = Entry(where, options, fakes, schema)
    [read] = [KINDS[key] for key in options if key in KINDS]
    return FieldSpec(where, declaration, options.get("null", 0.0), read(entry))


def uses_faker(given: object) -> bool:
    """Return whether the field ``given``, as :func:`parse_field` takes it, has Faker's values."""
    match given:
        case str():
            return given.startswith(FAKER)
        case {"faker": _}:
            return True
        case {"template": str(text)}:
            return FAKER_PLACEHOLDER in text
    return False


def pools_of(spec: FieldSpec) -> tuple[FakePool, ...]:
    """Return the pools of Faker values that :func:`fill` draws from."""
    return spec.source.pools if isinstance(spec.source, Fake | Template) else ()


def fill(spec: FieldSpec, rows: FieldRows) -> pa.Array:
    """Return a value for each of ``rows``: shape ``(len(rows),)``; a row has the same value in any batch.

    Raises RunError, with the field and the row, if a function of the user's fails or returns wrong values.
    """
    values = spec.source.values(rows)
    if not spec.null:
        return values
    nulls = chance(rows.words("null"), spec.null)
    return values.take(pa.array(np.arange(len(values)), mask=nulls))


def expected_arrow(spec: FieldSpec, schema: pa.Schema | None = None) -> pa.DataType | None:
    """Return the type of the values that :func:`fill` returns; None if it is not known in advance.

    ``schema`` is that of the table's batches, needed for the type of a copy. The first call for a Faker field makes its
    pool. Raises InputError if Faker returns values that no column can hold.
    """
    return spec.source.arrow(schema)


def longest(spec: FieldSpec, *, greatest: int = ANY_ID, columns: Mapping[str, int] | None = None) -> int | None:
    """Return the most characters of a value; None if the values are no texts, or the length is not known.

    ``greatest`` is the greatest id or number that a row of the table may have; ``columns`` has the most characters of
    the table's other columns, by bulkseed's names.
    """
    return spec.source.longest(greatest, columns or {})


def extremes(spec: FieldSpec) -> pa.Array | None:
    """Return values such that a type that holds them holds all values of the field: all of them, or the two ends of a
    range. None if they are not known.
    """
    return spec.source.extremes()


def distinct(spec: FieldSpec) -> Distinct | None:
    """Return ``always`` if no two rows of the table have the same value, rows of other runs included; ``run`` if no two
    rows of a run have; None if values repeat, or it is not known.
    """
    return spec.source.distinct()
