"""Rules of a scenario's own, for verify."""

from __future__ import annotations

from typing import Final

import asyncpg

from bulkseed.errors import RunError
from bulkseed.identifiers import quoted
from bulkseed.ledger import Run
from bulkseed.plan.scenario import Rule
from bulkseed.postgres.connection import Connection
from bulkseed.verifier.checks import RuleCheck

__all__ = ["own_rule"]


SET: Final = "SELECT set_config('search_path', $1, true)"


async def own_rule(connection: Connection, run: Run, rule: Rule) -> RuleCheck:
    """A rule of the scenario's own: an SQL query that gives the number of rows that break it.

    Raises RunError where it gives anything else.
    """
    path = await connection.fetchval("SHOW search_path")
    await connection.execute(SET, ", ".join(filter(None, [quoted(run.schema), path])))
    try:
        async with connection.transaction():
            found = await connection.fetch(rule.sql)
    except asyncpg.PostgresError as error:
        raise RunError(f"the rule {rule.name!r} of the scenario cannot be judged ({error}): correct its SQL") from error
    finally:
        await connection.execute(SET, path)
    if len(found) != 1 or len(found[0]) != 1 or not isinstance(found[0][0], int):
        raise RunError(
            f"the rule {rule.name!r} of the scenario gives no number: "
            "let its SQL be such as SELECT count(*) FROM … WHERE …"
        )
    example = f"{found[0][0]:,} rows" if found[0][0] else None
    return RuleCheck("own", rule.name, found[0][0], example)
