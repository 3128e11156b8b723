"""Triggers of an app that write rows which other rows share, such as counters: two shards at once could deadlock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bulkseed.plan.tables import Stage
from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, plain_names
from bulkseed.target.target import Target

__all__ = [
    "SKIPPED",
    "TRIGGERS",
    "CounterTrigger",
    "calls_one_that",
    "describe_counter_triggers",
    "find_counter_triggers",
    "stages_of",
]

TRIGGERS: Final = """
WITH RECURSIVE part AS (
    SELECT name, to_regclass(name)::oid AS relation FROM unnest($1::text[]) AS name
    UNION SELECT part.name, i.inhrelid FROM part JOIN pg_inherits AS i ON i.inhparent = part.relation
)
SELECT DISTINCT name AS table, quote_ident(t.tgname) AS trigger, t.tgfoid::bigint AS function
FROM part JOIN pg_trigger AS t ON t.tgrelid = relation
WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype::int & 4 <> 0
ORDER BY 1, 2
"""
"""The triggers that INSERT into the tables $1, or into partitions of them, fires. COPY fires the same ones, and no
rules."""

TRIGGERS_OF_NAMES: Final = """
WITH RECURSIVE part AS (
    SELECT c.oid AS relation
    FROM unnest($1::text[], $2::text[]) AS u (schema, name)
    JOIN pg_class AS c ON c.relname = u.name AND c.relkind IN ('r', 'p')
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = coalesce(u.schema, n.nspname)
    UNION SELECT i.inhrelid FROM part JOIN pg_inherits AS i ON i.inhparent = part.relation
)
SELECT DISTINCT t.tgfoid::bigint AS function FROM part JOIN pg_trigger AS t ON t.tgrelid = relation
WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype::int & 4 <> 0
"""
"""The functions of the triggers that INSERT into the tables $2 of the schemas $1 (of any, where NULL) fires.

By their names: to_regclass() raises an error if the user may not use the schema."""

FUNCTIONS: Final = """
SELECT p.oid::bigint, l.lanname::text AS language,
       CASE WHEN p.prosqlbody IS NULL THEN p.prosrc ELSE pg_get_function_sqlbody(p.oid) END AS body,
       p.pronamespace = 'pg_catalog'::regnamespace OR EXISTS (
           SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e'
       ) AS is_supplied
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.oid = ANY ($1::bigint[]::oid[])
"""
"""The functions $1; ``is_supplied`` are those of PostgreSQL and of extensions."""

CALLED: Final = """
SELECT p.oid::bigint FROM pg_proc AS p WHERE p.proname = ANY ($1::text[]) AND p.provolatile = 'v'
AND p.pronamespace <> ALL ('{pg_catalog, information_schema}'::regnamespace[])
"""
"""The functions with one of the names $1 that may write, in any schema."""

SKIPPED: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
"""Comments and texts within statements."""
WRITES: Final = re.compile(
    r"\b(update|delete\s+from|merge\s+into|truncate|on\s+conflict|lock\s+table)\b|\bpg_advisory_", re.IGNORECASE
)
"""What waits for other transactions that have written, or locked, the same row. An INSERT of new rows does not."""
DYNAMIC: Final = re.compile(r"\bexecute\b", re.IGNORECASE)
READABLE: Final = re.compile(r"'[^']*\b(insert|select|notify)\b", re.IGNORECASE)
"""The beginning of a text that may be the statement of EXECUTE."""
NAME: Final = r'(?:"[^"]+"|[a-z_][\w$]*)'
INSERTED: Final = re.compile(rf"\binsert\s+into\s+(?:({NAME})\s*\.\s*)?({NAME})", re.IGNORECASE)
CALLS: Final = re.compile(rf"({NAME})\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CounterTrigger:
    """A trigger whose function may write rows that rows of several shards share; ``name`` is that of the table."""

    name: str
    table: SQL
    trigger: str


async def find_counter_triggers(connection: Connection, target: Target) -> list[CounterTrigger]:
    """Return the triggers that INSERT into the tables of ``target`` fires, and that may write shared rows.

    The bodies of functions are searched for statements that write, also those of the functions that they call and of
    the triggers of tables into which they insert. Raises the errors of asyncpg.
    """
    names = {target.sql_name(name): name for name in target.model.names}
    rows = await connection.fetch(TRIGGERS, list(names))
    return [
        CounterTrigger(names[row["table"]], row["table"], row["trigger"])
        for row in rows
        if await calls_one_that(connection, row["function"], writes, statements_of)
    ]


async def calls_one_that(
    connection: Connection,
    function: int,
    judge: Callable[[Mapping[str, Any]], bool],
    code_of: Callable[[Mapping[str, Any]], str],
) -> bool:
    """Return whether ``judge`` is true of a function, or of one that it calls, directly or not.

    Both callables take a row of FUNCTIONS; ``code_of`` returns the statements in which calls are looked for. Raises the
    errors of asyncpg.
    """
    seen: set[int] = set()
    to_read = {function}
    while to_read:
        seen |= to_read
        functions = await connection.fetch(FUNCTIONS, list(to_read))
        if any(judge(each) for each in functions):
            return True
        to_read = set(await find_called(connection, [code_of(each) for each in functions])) - seen
    return False


def statements_of(function: Mapping[str, Any]) -> str:
    """Return the body of a function without comments and texts; empty in languages whose statements are texts."""
    return SKIPPED.sub(" ", function["body"]) if function["language"] in {"plpgsql", "sql"} else ""


def writes(function: Mapping[str, Any]) -> bool:
    """Return whether the body of a function has a statement that writes shared rows, or cannot be read."""
    body, language = function["body"], function["language"]
    if language in {"c", "internal"}:
        return not function["is_supplied"]
    if language not in {"plpgsql", "sql"}:
        # statements are in texts of the language
        return WRITES.search(body) is not None
    code = SKIPPED.sub(" ", body)
    if DYNAMIC.search(code):
        return WRITES.search(body) is not None or READABLE.search(body) is None
    return WRITES.search(code) is not None


async def find_called(connection: Connection, bodies: Sequence[str]) -> list[int]:
    """Return the functions that bodies call, and those of the triggers of tables into which they insert."""
    called = [plain(name) for body in bodies for name in CALLS.findall(body)]
    found = [row["oid"] for row in await connection.fetch(CALLED, called)]
    inserted = [names for body in bodies for names in INSERTED.findall(body)]
    schemas = [plain(schema) or None for schema, _ in inserted]
    rows = await connection.fetch(TRIGGERS_OF_NAMES, schemas, [plain(table) for _, table in inserted])
    return found + [row["function"] for row in rows]


def plain(name: str) -> str:
    """Return a name as the catalog has it."""
    return name[1:-1] if name.startswith('"') else name.lower()


def stages_of(triggers: Iterable[CounterTrigger], target: Target) -> frozenset[Stage]:
    """Return the stages of a load in which the triggers are fired."""
    return frozenset(target.model.stage(trigger.name) for trigger in triggers)


def describe_counter_triggers(triggers: Sequence[CounterTrigger]) -> str:
    """Return a sentence that says what the triggers change for a load; empty without triggers."""
    if not triggers:
        return ""
    names = ", ".join(f"{plain_names(trigger.trigger)} of {plain_names(trigger.table)}" for trigger in triggers)
    noun, verb = ("the trigger", "updates") if len(triggers) == 1 else ("the triggers", "update")
    return f"only one worker loads at a time, since {noun} {names} {verb} rows that several workers would lock"
