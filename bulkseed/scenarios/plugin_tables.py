"""Tables of plugins and relationships, beyond the built-in five: checked together, and given their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from bulkseed.errors import suggestion
from bulkseed.plan.scenario import PluginTable
from bulkseed.plan.tables import CATALOGUE, TABLES, WITH_IDS

__all__ = ["arrange_tables", "find_contradictions", "has_order", "make_relationship_table"]

ID_COLUMNS: Final = 2
"""The columns of a relationship that hold ids."""
WITH_TIME: Final = ID_COLUMNS + 1
"""The columns of a relationship with a time."""


def find_contradictions(declared: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of a relationship whose keys contradict each other, each with its fix."""
    one, other, columns = declared["from"], declared["to"], declared["columns"]
    least, most = declared["min"], declared["max"]
    if one == "messages" and other != "users":
        yield f"a relationship from messages cannot go to {other}: let it go to users"
    if least > most:
        yield f"min ({least}) is above max ({most}): give the smaller number as min"
    if len(set(columns)) < len(columns):
        yield f"two of its columns ({', '.join(columns)}) have the same name: give each column its own name"
    if len(columns) == WITH_TIME and other == "messages":
        yield (
            f"{columns[2]!r} is a time, and the times of messages are not known when the relationship is made: remove "
            "the column here, and fill it with a field"
        )


def make_relationship_table(name: str, declared: Mapping[str, Any]) -> PluginTable:
    """Return the table of a relationship without contradictions.

    ``from`` and ``to`` are users, channels or messages. Each row of ``from`` is linked to ``min`` to ``max`` rows of
    ``to``, without duplicate pairs. ``columns`` are the two columns of their ids, and a column of times, if any.
    """
    one, other, columns = declared["from"], declared["to"], declared["columns"]
    return PluginTable(
        name=name,
        follows=one,
        columns=tuple(columns),
        references=((columns[0], one), (columns[1], other)),
        key=tuple(columns[:ID_COLUMNS]),
        rows_per_parent=(declared["min"] + declared["max"]) / 2,
        late=WITH_IDS.index(other) >= WITH_IDS.index(one),
    )


BUILT_IN: Final = {table.name: table for table in TABLES}


def arrange_tables(
    tables: Iterable[PluginTable], absent: Collection[str]
) -> tuple[tuple[PluginTable, ...], list[tuple[str, str]]]:
    """Return the tables arranged, and the problems with their fixes, each after the name of the table.

    In an arranged table the first reference is the one that the order of the rows follows, and ``late`` is set if it
    references rows that are made after its own, or follows a late table. ``absent`` are the tables that the app does
    not have.
    """
    listed = list(tables)
    by_name = {table.name: table for table in listed}
    problems = [
        (name, f"there are two tables {name}: give one of them another name")
        for name, count in Counter([*BUILT_IN, CATALOGUE.name, *(table.name for table in listed)]).items()
        if count > 1
    ]
    for table in listed:
        problems += [(table.name, problem) for problem in find_unknown_tables(table, by_name, absent)]
    problems = problems or [(table.name, problem) for table in listed for problem in find_cycle(table, by_name)]
    if problems:
        return tuple(listed), problems
    by_name = {table.name: arrange_table(table, by_name) for table in listed}
    for table in by_name.values():
        problems += [(table.name, problem) for problem in find_order_problems(table, by_name)]
    return tuple(by_name.values()), problems


def find_unknown_tables(table: PluginTable, by_name: Mapping[str, PluginTable], absent: Collection[str]) -> list[str]:
    known = [*BUILT_IN, *by_name]
    problems = []
    for verb, other in (("follows", table.follows), *(("points at", other) for _, other in table.references)):
        if other not in known:
            fix = suggestion(other, known, f"there are {', '.join(known)}")
            problems.append(f"the table {table.name} {verb} {other!r}, which does not exist: {fix}")
        elif other in absent:
            problems.append(f"the table {table.name} {verb} {other}, which [tables] leaves out: leave it out too")
    return list(dict.fromkeys(problems))


def find_cycle(table: PluginTable, by_name: Mapping[str, PluginTable]) -> list[str]:
    chain = [table.name]
    while (follows := by_name[chain[-1]].follows) in by_name:
        if follows in chain:
            through = f", through {' and '.join(chain[1:])}" if len(chain) > 1 else ""
            return [f"the table {table.name} follows itself{through}: let it follow users"]
        chain.append(follows)
    return []


def arrange_table(table: PluginTable, by_name: Mapping[str, PluginTable]) -> PluginTable:
    anchor = anchor_of(table.follows, by_name)
    references = sorted(table.references, key=lambda reference: reference[1] != anchor)
    return replace(table, references=tuple(references), late=is_late(table, by_name))


def is_late(table: PluginTable, by_name: Mapping[str, PluginTable]) -> bool:
    """Return whether the table is late, follows a late one, or references rows that are made after its own."""
    own = WITH_IDS.index(anchor_of(table.follows, by_name))
    later = any(WITH_IDS.index(anchor_of(other, by_name)) > own for _, other in table.references)
    return table.late or later or (table.follows in by_name and is_late(by_name[table.follows], by_name))


def anchor_of(name: str, by_name: Mapping[str, PluginTable]) -> str:
    """Return the table whose ids ascend with the rows of the table ``name``: users, channels or messages."""
    if name in by_name:
        return anchor_of(by_name[name].follows, by_name)
    table = BUILT_IN[name]
    return name if table.serial is not None else table.references[0][1]


def has_order(table: PluginTable, tables: Iterable[PluginTable]) -> bool:
    """Return whether the first id in each row tells the row's position in the order of the run."""
    return table.references[0][1] == anchor_of(table.follows, {other.name: other for other in tables})


def find_order_problems(table: PluginTable, by_name: Mapping[str, PluginTable]) -> list[str]:
    problems = []
    if table.references[0][1] not in WITH_IDS:
        problems.append(
            f"the table {table.name} points only at {table.references[0][1]}: "
            f"give it a column with ids of {', '.join(WITH_IDS)}"
        )
    followed = by_name.get(table.follows)
    if followed is None or problems:
        return problems
    anchor = anchor_of(followed.name, by_name)
    if not has_order(followed, by_name.values()):
        problems.append(
            f"the table {table.name} follows {followed.name}, which has no column of ids of {anchor}: "
            f"give {followed.name} such a column, or let {table.name} follow {followed.follows}"
        )
    elif "created_at" not in followed.columns and "messages" in dict(followed.references).values():
        problems.append(
            f"the table {table.name} follows {followed.name}, which has no times: "
            f"give {followed.name} a column created_at, or let {table.name} follow {followed.follows}"
        )
    return problems
