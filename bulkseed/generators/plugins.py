"""Tables of the user's code: the decorator, the parents that it is given, and batches of the rows that it returns."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from importlib.metadata import entry_points
from random import Random
from typing import Any, Final

import numpy as np
import pyarrow as pa

from bulkseed.arrays import ConversionError, array_of
from bulkseed.errors import InputError, RunError, suggestion
from bulkseed.generators.context import BATCH_ROWS, MOST_BATCH_ROWS
from bulkseed.imports import describe_error, import_object
from bulkseed.plan.plan import EPOCH
from bulkseed.plan.scenario import PluginTable
from bulkseed.randomness.draws import Ints, Streams, Words, between

__all__ = ["GROUP", "Parent", "Parents", "SeedTable", "batches_of", "described", "loaded", "table"]


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


GROUP: Final = "bulkseed.tables"
"""The entry-point group in which packages name their tables."""

HOLDS: Final = {"user_id": "users", "channel_id": "channels", "message_id": "messages"}
"""What a column of such a name points at where a table does not say."""

NEEDED: Final = ("name", "follows", "columns", "rows")
FURTHER: Final = ("rows_per_parent", "references", "key", "late")
"""The attributes of a class that is a table: those that it must have, and those that it may."""


@dataclass(frozen=True, slots=True)
class SeedTable:
    """A table of the user's own. ``rows`` is called with some rows of the table that it ``follows``
    (:class:`bulkseed.Parents`) at a time, and yields tuples with a value for each of ``columns``, or Arrow batches.

    It must be a pure function of them: all chance from ``parent.random`` or ``parents.words()``, no clock.
    ``references`` are its columns that hold ids, with the tables whose; ``key`` the columns that tell a row from all
    others; ``rows_per_parent`` how many rows there are for each on average, for the plan and the bars. One that is
    ``late`` is made after all other tables.
    """

    name: str
    follows: str
    columns: Sequence[str]
    rows: Callable[[Parents], Iterable[Any]]
    rows_per_parent: float = 1.0
    references: Mapping[str, str] | None = None
    key: Sequence[str] | None = None
    late: bool = False

    def __call__(self, parents: Parents) -> Iterable[Any]:
        """The rows beside those."""
        return self.rows(parents)


def table(
    *,
    follows: str,
    columns: Sequence[str],
    name: str | None = None,
    rows_per_parent: float = 1.0,
    references: Mapping[str, str] | None = None,
    key: Sequence[str] | None = None,
    late: bool = False,
) -> Callable[[Callable[[Parents], Iterable[Any]]], SeedTable]:
    """A decorator that makes a table of a function; the table's name is the function's where none is given."""

    def made(rows: Callable[[Parents], Iterable[Any]]) -> SeedTable:
        return SeedTable(name or rows.__name__, follows, columns, rows, rows_per_parent, references, key, late)

    return made


@lru_cache(maxsize=64)
def loaded(source: str) -> SeedTable:
    """The table that ``module:name`` has, or an entry point of that name in the group ``bulkseed.tables``.

    Raises InputError where there is none, or it is no table.
    """
    if ":" in source:
        return table_in(import_object(source, f"the plugin {source!r}"), source)
    known = {each.name: each for each in entry_points(group=GROUP)}
    if source not in known:
        mend = suggestion(source, known, "give it as module:name")
        raise InputError(f"no installed package has a table {source!r} among its entry points {GROUP}: {mend}")
    entry = known[source]
    return table_in(
        import_object(f"{entry.module}:{entry.attr}", f"the plugin {source!r} of an installed package"), source
    )


def table_in(found: Any, source: str) -> SeedTable:
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise InputError(
                f"the plugin {source!r} cannot be made ({describe_error(error)}): let its class need no arguments"
            ) from error
    if isinstance(found, SeedTable):
        return found
    lacking = [each for each in NEEDED if not hasattr(found, each)]
    if lacking:
        raise InputError(
            f"the plugin {source!r} is no table (it has no {', '.join(lacking)}): decorate a function with "
            "@bulkseed.table(follows=…, columns=[…]), or give a class these attributes"
        )
    further = {each: getattr(found, each) for each in FURTHER if hasattr(found, each)}
    return SeedTable(found.name, found.follows, found.columns, found.rows, **further)


def described(source: str) -> PluginTable:
    """What is kept with a run of the table at ``source``. Raises InputError for what does not go together."""
    found = loaded(source)
    named = f"the table {found.name!r} of {source!r}"
    for what, given in (("name", found.name), ("follows", found.follows)):
        if not (isinstance(given, str) and given):
            raise InputError(f"{named} has {what} {given!r}: give the name of a table")
    columns = names_in(found.columns, f"{named} has columns")
    references = references_of(found, columns, named)
    key = names_in(found.key, f"{named} has key") if found.key is not None else None
    if strange := [each for each in (*references, *(key or ())) if each not in columns]:
        mend = suggestion(strange[0], columns, f"its columns are {', '.join(columns)}")
        raise InputError(f"{named} speaks of {strange[0]!r}: {mend}")
    if not references:
        raise InputError(
            f"{named} has no column that holds ids of users, channels or messages: "
            'say which does with references={"column": "users"}'
        )
    many = found.rows_per_parent
    if not (isinstance(many, int | float) and not isinstance(many, bool) and 0 < many < math.inf):
        raise InputError(f"{named} has rows_per_parent {many!r}: give a number above 0")
    if not isinstance(found.late, bool):
        raise InputError(f"{named} has late {found.late!r}: give True or False")
    if not callable(found.rows):
        raise InputError(f"{named} has rows {found.rows!r}: give a function of the rows that it follows")
    moment = ("created_at",) if "created_at" in columns else ()
    return PluginTable(
        name=found.name,
        follows=found.follows,
        columns=columns,
        references=tuple(references.items()),
        key=key or tuple(dict.fromkeys((*references, *(moment or columns)))),
        rows_per_parent=float(many),
        source=source,
        late=found.late,
    )


def names_in(given: object, what: str) -> tuple[str, ...]:
    """Names of columns. Raises InputError for what are none."""
    names = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if not names or not all(isinstance(each, str) and each for each in names) or len(set(names)) < len(names):
        raise InputError(f'{what} {given!r}: give a list of different names, such as ["user_id", "created_at"]')
    return names


def references_of(found: SeedTable, columns: Sequence[str], named: str) -> dict[str, str]:
    if found.references is None:
        return {column: HOLDS[column] for column in columns if column in HOLDS}
    given = found.references
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in (*given, *given.values())):
        raise InputError(f'{named} has references {given!r}: give such as {{"user_id": "users"}}')
    return dict(given)


def batches_of(made: Iterable[Any], table: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of what a table's maker yields: tuples with a value for each of ``columns``, or RecordBatches (it may
    return one too).

    Raises RunError, naming the table, for a row of another width, a batch of other columns, and values of a column
    that do not go together.
    """
    if isinstance(made, pa.RecordBatch):
        made = [made]
    if not isinstance(made, Iterable):
        raise RunError(
            f"what makes {table} returned {made!r:.80}: let it yield tuples of {len(columns)} values, or Arrow batches"
        )
    rows: list[Sequence[Any]] = []
    for each in made:
        if isinstance(each, pa.RecordBatch):
            if rows:
                yield batch_of(rows, table, columns)
                rows = []
            if set(each.schema.names) != set(columns):
                raise RunError(
                    f"a batch of {table} has the columns {', '.join(each.schema.names)}: give it {', '.join(columns)}"
                )
            for start in range(0, each.num_rows, MOST_BATCH_ROWS):
                yield each.select(list(columns)).slice(start, MOST_BATCH_ROWS)
            continue
        if not isinstance(each, tuple | list) or len(each) != len(columns):
            raise RunError(
                f"a row of {table} is {each!r:.80}: yield tuples of {len(columns)} values ({', '.join(columns)}), "
                "or Arrow batches"
            )
        rows.append(each)
        if len(rows) == BATCH_ROWS:
            yield batch_of(rows, table, columns)
            rows = []
    if rows:
        yield batch_of(rows, table, columns)


def batch_of(rows: Sequence[Sequence[Any]], table: str, columns: Sequence[str]) -> pa.RecordBatch:
    arrays = []
    for place, column in enumerate(columns):
        values = [row[place] for row in rows]
        try:
            arrays.append(array_of(values))
        except ConversionError as unfit:
            raise RunError(
                f"a value of {table}.{column} is {values[unfit.place]!r:.80}, which {unfit.problem}: "
                "yield values of one kind, or None"
            ) from None
    return pa.RecordBatch.from_arrays(arrays, list(columns))
