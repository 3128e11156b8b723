"""What is in a database, and statements that are executed there."""

from __future__ import annotations

from typing import Any

import asyncpg

from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connected
from bulkseed.sql import identifier


async def run_sql(address: Address, *statements: str) -> None:
    """Execute statements, each committed on its own."""
    async with connected(address) as connection:
        for statement in statements:
            await connection.execute(statement)


async def digest(address: Address, *tables: str) -> dict[str, tuple[int, str]]:
    """Rows and an order-free digest of each table (all tables of schema public without names)."""
    found = {}
    async with connected(address) as opened:
        names = tables or [
            row[0] for row in await opened.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        for name in sorted(names):
            row: asyncpg.Record = await opened.fetchrow(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text "
                f"FROM {identifier('public', name)} AS t"
            )
            found[name] = (row[0], row[1])
    return found


EMPTY = {"users": 0, "channels": 0, "user_channels": 0, "messages": 0, "message_reactions": 0}


async def counts(address: Address) -> dict[str, int]:
    return {table: found[0] for table, found in (await digest(address, *EMPTY)).items()}


async def has_ledger(address: Address) -> bool:
    async with connected(address) as connection:
        return bool(await connection.fetchval("SELECT to_regnamespace('bulkseed') IS NOT NULL"))


async def rows(address: Address, sql: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    async with connected(address) as connection:
        return [tuple(row) for row in await connection.fetch(sql)]
