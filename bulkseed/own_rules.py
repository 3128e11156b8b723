"""Rules of a scenario's own, for verify."""

from __future__ import annotations

import asyncpg

from bulkseed.checks import RuleCheck
from bulkseed.connection import Connection
from bulkseed.errors import RunError
from bulkseed.identifiers import quoted
from bulkseed.ledger import Run
from bulkseed.scenario import Rule

__all__ = ["own_rule"]


async def own_rule(connection: Connection, run: Run, rule: Rule) -> RuleCheck:
    """A rule of the scenario's own: an SQL query that gives the number of rows that break it.

    Raises RunError where it gives anything else.
    """
    name, schema = quoted(run.schema), await connection.fetchval("SHOW search_path")
    await connection.execute(f"SET LOCAL search_path = {name}, {schema}")
    try:
        async with connection.transaction():
            found = await connection.fetch(rule.sql)
    except asyncpg.PostgresError as error:
        raise RunError(f"the rule {rule.name!r} of the scenario cannot be judged ({error}): correct its SQL") from error
    finally:
        await connection.execute(f"SET LOCAL search_path = {schema}")
    if len(found) != 1 or len(found[0]) != 1 or not isinstance(found[0][0], int):
        raise RunError(
            f"the rule {rule.name!r} of the scenario gives no number: "
            "let its SQL be such as SELECT count(*) FROM … WHERE …"
        )
    example = f"{found[0][0]:,} rows" if found[0][0] else None
    return RuleCheck("own", rule.name, found[0][0], example)
