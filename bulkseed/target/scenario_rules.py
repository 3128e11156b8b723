"""The rules that a scenario adds to ``verify``: their SQL is tried before a load, which would not need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from bulkseed.ledger import Ledger
from bulkseed.plan.scenario import Rule
from bulkseed.postgres.connection import Connection, server_message
from bulkseed.sql import identifier
from bulkseed.target.target import Problem

__all__ = ["NOT_A_NUMBER", "SET_SEARCH_PATH", "find_rule_problems", "find_tables_of", "wrong_rule"]

SET_SEARCH_PATH: Final = "SELECT set_config('search_path', $1, true)"

NUMBERS: Final = {"int2", "int4", "int8", "bool"}
"""The types whose values verify takes for a number of rows."""

NOT_A_NUMBER: Final = (
    "does not return one number: write a query for one row with one integer column, such as SELECT count(*)"
)


async def find_tables_of(connection: Connection, schema: str) -> str:
    """Let SQL of the scenario find the tables of ``schema`` first, until the transaction ends; return the old path."""
    path: str = await connection.fetchval("SHOW search_path")
    await connection.execute(SET_SEARCH_PATH, ", ".join(filter(None, [identifier(schema), path])))
    return path


async def find_rule_problems(
    connection: Connection, schema: str, rules: Sequence[Rule], ledger: Ledger
) -> list[Problem]:
    """Return a problem for each rule whose SQL the server does not understand, or that does not return one number.

    The rules are prepared and not run. Tables of the ledger, which a load makes, may be missing.
    """
    problems: list[Problem] = []
    if not rules:
        return problems
    async with connection.transaction():
        path = await find_tables_of(connection, schema)
        for rule in rules:
            try:
                async with connection.transaction():
                    statement = await connection.prepare(rule.sql)
                    columns, parameters = statement.get_attributes(), statement.get_parameters()
            except asyncpg.PostgresError as error:
                if not (isinstance(error, asyncpg.UndefinedTableError) and f'"{ledger.schema}.' in str(error)):
                    problems.append(wrong_rule(rule, error))
                continue
            except asyncpg.InterfaceError as error:
                problems.append(wrong_rule(rule, error))
                continue
            if parameters or [column.type.name in NUMBERS for column in columns] != [True]:
                problems.append(
                    Problem("rule-without-number", f"the rule {rule.name!r} of the scenario {NOT_A_NUMBER}")
                )
        await connection.execute(SET_SEARCH_PATH, path)
    return problems


def wrong_rule(rule: Rule, error: Exception) -> Problem:
    """Return the problem of a rule whose SQL fails."""
    reason = server_message(error) if isinstance(error, asyncpg.PostgresError) else str(error)
    return Problem("rule-failed", f"the rule {rule.name!r} of the scenario fails ({reason}): correct its SQL")
