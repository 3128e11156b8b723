"""Fields of values that the scenario file lists: a choice of some, or one for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
import pyarrow as pa

from bulkseed.fields.arrays import Unfit, array_of, longest_in
from bulkseed.fields.rows import FieldRows
from bulkseed.fields.source import Entry, Source
from bulkseed.randomness.draws import below, thresholds_of, weighted
from bulkseed.randomness.streams import Words

__all__ = ["Choice", "Value"]


def listed(entry: Entry, values: list[Any]) -> pa.Array:
    try:
        return array_of(values)
    except Unfit as unfit:
        raise entry.error(f"{values[unfit.place]!r} {unfit.problem}: give values of one kind") from None


@dataclass(frozen=True, eq=False)
class Listed(Source):
    """Values that are known, all of them."""

    options: pa.Array

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return self.options.type

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return longest_in(self.options)

    def extremes(self) -> pa.Array | None:
        return self.options


@dataclass(frozen=True, eq=False)
class Choice(Listed):
    """``choice = ["free", "pro"]``, with ``weights`` if they are not to be as many."""

    thresholds: Words | None

    @classmethod
    def read(cls, entry: Entry) -> Self:
        options: list[Any] = entry.given["choice"]
        if "weights" not in entry.given:
            return cls(listed(entry, options), None)
        weights: list[float] = entry.given["weights"]
        if len(weights) != len(options):
            raise entry.error(f"there are {len(weights)} weights for {len(options)} values: give one for each")
        if not any(weights):
            raise entry.error("all the weights are 0: give one that is not")
        return cls(listed(entry, options), thresholds_of([Fraction(weight) for weight in weights]))

    def values(self, rows: FieldRows) -> pa.Array:
        words = rows.words()
        if self.thresholds is None:
            return self.options.take(pa.array(below(words, len(self.options))))
        return self.options.take(pa.array(weighted(words, self.thresholds)))


@dataclass(frozen=True, eq=False)
class Value(Listed):
    """``value = true``: the same for all rows."""

    @classmethod
    def read(cls, entry: Entry) -> Self:
        return cls(listed(entry, [entry.given["value"]]))

    def values(self, rows: FieldRows) -> pa.Array:
        return self.options.take(pa.array(np.zeros(len(rows), dtype=np.int64)))
