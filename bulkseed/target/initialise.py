"""A database with the reference tables and the catalogue: what is missing of them is made."""

from __future__ import annotations

from typing import Final

import asyncpg

from bulkseed.plan.tables import CATALOGUE, TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected, translated
from bulkseed.progress import Silent, Watcher

__all__ = ["initialise"]

TABLES: Final = """
SELECT count(*) FROM pg_class
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
      AND relkind IN ('r', 'p') AND relname = ANY ($1)
"""


async def initialise(address: Address, *, watcher: Watcher | None = None) -> list[str]:
    """Make what is missing of the reference tables and the catalogue; returns what was made, in words.

    What is there stays as it is, so twice is once; two at a time take turns. Raises ConnectError, ConnectionLost, and
    TargetError where the tables that are there do not go with those that are missing, or the login may not make them.
    """
    async with connected(address) as connection:
        with translated(connection, "looking for the tables"):
            if await is_whole(connection):
                return []
    # only here: SQLAlchemy takes a fifth of a second to import
    from bulkseed.target.creation import create  # noqa: PLC0415

    return await create(address, watcher or Silent())


async def is_whole(connection: Connection) -> bool:
    names = [*TABLE_NAMES, CATALOGUE.name]
    try:
        if await connection.fetchval(TABLES, names) < len(names):
            return False
        return bool(await connection.fetchval(f"SELECT EXISTS (SELECT FROM {CATALOGUE.name} WHERE is_system)"))
    except asyncpg.PostgresError:
        if connection.is_closed():
            raise
        return False  # who makes them says what is wrong
