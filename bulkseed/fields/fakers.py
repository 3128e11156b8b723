"""Fields of Faker values, drawn from a pool that Faker makes once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import longest_in
from bulkseed.errors import InputError
from bulkseed.fields.source import Distinct, Entry, FieldRows, Source, normalise, restore
from bulkseed.randomness.draws import Words, below
from bulkseed.text.fakes import Fakes, Pool, Trial, share_faker
from bulkseed.text.names import scalar

__all__ = ["POOL", "Fake", "FakePool", "keep_pools", "make_pools"]

POOL: Final = 1000
"""The number of values that Faker makes for a field by default."""


@dataclass(frozen=True, slots=True)
class FakePool:
    """Values of a Faker method, made on first use. ``arguments`` is the text of a JSON object.

    ``where`` is the dotted key of the field, for errors. Fields that differ in nothing but ``where`` share the values.
    """

    where: str = field(compare=False)
    fakes: Fakes
    method: str
    arguments: str = "{}"
    size: int = POOL

    @property
    def array(self) -> pa.Array:
        """The values: shape ``(size,)``. Raises InputError for values that no column can hold."""
        kept = KEPT.get(self) or make_pools([self])[self]
        return kept.values

    def make(self) -> Pool:
        """Return the values, and the first of them as a trial. Raises the errors of :meth:`check` and ``array``."""
        try:
            return self.fakes.pool(self.method, self.parsed_arguments, self.size)
        except InputError as error:
            raise InputError(f"{self.where}: {error}", code=error.code) from error

    def draw(self, words: Words) -> pa.Array:
        """Return a value for each of ``words``."""
        return self.array.take(pa.array(below(words, self.size)))

    def check(self) -> Trial:
        """Return a value made as a trial. Raises InputError if the method is unknown or cannot be called."""
        if kept := KEPT.get(self):
            return kept.trial
        try:
            return try_method(self)
        except InputError as error:
            raise InputError(f"{self.where}: {error}", code=error.code) from error

    @property
    def parsed_arguments(self) -> dict[str, Any]:
        """The arguments of the method, by name."""
        arguments: dict[str, Any] = restore(json.loads(self.arguments), f"args of {self.method}")
        return arguments


KEPT: Final[dict[FakePool, Pool]] = {}
MOST_KEPT: Final = 64


def keep_pools(pools: Mapping[FakePool, Pool]) -> None:
    """Keep pools for later fields that need them; the oldest ones are dropped if there are too many."""
    for pool in pools:
        KEPT.pop(pool, None)  # so that it comes last
    KEPT.update(pools)
    for pool in list(KEPT)[: -max(MOST_KEPT, len(pools))]:
        KEPT.pop(pool, None)


def make_pools(pools: Iterable[FakePool]) -> dict[FakePool, Pool]:
    """Return the values of ``pools``, made by one process, and keep them.

    Raises InputError, with the field, if Faker fails.
    """
    with share_faker():
        made = {pool: KEPT.get(pool) or pool.make() for pool in dict.fromkeys(pools)}
    # not read from KEPT, where another thread may have dropped them
    keep_pools(made)
    return made


@lru_cache(maxsize=256)
def try_method(pool: FakePool) -> Trial:
    return pool.fakes.check(pool.method, pool.parsed_arguments)


@lru_cache(maxsize=64)
def split_pool(pool: FakePool) -> tuple[pa.StringArray, pa.StringArray]:
    """Split each text of ``pool`` in two, the parts before and after the row's number, with the separator before it."""
    halves = pc.extract_regex(pool.array, r"(?s)^(?P<before>.*?)(?P<after>@[^@]*)?$")
    before, after = halves.field("before"), halves.field("after")
    without_at = pc.if_else(pc.match_substring(before, " "), scalar(" "), scalar("-"))
    separator = pc.if_else(pc.equal(after, scalar("")), without_at, scalar("."))
    return pc.binary_join_element_wise(before, separator, scalar("")), after


@dataclass(frozen=True, eq=False)
class Fake(Source):
    """``faker = "phone_number"``, with ``args`` for the method and ``pool``, the number of values (1000 by default).

    ``unique`` puts the row's id (its number, in a table without ids) into each text: before the last ``@`` after a dot,
    else at the end, after a space where the text has spaces and after a hyphen where it has none.
    """

    pool: FakePool
    unique: bool

    @property
    def pools(self) -> tuple[FakePool, ...]:
        return (self.pool,)

    @classmethod
    def read(cls, entry: Entry) -> Self:
        method: str = entry.options["faker"]
        unique: bool = entry.options.get("unique", False)
        arguments = json.dumps(normalise(entry.options.get("args", {}), entry.where), sort_keys=True)
        pool = FakePool(entry.where, entry.fakes, method, arguments, entry.options.get("pool", POOL))
        trial = pool.check()
        if unique and not trial.is_text:
            raise entry.error(
                f"unique needs texts, and Faker's {method} returns {trial.type_name}: leave unique out",
                code="faker-not-text",
            )
        return cls(pool, unique)

    def values(self, rows: FieldRows) -> pa.Array:
        if not self.unique:
            return self.pool.draw(rows.words())
        # no two texts are equal: the last digits before the last @, or before the end, are the row's id, and the
        # character before them is no digit
        before, after = split_pool(self.pool)
        indexes = pa.array(below(rows.words(), self.pool.size))
        ids = pa.array(rows.first + rows.numbers).cast(pa.string())
        return pc.binary_join_element_wise(before.take(indexes), ids, after.take(indexes), scalar(""))

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
