"""What a table is made beside: the rows of the table that it follows, as its maker gets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from random import Random

import numpy as np

from bulkseed.plan.plan import EPOCH
from bulkseed.randomness.draws import Ints, between
from bulkseed.randomness.streams import Streams, Words

__all__ = ["Parent", "Parents"]


@dataclass(frozen=True)
class Parents:
    """Some rows of the table that is followed, in its order; all arrays have one entry for each.

    ``numbers`` are the rows' places in their table, which ascend and which no shard or batch changes: all chance hangs
    on them. ``ids`` are their ids, ``created`` microseconds since 1970 UTC, ``columns`` what else is known of them,
    such as a message's ``user_id`` and ``channel_id``. ``table`` is the name of the table that is to be made, ``as_of``
    the latest moment that a row may have, in microseconds.
    """

    table: str
    numbers: Ints
    ids: Ints
    created: Ints
    columns: Mapping[str, Ints]
    as_of: int
    streams: Streams

    def __len__(self) -> int:
        """How many rows these are."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[Parent]:
        """Row by row: some 10 µs each."""
        words = self.words("row")
        for place in range(len(self)):
            yield Parent(self, place, int(words[place]))

    def words(self, column: str, each: int = 1) -> Words:
        """Random words for a column of the table, ``each`` for every parent: uint64, shape ``(len * each,)``."""
        if each == 1:
            return self.streams.words_at(self.table, column, self.numbers)
        numbers = self.numbers[:, None] * each + np.arange(each)
        return self.streams.words_at(self.table, column, numbers.ravel())

    def moments(self, column: str, each: int = 1) -> Ints:
        """Times from each parent's creation to as_of, ``each`` for every parent: microseconds, ``(len * each,)``."""
        return between(self.words(column, each), np.repeat(self.created, each), self.as_of)


@dataclass(frozen=True)
class Parent:
    """One row that is followed; its columns are attributes, ``id`` and ``created_at`` (aware, UTC) among them."""

    among: Parents
    place: int
    word: int

    @property
    def id(self) -> int:
        """Its id: as bulkseed counts, also where the app has UUIDs for it."""
        return int(self.among.ids[self.place])

    @property
    def number(self) -> int:
        """Its place in its table, from 0."""
        return int(self.among.numbers[self.place])

    @cached_property
    def created_at(self) -> datetime:
        """When it was made."""
        return EPOCH + timedelta(microseconds=int(self.among.created[self.place]))

    @cached_property
    def as_of(self) -> datetime:
        """The latest moment that a row of the run may have."""
        return EPOCH + timedelta(microseconds=self.among.as_of)

    @cached_property
    def random(self) -> Random:
        """Chance of its own, the same in every run of the plan."""
        return Random(self.word)  # noqa: S311 - not for secrets

    def moment(self, after: datetime | None = None) -> datetime:
        """A moment from ``after``, or its creation, to as_of."""
        start = self.created_at if after is None else after
        return start + timedelta(microseconds=self.random.randint(0, max(0, (self.as_of - start) // MICROSECOND)))

    def __getattr__(self, name: str) -> int:
        """Another of its columns, such as ``user_id``."""
        try:
            return int(self.among.columns[name][self.place])
        except KeyError:
            known = ", ".join(["id", "number", "created_at", *self.among.columns])
            raise AttributeError(
                f"the rows that {self.among.table} follows have no {name!r}: they have {known}"
            ) from None


MICROSECOND = timedelta(microseconds=1)
