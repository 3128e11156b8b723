"""Tables beyond the built-in five, of the user's code and of relationships: each after what it follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from bulkseed.errors import suggestion
from bulkseed.plan.scenario import PluginTable
from bulkseed.plan.tables import CATALOGUE, TABLES, WITH_IDS

__all__ = ["find_contradictions", "has_order", "put_together", "related"]

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


def related(name: str, declared: Mapping[str, Any]) -> PluginTable:
    """The table of a relationship: ``from`` and ``to`` are users, channels or messages, each of ``from`` has ``min`` to
    ``max`` of ``to``, and no pair is there twice; ``columns`` are the two that hold their ids, and one for the moment.
    """
    one, other, columns = declared["from"], declared["to"], declared["columns"]
    return PluginTable(
        name=name,
        follows=one,
        columns=tuple(columns),
        references=((columns[0], one), (columns[1], other)),
        key=tuple(columns[:PAIR]),
        rows_per_parent=(declared["min"] + declared["max"]) / 2,
        late=(one, other) not in {("channels", "users"), ("messages", "users")},
    )


BUILT_IN: Final = {table.name: table for table in TABLES}


def put_together(
    extras: Iterable[PluginTable], lacking: Collection[str]
) -> tuple[tuple[PluginTable, ...], list[tuple[str, str]]]:
    """The tables, each with the column first that says in which order its rows come, and late where what it follows
    is; and all that is wrong with them together, each after the name of its table. ``lacking`` are the tables that the
    app has not.
    """
    given = list(extras)
    by_name = {extra.name: extra for extra in given}
    problems = [
        (name, f"there are two tables {name}: give one of them another name")
        for name, times in Counter([*BUILT_IN, CATALOGUE.name, *(extra.name for extra in given)]).items()
        if times > 1
    ]
    for extra in given:
        problems += [(extra.name, problem) for problem in unfounded(extra, by_name, lacking)]
    problems = problems or [(extra.name, problem) for extra in given for problem in circle(extra, by_name)]
    if problems:
        return tuple(given), problems
    by_name = {extra.name: arranged(extra, by_name) for extra in given}
    for extra in by_name.values():
        problems += [(extra.name, problem) for problem in unfit(extra, by_name)]
    return tuple(by_name.values()), problems


def unfounded(extra: PluginTable, by_name: Mapping[str, PluginTable], lacking: Collection[str]) -> list[str]:
    known = [*BUILT_IN, *by_name]
    problems = []
    for verb, table in (("follows", extra.follows), *(("points at", each) for _, each in extra.references)):
        if table not in known:
            mend = suggestion(table, known, f"there are {', '.join(known)}")
            problems.append(f"the table {extra.name} {verb} {table!r}, which is no table: {mend}")
        elif table in lacking:
            problems.append(f"the table {extra.name} {verb} {table}, which [tables] leaves out: leave it out too")
    return list(dict.fromkeys(problems))


def circle(extra: PluginTable, by_name: Mapping[str, PluginTable]) -> list[str]:
    seen = [extra.name]
    while (follows := by_name[seen[-1]].follows) in by_name:
        if follows in seen:
            through = f", through {' and '.join(seen[1:])}" if len(seen) > 1 else ""
            return [f"the table {extra.name} follows itself{through}: let it follow users"]
        seen.append(follows)
    return []


def arranged(extra: PluginTable, by_name: Mapping[str, PluginTable]) -> PluginTable:
    anchor = anchor_of(extra.follows, by_name)
    references = sorted(extra.references, key=lambda each: each[1] != anchor)
    return replace(extra, references=tuple(references), late=is_late(extra, by_name))


def is_late(extra: PluginTable, by_name: Mapping[str, PluginTable]) -> bool:
    return extra.late or (extra.follows in by_name and is_late(by_name[extra.follows], by_name))


def anchor_of(table: str, by_name: Mapping[str, PluginTable]) -> str:
    """Whose ids ascend with the rows of the table: users, channels or messages."""
    if table in by_name:
        return anchor_of(by_name[table].follows, by_name)
    found = BUILT_IN[table]
    return table if found.serial is not None else found.references[0][1]


def has_order(extra: PluginTable, extras: Iterable[PluginTable]) -> bool:
    """Whether each row says, by the first id that it holds, where in the run's order it comes."""
    return extra.references[0][1] == anchor_of(extra.follows, {each.name: each for each in extras})


def unfit(extra: PluginTable, by_name: Mapping[str, PluginTable]) -> list[str]:
    problems = []
    if extra.references[0][1] not in WITH_IDS:
        problems.append(
            f"the table {extra.name} points at {extra.references[0][1]} alone: "
            f"let a column of it hold ids of {', '.join(WITH_IDS)}"
        )
    first = by_name.get(extra.follows)
    later = next((table for _, table in extra.references if anchor_of(table, by_name) != "users"), None)
    if not extra.late and later is not None and anchor_of(extra.follows, by_name) == "users":
        problems.append(
            f"the table {extra.name} is made with the users, and points at {later}, which come after them: "
            "say late=True of it"
        )
    if extra.late and first is None and extra.follows not in {"users", "channels"}:
        problems.append(f"the table {extra.name} is late and follows {extra.follows}: let it follow users or channels")
    if first is None or problems:
        return problems
    anchor = anchor_of(first.name, by_name)
    if not has_order(first, by_name.values()):
        problems.append(
            f"the table {extra.name} follows {first.name}, which has no column of ids of {anchor}: "
            f"give {first.name} one, or let {extra.name} follow {first.follows}"
        )
    elif "created_at" not in first.columns and "messages" in dict(first.references).values():
        problems.append(
            f"the table {extra.name} follows {first.name}, which does not say when its rows were made: "
            f"give {first.name} a column created_at, or let {extra.name} follow {first.follows}"
        )
    return problems
