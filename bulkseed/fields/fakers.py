"""Fields of Faker's values: drawn from a pool that Faker makes once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import ConversionError, array_of, longest_in
from bulkseed.errors import InputError
from bulkseed.fields.source import Distinct, Entry, FieldRows, Source, normalised, revived
from bulkseed.randomness.draws import Words, below
from bulkseed.text.faker_source import Fakes
from bulkseed.text.names import scalar

__all__ = ["POOL", "Fake", "FakePool"]

POOL: Final = 1000
"""Values that Faker makes for a field, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class FakePool:
    """Values of a Faker method, made when they are first asked for. ``arguments`` are an object of JSON.

    Fields that differ in nothing but ``where``, what errors name them by, share the values.
    """

    where: str = field(compare=False)
    fakes: Fakes
    method: str
    arguments: str = "{}"
    size: int = POOL

    @property
    def array(self) -> pa.Array:
        """The values. Raises InputError where Faker's are such that no column can hold them."""
        try:
            return pool_of(self)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from error

    def drawn(self, words: Words) -> pa.Array:
        """A value for each word."""
        return self.array.take(pa.array(below(words, self.size)))

    def made(self, size: int) -> list[Any]:
        """So many values of the method."""
        return self.fakes.pool(self.method, self.given, size)

    def check(self) -> object:
        """A value made as a trial. Raises InputError where there can be none."""
        try:
            return self.fakes.check(self.method, self.given)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from error

    @property
    def given(self) -> dict[str, Any]:
        found: dict[str, Any] = revived(json.loads(self.arguments), f"args of {self.method}")
        return found


@lru_cache(maxsize=64)
def pool_of(pool: FakePool) -> pa.Array:
    """The values of ``pool`` as an Arrow array, kept for all the fields that ask for the same."""
    try:
        return array_of(pool.made(pool.size))
    except ConversionError as unfit:
        raise InputError(f"Faker's {pool.method} gave a value that {unfit.problem}: take another method") from None


@lru_cache(maxsize=64)
def halves_of(pool: FakePool) -> tuple[pa.StringArray, pa.StringArray]:
    """What comes before a row's number in each text of ``pool``, and what comes after it."""
    halves = pc.extract_regex(pool.array, r"(?s)^(?P<before>.*?)(?P<after>@[^@]*)?$")
    before, after = halves.field("before"), halves.field("after")
    without_at = pc.if_else(pc.match_substring(before, " "), scalar(" "), scalar("-"))
    separator = pc.if_else(pc.equal(after, scalar("")), without_at, scalar("."))
    return pc.binary_join_element_wise(before, separator, scalar("")), after


@dataclass(frozen=True, eq=False)
class Fake(Source):
    """``faker = "phone_number"``, with ``args`` for the method, and a ``pool`` of other than a thousand values.

    ``unique`` puts the row's id (its number, in a table without ids) into each text: before the last ``@``, or at the
    end after a hyphen, or after a space where the text has spaces.
    """

    pool: FakePool
    unique: bool

    @classmethod
    def read(cls, entry: Entry) -> Self:
        method: str = entry.given["faker"]
        unique: bool = entry.given.get("unique", False)
        kept = json.dumps(normalised(entry.given.get("args", {}), entry.where), sort_keys=True)
        pool = FakePool(entry.where, entry.fakes, method, kept, entry.given.get("pool", POOL))
        if not isinstance(pool.check(), str) and unique:
            raise entry.error(f"Faker's {method} gives no text, such as unique could add to: leave it out")
        return cls(pool, unique)

    def values(self, rows: FieldRows) -> pa.Array:
        if not self.unique:
            return self.pool.drawn(rows.words())
        # the last digits before the last @, or the end, are the row's own, after what is no digit: no two are the same
        before, after = halves_of(self.pool)
        picked = pa.array(below(rows.words(), self.pool.size))
        own = pa.array(rows.first + rows.numbers).cast(pa.string())
        return pc.binary_join_element_wise(before.take(picked), own, after.take(picked), scalar(""))

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return self.pool.array.type

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        most = longest_in(self.pool.array)
        if most is None or not self.unique:
            return most
        return most + 1 + len(str(greatest))

    def extremes(self) -> pa.Array | None:
        return None if self.unique else self.pool.array

    def distinct(self) -> Distinct | None:
        return "always" if self.unique else None
