"""Fields as a whole: read, filled and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from bulkseed.fields.calls import Call
from bulkseed.fields.fakers import Fake
from bulkseed.fields.listed import Choice, Value
from bulkseed.fields.normal import normalised, revived
from bulkseed.fields.numbered import Copy, Sequence, Uuid
from bulkseed.fields.ranges import After, Uniform
from bulkseed.fields.rows import FieldRows
from bulkseed.fields.source import Distinct, Entry, Source
from bulkseed.fields.templates import Template
from bulkseed.randomness.draws import chance
from bulkseed.text.faker_values import Fakes

__all__ = ["FieldSpec", "distinct", "expected_arrow", "extremes", "fill", "longest", "parse_field"]


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
    """The field that ``given`` describes: as read from TOML, of the structure that ``scenarios/structure.py`` describes,
    or as :func:`normalised` made of that.

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
