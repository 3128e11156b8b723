"""Relationships: tables of pairs, as a scenario file declares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bulkseed.plan.scenario import Extra

__all__ = ["find_contradictions", "related"]

PAIR: Final = 2
WITH_TIME: Final = 3


def find_contradictions(declared: Mapping[str, Any]) -> Iterator[str]:
    """What in a relationship does not go together, each with its fix."""
    one, other, columns = declared["from"], declared["to"], declared["columns"]
    least, most = declared["min"], declared["max"]
    if one == "messages" and other != "users":
        yield f"it goes from messages to {other}: from messages it can only go to users"
    if least > most:
        yield f"min ({least}) is above max ({most}): give the smaller number as min"
    if len(set(columns)) < len(columns):
        yield f"two of its columns ({', '.join(columns)}) have the same name: give each another"
    if len(columns) == WITH_TIME and other == "messages":
        yield (
            f"it has a moment {columns[2]!r} for pairs with messages, whose own moments are not known where it is "
            "made: leave that column to a field"
        )


def related(name: str, declared: Mapping[str, Any]) -> Extra:
    """The table of a relationship: ``from`` and ``to`` are users, channels or messages, each of ``from`` has ``min`` to
    ``max`` of ``to``, and no pair is there twice; ``columns`` are the two that hold their ids, and one for the moment.
    """
    one, other, columns = declared["from"], declared["to"], declared["columns"]
    return Extra(
        name=name,
        follows=one,
        columns=tuple(columns),
        references=((columns[0], one), (columns[1], other)),
        key=tuple(columns[:PAIR]),
        rows_per_parent=(declared["min"] + declared["max"]) / 2,
        late=(one, other) not in {("channels", "users"), ("messages", "users")},
    )
