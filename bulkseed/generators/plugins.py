"""Tables of the user's own: what they say of themselves, and the code that makes their rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Final

from bulkseed.errors import InputError
from bulkseed.generators.parents import Parents
from bulkseed.imports import imported
from bulkseed.scenario import Extra
from bulkseed.suggestions import suggestion

__all__ = ["GROUP", "SeedTable", "described", "loaded", "table"]

GROUP: Final = "bulkseed.tables"
"""The entry-point group in which packages name their tables."""

HOLDS: Final = {"user_id": "users", "channel_id": "channels", "message_id": "messages"}
"""What a column of such a name points at where a table does not say."""


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
    if ":" not in source:
        known = {each.name: each for each in entry_points(group=GROUP)}
        if source not in known:
            mend = suggestion(source, known, "give it as module:name")
            raise InputError(f"no installed package has a table {source!r} among its entry points {GROUP}: {mend}")
        return table_in(known[source].load(), source)
    return table_in(imported(source, "--plugin"), source)


def table_in(found: Any, source: str) -> SeedTable:
    if inspect.isclass(found):
        found = found()
    if isinstance(found, SeedTable):
        return found
    wanted = ("name", "follows", "columns", "rows")
    lacking = [each for each in wanted if not hasattr(found, each)]
    if lacking:
        raise InputError(
            f"the plugin {source!r} is no table (it has no {', '.join(lacking)}): decorate a function with "
            "@bulkseed.table(follows=…, columns=[…]), or give a class these attributes"
        )
    further = {
        each: getattr(found, each) for each in ("rows_per_parent", "references", "key", "late") if hasattr(found, each)
    }
    return SeedTable(found.name, found.follows, found.columns, found.rows, **further)


def described(source: str) -> Extra:
    """What is kept with a run of the table at ``source``. Raises InputError for what does not go together."""
    found = loaded(source)
    named = f"the table {found.name} of {source!r}"
    columns = tuple(found.columns)
    references = (
        dict(found.references)
        if found.references is not None
        else {column: HOLDS[column] for column in columns if column in HOLDS}
    )
    if strange := [each for each in (*references, *(found.key or ())) if each not in columns]:
        raise InputError(f"{named} speaks of {strange[0]}: its columns are {', '.join(columns)}")
    if not references:
        raise InputError(
            f"{named} has no column that holds ids of users, channels or messages: "
            'say which does with references={"column": "users"}'
        )
    if not (isinstance(found.rows_per_parent, int | float) and found.rows_per_parent > 0):
        raise InputError(
            f"the table {found.name} of {source!r} has rows_per_parent {found.rows_per_parent!r}: give a number above 0"
        )
    moment = ("created_at",) if "created_at" in columns else ()
    key = tuple(found.key) if found.key is not None else ((*references, *moment) if moment else columns)
    return Extra(
        name=found.name,
        follows=found.follows,
        columns=columns,
        references=tuple(references.items()),
        key=key,
        rows_per_parent=float(found.rows_per_parent),
        source=source,
        late=found.late,
    )
