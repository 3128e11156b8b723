"""The advisory lock that keeps loads and cleanups of one database apart."""

from __future__ import annotations

from typing import Final

from bulkseed.listeners import Watcher
from bulkseed.postgres.connection import Connection, translated

__all__ = ["LOCK", "holder", "take_turn"]

LOCK: Final = 0x62756C6B73656564
"""The bytes of "bulkseed"."""


async def take_turn(connection: Connection, watcher: Watcher) -> None:
    """Hold the lock of all that writes seeded rows until the connection ends, waiting for, and naming, who has it.

    It comes before anything else: who waits must not hold a lock that the other one needs. Raises ConnectionLost.
    """
    with translated(connection, "waiting for the turn of this command"):
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            who = await holder(connection) or "just ending"
            watcher.note(f"waiting for another bulkseed in this database ({who}) to finish")
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK)


async def holder(connection: Connection) -> str | None:
    """Who holds the lock, in words: its server process, login, and since when; None where nobody else does."""
    row = await connection.fetchrow(
        """
        SELECT a.pid, a.usename, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
        FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND (l.classid::bigint << 32 | l.objid::bigint) = $1 AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        LOCK,
    )
    if row is None:
        return None
    # who may not read all statistics is not told when another login's session began
    since = f", since {row['since']} UTC" if row["since"] else ""
    return f"process {row['pid']} of {row['usename']}{since}"
