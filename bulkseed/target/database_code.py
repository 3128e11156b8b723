"""Code of the database that an INSERT runs: triggers, functions of CHECK constraints, and what these use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from bulkseed.copy.writer import CopyPlan
from bulkseed.postgres.connection import Connection
from bulkseed.target.target import Target
from bulkseed.target.trial_limits import NotTriedError

__all__ = ["DatabaseCode", "read_code"]

TRIGGERS: Final = """
SELECT tgrelid::bigint AS relation, tgfoid::bigint AS function, tgtype & 4 = 4 AS on_insert FROM pg_trigger
WHERE tgenabled IN ('O', 'A') AND NOT tgisinternal
"""

RELATED: Final = """
WITH RECURSIVE related AS (
    SELECT name::regclass::oid AS oid FROM unnest($1::text[]) AS name
    UNION
    SELECT e.oid FROM related AS r JOIN (
        SELECT inhparent AS origin, inhrelid AS oid, true AS is_part FROM pg_inherits
        UNION ALL SELECT confrelid, conrelid, false FROM pg_constraint WHERE contype = 'f'
    ) AS e ON e.origin = r.oid AND (e.is_part OR $2)
)
SELECT array_agg(oid::bigint) FROM related
"""
"""The tables $1 and their partitions; with $2 also the tables on which their foreign keys act, at any remove."""

CHECKS: Final = """
SELECT c.oid::bigint AS oid, d.refobjid::bigint AS function FROM pg_constraint AS c
JOIN pg_depend AS d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
JOIN pg_language AS l ON l.oid = p.prolang
WHERE c.conrelid = ANY ($1::text[]::regclass[]) AND c.contype = 'c' AND l.lanname NOT IN ('c', 'internal')
"""
"""The CHECK constraints that call functions of the database, once for each."""

FUNCTIONS: Final = """
SELECT p.oid::bigint AS oid, p.proname::text AS name, p.prosrc AS body,
       l.lanname NOT IN ('sql', 'plpgsql') AS is_foreign
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('c', 'internal') AND p.pronamespace <> ALL ('{pg_catalog,information_schema}'::regnamespace[])
"""

RELATIONS: Final = """
SELECT c.oid::bigint AS oid, c.relname::text AS name, c.relkind = 'S' AS is_sequence, '' AS body
FROM pg_class AS c WHERE c.relkind IN ('r', 'p', 'v', 'f', 'S') AND c.relpersistence <> 't'
  AND c.relnamespace <> ALL ('{pg_catalog,information_schema,pg_toast}'::regnamespace[])
"""

USES: Final = """
SELECT coalesce(r.ev_class, d.objid)::bigint AS by, d.refobjid::bigint AS used
FROM pg_depend AS d LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
WHERE d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass)
  AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
"""
"""What views, and functions whose bodies are parsed (BEGIN ATOMIC), use. Their definitions are not written out, as that
waits for locks of the tables."""

SEQUENCES: Final = """
SELECT a.attrelid::bigint AS relation, a.attname::text AS name, c.oid::bigint AS sequence
FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
JOIN pg_depend AS p ON (p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
                        AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND a.attidentity <> '')
                    OR (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass)
JOIN pg_class AS c ON c.relkind = 'S'
                  AND c.oid = CASE WHEN p.classid = 'pg_class'::regclass THEN p.objid ELSE p.refobjid END
