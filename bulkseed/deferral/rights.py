"""Who may make again what was dropped."""

from __future__ import annotations

from collections.abc import Sequence

from bulkseed.deferral.definition import Deferred
from bulkseed.postgres.connection import Connection

__all__ = ["not_owned"]

OWNERS = """
SELECT n.name, quote_ident(pg_get_userbyid(c.relowner)) AS owner
FROM unnest($1::text[]) AS n (name) JOIN pg_class AS c ON c.oid = to_regclass(n.name)
WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY n.name
"""


async def not_owned(connection: Connection, deferred: Sequence[Deferred]) -> dict[str, str]:
    """The tables whose indexes and keys this login may not make again, with their owners; those that are gone not.

    Raises what asyncpg raises.
    """
    tables = sorted({each.table for each in deferred})
    return {row["name"]: row["owner"] for row in await connection.fetch(OWNERS, tables)}
