"""Statements for a database, and digests and counts of its rows."""

from __future__ import annotations

from typing import Any

import asyncpg

from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.sql import compose, identifier


async def run_sql(address: Address, *statements: str) -> None:
    """Execute statements, each committed on its own."""
    async with open_connection(address) as connection:
        for statement in statements:
            await connection.execute(statement)


async def digest(address: Address, *tables: str) -> dict[str, tuple[int, str]]:
    """Return the number of rows and a digest, independent of their order, of each table in schema public.

    Without ``tables`` it covers all of them.
    """
    digests = {}
    async with open_connection(address) as connection:
        names = tables or [
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        for name in sorted(names):
            query = compose(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {table} AS t",
                table=identifier("public", name),
            )
            row: asyncpg.Record = await connection.fetchrow(query)
            digests[name] = (row[0], row[1])
    return digests


EMPTY = {"users": 0, "channels": 0, "user_channels": 0, "messages": 0, "message_reactions": 0}


async def counts(address: Address) -> dict[str, int]:
    """Return the number of rows of each reference table."""
    return {table: rows for table, (rows, _) in (await digest(address, *EMPTY)).items()}


async def has_ledger(address: Address) -> bool:
    """Return whether the ledger's schema exists."""
    async with open_connection(address) as connection:
        return bool(await connection.fetchval("SELECT to_regnamespace('bulkseed') IS NOT NULL"))


async def rows(address: Address, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    async with open_connection(address) as connection:
        return [tuple(row) for row in await connection.fetch(sql)]
