"""Row-level security that applies to the user, and what ends that."""

from __future__ import annotations

from typing import Final, NamedTuple

from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL

__all__ = ["RowSecurity", "find_active_row_security"]

ACTIVE: Final = """
SELECT quote_ident(current_user) AS "user", quote_ident(pg_get_userbyid(relowner)) AS owner,
       pg_has_role(relowner, 'USAGE') AS is_owner, relforcerowsecurity AS is_forced
FROM pg_class WHERE oid = $1::text::regclass AND row_security_active(oid)
"""


class RowSecurity(NamedTuple):
    """Row-level security of a table that applies to ``user`` (as SQL), and the statements or command that end that."""

    user: str
    fix: str


async def find_active_row_security(connection: Connection, table: SQL) -> RowSecurity | None:
    """Return the row-level security of an existing table that applies to the user; None if none does."""
    row = await connection.fetchrow(ACTIVE, table)
    if row is None:
        return None
    user = row["user"]
    fix = f"let a superuser run ALTER ROLE {user} BYPASSRLS"
    if row["is_owner"]:
        # an owner is exempt unless that is forced
        fix = f"run ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY meanwhile, or {fix}"
    elif not row["is_forced"]:
        fix = f"run this command as the table's owner, {row['owner']}, or {fix}"
    return RowSecurity(user, fix)
