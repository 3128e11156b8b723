"""A cleanup of one of three runs removes exactly its rows, with rows of an app before, between and after them."""

from __future__ import annotations

from collections import Counter
from typing import Final

from bulkseed.cleaner.cleanup import cleanup, find_removable_runs
from bulkseed.load_options import Defer
from bulkseed.loader.load import load
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from chaos.world import World, state
from support.app_rows import APP_ROWS
from support.plans import plan_of
from support.queries import run_sql

RUNS: Final[dict[str, Defer]] = {"2.1x": "never", "3x": "always", "2x": "never"}
Rows = Counter[tuple[str, str]]


async def rows_of(address: Address) -> Rows:
    """Return all rows of the loaded tables as text, each with its count."""
    found = Rows()
    async with open_connection(address) as connection:
        for table in TABLE_NAMES:
            found.update((table, row[0]) for row in await connection.fetch(f"SELECT t::text FROM {table} AS t"))
    return found


async def app_writes(address: Address, word: str) -> None:
    """Insert rows of an app, and change those that it has inserted before."""
    texts = [text.replace("app", word).replace("APP", word.upper()) for text in APP_ROWS]
    await run_sql(address, *texts, "UPDATE users SET bio = coalesce(bio, '') || '!' WHERE email LIKE 'app%'")


async def test_cleanup_removes_exactly_one_run_of_three(world: World) -> None:
    async with world.database() as address:
        rows_of_runs: list[Rows] = []
        for scale, defer in RUNS.items():
            before = await rows_of(address)
            await load(plan_of(scale), address, defer=defer)
            rows_of_runs.append(await rows_of(address) - before)
            await app_writes(address, f"x{len(rows_of_runs)}")
        all_rows, schema = await rows_of(address), (await state(world.server, address)).schema
        for number, rows in enumerate(rows_of_runs, start=1):
            assert rows.total() > 1900
            async with world.database(address.database) as copy:
                await cleanup(copy, [number])
                assert await rows_of(copy) == all_rows - rows
                found = await state(world.server, copy)
                assert found.schema == schema
                assert found.invalid == []
                assert {run.number for run in await find_removable_runs(copy)} == {1, 2, 3} - {number}
