"""Tables of the user's own: what they say of themselves, and the code that makes their rows."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Final

from bulkseed.errors import InputError
from bulkseed.generators.parents import Parents
from bulkseed.imports import imported, said
from bulkseed.plan.scenario import Extra
from bulkseed.suggestions import suggestion

__all__ = ["GROUP", "SeedTable", "described", "loaded", "table"]

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
        return table_in(imported(source, f"the plugin {source!r}"), source)
    known = {each.name: each for each in entry_points(group=GROUP)}
    if source not in known:
        mend = suggestion(source, known, "give it as module:name")
        raise InputError(f"no installed package has a table {source!r} among its entry points {GROUP}: {mend}")
    entry = known[source]
    return table_in(imported(f"{entry.module}:{entry.attr}", f"the plugin {source!r} of an installed package"), source)


def table_in(found: Any, source: str) -> SeedTable:
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise InputError(
                f"the plugin {source!r} cannot be made ({said(error)}): let its class need no arguments"
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


def described(source: str) -> Extra:
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
    return Extra(
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
