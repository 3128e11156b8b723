"""Triggers and rules of an app that act on the removal of rows, or acted on their loading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, plain_names, trusted
from bulkseed.target.counter_triggers import SKIPPED, TRIGGERS, calls_one_that
from bulkseed.target.target import Problem, raise_problems

__all__ = [
    "DeleteTrigger",
    "check_delete_rules",
    "describe_insert_triggers",
    "find_delete_rules",
    "find_delete_triggers",
    "find_writing_triggers",
]

DELETE_TRIGGERS: Final = """
WITH RECURSIVE part AS (
    SELECT name, name::regclass::oid AS relation FROM unnest($1::text[]) AS name
    UNION SELECT part.name, i.inhrelid FROM part JOIN pg_inherits AS i ON i.inhparent = part.relation
)
SELECT p.name AS table, format('%I.%I', n.nspname, c.relname) AS relation, t.tgname::text AS trigger,
       p.relation = p.name::regclass AS is_own, t.tgtype::int & 3 = 3 AS before_row
FROM part AS p JOIN pg_trigger AS t ON t.tgrelid = p.relation
JOIN pg_class AS c ON c.oid = p.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled IN ('O', 'A') AND t.tgtype::int & 8 <> 0
  AND (p.relation = p.name::regclass OR t.tgtype::int & 1 <> 0)
ORDER BY 1, 2, 3
"""
"""A DELETE from a table also fires the row triggers of its partitions and of tables that inherit from it."""

DELETE_RULES: Final = """
SELECT name AS table, quote_ident(r.rulename) AS rule
FROM unnest($1::text[]) AS name JOIN pg_rewrite AS r ON r.ev_class = name::regclass
WHERE r.ev_type = '4' AND r.ev_enabled IN ('O', 'A')
ORDER BY 1, 2
"""

INSERT_TRIGGERS: Final = r"""
SELECT DISTINCT format('%I of %s', t.tgname, t.tgrelid::regclass) AS trigger
FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
WHERE t.tgrelid = ANY ($1::text[]::regclass[]) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
  AND t.tgtype::int & 4 <> 0 AND p.prosrc ~* '\minsert\M'
ORDER BY 1
"""

WRITES: Final = re.compile(r"\b(insert|update|delete|merge|truncate|copy|create|execute|dblink\w*)\b", re.IGNORECASE)
"""The words of statements that write rows, or may do so."""


@dataclass(frozen=True, slots=True)
class DeleteTrigger:
    """A trigger that a DELETE from ``table`` fires: the table, or the partition of it, that has the trigger; its name;
    whether it is called before each row. The tables are qualified and quoted.
    """

    table: SQL
    relation: SQL
    name: str
    is_before_row: bool

    def __str__(self) -> str:
        return f"{self.name} of {self.relation}"


async def find_delete_triggers(connection: Connection, tables: Sequence[SQL]) -> list[DeleteTrigger]:
    """Return the app's triggers that a DELETE from ``tables`` fires."""
    rows = await connection.fetch(DELETE_TRIGGERS, list(tables))
    return [
        DeleteTrigger(
            trusted(row["table"]),
            # the same spelling as elsewhere, where it is the table itself
            trusted(row["table"] if row["is_own"] else row["relation"]),
            row["trigger"],
            row["before_row"],
        )
        for row in rows
    ]


async def find_delete_rules(connection: Connection, tables: Iterable[SQL]) -> list[Problem]:
    """Return a problem for each rule that replaces DELETE, or adds to it: rows then stay, or cannot be counted."""
    return [
        Problem(
            "delete-rule",
            f"the rule {row['rule']} of {row['table']} replaces deletions, or adds to them, so that rows could not be "
            f"removed: run this command while it is disabled, with ALTER TABLE {row['table']} DISABLE RULE "
            f"{row['rule']} before and ENABLE RULE after it",
        )
        for row in await connection.fetch(DELETE_RULES, list(tables))
    ]


async def check_delete_rules(connection: Connection, tables: Iterable[SQL]) -> None:
    """Raise TargetError for the problems that :func:`find_delete_rules` returns."""
    raise_problems(await find_delete_rules(connection, tables))


async def describe_insert_triggers(connection: Connection, tables: Iterable[SQL]) -> str:
    """Return a note on the triggers that have written rows of their own for the loaded rows; empty if there is none."""
    rows = await connection.fetch(INSERT_TRIGGERS, list(tables))
    if not rows:
        return ""
    names = ", ".join(row["trigger"] for row in rows)
    noun = "1 trigger" if len(rows) == 1 else f"{len(rows)} triggers"
    return (
        f"rows that {noun} of the app wrote into other tables for the loaded rows are not recorded, and stay unless "
        f"they reference removed rows: {names}"
    )


async def find_writing_triggers(connection: Connection, tables: Iterable[SQL]) -> list[str]:
    """Return the triggers that INSERT into ``tables`` fires, or into their partitions, and that may write other rows.

    Those in other languages than SQL and PL/pgSQL count as such, unless they are of PostgreSQL or an extension. Raises
    the errors of asyncpg.
    """
    return [
        plain_names(f"{row['trigger']} of {row['table']}")
        for row in await connection.fetch(TRIGGERS, list(tables))
        if await calls_one_that(connection, row["function"], may_write, lambda function: read_code(function) or "")
    ]


def may_write(function: Mapping[str, Any]) -> bool:
    """Return whether a function has a statement that writes rows, or cannot be read."""
    code = read_code(function)
    return code is None or WRITES.search(code) is not None


def read_code(function: Mapping[str, Any]) -> str | None:
    """Return the statements of a function without comments and texts; None if they cannot be read."""
    if function["language"] in {"c", "internal"}:
        return "" if function["is_supplied"] else None
    if function["language"] not in {"plpgsql", "sql"}:
        return None
    body = str(function["body"])
    # an escaped quote is not recognised: such texts are searched too
    return body if "\\'" in body else SKIPPED.sub(" ", body)
