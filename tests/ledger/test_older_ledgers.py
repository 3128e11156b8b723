"""Ledgers that an earlier version of bulkseed made."""

from __future__ import annotations

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.loader.load import load
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.verifier.verify import verify
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, run_sql


async def test_a_ledger_of_the_first_version_is_understood_and_brought_up_to_date(seeded: Address) -> None:
    await run_sql(
        seeded,
        "ALTER TABLE bulkseed.runs DROP token, DROP origin, DROP login, DROP client, DROP resumed",
        "UPDATE bulkseed.version SET number = 2",
    )
    assert all(report.holds for report in await verify(seeded))
    await run_sql(
        seeded,
        "DROP TABLE bulkseed.shards, bulkseed.deferred; UPDATE bulkseed.version SET number = 1",
        "ALTER TABLE bulkseed.runs DROP state, DROP expected, DROP rows_per_shard",
    )
    assert all(report.holds for report in await verify(seeded))
    before = await digest(seeded, *TABLE_NAMES)
    assert (await load(plan_of(), seeded)).run == 2
    async with open_connection(seeded) as connection:
        assert await connection.fetchval("SELECT array_agg(state ORDER BY id) FROM bulkseed.runs") == ["whole"] * 2
    await cleanup(seeded, [2])
    assert await digest(seeded, *TABLE_NAMES) == before
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY
