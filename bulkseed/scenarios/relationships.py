"""Relationships: tables of pairs, as a scenario file declares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bulkseed.errors import InputError, suggestion
from bulkseed.plan.scenario import Extra

__all__ = ["related"]

SIDES: Final = ("users", "channels", "messages")
KEYS: Final = ("from", "to", "min", "max", "columns")
LISTED: Final = ", ".join(KEYS)
PAIR: Final = 2
WITH_TIME: Final = 3


def related(name: str, declared: Mapping[str, Any]) -> Extra:
    """The table of a relationship: ``from`` and ``to`` are users, channels or messages, each of ``from`` has ``min`` to
    ``max`` of ``to``, and no pair is there twice; ``columns`` are the two that hold their ids, and one for the moment.

    Raises InputError, naming the relationship, for what cannot be.
    """
    where = f"[relationships.{name}]"
    for key in declared:
        if key not in KEYS:
            raise InputError(f"{where} has {key!r}: {suggestion(key, KEYS, f'give {LISTED}')}")
    for key in KEYS:
        if key not in declared:
            raise InputError(f"{where} has no {key}: give {LISTED}")
    one, other, columns = declared["from"], declared["to"], declared["columns"]
    for side in (one, other):
        if side not in SIDES:
            raise InputError(f"{where} is between {one!r} and {other!r}: give two of {', '.join(SIDES)}")
    if one == "messages" and other != "users":
        raise InputError(f"{where} goes from messages to {other}: from messages it can only go to users")
    least, most = declared["min"], declared["max"]
    if not (type(least) is int and type(most) is int and 0 <= least <= most and most > 0):
        raise InputError(
            f"{where} has min = {least!r} and max = {most!r}: give whole numbers, 0 or more, min not above max"
        )
    if not (
        isinstance(columns, list)
        and PAIR <= len(columns) <= WITH_TIME
        and all(isinstance(each, str) for each in columns)
        and len(set(columns)) == len(columns)
    ):
        raise InputError(
            f"{where} has columns = {columns!r}: give two names, and a third for the moment if there is one"
        )
    if len(columns) == WITH_TIME and other == "messages":
        raise InputError(
            f"{where} has a moment {columns[2]!r} for pairs with messages, whose own moments are not known where it is "
            "made: leave that column to a field"
        )
    return Extra(
        name=name,
        follows=one,
        columns=tuple(columns),
        references=((columns[0], one), (columns[1], other)),
        key=tuple(columns[:PAIR]),
        rows_per_parent=(least + most) / 2,
        late=(one, other) not in {("channels", "users"), ("messages", "users")},
    )