"""
"""The sequences that the defaults of columns read, and those of identity columns."""

FILLING: Final = """
SELECT d.adrelid::bigint AS relation, a.attname::text AS name, p.refobjid::bigint AS function
FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_depend AS p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_proc'::regclass
"""
"""The functions that the defaults of columns call."""

WORD: Final = re.compile(r"\w+")
DYNAMIC: Final = "execute"


@dataclass(frozen=True, slots=True)
class DatabaseCode:
    """What an INSERT into the tables of a load runs.

    - ``runs``: whether there are triggers, or CHECK constraints that read tables: only the tables themselves show
      whether they accept rows.
    - ``reading_checks``: the OIDs of these constraints.
    - ``sequences``: the OIDs of the sequences that it may move, as far as the text of functions tells; those that fill
      columns which a load leaves out included.
    - ``dynamic``: a function whose text does not tell this, so that it may move any; empty if there is none.
    """

    runs: bool
    reading_checks: frozenset[int]
    sequences: frozenset[int]
    dynamic: str = ""

    def check_sequences(self) -> None:
        """Raise NotTriedError if any sequence may be moved: to lock all of them is too much beside an app."""
        if self.dynamic and self.sequences:
            raise NotTriedError(
                f"the function {self.dynamic} runs statements that it puts together, or is in a language other than "
                "SQL and PL/pgSQL, and may move any sequence"
            )


async def read_code(
    connection: Connection, target: Target, copy_plans: Mapping[str, CopyPlan], *, removal: bool = False
) -> DatabaseCode:
    """Return the code that an INSERT into the tables runs; with ``removal`` also the code that a DELETE from them runs.

    Raises asyncpg's errors.
    """
    tables = target.sql_tables()
    triggers = await connection.fetch(TRIGGERS)
    checks = await connection.fetch(CHECKS, tables)
    oids = await connection.fetchval("SELECT array_agg(t::regclass::oid::bigint) FROM unnest($1::text[]) AS t", tables)
    related = set(await connection.fetchval(RELATED, tables, removal))
    fired = {row["function"] for row in triggers if row["relation"] in related and (removal or row["on_insert"])}
    if not (fired or checks):
        return DatabaseCode(runs=False, reading_checks=frozenset(), sequences=frozenset())
    names = Names(
        await connection.fetch(FUNCTIONS),
        await connection.fetch(RELATIONS),
        triggers,
        await connection.fetch(SEQUENCES),
        await connection.fetch(USES),
    )
    reading = {row["oid"] for row in checks if names.reads_relations(row["function"])}
    called = fired | {row["function"] for row in checks if row["oid"] in reading}
    filled = {
        (oid, name)
        for table, oid in zip(target.model.tables, oids, strict=True)
        for name in copy_plans[table.name].columns
    }

    def left_out(rows: Iterable[Any], kind: str) -> set[int]:
        """Return what the defaults of columns which a load leaves out use."""
        return {row[kind] for row in rows if row["relation"] in oids and (row["relation"], row["name"]) not in filled}

    found = names.reachable(called | left_out(await connection.fetch(FILLING), "function"))
    sequences = found.sequences | left_out(names.sequences, "sequence")
    return DatabaseCode(
        runs=bool(called),
        reading_checks=frozenset(reading),
        sequences=frozenset(sequences) if called else frozenset(),
        dynamic=found.dynamic,
    )


class Found(NamedTuple):
    """What functions may use: tables and views, sequences; ``dynamic`` is a function that may use all, if any."""

    relations: set[int]
    sequences: set[int]
    dynamic: str


class Names:
    """The functions, relations and sequences of a database, to follow the names that functions mention."""

    def __init__(
        self,
        functions: Iterable[Any],
        relations: Iterable[Any],
        triggers: Iterable[Any],
        sequences: Iterable[Any],
        uses: Iterable[Any],
    ) -> None:
        self.functions = {row["oid"]: row for row in functions}
        self.relations = {row["oid"]: row for row in relations}
        self.triggers = list(triggers)
        self.sequences = list(sequences)
        self.uses: dict[int, set[int]] = {}
        for row in uses:
            self.uses.setdefault(row["by"], set()).add(row["used"])
        self.by_name: dict[str, set[int]] = {}
        for row in (*self.functions.values(), *self.relations.values()):
            for word in WORD.findall(row["name"].lower()):
                self.by_name.setdefault(word, set()).add(row["oid"])

    def reads_relations(self, function: int) -> bool:
        """Return whether a function may read tables."""
        return bool(self.reachable({function}).relations)

    def reachable(self, functions: set[int]) -> Found:
        """Return what functions may use, by the words of their texts.

        A word that is a name counts, whatever it stands for. Statements that a function puts together may use all.
        """
        waiting, seen = set(functions), set()
        relations: set[int] = set()
        sequences: set[int] = set()
        dynamic = ""
        while waiting:
            oid = waiting.pop()
            seen.add(oid)
            row = self.functions.get(oid) or self.relations.get(oid)
            if row is None:
                continue  # a function in C
            if oid in self.relations:
                (sequences if row["is_sequence"] else relations).add(oid)
                found = {each["function"] for each in self.triggers if each["relation"] == oid}
                found |= {each["sequence"] for each in self.sequences if each["relation"] == oid}
            else:
                found = set()
            found |= self.uses.get(oid, set())
            words = set(WORD.findall(row["body"].lower()))
            if oid in self.functions and (row["is_foreign"] or DYNAMIC in words):
                dynamic = row["name"]
                found |= set(self.relations)
            for word in words:
                found |= self.by_name.get(word, set())
            waiting |= found - seen
        return Found(relations, sequences, dynamic)
