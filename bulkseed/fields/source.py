"""What every kind of field has: how it is read, what it gives, and how it is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from bulkseed.errors import InputError, suggestion
from bulkseed.fields.rows import FieldRows
from bulkseed.text.faker_values import Fakes

__all__ = ["Distinct", "Entry", "Source"]

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
