"""The advisory lock that keeps loads and cleanups of one database apart."""

from __future__ import annotations

from typing import Final

from bulkseed.connection import Connection

__all__ = ["LOCK", "hold_load_lock", "load_lock_holder", "try_load_lock"]

LOCK: Final = 0x62756C6B73656564
"""The bytes of "bulkseed"."""


async def hold_load_lock(connection: Connection) -> None:
    """Wait for, and hold until the connection ends, the lock of all that writes seeded rows."""
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)


async def try_load_lock(connection: Connection) -> bool:
    """Take the same lock if it is free; says whether it was."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))


async def load_lock_holder(connection: Connection) -> str | None:
    """Who holds the lock, in words; None where it is free."""
    row = await connection.fetchrow(
        """
        SELECT a.pid, a.usename, to_char(a.backend_start AT TIME ZONE 'UTC', 'HH24:MI:SS') AS since
        FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND (l.classid::bigint << 32 | l.objid::bigint) = $1 AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        LOCK,
    )
    return None if row is None else f"process {row['pid']} of {row['usename']}, since {row['since']} UTC"
