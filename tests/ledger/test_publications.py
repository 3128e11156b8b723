"""Ledgers in databases whose tables are published: a table without a key then refuses UPDATE and DELETE."""

from __future__ import annotations

from typing import Final

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import RunError, StoppedError
from bulkseed.listeners import Stop
from bulkseed.loader.load import load, resume
from bulkseed.postgres.address import Address
from bulkseed.verifier.verify import verify
from support.listeners import Interfering
from support.obstacles import FAIL
from support.plans import plan_of
from support.queries import EMPTY, counts, has_ledger, rows, run_sql

KEYLESS: Final = """
SELECT relname FROM pg_class AS c WHERE relnamespace = 'bulkseed'::regnamespace AND relkind = 'r'
AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)
"""
SECOND_VERSION: Final = (
    "ALTER TABLE bulkseed.version DROP CONSTRAINT IF EXISTS version_pkey",
    "ALTER TABLE bulkseed.runs DROP token, DROP origin, DROP login, DROP client, DROP resumed, DROP reserved",
    "UPDATE bulkseed.version SET number = 2",
)
FIRST_VERSION: Final = (
    *SECOND_VERSION,
    "DROP TABLE bulkseed.shards, bulkseed.deferred; UPDATE bulkseed.version SET number = 1",
    "ALTER TABLE bulkseed.runs DROP state, DROP expected, DROP rows_per_shard",
)


@pytest.mark.core
async def test_fault_8_a_publication_for_all_tables(database: Address) -> None:
    await run_sql(database, "CREATE PUBLICATION p FOR ALL TABLES")
    stop = Stop()
    with pytest.raises(StoppedError):
        await load(
            plan_of("3x"),
            database,
            rows_per_shard=500,
            defer="always",
            listener=Interfering("messages", stop.asked.set),
            stop=stop,
        )
    assert await rows(database, KEYLESS) == []
    report = await resume(database)
    assert report is not None
    assert report.run == 1
    assert all(report.holds for report in await verify(database))
    await cleanup(database, [1])
    assert await counts(database) == EMPTY
    assert not await has_ledger(database)
    await run_sql(database, FAIL)
    with pytest.raises(RunError):
        await load(plan_of("3x"), database)
    assert await counts(database) == EMPTY
    assert not await has_ledger(database)


async def test_fault_8_a_publication_for_the_tables_of_the_ledgers_schema(database: Address) -> None:
    await run_sql(database, "CREATE SCHEMA bulkseed", "CREATE PUBLICATION p FOR TABLES IN SCHEMA bulkseed, public")
    await load(plan_of(), database)
    await cleanup(database, [1])
    assert await counts(database) == EMPTY


@pytest.mark.parametrize("older", [FIRST_VERSION, SECOND_VERSION], ids=["first", "second"])
async def test_fault_8_an_older_ledger_is_upgraded_under_a_publication(seeded: Address, older: tuple[str, ...]) -> None:
    await run_sql(seeded, *older, "CREATE PUBLICATION p FOR ALL TABLES")
    assert (await load(plan_of(), seeded)).run == 2
    assert await rows(seeded, KEYLESS) == []
    await cleanup(seeded, [1, 2])
    assert await counts(seeded) == EMPTY
    assert not await has_ledger(seeded)
